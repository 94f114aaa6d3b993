package client

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"tallywood/witness/policy"
)

// A ProofFunc returns the RFC 6962 consistency proof between two sizes of the log.
type ProofFunc = func(ctx context.Context, oldSize, size int64) ([][]byte, error)

// Options configure a Client.
type Options struct {
	Policy *policy.Policy   // names the logs, the witnesses and their URLs, and the quorum; required
	HTTP   *http.Client     // used without following redirects; nil, or without Transport: one with sane limits
	Log    *slog.Logger     // nil: discard
	Now    func() time.Time // to judge timestamps; nil: time.Now
	// Observe is told what came of each request for a cosignature; optional. It must not block.
	Observe func(Exchange)
}

// Limits of one exchange.
const (
	requestTimeout = 10 * time.Second // one request at most; it may go on after its caller has the quorum
	roundTimeout   = 30 * time.Second // Cosign and Sizes, if the context has no deadline
	maxAnswer      = 64 << 10         // bytes
	maxSkew        = 5 * time.Minute  // between a cosignature's timestamp and our clock
	monitorTimeout = time.Second      // a request to the monitoring prefix, while others wait
	maxConflicts   = 3                // answers 409 per witness and round
	reuse          = time.Minute      // age up to which a cosignature is used in another round
)

// A Client asks the witnesses of one policy. Its methods may be called concurrently.
type Client struct {
	policy    *policy.Policy
	http      *http.Client
	fresh     *http.Client // has a connection of its own for each request
	log       *slog.Logger
	now       func() time.Time
	observer  func(Exchange)
	endpoints []*endpoint      // those that count towards the quorum, then the others
	unasked   []policy.Witness // those without URL

	stop     chan struct{} // closed by Close
	stopOnce sync.Once
	running  sync.WaitGroup // requests that outlive their round

	mu       sync.Mutex           // guards the fields below, and the cosignatures of all rounds
	rounds   map[string]*round    // by origin: the newest
	cosigned map[string]*cosigned // by origin
}

type cosignature struct {
	line string // with its LF
	time time.Time
}

// New returns a Client. It does no I/O.
func New(o Options) (*Client, error) {
	c := &Client{
		policy: o.Policy, log: o.Log, now: o.Now, observer: o.Observe,
		stop: make(chan struct{}), rounds: map[string]*round{}, cosigned: map[string]*cosigned{},
	}
	if c.policy == nil {
		return nil, errors.New("configuring witness client: no policy")
	}
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	if c.now == nil {
		c.now = time.Now
	}
	c.http, c.fresh = httpClients(o.HTTP)
	c.endpoints, c.unasked = group(c.policy)
	asked := map[string]bool{}
	for _, e := range c.endpoints {
		for _, w := range e.witnesses {
			asked[w.Name] = true
		}
	}
	if !c.policy.Satisfied(func(name string) bool { return asked[name] }) {
		return nil, fmt.Errorf("configuring witness client: the quorum needs witnesses without URL (%s): they cannot be asked", names(c.unasked))
	}
	return c, nil
}

// group makes one endpoint of the witnesses that share a URL: a witness with two keys answers
// one request with two lines.
func group(p *policy.Policy) (endpoints []*endpoint, unasked []policy.Witness) {
	at := map[string]*endpoint{}
	for _, w := range p.Witnesses() {
		url := strings.TrimRight(w.URL, "/")
		if url == "" {
			unasked = append(unasked, w)
			continue
		}
		if at[url] == nil {
			at[url] = newEndpoint(url)
			endpoints = append(endpoints, at[url])
		}
		at[url].witnesses = append(at[url].witnesses, w)
		at[url].counts = at[url].counts || p.Counts(w.Name)
	}
	slices.SortStableFunc(endpoints, func(a, b *endpoint) int {
		switch {
		case a.counts && !b.counts:
			return -1
		case b.counts && !a.counts:
			return 1
		}
		return 0
	})
	return endpoints, unasked
}

func names(witnesses []policy.Witness) string {
	list := make([]string, len(witnesses))
	for i, w := range witnesses {
		list[i] = w.Name
	}
	return strings.Join(list, ", ")
}

// Close ends the requests that are still under way, and waits for them. No method may be called
// after it.
func (c *Client) Close() error {
	c.stopOnce.Do(func() { close(c.stop) })
	c.running.Wait()
	c.http.CloseIdleConnections()
	c.fresh.CloseIdleConnections()
	return nil
}

// outlive returns a context of at most d, which ends with Close but not with ctx.
func (c *Client) outlive(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), d)
	go func() {
		select {
		case <-c.stop:
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, cancel
}

// assemble renders a note: the log's lines, then Ed25519 cosignatures, then ML-DSA ones, each in
// the order of the policy. Those that do not count towards the quorum are left out unless all are
// wanted. The caller holds c.mu.
func (c *Client) assemble(r *round, all bool) []byte {
	var ed, pq strings.Builder
	for _, w := range c.policy.Witnesses() {
		if !all && !c.policy.Counts(w.Name) {
			continue
		}
		switch line := r.cosignatures[w.Name].line; w.Key.Alg() {
		case policy.AlgMLDSA44:
			pq.WriteString(line)
		default:
			ed.WriteString(line)
		}
	}
	return []byte(r.text + "\n" + r.logLines + ed.String() + pq.String())
}
