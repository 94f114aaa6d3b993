package httpx

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"
)

// ServeOptions are the bounds of Serve.
type ServeOptions struct {
	WriteTimeout time.Duration // for one response, waiting included; default 60 s
	DrainTimeout time.Duration // for requests under way when ctx ends; default 10 s
	Conns        ConnLimits    // of open connections
	// Leaving, once closed, makes each answer the last of its connection: ctx is about to end.
	Leaving <-chan struct{}
	Log     *slog.Logger // the server's own complaints; nil discards them
	TLS     *tls.Config  // with a certificate; nil: plain HTTP
}

const (
	headerTimeout = 5 * time.Second // for a request's header from its first byte, and for TLS
	idleTimeout   = 120 * time.Second
	maxHeader     = 64 << 10 // bytes
	drainLook     = 10 * time.Millisecond
	shutdownAgain = 500 * time.Millisecond // between two calls for a server's Shutdown
)

// Serve answers requests on ln with h until ctx ends, then lets those under way finish within
// the drain timeout. It closes ln and returns nil after a clean end.
//
// At the end every request that has begun to come is answered: connections that wait to be taken are
// taken, each answer says that it is the last, and what has had no request for a while is closed for
// writing first, so that a client sees the end and no reset. Requests' contexts outlive ctx.
//
// A request's header must come within 5 s. Its body must come at 16 KiB/s after 5 s more, and not
// stand still for 10 s.
func Serve(ctx context.Context, ln net.Listener, h http.Handler, o ServeOptions) error {
	if o.WriteTimeout == 0 {
		o.WriteTimeout = 60 * time.Second
	}
	if o.DrainTimeout == 0 {
		o.DrainTimeout = 10 * time.Second
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	g := newGate(ln, o.Conns, o.Log)
	var leaving atomic.Bool
	srv := &http.Server{
		Handler:           lastAnswers(Paced(h, o.WriteTimeout), &leaving),
		ReadHeaderTimeout: headerTimeout,
		WriteTimeout:      o.WriteTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ConnState:         g.track,
		ErrorLog:          slog.NewLogLogger(o.Log.Handler(), slog.LevelDebug),
	}
	served := make(chan error, 1)
	go func() {
		if o.TLS == nil {
			served <- srv.Serve(g)
			return
		}
		srv.TLSConfig = o.TLS
		served <- srv.ServeTLS(g, "", "") // speaks HTTP/2 too
	}()
	for wait := o.Leaving; ctx.Err() == nil; wait = nil {
		select {
		case err := <-served:
			return err
		case <-wait:
			leaving.Store(true)
			g.leave()
		case <-ctx.Done():
		}
	}
	leaving.Store(true)
	g.leave()
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), o.DrainTimeout)
	defer cancel()
	return end(drain, srv, g, served)
}

// end ends a server: it returns when every connection is closed, or cuts off what is left when ctx
// ends.
func end(ctx context.Context, srv *http.Server, g *gate, served <-chan error) error {
	g.stop()
	serr := <-served
	// The server's own Shutdown drops requests that it reads meanwhile, so it comes when there are none.
	for !g.closeResting() && sleep(ctx, drainLook) {
	}
	err := Shutdown(ctx, srv)
	if errors.Is(err, context.DeadlineExceeded) {
		err = srv.Close() // what has not finished by now is cut off
	}
	g.lingering.Wait()
	if !errors.Is(serr, errStopped) && !errors.Is(serr, net.ErrClosed) {
		err = errors.Join(err, serr)
	}
	return err
}

// Shutdown is the Shutdown of srv, also for a connection that is just about to speak HTTP/2: where that
// was not known yet, its client was not told that the server goes, and is told by the next call.
func Shutdown(ctx context.Context, srv *http.Server) error {
	for {
		once, cancel := context.WithTimeout(ctx, shutdownAgain)
		err := srv.Shutdown(once)
		cancel()
		if ctx.Err() != nil || !errors.Is(err, context.DeadlineExceeded) {
			return err
		}
	}
}

func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// lastAnswers makes each answer of h that begins while leaving is set the last of its connection.
func lastAnswers(h http.Handler, leaving *atomic.Bool) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a := &lastAnswer{ResponseWriter: w, leaving: leaving}
		h.ServeHTTP(a, r)
		a.begin() // an answer of nothing
	})
}

type lastAnswer struct {
	http.ResponseWriter
	leaving *atomic.Bool
	begun   bool
}

// WriteHeader implements http.ResponseWriter.
func (a *lastAnswer) WriteHeader(status int) {
	a.begin()
	a.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (a *lastAnswer) Write(p []byte) (int, error) {
	a.begin()
	return a.ResponseWriter.Write(p)
}

func (a *lastAnswer) begin() {
	if !a.begun && a.leaving.Load() {
		a.Header().Set("Connection", "close")
	}
	a.begun = true
}

// Unwrap lets http.ResponseController reach the server's own writer.
func (a *lastAnswer) Unwrap() http.ResponseWriter { return a.ResponseWriter }
