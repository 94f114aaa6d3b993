package e2e_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"sync/atomic"
	"testing"
	"time"
)

// A roughProxy is in front of a server, and loses and delays what passes. What is lost is lost
// silently: the client sees a request that is not answered.
type roughProxy struct {
	delay atomic.Int64 // of each answer: half to one and a half times as many ns
	loss  atomic.Int64 // of a thousand requests, half of them before the server has seen them
	lost  atomic.Int64 // requests that were lost
}

// start serves the proxy on ln, to a server that dial reaches at target.
func (p *roughProxy) start(t *testing.T, ln net.Listener, target string, dial func(ctx context.Context, network, address string) (net.Conn, error)) {
	t.Helper()
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: target})
	transport := &http.Transport{DialContext: dial}
	proxy.Transport = transport
	proxy.ErrorHandler = func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) } // as without a proxy
	server := &http.Server{Handler: p.handler(proxy)}
	go func() {
		if err := server.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	}()
	t.Cleanup(func() {
		server.Close()
		transport.CloseIdleConnections()
	})
}

func (p *roughProxy) handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if d := p.delay.Load(); d > 0 {
			time.Sleep(time.Duration(d/2 + rand.Int64N(d)))
		}
		switch drawn := rand.Int64N(2000); {
		case drawn < p.loss.Load():
			p.lose(r)
		case drawn < 2*p.loss.Load():
			next.ServeHTTP(nowhere{}, r)
			p.lose(r)
		default:
			next.ServeHTTP(w, r)
		}
	})
}

// lose waits until the client gives the request up, and hangs up.
func (p *roughProxy) lose(r *http.Request) {
	p.lost.Add(1)
	select {
	case <-r.Context().Done():
	case <-time.After(time.Minute):
	}
	panic(http.ErrAbortHandler)
}

// nowhere takes an answer that is lost.
type nowhere struct{}

func (nowhere) Header() http.Header         { return http.Header{} }
func (nowhere) Write(p []byte) (int, error) { return len(p), nil }
func (nowhere) WriteHeader(int)             {}
