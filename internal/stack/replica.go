package stack

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"net/url"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"tallywood/internal/httpx"
	"tallywood/internal/span"
	"tallywood/log"
)

// Several processes may run one log on one bucket; see package log. Each answers the others' probes
// at /logs/<name>/leader, and passes on what only the leader can take.

const (
	// forwardedHeader marks a request that was passed on: it is not passed on again. Its value is a
	// note of a passingKey; with any other it is counted like others.
	forwardedHeader = "Tallywood-Forwarded"
	// leadingHeader is in the answer of a replica that does not lead to a request that was passed on.
	leadingHeader = "Tallywood-Leading"

	leaderPath  = "/leader"
	maxAlive    = 4096 // bytes of an answer to a probe
	forwardTime = 5 * time.Second
	forwardWait = 50 * time.Millisecond
)

// newPeerClient returns the client for requests to other replicas.
func newPeerClient() *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			DialContext:         (&net.Dialer{Timeout: time.Second}).DialContext,
			MaxIdleConnsPerHost: 256, IdleConnTimeout: time.Minute,
			MaxConnsPerHost:     512, // less than limits.connections, by which the leader counts them
			TLSHandshakeTimeout: time.Second, ResponseHeaderTimeout: forwardTime,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// probe is log.Options.Probe of the log of the given name, whose replicas share key.
func (s *Stack) probe(name string, key passingKey) func(ctx context.Context, base string, ready bool) (log.Alive, error) {
	return func(ctx context.Context, base string, ready bool) (log.Alive, error) {
		target := base + "/logs/" + name + leaderPath
		if ready {
			target += "?ready"
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
		if err != nil {
			return log.Alive{}, fmt.Errorf("probing the leader: %w", err)
		}
		if ready {
			req.Header.Set(forwardedHeader, key.note(netip.Prefix{}, now()))
		}
		res, err := s.peers.Do(req)
		if err != nil {
			s.peers.CloseIdleConnections() // they may lead nowhere any more
			return log.Alive{}, fmt.Errorf("probing the leader: %w", err)
		}
		defer res.Body.Close()
		var a log.Alive
		if res.StatusCode != http.StatusOK {
			return log.Alive{}, fmt.Errorf("probing the leader: %d %s", res.StatusCode, http.StatusText(res.StatusCode))
		}
		if err := json.NewDecoder(io.LimitReader(res.Body, maxAlive)).Decode(&a); err != nil {
			return log.Alive{}, fmt.Errorf("probing the leader: %w", err)
		}
		return a, nil
	}
}

// couldLead reports whether a probe says that whoever sent it could do better than a leader without
// quorum, which hands over then. Strangers can say so, too; a replica shows that it has key.
func (k passingKey) couldLead(r *http.Request) bool {
	if !r.URL.Query().Has("ready") {
		return false
	}
	_, ok := k.counted(r)
	return ok
}

// serveLeader answers the probes of other replicas.
func serveLeader(l *log.Log, key passingKey) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		// The prober may be gone; there is no one left to tell.
		_ = json.NewEncoder(w).Encode(l.Alive(key.couldLead(r)))
	})
}

// A forwarder serves writes here while this process leads, and has the leader serve them otherwise.
// While nobody leads they wait.
type forwarder struct {
	log    *log.Log
	own    string // this process's URL
	prefix string // of the paths at the leader, before those of the request
	local  http.Handler
	peers  http.RoundTripper
	pass   passingKey
	room   *semaphore.Weighted // of replays
}

// forward returns local as it is while this process leads the log, else the leader's handler at
// prefix.
func (s *Stack) forward(l *logPart, prefix string, local http.Handler) http.Handler {
	local = s.metrics.countAdds(l.cfg.Name, local, prefix == "")
	return &forwarder{
		log: l.log, own: s.cfg.ReplicaURL, prefix: prefix, local: local, peers: s.peers.Transport,
		pass: l.passing, room: s.replays,
	}
}

func (f *forwarder) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case reads(r), f.log.Frozen() != nil: // then it says where to go
		f.local.ServeHTTP(w, r)
		return
	case r.Header.Get(forwardedHeader) != "":
		servePassed(w, r, f.local, func() bool { return f.log.Takes() || f.keepsWaiting() })
		return
	case f.keepsWaiting():
		f.local.ServeHTTP(w, r)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), forwardTime)
	defer cancel()
	body := &replay{body: r.Body, room: f.room}
	defer body.close()
	for {
		if f.try(ctx, w, r, body) {
			return
		}
		if body.broken() {
			f.local.ServeHTTP(w, body.request(r)) // it says how
			return
		}
		select {
		case <-time.After(forwardWait):
			continue
		case <-ctx.Done():
		}
		if f.log.Leading() && body.complete() {
			f.local.ServeHTTP(w, body.request(r)) // it says what holds it up
			return
		}
		httpx.RetryLater(w, time.Second, "no replica leads this log at the moment")
		return
	}
}

