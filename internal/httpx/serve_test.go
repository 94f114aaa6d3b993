package httpx_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"tallywood/internal/bubble"
	"tallywood/internal/httpx"
)

// A keptClient sends requests over one connection, one after the other, until that ends.
type keptClient struct {
	sent, answered int
	told           bool          // the last answer said that it is the last
	err            error         // why the connection ended, if it was not told
	asked          time.Time     // when the last request was sent
	last           time.Time     // when the request was sent that was answered last; before that, of the connection
	quiet          time.Duration // since then, at its end
}

func (c *keptClient) send(conn net.Conn) {
	if c.err = conn.SetDeadline(time.Now().Add(time.Minute)); c.err != nil {
		return
	}
	c.sent++
	c.asked = time.Now()
	_, c.err = io.WriteString(conn, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello")
}

// run begins with the answer to the request that send has sent, if it has.
func (c *keptClient) run(conn net.Conn, pause time.Duration) {
	defer conn.Close()
	defer func() { c.quiet = time.Since(c.last) }()
	br := bufio.NewReader(conn)
	for !c.told {
		if c.sent == c.answered {
			c.send(conn)
		}
		if c.err != nil {
			return
		}
		var res *http.Response
		if res, c.err = http.ReadResponse(br, nil); c.err != nil {
			return
		}
		if _, c.err = io.Copy(io.Discard, res.Body); c.err != nil || res.StatusCode != 200 {
			return
		}
		c.answered++
		c.last = c.asked
		c.told = res.Close
		time.Sleep(pause)
	}
}

// TestTheEndLosesNoRequest ends a server that many clients with connections of their own load: each
// request is answered, or its connection was closed in order and nothing of it was served.
func TestTheEndLosesNoRequest(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var handled atomic.Int64
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := httpx.ReadBody(w, r, 100); err != nil {
			t.Error(err)
		}
		time.Sleep(2 * time.Millisecond)
		handled.Add(1)
		_, _ = w.Write([]byte("answer")) // the client says whether it came
	})
	ctx, cancel := context.WithCancel(t.Context())
	leaving := make(chan struct{})
	done := make(chan error, 1)
	go func() {
		done <- httpx.Serve(ctx, ln, h, httpx.ServeOptions{Leaving: leaving, DrainTimeout: time.Minute})
	}()

	clients := make([]keptClient, 128)
	var running sync.WaitGroup
	for i := range clients {
		clients[i].last = time.Now()
		conn, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		// A few are idle at the end, and for as long as it takes.
		running.Go(func() {
			clients[i].run(conn, []time.Duration{0, time.Millisecond, 20 * time.Millisecond, 2 * time.Second}[i%4])
		})
	}
	for handled.Load() < 2000 {
		time.Sleep(time.Millisecond)
	}
	close(leaving)
	time.Sleep(5 * time.Millisecond)
	cancel()
	running.Wait()
	if err := <-done; err != nil {
		t.Errorf("Serve: %v", err)
	}
	answered := 0
	for i, c := range clients {
		answered += c.answered
		switch {
		case c.told:
		case !errors.Is(c.err, io.EOF) && !errors.Is(c.err, io.ErrUnexpectedEOF):
			t.Errorf("client %d: its connection ended with %v", i, c.err)
		case c.quiet < 300*time.Millisecond:
			t.Errorf("client %d was not told that an answer is the last, and its connection ended %v after a request", i, c.quiet)
		}
	}
	if int64(answered) != handled.Load() {
		t.Errorf("%d requests were served and %d answers came", handled.Load(), answered)
	}
	if err := ln.(*net.TCPListener).SetDeadline(time.Time{}); !errors.Is(err, net.ErrClosed) {
		t.Errorf("it still listens: %v", err)
	}
}

// A pausedListener takes nothing until the end of its server has stopped waiting, and has done so once more,
// as when the process was not run meanwhile.
type pausedListener struct {
	*net.TCPListener
	pauses []time.Duration
}

func (l *pausedListener) Accept() (net.Conn, error) {
	if len(l.pauses) > 0 {
		time.Sleep(l.pauses[0])
		l.pauses = l.pauses[1:]
	}
	return l.TCPListener.Accept()
}

