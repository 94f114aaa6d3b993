package stack_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"tallywood/internal/bubble"
	"tallywood/internal/config"
	"tallywood/internal/httpx"
	"tallywood/internal/stack"
)

func newPassingKey(t testing.TB) stack.PassingKey {
	t.Helper()
	_, note, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	k, err := stack.NewPassingKey(note)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// A limited handler answers with the client it has seen.
type limited struct {
	t *testing.T
	h http.Handler
}

func newLimited(t *testing.T, yaml string, key stack.PassingKey) limited {
	t.Helper()
	c, err := config.Parse([]byte("address: 127.0.0.1:8080\nstorage: file:./objects\nwitnesses:\n  - {name: w.example.org, seed: file:seed}\nlimits: {"+yaml+"}\n"), "/", func(string) (string, bool) { return "", false })
	if err != nil {
		t.Fatal(err)
	}
	return limited{t, stack.LimitWrites(c.Limits, key, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			t.Error(err)
		}
		if status, err := strconv.Atoi(r.Header.Get("Answer")); err == nil {
			w.WriteHeader(status)
		}
		fmt.Fprint(w, httpx.Client(r))
	}))}
}

// send sends a request and returns the client it was counted for, or "429".
func (l limited) send(method, remote string, header ...string) string {
	l.t.Helper()
	r := httptest.NewRequest(method, "/", nil)
	r.RemoteAddr = remote
	for i := 0; i < len(header); i += 2 {
		r.Header.Add(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	l.h.ServeHTTP(w, r)
	if w.Code != http.StatusTooManyRequests {
		return w.Body.String()
	}
	var e struct {
		Code    int
		Message string
	}
	if err := json.Unmarshal(w.Body.Bytes(), &e); err != nil || e.Code != 8 || w.Header().Get("Retry-After") != "1" || !strings.Contains(e.Message, "too many requests") {
		l.t.Errorf("refused with %d %v %s", w.Code, w.Header(), w.Body)
	}
	return "429"
}

// check sends n+1 requests, of which all but the last are let through.
func (l limited) check(what, client string, n int, remote string, header ...string) {
	l.t.Helper()
	for i := range n + 1 {
		want := client
		if i == n {
			want = "429"
		}
		if got := l.send("POST", remote, header...); got != want {
			l.t.Errorf("%s: request %d was counted for %s; want %s", what, i+1, got, want)
		}
	}
}

func TestWritesOfEachClientAreLimited(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		l := newLimited(t, "requests_per_second: 0.01, burst: 5", newPassingKey(t))
		l.check("a client", "192.0.2.1/32", 5, "192.0.2.1:1")
		l.check("another", "192.0.2.2/32", 5, "192.0.2.2:1")
		l.check("one over IPv6", "2001:db8::/64", 5, "[2001:db8::1]:1")
		if got := l.send("POST", "[2001:db8::2]:1"); got != "429" {
			t.Errorf("another address of the same /64 was counted for %s", got)
		}
		for _, method := range []string{"GET", "HEAD", "OPTIONS"} {
			if got := l.send(method, "192.0.2.1:1"); got == "429" {
				t.Errorf("%s was refused", method)
			}
		}
		time.Sleep(100 * time.Second)
		l.check("the first, 100 s later", "192.0.2.1/32", 1, "192.0.2.1:2")
		for _, remote := range []string{"127.0.0.1:1", "[::1]:1"} {
			for range 20 {
				if got := l.send("POST", remote); got == "429" {
					t.Fatalf("%s was refused", remote)
				}
			}
		}
	})
}

// TestWhatIsNotAcceptableCountsTen, and what we could not serve counts as one.
func TestWhatIsNotAcceptableCountsTen(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		for answer, want := range map[string]int{"201": 40, "503": 40, "404": 40, "400": 4, "413": 4, "415": 4, "408": 4} {
			l := newLimited(t, "requests_per_second: 0.001, burst: 40", newPassingKey(t))
			l.check("answers of "+answer, "192.0.2.1/32", want, "192.0.2.1:1", "Answer", answer)
		}
	})
}

// TestBodiesCountBySize: over a connection, where it is known how much of them came.
func TestBodiesCountBySize(t *testing.T) {
	l := newLimited(t, "requests_per_second: 0.001, burst: 40, exempt: []", newPassingKey(t))
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- httpx.Serve(ctx, ln, l.h, httpx.ServeOptions{}) }()
	taken := 0
	for ; taken < 40; taken++ {
		res, err := http.Post("http://"+ln.Addr().String(), "text/plain", strings.NewReader(strings.Repeat("x", 640<<10)))
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode == http.StatusTooManyRequests {
			break
		}
	}
	if taken != 4 { // each counts eleven, and the last is let through with what is left
		t.Errorf("%d bodies of ten units are let through, of a burst of 40", taken)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestRefusalsTakeTime: whoever tries again at once is slowed down, and nobody else.
func TestRefusalsTakeTime(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		l := newLimited(t, "requests_per_second: 0.001, burst: 1", newPassingKey(t))
		for i, least := range []time.Duration{0, 100 * time.Millisecond, 100 * time.Millisecond} {
			began := time.Now()
			l.send("POST", "192.0.2.1:1")
			if took := time.Since(began); took < least || took > time.Second || least == 0 && took != 0 {
				t.Errorf("request %d took %v", i+1, took)
			}
		}
	})
}

