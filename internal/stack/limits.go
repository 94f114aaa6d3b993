package stack

import (
	"fmt"
	"net/http"
	"net/netip"
	"runtime"
	"sync/atomic"
	"time"

	"tallywood/internal/config"
	"tallywood/internal/httpx"
)

const (
	// refusalDelay holds the refusal of a client that sends too much back, so that one which tries
	// again at once costs little; maxDelayed is for how many at a time.
	refusalDelay = time.Second
	maxDelayed   = 3072
	// A write counts as one more for each bodyUnit bytes of its body, and as many as inVain if it was
	// not acceptable.
	bodyUnit = 64 << 10
	inVain   = 10
)

// limits are what clients may take of the listener.
type limits struct {
	proxies httpx.Networks
	exempt  httpx.Networks
	conns   httpx.ConnLimits
	writes  *httpx.Limiter
	rate    float64
	delayed atomic.Int64 // refusals held back now
	turns   *httpx.Turns // at half the processors, or one
}

func newLimits(c *config.Limits) *limits {
	l := &limits{
		proxies: prefixes(c.TrustedProxies), exempt: prefixes(c.Exempt),
		writes: httpx.NewLimiter(c.RequestsPerSecond, c.Burst), rate: c.RequestsPerSecond,
		turns: httpx.NewTurns(runtime.GOMAXPROCS(0) / 2),
	}
	l.conns = httpx.ConnLimits{All: c.AllConnections, PerClient: c.Connections, Exempt: append(prefixes(c.Exempt), l.proxies...)}
	return l
}

func prefixes(networks []config.Network) httpx.Networks {
	out := make(httpx.Networks, len(networks))
	for i, n := range networks {
		out[i] = n.Prefix
	}
	return out
}

// identify finds the client of each request to h.
func (l *limits) identify(h http.Handler) http.Handler {
	if len(l.proxies) == 0 {
		return h // it is the TCP peer
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.ServeHTTP(w, httpx.WithClient(r, httpx.FindClient(r, l.proxies)))
	})
}

// write lets writes to h through as far as the client's limit goes. Those that counted knows to have
// been counted by another replica are not counted again.
func (l *limits) write(h http.Handler, counted func(*http.Request) (client netip.Prefix, ok bool)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if reads(r) {
			h.ServeHTTP(w, r)
			return
		}
		if client, ok := counted(r); ok {
			h.ServeHTTP(w, httpx.WithClient(r, client))
			return
		}
		client := httpx.Client(r)
		switch {
		case l.exempt.Covers(client):
			h.ServeHTTP(w, r)
		case l.writes.Allow(client, now()):
			rec := &statusRecorder{ResponseWriter: w, status: http.StatusOK}
			h.ServeHTTP(rec, r)
			l.writes.Charge(client, extra(rec.status, httpx.BodyRead(r)), now())
		default:
			l.refuse(w, r)
		}
	})
}

// extra is as how many writes more than one a write counts.
func extra(status int, body int64) int {
	n := int(body / bodyUnit)
	switch status {
	case http.StatusBadRequest, http.StatusRequestTimeout, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType:
		n += inVain - 1
	}
	return n
}

// reads reports whether a request is of a method that writes nothing.
func reads(r *http.Request) bool {
	return r.Method == http.MethodGet || r.Method == http.MethodHead || r.Method == http.MethodOptions
}

func (l *limits) refuse(w http.ResponseWriter, r *http.Request) {
	if l.delayed.Add(1) <= maxDelayed {
		select {
		case <-time.After(refusalDelay):
		case <-r.Context().Done():
		}
	}
	l.delayed.Add(-1)
	httpx.TooMany(w, time.Second, fmt.Sprintf("too many requests: this address has spent its burst and may send %g per second; try again later", l.rate))
}

// uncounted is for parts whose requests no replica passes on.
func uncounted(*http.Request) (netip.Prefix, bool) { return netip.Prefix{}, false }
