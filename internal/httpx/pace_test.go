package httpx_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"tallywood/internal/bubble"
	"tallywood/internal/httpx"
)

// A pipeListener hands out one end of pipes: connections in a synctest bubble.
type pipeListener struct {
	conns chan net.Conn
	once  sync.Once
	done  chan struct{}
}

func newPipeListener() *pipeListener {
	return &pipeListener{conns: make(chan net.Conn), done: make(chan struct{})}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error   { l.once.Do(func() { close(l.done) }); return nil }
func (l *pipeListener) Addr() net.Addr { return pipeAddr("192.0.2.254:80") }

type pipeAddr string

func (pipeAddr) Network() string  { return "tcp" }
func (a pipeAddr) String() string { return string(a) }

type pipeConn struct {
	net.Conn
	remote pipeAddr
}

func (c pipeConn) RemoteAddr() net.Addr { return c.remote }

// dial connects from an address.
func (l *pipeListener) dial(t *testing.T, from string) net.Conn {
	t.Helper()
	client, server := net.Pipe()
	select {
	case l.conns <- pipeConn{server, pipeAddr(from)}:
	case <-l.done:
		t.Fatal("nobody listens")
	}
	return client
}

// served runs a server in a bubble and calls test with its listener.
func served(t *testing.T, h http.Handler, o httpx.ServeOptions, test func(t *testing.T, l *pipeListener)) {
	bubble.Test(t, func(t *testing.T) {
		l := newPipeListener()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- httpx.Serve(ctx, l, h, o) }()
		test(t, l)
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
}

// drip writes data piece by piece, until the other side has had enough.
func drip(conn net.Conn, data string, piece int, pause time.Duration) {
	for len(data) > 0 {
		n := min(piece, len(data))
		if _, err := io.WriteString(conn, data[:n]); err != nil {
			return
		}
		data = data[n:]
		time.Sleep(pause)
	}
}

// echo answers with the length of the body, after a while.
func echo(after time.Duration) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := httpx.ReadBody(w, r, 4<<20)
		if err != nil {
			httpx.WriteBodyError(w, err)
			return
		}
		select {
		case <-time.After(after):
			fmt.Fprint(w, len(body))
		case <-r.Context().Done():
			httpx.Error(w, http.StatusInternalServerError, "the context has ended")
		}
	})
}

// TestSlowSendersAreCutOff, and only those who are too slow.
func TestSlowSendersAreCutOff(t *testing.T) {
	const size = 4 << 20
	head := func(n int) string { return fmt.Sprintf("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n", n) }
	for _, c := range []struct {
		name        string
		send        func(conn net.Conn)
		status      int // 0: closed without an answer
		least, most time.Duration
	}{
		{"silent", func(net.Conn) {}, 0, 4 * time.Second, 6 * time.Second},
		{"header in drops", func(c net.Conn) { drip(c, "GET / HTTP/1.1\r\nX: "+strings.Repeat("x", 1000), 1, time.Second) }, 400, 4 * time.Second, 6 * time.Second},
		{"body in drops", func(c net.Conn) { drip(c, head(size)+strings.Repeat("x", 1000), 80, time.Second) }, 408, 4 * time.Second, 8 * time.Second},
		{"body of half the rate", func(c net.Conn) { drip(c, head(size)+strings.Repeat("x", size), 8<<10, time.Second) }, 408, 8 * time.Second, 17 * time.Second},
		{"body that stands still", func(c net.Conn) { drip(c, head(size)+strings.Repeat("x", size/2), 1<<20, 0) }, 408, 9 * time.Second, 11 * time.Second},
		{"body of the least rate", func(c net.Conn) { drip(c, head(size)+strings.Repeat("x", size), 4<<10, 240*time.Millisecond) }, 200, 200 * time.Second, 260 * time.Second},
		{"body that never comes", func(c net.Conn) { drip(c, head(10), 1000, 0) }, 408, 4 * time.Second, 8 * time.Second},
		{"short body", func(c net.Conn) { drip(c, head(5)+"hello", 1000, 0) }, 200, 0, time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			served(t, echo(0), httpx.ServeOptions{}, func(t *testing.T, l *pipeListener) {
				conn := l.dial(t, "192.0.2.1:1")
				began := time.Now()
				var sending sync.WaitGroup
				sending.Go(func() { c.send(conn) })
				res, err := http.ReadResponse(bufio.NewReader(conn), nil)
				took := time.Since(began)
				status := 0
				if err == nil {
					status = res.StatusCode
				}
				if status != c.status || took < c.least || took > c.most {
					t.Errorf("status %d after %v (%v); want %d after %v to %v", status, took, err, c.status, c.least, c.most)
				}
				conn.Close()
				sending.Wait()
			})
		})
	}
}

