package trial

import (
	"context"
	"net"
	"net/http"
	"sync"
)

// A Wire is a server that is reached by Dial, over a connection in memory: what waits on one waits
// durably, so that the time of a bubble of testing/synctest goes on.
type Wire struct {
	server *http.Server
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
	done   chan struct{}

	serving sync.WaitGroup // connections
}

// Serve serves h until Close.
func Serve(h http.Handler) *Wire {
	w := &Wire{conns: make(chan net.Conn), closed: make(chan struct{}), done: make(chan struct{})}
	w.server = &http.Server{Handler: h, ConnState: func(_ net.Conn, s http.ConnState) {
		switch s {
		case http.StateNew:
			w.serving.Add(1)
		case http.StateClosed:
			w.serving.Done()
		}
	}}
	go func() {
		defer close(w.done)
		_ = w.server.Serve(w) // says that it was closed
	}()
	return w
}

// Dial connects to the server, whatever the address.
func (w *Wire) Dial(ctx context.Context, _, _ string) (net.Conn, error) {
	client, server := net.Pipe()
	select {
	case w.conns <- server:
		return client, nil
	case <-w.closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Accept, with Close and Addr, makes a Wire the net.Listener of its server.
func (w *Wire) Accept() (net.Conn, error) {
	select {
	case c := <-w.conns:
		return c, nil
	case <-w.closed:
		return nil, net.ErrClosed
	}
}

// Close lets no connection begin any more.
func (w *Wire) Close() error {
	w.once.Do(func() { close(w.closed) })
	return nil
}

// Addr is no address that could be dialled.
func (w *Wire) Addr() net.Addr { return &net.UnixAddr{Name: "wire", Net: "memory"} }

// End closes all connections and waits until the server does nothing any more.
func (w *Wire) End() {
	_ = w.server.Close() // closes w, too, which cannot fail
	<-w.done
	w.serving.Wait()
}