func TestForwardedForIsBelievedOfTrustedProxies(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		const header = "X-Forwarded-For"
		l := newLimited(t, "requests_per_second: 0.1, burst: 3", newPassingKey(t))
		l.check("a stranger who makes up addresses", "192.0.2.1/32", 3, "192.0.2.1:1", header, "198.51.100.1")
		if got := l.send("POST", "192.0.2.1:1", header, "198.51.100.2"); got != "429" {
			t.Errorf("with another made-up address it was counted for %s", got)
		}
		l = newLimited(t, "requests_per_second: 0.1, burst: 3, trusted_proxies: [192.0.2.0/24]", newPassingKey(t))
		l.check("a client of the proxy", "198.51.100.1/32", 3, "192.0.2.1:1", header, "203.0.113.5, 198.51.100.1")
		l.check("another", "198.51.100.2/32", 3, "192.0.2.1:1", header, "203.0.113.5, 198.51.100.2")
		l.check("the proxy itself", "192.0.2.1/32", 3, "192.0.2.1:1")
		l.check("a stranger", "198.51.100.3/32", 3, "198.51.100.3:1", header, "203.0.113.7")
	})
}

// TestExemptIsWhatTheConfigurationSays, and a proxy does not lend its clients its own exemption.
func TestExemptIsWhatTheConfigurationSays(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		l := newLimited(t, "requests_per_second: 0.1, burst: 3, exempt: []", newPassingKey(t))
		l.check("this machine", "127.0.0.1/32", 3, "127.0.0.1:1")
		l = newLimited(t, "requests_per_second: 0.1, burst: 3, exempt: [192.0.2.0/24], trusted_proxies: [127.0.0.1]", newPassingKey(t))
		for range 10 {
			if got := l.send("POST", "192.0.2.7:1"); got != "192.0.2.7/32" {
				t.Fatalf("one that is exempt: %s", got)
			}
		}
		l.check("a client of the proxy here", "198.51.100.1/32", 3, "127.0.0.1:1", "X-Forwarded-For", "198.51.100.1")
	})
}

// TestPassedOnRequestsAreCountedOnce, at the replica they entered; and nobody else can say so.
func TestPassedOnRequestsAreCountedOnce(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		key, other := newPassingKey(t), newPassingKey(t)
		client := netip.MustParsePrefix("198.51.100.1/32")
		l := newLimited(t, "requests_per_second: 0.1, burst: 3", key)
		for range 20 {
			if got := l.send("POST", "192.0.2.1:1", stack.ForwardedHeader, stack.Note(key, client, time.Now())); got != client.String() {
				t.Fatalf("a request passed on was counted for %s", got)
			}
		}
		old := stack.Note(key, client, time.Now())
		for name, note := range map[string]string{
			"as it was":       "1",
			"a made-up one":   "198.51.100.1/32 1800000000 AAAA",
			"of another log":  stack.Note(other, client, time.Now()),
			"changed":         strings.Replace(old, "198.51.100.1", "198.51.100.2", 1),
			"of the past":     stack.Note(key, client, time.Now().Add(-stack.PassingTime-2*time.Second)),
			"of the future":   stack.Note(key, client, time.Now().Add(stack.PassingTime+time.Minute)),
			"with more after": old + "A",
			"spaces":          "  ",
		} {
			l := newLimited(t, "requests_per_second: 0.1, burst: 3", key)
			l.check("a stranger's note, "+name, "192.0.2.66/32", 3, "192.0.2.66:1", stack.ForwardedHeader, note)
		}
	})
}

func TestPassingNotes(t *testing.T) {
	key, now := newPassingKey(t), time.Unix(1_800_000_000, 0)
	for _, client := range []netip.Prefix{{}, netip.MustParsePrefix("198.51.100.1/32"), netip.MustParsePrefix("2001:db8::/64")} {
		for _, skew := range []time.Duration{0, time.Minute, -time.Minute} {
			if got, ok := stack.OpenNote(key, stack.Note(key, client, now), now.Add(skew)); !ok || got != client {
				t.Errorf("%v, %v later: %v, %v", client, skew, got, ok)
			}
		}
	}
	_, note, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	a, aerr := stack.NewPassingKey(note)
	b, berr := stack.NewPassingKey(note)
	if aerr != nil || berr != nil || string(a) != string(b) || len(a) != 32 {
		t.Error("two replicas have different keys")
	}
}

func FuzzPassingNote(f *testing.F) {
	key, now := newPassingKey(f), time.Unix(1_800_000_000, 0)
	valid := stack.Note(key, netip.MustParsePrefix("198.51.100.1/32"), now)
	for _, text := range []string{"", "1", " ", "- 1 ", valid[:len(valid)-1], valid + "=", strings.Repeat(" ", 100)} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, note string) {
		if _, ok := stack.OpenNote(key, note, now); ok && note != valid {
			t.Errorf("%q was taken", note)
		}
	})
}
