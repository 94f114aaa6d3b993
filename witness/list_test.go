package witness_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"tallywood/internal/bubble"
	"tallywood/storage/mem"
	"tallywood/witness"
	"tallywood/witness/policy"
)

func logKeys(l *testLog) []policy.Key { return []policy.Key{l.key} }

// listed renders a log for a list.
func listed(l *testLog) string {
	return "vkey " + l.key.String() + "\nqpd 86400\ncontact ops@" + l.origin + "\n"
}

func TestParseList(t *testing.T) {
	a, b, rotated := newTestLog(t, "a.example.org"), newTestLog(t, "b.example.org"), newTestLog(t, "next.a.example.org")
	logs, err := witness.ParseList([]byte("#\n# List: 10qps-100klogs\n\n  logs/v0  \r\n" + listed(a) + "\n# comment\n" +
		"\tvkey " + b.key.String() + "\norigin another name\nqpd 1\ncontact   sysadmin (at) b.example.org\n" +
		"vkey " + rotated.key.String() + "\norigin a.example.org\nqpd 2147483647\ncontact x"))
	if err != nil {
		t.Fatal(err)
	}
	if len(logs) != 2 {
		t.Fatalf("%d logs, want 2: %+v", len(logs), logs)
	}
	if l := logs[0]; l.Origin != "a.example.org" || len(l.Keys) != 2 || l.QPD != 2147483647 || l.Contact != "ops@a.example.org" {
		t.Errorf("first log: %+v", l)
	}
	if l := logs[1]; l.Origin != "another name" || len(l.Keys) != 1 || l.QPD != 1 || l.Contact != "sysadmin (at) b.example.org" {
		t.Errorf("second log: %+v", l)
	}
	if logs, err := witness.ParseList([]byte("logs/v0")); err != nil || len(logs) != 0 {
		t.Errorf("a list without logs: %v, %v", logs, err)
	}
}

func TestParseListRefusesTheWholeList(t *testing.T) {
	l := newTestLog(t, origin)
	vkey := "vkey " + l.key.String() + "\n"
	for name, text := range map[string]string{
		"nothing":               "",
		"comments alone":        "# logs/v0\n",
		"another format":        "logs/v1\n" + listed(l),
		"no header":             listed(l),
		"unknown keyword":       "logs/v0\n" + listed(l) + "url https://x\n",
		"qpd before vkey":       "logs/v0\nqpd 1\n",
		"no qpd":                "logs/v0\n" + vkey + "contact x\n",
		"no contact":            "logs/v0\n" + vkey + "qpd 1\n",
		"no contact, next log":  "logs/v0\n" + vkey + "qpd 1\n" + listed(l),
		"empty contact":         "logs/v0\n" + vkey + "qpd 1\ncontact\n",
		"origin after qpd":      "logs/v0\n" + vkey + "qpd 1\norigin o\ncontact x\n",
		"two origins":           "logs/v0\n" + vkey + "origin o\norigin p\nqpd 1\ncontact x\n",
		"two qpd":               "logs/v0\n" + vkey + "qpd 1\nqpd 1\ncontact x\n",
		"long origin":           "logs/v0\n" + vkey + "origin " + strings.Repeat("o", 256) + "\nqpd 1\ncontact x\n",
		"qpd 0":                 "logs/v0\n" + vkey + "qpd 0\ncontact x\n",
		"qpd with leading zero": "logs/v0\n" + vkey + "qpd 01\ncontact x\n",
		"qpd with plus":         "logs/v0\n" + vkey + "qpd +1\ncontact x\n",
		"qpd 2^31":              "logs/v0\n" + vkey + "qpd 2147483648\ncontact x\n",
		"qpd in words":          "logs/v0\n" + vkey + "qpd many\ncontact x\n",
		"two spaces":            "logs/v0\n" + vkey + "qpd  1\ncontact x\n",
		"vkey cut short":        "logs/v0\n" + vkey[:40] + "\nqpd 1\ncontact x\n",
		"vkey of a witness":     "logs/v0\nvkey " + testKeys(t).VKeys()[0] + "\nqpd 1\ncontact x\n",
		"vkey of ML-DSA":        "logs/v0\nvkey " + testKeys(t).VKeys()[1] + "\nqpd 1\ncontact x\n",
	} {
		if logs, err := witness.ParseList([]byte(text)); err == nil {
			t.Errorf("%s: parsed as %+v", name, logs)
		}
	}
	_, err := witness.ParseList([]byte("logs/v0\n\n" + vkey + "qpd 0\n"))
	if err == nil || !strings.Contains(err.Error(), "line 4") {
		t.Errorf("err = %v, want line 4", err)
	}
}

