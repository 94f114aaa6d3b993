package httpx

import (
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// ConnLimits bound the connections that are open at a time. Whoever connects beyond them finds the
// connection closed.
type ConnLimits struct {
	All       int      // of everybody; default 8,192
	PerClient int      // of one client, as of Sender; default 1,024
	Exempt    Networks // peers that PerClient does not hold for
}

func (o *ConnLimits) init() {
	if o.All == 0 {
		o.All = 8192
	}
	if o.PerClient == 0 {
		o.PerClient = 1024
	}
}

const (
	// quietFor is how long a connection must have had no request before the end of the server may
	// close it: who is about to send another sends it within that.
	quietFor = 300 * time.Millisecond
	// quietLooks is in how many looks in a row it must have had none: after a process was not run for a
	// while, all its connections have been quiet, and what has come meanwhile is still to be read.
	quietLooks = 4
	// backlogTime is how long connections are taken that wait to be when the server ends. While some wait
	// even then, it is backlogLook longer, and that maxLooks times: who always comes anew must not keep the
	// server from ending.
	backlogTime = 100 * time.Millisecond
	backlogLook = 10 * time.Millisecond
	maxLooks    = 100
	// lingerTime and lingerBytes bound what is read of a connection that the end of the server has
	// closed for writing. To close it with something unread would reset it.
	lingerTime  = 500 * time.Millisecond
	lingerBytes = 256 << 10
	// evictAmong is how many connections are looked at to find one to close for a new one.
	evictAmong = 16
	// refusalsEvery is how often refused connections are logged.
	refusalsEvery = time.Minute
)

// errStopped is what Accept returns when the gate takes no more.
var errStopped = errors.New("the server ends")

// A gate is a listener that bounds the connections open at a time, and knows which have a request.
type gate struct {
	net.Listener
	limits ConnLimits
	log    *slog.Logger

	lingering sync.WaitGroup

	looks int // how often there was more time for connections that wait; owned by whoever calls Accept

	mu      sync.Mutex // guards what follows
	open    map[*gateConn]struct{}
	of      map[netip.Prefix]int // how many of open are of one client; no zero entries
	stopped bool
	ending  bool // connections are closed in two steps
	refused int  // since the last log line
	logged  time.Time
}

func newGate(ln net.Listener, limits ConnLimits, log *slog.Logger) *gate {
	limits.init()
	return &gate{Listener: ln, limits: limits, log: log, open: map[*gateConn]struct{}{}, of: map[netip.Prefix]int{}}
}

// Accept implements net.Listener.
func (g *gate) Accept() (net.Conn, error) {
	for {
		conn, err := g.Listener.Accept()
		if err != nil {
			g.mu.Lock()
			stopped := g.stopped
			g.mu.Unlock()
			timeout, ok := errors.AsType[net.Error](err)
			switch {
			case !stopped || !ok || !timeout.Timeout():
				return nil, err
			case !g.lookForMore():
				return nil, errStopped
			}
			continue
		}
		if c := g.admit(conn); c != nil {
			return c, nil
		}
		_ = conn.Close() // it was not used
	}
}

// lookForMore reports whether to take connections after the deadline for them: of those that waited then, a
// process that was not run until it had passed has taken none.
func (g *gate) lookForMore() bool {
	ln, ok := g.Listener.(interface {
		syscall.Conn
		SetDeadline(time.Time) error
	})
	if !ok || g.looks == maxLooks || !waits(ln) {
		return false
	}
	g.looks++
	return ln.SetDeadline(time.Now().Add(backlogLook)) == nil
}

// admit returns conn as one of the gate's, or nil if there are too many.
func (g *gate) admit(conn net.Conn) *gateConn {
	c := &gateConn{Conn: conn, gate: g, client: Sender(conn.RemoteAddr().String()), since: time.Now()}
	c.outer = c
	var victim *gateConn
	g.mu.Lock()
	switch {
	case g.of[c.client] >= g.limits.PerClient && !g.limits.Exempt.Covers(c.client):
		g.refuseLocked(c, "too many connections of this client")
		c = nil
	case len(g.open) >= g.limits.All:
		if victim = g.victimLocked(c.client); victim == nil {
			g.refuseLocked(c, "too many connections")
			c = nil
		}
	}
	if c != nil {
		g.open[c] = struct{}{}
		g.of[c.client]++
	}
	g.mu.Unlock()
	if victim != nil {
		victim.end()
	}
	return c
}

// victimLocked returns a connection that can be closed for a new one of the client: one without a
// request, of those who have most of them, and never one of whoever has fewer than the client.
func (g *gate) victimLocked(client netip.Prefix) *gateConn {
	var victim *gateConn
	most := g.of[client] // without the new one
	seen := 0
	for c := range g.open { // begins anywhere
		if seen++; seen > evictAmong {
			break
		}
		if n := g.of[c.client]; n > most && c.restingLocked(0) {
			victim, most = c, n
		}
	}
	return victim
}

func (g *gate) refuseLocked(c *gateConn, why string) {
	g.refused++
	if now := time.Now(); now.Sub(g.logged) >= refusalsEvery {
		g.log.Warn("connections refused: "+why, "size", g.refused)
		g.refused, g.logged = 0, now
	}
}

// track is the server's ConnState.
func (g *gate) track(conn net.Conn, state http.ConnState) {
	c := gateConnOf(conn)
	if c == nil {
		return
	}
	streams := false
	if t, ok := conn.(*tls.Conn); ok && state == http.StateActive { // the handshake is over
		streams = t.ConnectionState().NegotiatedProtocol == "h2"
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	c.outer, c.streams = conn, c.streams || streams
	c.active, c.since = state == http.StateActive || state == http.StateHijacked, time.Now()
	if state == http.StateIdle {
		c.begun.CompareAndSwap(fresh, resting)
	}
}

// gateConnOf returns the gate's connection below one of the server, which may have TLS around it.
func gateConnOf(conn net.Conn) *gateConn {
	for {
		switch c := conn.(type) {
		case *gateConn:
			return c
		case interface{ NetConn() net.Conn }:
			conn = c.NetConn()
		default:
			return nil
		}
	}
}

// stop takes the connections that wait to be taken, and then no more.
func (g *gate) stop() {
	g.mu.Lock()
	g.stopped = true
	g.mu.Unlock()
	if ln, ok := g.Listener.(interface{ SetDeadline(time.Time) error }); ok && ln.SetDeadline(time.Now().Add(backlogTime)) == nil {
		return
	}
	_ = g.Listener.Close() // Accept returns its error
}

// leave makes connections be closed in two steps from now on.
func (g *gate) leave() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.ending = true
}

// closeResting closes the connections that have had no request for a while, as it has found several times
// in a row, and reports whether there was none at all. Those of HTTP/2 are left to the server, which tells
// clients what it has read.
func (g *gate) closeResting() (none bool) {
	none = true
	var resting []*gateConn
	g.mu.Lock()
	for c := range g.open {
		if c.streams {
			continue
		}
		none = false
		if c.looks++; !c.restingLocked(quietFor) {
			c.looks = 0
		}
		if c.looks >= quietLooks {
			resting = append(resting, c)
		}
	}
	g.mu.Unlock()
	for _, c := range resting {
		c.end()
	}
	return none
}

// A gateConn is a connection of a gate.
type gateConn struct {
	net.Conn
	gate   *gate
	client netip.Prefix

	// Guarded by the gate's mutex.
	outer   net.Conn  // what the server has: this, or TLS around it
	streams bool      // it is one of HTTP/2
	active  bool      // it has a request
	since   time.Time // when that changed
	looks   int       // of the end of the server that found it quiet, in a row
	closed  bool

	begun atomic.Int32 // resting, fresh or ended
}

const (
	resting = iota // nothing has come since the last answer
	fresh          // something has, and will be answered
	ended          // what comes is not read any more
)

// restingLocked reports whether the connection has had no request for d.
func (c *gateConn) restingLocked(d time.Duration) bool {
	return !c.active && !c.closed && c.begun.Load() == resting && time.Since(c.since) >= d
}

// end closes the connection unless a request has begun to come since it was found resting. Either
// that is read and answered, or nothing of it is read.
func (c *gateConn) end() {
	if !c.begun.CompareAndSwap(resting, ended) {
		return
	}
	c.gate.mu.Lock()
	outer := c.outer
	c.gate.mu.Unlock()
	_ = outer.Close() // the client sees it, or is gone
}

// Read implements net.Conn.
func (c *gateConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 && !c.begun.CompareAndSwap(resting, fresh) && c.begun.Load() == ended {
		return 0, io.EOF
	}
	return n, err
}

// CloseWrite lets the server close a connection in two steps.
func (c *gateConn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}

// Close implements net.Conn.
func (c *gateConn) Close() error {
	g := c.gate
	g.mu.Lock()
	if c.closed {
		g.mu.Unlock()
		return net.ErrClosed
	}
	c.closed = true
	delete(g.open, c)
	if g.of[c.client]--; g.of[c.client] == 0 {
		delete(g.of, c.client)
	}
	ending := g.ending
	g.mu.Unlock()
	if !ending || c.CloseWrite() != nil {
		return c.Conn.Close()
	}
	g.lingering.Go(func() {
		_ = c.Conn.SetReadDeadline(time.Now().Add(lingerTime)) // without it the client's end is waited for
		_, _ = io.CopyN(io.Discard, c.Conn, lingerBytes)       // until the client has closed its side
		_ = c.Conn.Close()                                     // it was closed for writing already
	})
	return nil
}
