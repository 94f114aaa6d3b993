package e2e_test

import (
	"flag"
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

var (
	detections = flag.Int("detections", 3, "how many signatures the detection time is measured with")
	idleFor    = flag.Duration("idle", 3*time.Second, "for how long the traffic of an idle monitor is counted")
	idlePoll   = flag.Duration("idle-poll", 0, "how often that monitor looks; 0: its default")
)

// A meter stands between a monitor and logs, and counts what passes on the wire.
type meter struct {
	url      string
	sent     atomic.Int64 // bytes to the logs, headers included
	received atomic.Int64

	mu    sync.Mutex
	paths []string // of all requests
}

func newMeter(t *testing.T, to string) *meter {
	t.Helper()
	u, err := url.Parse(to)
	if err != nil {
		t.Fatal(err)
	}
	m := &meter{}
	pass := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(u) }}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		m.mu.Lock()
		m.paths = append(m.paths, r.URL.Path)
		m.mu.Unlock()
		pass.ServeHTTP(w, r)
	})}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	m.url = "http://" + ln.Addr().String()
	served := make(chan struct{})
	go func() {
		defer close(served)
		if err := srv.Serve(meteredListener{ln, m}); err != http.ErrServerClosed {
			t.Errorf("serving the meter: %v", err)
		}
	}()
	t.Cleanup(func() {
		if err := srv.Close(); err != nil {
			t.Errorf("closing the meter: %v", err)
		}
		<-served
	})
	return m
}

// take returns the requests since it was last called.
func (m *meter) take() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	paths := m.paths
	m.paths = nil
	return paths
}

type meteredListener struct {
	net.Listener
	m *meter
}

func (l meteredListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	return meteredConn{c, l.m}, err
}

type meteredConn struct {
	net.Conn
	m *meter
}

func (c meteredConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.m.sent.Add(int64(n))
	return n, err
}

func (c meteredConn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.m.received.Add(int64(n))
	return n, err
}

// outsider starts `tallywood monitor run` beside a stack, with its default polling unless the flag
// says otherwise: what it reads goes through the meter, and what it raises to a webhook.
func outsider(t *testing.T, s *stack, m *meter, hook string) {
	t.Helper()
	text := readFile(t, s.dir, "monitor.yaml")
	for old, replacement := range map[string]string{"state: ./monitor-state": "state: ./outside-state", "evidence: ./evidence": "evidence: ./outside-evidence",
		s.url + "/logs/": m.url + "/logs/", "all: {jsonl: events.jsonl}": fmt.Sprintf("all: {webhook: {url: %q}}", hook)} {
		if !strings.Contains(text, old) {
			t.Fatalf("monitor.yaml has no %q:\n%s", old, text)
		}
		text = strings.ReplaceAll(text, old, replacement)
	}
	if *idlePoll > 0 {
		text += fmt.Sprintf("poll: %v\n", *idlePoll)
	}
	writeFile(t, s.dir, "outside.yaml", text)
	start(t, -1, "tallywood", "monitor", "run", "--config", filepath.Join(s.dir, "outside.yaml")) // says nothing when it is ready
}

// TestAnAlertArrivesSoonAndIdlenessIsCheap measures the time from when a signature is public to when
// its alert is with a webhook's receiver, and what a monitor costs a log in which nothing happens. The
// figures are in docs/performance.md; here the bounds are generous.
func TestAnAlertArrivesSoonAndIdlenessIsCheap(t *testing.T) {
	work := t.TempDir()
	s := up(t, filepath.Join(work, "data"), "--watch", "alice@example.com")
	hook, m := newHook(t), newMeter(t, s.url)
	outsider(t, s, m, hook.url)
	file := writeFile(t, work, "f", "x")
	var took []time.Duration
	for n := range *detections {
		must(t, work, "tallywood", "sign", file, "--yes", "--trust", s.client, "--identity-token", s.token(t, "alice@example.com"))
		public := time.Now()
		for _, origin := range []string{"log.localhost", "ct.localhost"} {
			hook.awaitEntry(t, origin, int64(n))
		}
		took = append(took, time.Since(public))
	}
	slices.Sort(took)
	t.Logf("from public to delivered, the last of two logs: median %v, worst %v of %d", took[len(took)/2].Round(time.Millisecond), took[len(took)-1].Round(time.Millisecond), len(took))
	if median := took[len(took)/2]; median > 30*time.Second {
		t.Errorf("half of the alerts took %v or more", median)
	}
	idle(t, m)
}

// awaitEntry waits for an event about an entry.
func (h *hook) awaitEntry(t *testing.T, origin string, index int64) {
	t.Helper()
	eventually(t, fmt.Sprintf("webhook with entry %d of %s", index, origin), func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		for _, e := range h.got {
			if e.Origin == origin && e.Index == index {
				return true
			}
		}
		return false
	})
}

// idle counts what a monitor asks for while nothing happens.
func idle(t *testing.T, m *meter) {
	t.Helper()
	eventually(t, "end of what there was to read", func() bool {
		m.take()
		time.Sleep(200 * time.Millisecond)
		return !slices.ContainsFunc(m.take(), func(path string) bool { return strings.Contains(path, "/tile/") })
	})
	sent, received, began := m.sent.Load(), m.received.Load(), time.Now()
	time.Sleep(*idleFor)
	paths, span := m.take(), time.Since(began)
	sent, received = m.sent.Load()-sent, m.received.Load()-received
	per := func(n int64) float64 { return float64(n) * float64(time.Hour) / float64(span) }
	t.Logf("idle for %v: %d requests, %d bytes sent and %d received; in an hour %.0f requests, %.2f MB sent and %.2f MB received, for two logs",
		span.Round(time.Second), len(paths), sent, received, per(int64(len(paths))), per(sent)/1e6, per(received)/1e6)
	for _, path := range paths {
		if !strings.HasSuffix(path, "/checkpoint") {
			t.Errorf("an idle monitor asked for %s", path)
		}
	}
}