// TestWaitingOutlastsThePaceOfTheBody: the deadlines of a body hold for that alone.
func TestWaitingOutlastsThePaceOfTheBody(t *testing.T) {
	served(t, echo(30*time.Second), httpx.ServeOptions{}, func(t *testing.T, l *pipeListener) {
		conn := l.dial(t, "192.0.2.1:1")
		defer conn.Close()
		br := bufio.NewReader(conn)
		for range 3 { // over one connection
			go drip(conn, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello", 1000, 0)
			res, err := http.ReadResponse(br, nil)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(res.Body)
			if err != nil || res.StatusCode != 200 || string(body) != "5" {
				t.Errorf("%d %q, %v", res.StatusCode, body, err)
			}
			time.Sleep(time.Minute) // idle, within bounds
		}
	})
}

// TestUnreadBodiesArePacedToo: a handler that does not read leaves the rest to the server.
func TestUnreadBodiesArePacedToo(t *testing.T) {
	h := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { httpx.Error(w, http.StatusNotFound, "no such path") })
	served(t, h, httpx.ServeOptions{}, func(t *testing.T, l *pipeListener) {
		conn := l.dial(t, "192.0.2.1:1")
		began := time.Now()
		var sending sync.WaitGroup
		defer sending.Wait()
		defer conn.Close()
		sending.Go(func() {
			drip(conn, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\n\r\n"+strings.Repeat("x", 1000), 60, time.Second)
		})
		if _, err := io.Copy(io.Discard, conn); err != nil {
			t.Logf("reading: %v", err) // it may be reset
		}
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("closed after %v", took)
		}
	})
}

func TestLargeHeadersAreRefused(t *testing.T) {
	served(t, echo(0), httpx.ServeOptions{}, func(t *testing.T, l *pipeListener) {
		conn := l.dial(t, "192.0.2.1:1")
		defer conn.Close()
		go drip(conn, "GET / HTTP/1.1\r\nHost: h\r\nX: "+strings.Repeat("x", 1<<20), 4<<10, 0)
		res, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil || res.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
			t.Errorf("%v, %v", res, err)
		}
	})
}

// TestConnectionsAreBounded, in all and for each client.
func TestConnectionsAreBounded(t *testing.T) {
	o := httpx.ServeOptions{Conns: httpx.ConnLimits{All: 8, PerClient: 4, Exempt: networks(t, "203.0.113.0/24")}}
	served(t, echo(0), o, func(t *testing.T, l *pipeListener) {
		open := func(from string) (net.Conn, bool) {
			conn := l.dial(t, from)
			go drip(conn, "GET / HTTP/1.1\r\nHost: h\r\n\r\n", 1000, 0)
			_, err := http.ReadResponse(bufio.NewReader(conn), nil)
			return conn, err == nil
		}
		closed := func(c net.Conn) bool {
			synctest.Wait()
			if err := c.SetReadDeadline(time.Now().Add(time.Millisecond)); err != nil {
				return true
			}
			_, err := c.Read(make([]byte, 1))
			timeout, ok := err.(net.Error)
			return !ok || !timeout.Timeout()
		}
		var flood []net.Conn
		for n := range 6 {
			conn, ok := open("192.0.2.1:1")
			if ok != (n < 4) {
				t.Errorf("connection %d of one client is served: %v", n+1, ok)
			}
			flood = append(flood, conn)
		}
		for n := range 4 { // up to all that there may be
			if _, ok := open("203.0.113.1:1"); !ok {
				t.Errorf("connection %d of an exempt client is not served", n+1)
			}
		}
		// One that is new takes the place of an idle one of who has most, and the flood gets none back.
		if _, ok := open("198.51.100.1:1"); !ok {
			t.Error("a new client is not served beside floods that fill the server")
		}
		if _, ok := open("192.0.2.1:1"); ok && !anyClosed(flood[:4], closed) {
			t.Error("the flood has more than its part")
		}
		flood[0].Close()
		synctest.Wait()
		if _, ok := open("198.51.100.2:1"); !ok {
			t.Error("a place that was given up is not given again")
		}
	})
}

func anyClosed(conns []net.Conn, closed func(net.Conn) bool) bool {
	for _, c := range conns {
		if closed(c) {
			return true
		}
	}
	return false
}
