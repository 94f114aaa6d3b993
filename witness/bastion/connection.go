package bastion

import (
	"net"
	"sync"
	"time"
)

// A connection is one to a bastion. It hides from a server that it is a TLS connection: the server
// would take itself for that side of TLS as well.
type connection struct {
	net.Conn
	up     func()        // called when the bastion has sent something
	closed chan struct{} // closed by Close

	mu    sync.Mutex // guards the fields below
	began time.Time  // of the first byte; zero before it
	ended time.Time  // of the first error
	err   error      // that a read ended with
	done  bool       // closed is closed
}

func newConnection(conn net.Conn, up func()) *connection {
	return &connection{Conn: conn, up: up, closed: make(chan struct{})}
}

// Read notes the first bytes, and the error that the connection ends with.
func (c *connection) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.mu.Lock()
	defer c.mu.Unlock()
	if n > 0 && c.began.IsZero() {
		c.began = time.Now()
		c.up()
	}
	if err != nil && c.err == nil {
		c.ended, c.err = time.Now(), err
	}
	return n, err
}

// Close may be called several times.
func (c *connection) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.done {
		return nil
	}
	c.done = true
	close(c.closed)
	if c.err == nil {
		c.ended, c.err = time.Now(), net.ErrClosed
	}
	return c.Conn.Close()
}

// result returns how long the bastion has used the connection, and what it ended with.
func (c *connection) result() (lasted time.Duration, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.began.IsZero() {
		lasted = max(c.ended.Sub(c.began), 1)
	}
	return lasted, c.err
}

// A listener hands one connection to a server. Closing it leaves that alone.
type listener struct {
	conn   net.Conn
	once   chan struct{} // of capacity 1: full until the connection is taken
	closed chan struct{}
	close  func()
}

func listen(conn net.Conn) *listener {
	l := &listener{conn: conn, once: make(chan struct{}, 1), closed: make(chan struct{})}
	l.once <- struct{}{}
	l.close = sync.OnceFunc(func() { close(l.closed) })
	return l
}

// Accept implements net.Listener.
func (l *listener) Accept() (net.Conn, error) {
	select {
	case <-l.once:
		return l.conn, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (l *listener) Close() error { l.close(); return nil }

// Addr implements net.Listener.
func (l *listener) Addr() net.Addr { return l.conn.LocalAddr() }
