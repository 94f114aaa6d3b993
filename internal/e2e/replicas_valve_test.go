package e2e_test

import (
	"io"
	"net"
	"sync"
	"testing"
)

// A flow says what a valve does with connections.
type flow int

const (
	passing  flow = iota
	refusing      // open connections are reset, and new ones
	silent        // whatever is sent disappears, on connections of before for ever
)

func (f flow) String() string { return [...]string{"passing", "refusing", "silent"}[f] }

// A valve is a TCP proxy in front of a server, by which one process can be cut off from it.
type valve struct {
	address, target string

	mu    sync.Mutex // guards what follows
	flow  flow
	links map[*link]bool
}

// A link is one connection through a valve.
type link struct {
	ends [2]net.Conn // [0]: of the client; [1]: nil if it never reached the server
	dead bool        // nothing gets through any more; guarded by valve.mu
}

// newValve opens a valve in front of the server at target.
func newValve(t *testing.T, target string) *valve {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	v := &valve{address: ln.Addr().String(), target: target, links: map[*link]bool{}}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return // the listener is closed
			}
			serving.Go(func() { v.serve(conn) })
		}
	})
	t.Cleanup(func() {
		ln.Close()
		v.set(refusing)
		serving.Wait()
	})
	return v
}

// set makes the valve do f from now on.
func (v *valve) set(f flow) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.flow = f
	for l := range v.links {
		switch f {
		case refusing:
			l.reset()
		case silent:
			l.dead = true
		}
	}
}

func (l *link) reset() {
	for _, c := range l.ends {
		if tcp, ok := c.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0) // so that it is a reset; the connection may be closed already
			_ = tcp.Close()
		}
	}
}

func (v *valve) serve(client net.Conn) {
	l := v.link(client)
	if l == nil {
		return
	}
	defer func() {
		v.mu.Lock()
		delete(v.links, l)
		v.mu.Unlock()
		l.reset()
	}()
	var back sync.WaitGroup
	if l.ends[1] != nil {
		back.Go(func() { v.pump(l, 1) })
	}
	v.pump(l, 0)
	if l.ends[1] != nil {
		l.ends[1].Close()
	}
	back.Wait()
}

// link connects client with the server, as far as the valve lets it.
func (v *valve) link(client net.Conn) *link {
	l := &link{ends: [2]net.Conn{client, nil}}
	v.mu.Lock()
	f := v.flow
	v.mu.Unlock()
	if f == passing {
		server, err := net.Dial("tcp", v.target)
		if err != nil {
			l.reset()
			return nil
		}
		l.ends[1] = server
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.flow == refusing || f == refusing {
		l.reset()
		return nil
	}
	l.dead = v.flow == silent || f == silent
	v.links[l] = true
	return l
}

// pump passes on what comes from one end, until that closes.
func (v *valve) pump(l *link, from int) {
	buffer := make([]byte, 32<<10)
	for {
		n, err := l.ends[from].Read(buffer)
		v.mu.Lock()
		dead := l.dead
		v.mu.Unlock()
		if dead && err == nil {
			continue
		}
		if n > 0 && !dead {
			if _, err := l.ends[1-from].Write(buffer[:n]); err != nil {
				return
			}
		}
		if err != nil {
			if tcp, ok := l.ends[1-from].(*net.TCPConn); ok && err == io.EOF && !dead {
				_ = tcp.CloseWrite() // the other direction may go on
			}
			return
		}
	}
}