// keepsWaiting reports whether this process leads, and will take nothing for longer than a request can
// wait. It says so itself.
func (f *forwarder) keepsWaiting() bool {
	r, ok := f.log.Rebuilding()
	return ok && r.Left > forwardTime && f.log.Leading()
}

// try has the request served by whoever leads and reports whether that was done.
func (f *forwarder) try(ctx context.Context, w http.ResponseWriter, r *http.Request, body *replay) bool {
	if f.log.Frozen() != nil && body.complete() {
		f.local.ServeHTTP(w, body.request(r))
		return true
	}
	if f.log.Takes() {
		held := &withheld{ResponseWriter: w, hold: func() bool { return !f.log.Takes() && body.complete() }}
		f.local.ServeHTTP(held, body.request(r))
		return !held.held
	}
	leader, err := f.log.FindLeader(ctx)
	if err != nil || leader.URL == "" || leader.URL == f.own || !body.complete() {
		return false
	}
	target, err := url.Parse(leader.URL)
	if err != nil {
		return false
	}
	ctx, stop := f.whileLeading(ctx, leader)
	defer stop()
	ctx, sp := span.Start(ctx, "forward")
	defer sp.End(nil)
	done := true
	proxy := httputil.ReverseProxy{
		Transport: f.peers,
		Rewrite: func(p *httputil.ProxyRequest) {
			p.SetURL(target)
			p.Out.URL.Path, p.Out.URL.RawPath = f.prefix+r.URL.Path, ""
			p.Out.Header.Set(forwardedHeader, f.pass.note(httpx.Client(r), now()))
			p.SetXForwarded()
			sendTrace(p.Out)
		},
		ModifyResponse: func(res *http.Response) error {
			if res.Header.Get(leadingHeader) != "" {
				return errors.New("it does not lead any more")
			}
			stop()
			return nil
		},
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { done = false },
	}
	proxy.ServeHTTP(w, body.request(r).WithContext(ctx))
	return done
}

// whileLeading returns a context that ends when another replica is known to lead: a leader that
// hangs does not answer what was passed on to it. After stop it goes on.
func (f *forwarder) whileLeading(ctx context.Context, leader log.Leader) (_ context.Context, stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		tick := time.NewTicker(forwardWait)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
			case <-done:
				return
			case <-ctx.Done():
				return
			}
			if now, err := f.log.Leader(); err == nil && now.Writer != leader.Writer {
				cancel()
				return
			}
		}
	}()
	return ctx, sync.OnceFunc(func() { close(done) })
}

// servePassed has local serve a request that another replica has passed on. A refusal is final only if takes,
// which reports whether adds are for this process to answer, did so before and still does: one that came
// while it began to lead was refused because it did not yet.
func servePassed(w http.ResponseWriter, r *http.Request, local http.Handler, takes func() bool) {
	took := takes()
	local.ServeHTTP(&marked{w, func() bool { return took && takes() }}, r)
}

// marked marks an answer that only says that this process does not lead.
type marked struct {
	http.ResponseWriter
	takes func() bool
}

// WriteHeader implements http.ResponseWriter.
func (m *marked) WriteHeader(status int) {
	if status == http.StatusServiceUnavailable && !m.takes() {
		m.Header().Set(leadingHeader, "no")
	}
	m.ResponseWriter.WriteHeader(status)
}

// Unwrap lets http.ResponseController reach the writer below.
func (m *marked) Unwrap() http.ResponseWriter { return m.ResponseWriter }

// withheld keeps back an answer that only says that this process does not lead any more.
type withheld struct {
	http.ResponseWriter
	hold func() bool
	held bool
}

// WriteHeader implements http.ResponseWriter.
func (w *withheld) WriteHeader(status int) {
	if status == http.StatusServiceUnavailable && w.hold() {
		w.held = true
		clear(w.ResponseWriter.Header())
		return
	}
	w.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (w *withheld) Write(p []byte) (int, error) {
	if w.held {
		return len(p), nil
	}
	return w.ResponseWriter.Write(p)
}

// Unwrap lets http.ResponseController reach the writer below.
func (w *withheld) Unwrap() http.ResponseWriter { return w.ResponseWriter }