func TestListsAddAndNeverChange(t *testing.T) {
	a, b, thief := newTestLog(t, "a.example.org"), newTestLog(t, "b.example.org"), newTestLog(t, "thief.example.org")
	for _, l := range []*testLog{a, b, thief} {
		l.grow(t, 5, "entry")
	}
	w := serve(t, mem.New(), newClock(), a)
	list := "logs/v0\n" + listed(a) + listed(b)
	requests := 0
	srv := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		requests++
		etag := fmt.Sprintf(`"%d"`, len(list))
		rw.Header().Set("Etag", etag)
		if r.Header.Get("If-None-Match") == etag {
			rw.WriteHeader(http.StatusNotModified)
			return
		}
		fmt.Fprint(rw, list)
	}))
	defer srv.Close()
	lists, err := witness.NewLists(witness.ListsOptions{Witness: w.Witness, URLs: []string{srv.URL}})
	if err != nil {
		t.Fatal(err)
	}
	if a := w.add(t, b.request(t, 0, 5)); a.status != 404 {
		t.Fatalf("before the list: %d", a.status)
	}
	etag, err := lists.Read(t.Context(), srv.URL, "")
	if err != nil {
		t.Fatal(err)
	}
	w.mustAdd(t, b.request(t, 0, 5))
	if again, err := lists.Read(t.Context(), srv.URL, etag); err != nil || again != etag {
		t.Errorf("unchanged list: %q, %v", again, err)
	}
	// The list drops b and gives a to a thief: neither has an effect.
	list = "logs/v0\nvkey " + thief.key.String() + "\norigin a.example.org\nqpd 1\ncontact x\n"
	if _, err := lists.Read(t.Context(), srv.URL, etag); err != nil {
		t.Fatal(err)
	}
	w.mustAdd(t, b.request(t, 5, 5))
	w.mustAdd(t, a.request(t, 0, 5))
	if got := w.add(t, "old 5\n\n"+thief.sign(t, a.tree(t, 5).Text())); got.status != 403 {
		t.Errorf("the thief's key: %d", got.status)
	}
	// A broken list is rejected as a whole.
	c := newTestLog(t, "c.example.org")
	c.grow(t, 5, "entry")
	list = "logs/v0\n" + listed(c) + "vkey broken\n"
	if _, err := lists.Read(t.Context(), srv.URL, ""); err == nil {
		t.Error("a broken list is taken")
	}
	if got := w.add(t, c.request(t, 0, 5)); got.status != 404 {
		t.Errorf("a log of a broken list: %d", got.status)
	}
}

func TestAddLogReportsAnotherKey(t *testing.T) {
	l, other := newTestLog(t, origin), newTestLog(t, "other")
	w := serve(t, mem.New(), newClock(), l)
	if added, err := w.AddLog(witness.Log{Origin: origin, Keys: logKeys(l)}); added || err != nil {
		t.Errorf("the same log: %t, %v", added, err)
	}
	var ke *witness.KeyError
	if added, err := w.AddLog(witness.Log{Origin: origin, Keys: logKeys(other)}); added || !errors.As(err, &ke) || ke.Origin != origin {
		t.Errorf("another key: %t, %v", added, err)
	}
}

func TestListsRefuseOtherURLs(t *testing.T) {
	w := serve(t, mem.New(), newClock())
	for _, u := range []string{"http://lists.example.org/l", "file:///etc/logs", "lists.example.org", "https://"} {
		if _, err := witness.NewLists(witness.ListsOptions{Witness: w.Witness, URLs: []string{u}}); err == nil {
			t.Errorf("%s is taken", u)
		}
	}
}