// TestTheEndServesWhoConnectedBefore: a connection that nobody has taken yet is taken.
func TestTheEndServesWhoConnectedBefore(t *testing.T) {
	for name, wrap := range map[string]func(ln net.Listener) net.Listener{
		"at once": func(ln net.Listener) net.Listener { return ln },
		"after two pauses": func(ln net.Listener) net.Listener {
			return &pausedListener{ln.(*net.TCPListener), []time.Duration{200 * time.Millisecond, 50 * time.Millisecond}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			var clients [64]keptClient
			var running sync.WaitGroup
			for i := range clients {
				conn, err := net.Dial("tcp", ln.Addr().String())
				if err != nil {
					t.Fatal(err)
				}
				clients[i].send(conn) // now: the end waits for nobody who is silent
				running.Go(func() { clients[i].run(conn, 0) })
			}
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			h := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
			if err := httpx.Serve(ctx, wrap(ln), h, httpx.ServeOptions{DrainTimeout: time.Minute}); err != nil {
				t.Errorf("Serve: %v", err)
			}
			running.Wait()
			for i, c := range clients {
				if c.answered != 1 || !c.told {
					t.Errorf("client %d: %d answers, %v", i, c.answered, c.err)
				}
			}
		})
	}
}

// A soughtListener has somebody connect whenever it is given time to take connections.
type soughtListener struct {
	*net.TCPListener
	t     *testing.T
	times atomic.Int64
}

func (l *soughtListener) SetDeadline(end time.Time) error {
	if err := l.TCPListener.SetDeadline(end); err != nil {
		return err
	}
	if l.times.Add(1) > 200 {
		return errors.New("it is enough")
	}
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		l.t.Error(err)
		return err
	}
	return conn.Close()
}

// TestTheEndWaitsForNobodyWhoComesLate has clients that connect as long as anybody takes them.
func TestTheEndWaitsForNobodyWhoComesLate(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	sought := &soughtListener{TCPListener: ln.(*net.TCPListener), t: t}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := httpx.Serve(ctx, sought, http.NotFoundHandler(), httpx.ServeOptions{DrainTimeout: time.Minute}); err != nil {
		t.Errorf("Serve: %v", err)
	}
	if n := sought.times.Load(); n > 101 { // most of the time one; a few on a machine that does much else
		t.Errorf("it took connections until %d times there had been more", n)
	}
}

// TestTheEndIsBounded: a request that does not end is cut off.
func TestTheEndIsBounded(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	entered, leave := make(chan struct{}), make(chan struct{})
	h := http.HandlerFunc(func(http.ResponseWriter, *http.Request) { close(entered); <-leave })
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- httpx.Serve(ctx, ln, h, httpx.ServeOptions{DrainTimeout: 200 * time.Millisecond}) }()
	go func() {
		if res, err := http.Get("http://" + ln.Addr().String()); err == nil {
			res.Body.Close()
			t.Error("it was answered")
		}
	}()
	<-entered
	cancel()
	select {
	case err := <-done:
		if err != nil {
			t.Errorf("Serve: %v", err)
		}
	case <-time.After(time.Minute):
		t.Error("it does not end")
	}
	close(leave)
}

// TestShutdownTellsWhoSpeaksHTTP2Late: a connection that was there before, and said nothing yet.
func TestShutdownTellsWhoSpeaksHTTP2Late(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		l := newPipeListener()
		srv := &http.Server{Handler: echo(0), Protocols: new(http.Protocols)}
		srv.Protocols.SetUnencryptedHTTP2(true)
		served := make(chan error, 1)
		go func() { served <- srv.Serve(l) }()
		conn := l.dial(t, "192.0.2.1:1")
		defer conn.Close()
		synctest.Wait()
		began := time.Now()
		ended := make(chan error, 1)
		go func() {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			ended <- httpx.Shutdown(ctx, srv)
		}()
		time.Sleep(100 * time.Millisecond)
		go func() { _, _ = io.Copy(io.Discard, conn) }() // until the server closes it
		// The preface of HTTP/2 and empty settings.
		if _, err := io.WriteString(conn, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"+"\x00\x00\x00\x04\x00\x00\x00\x00\x00"); err != nil {
			t.Fatal(err)
		}
		if err := <-ended; err != nil || time.Since(began) > 3*time.Second {
			t.Errorf("Shutdown: %v after %v", err, time.Since(began))
		}
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("Serve: %v", err)
		}
	})
}