func TestListsDoNotFollowRedirectsOrFloods(t *testing.T) {
	w := serve(t, mem.New(), newClock())
	good := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { fmt.Fprint(rw, "logs/v0\n") }))
	defer good.Close()
	redirect := httptest.NewServer(http.RedirectHandler(good.URL, http.StatusFound))
	defer redirect.Close()
	flood := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			if _, err := rw.Write([]byte(strings.Repeat("# flood\n", 1<<15))); err != nil {
				return
			}
		}
	}))
	defer flood.Close()
	lists, err := witness.NewLists(witness.ListsOptions{Witness: w.Witness, URLs: []string{good.URL}})
	if err != nil {
		t.Fatal(err)
	}
	for _, u := range []string{redirect.URL, flood.URL} {
		if _, err := lists.Read(t.Context(), u, ""); err == nil {
			t.Errorf("%s is taken", u)
		}
	}
	if _, err := lists.Read(t.Context(), good.URL, ""); err != nil {
		t.Error(err)
	}
}

func TestListsRunUntilTheEnd(t *testing.T) {
	l := newTestLog(t, origin)
	l.grow(t, 5, "entry")
	w := serve(t, mem.New(), newClock())
	var reads atomic.Int64
	srv := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		reads.Add(1)
		fmt.Fprint(rw, "logs/v0\n"+listed(l))
	}))
	defer srv.Close()
	lists, err := witness.NewLists(witness.ListsOptions{Witness: w.Witness, URLs: []string{srv.URL}, Interval: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	runUntil(t, lists, func() bool { return reads.Load() >= 2 }) // when the second begins, the first is through
	w.mustAdd(t, l.request(t, 0, 5))
}

// A transport answers requests.
type transport func(*http.Request) (*http.Response, error)

func (f transport) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// TestListsAreAskedAgainSoonAfterAFailure starts a witness before the network is there.
func TestListsAreAskedAgainSoonAfterAFailure(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		l := newTestLog(t, origin)
		w, err := witness.New(witness.Options{Keys: testKeys(t), Bucket: mem.New()})
		if err != nil {
			t.Fatal(err)
		}
		begin, asked := time.Now(), []time.Duration{}
		lists, err := witness.NewLists(witness.ListsOptions{Witness: w, URLs: []string{"https://lists.example.org/l"}, HTTP: &http.Client{
			Transport: transport(func(*http.Request) (*http.Response, error) {
				if asked = append(asked, time.Since(begin)); len(asked) <= 2 || len(asked) >= 4 {
					return nil, errors.New("no network")
				}
				return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader("logs/v0\n" + listed(l)))}, nil
			}),
		}})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 24*time.Hour)
		defer cancel()
		if err := lists.Run(ctx); err != nil {
			t.Fatal(err)
		}
		if len(w.Logs()) != 1 || len(asked) < 3 || asked[2] > 3*time.Minute {
			t.Fatalf("%d logs, asked after %v", len(w.Logs()), asked)
		}
		if d := asked[3] - asked[2]; d < 54*time.Minute {
			t.Errorf("asked again %v after it was read", d)
		}
		if n := len(asked); n < 25 || n > 40 {
			t.Errorf("asked %d times in a day without network", n)
		}
	})
}

// TestListIsRememberedOnceThatWorks has the record of a list fail to be written the first time.
func TestListIsRememberedOnceThatWorks(t *testing.T) {
	l := newTestLog(t, origin)
	list, bucket := newListServer(t, "logs/v0\n"+listed(l)), &refusingBucket{Bucket: mem.New(), prefix: "lists/"}
	lists := follow(t, serve(t, bucket, newClock()), list.URL)
	if err := lists.ReadAll(t.Context()); err == nil {
		t.Fatal("nothing says that the list is not remembered")
	}
	bucket.prefix = ""
	if err := lists.ReadAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	list.down = true
	w := serve(t, bucket, newClock())
	follow(t, w, list.URL)
	if logs := w.Logs(); len(logs) != 1 || logs[0].Origin != origin {
		t.Errorf("remembered are %+v", logs)
	}
}

// runUntil runs lists until done answers true.
func runUntil(t *testing.T, lists *witness.Lists, done func() bool) {
	t.Helper()
	ended := make(chan error)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() { ended <- lists.Run(ctx) }()
	for deadline := time.Now().Add(time.Minute); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Error("the lists are not read")
			break
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
