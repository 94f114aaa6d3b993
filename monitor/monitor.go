package monitor

import (
	"cmp"
	"context"
	"crypto"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"tallywood/monitor/rule"
	"tallywood/storage"
	"tallywood/witness/policy"
)

// StartAtHead as Log.Start skips all that is in the log when it is first seen.
const StartAtHead = -1

// A Log is a log to follow.
type Log struct {
	Origin string
	URL    string // of the directory with checkpoint and tile/
	Kind   Kind
	VKey   string // verifier key of the log: type 0x01, 0x05 or 0x06, named Origin

	// Policy says which cosignatures a checkpoint needs. It must list VKey. Without one NoPolicy
	// must be set, and the log's own signature is enough.
	Policy   *policy.Policy
	NoPolicy bool

	// Start is the first entry to match when the log is seen for the first time; StartAtHead: the
	// first one logged after that. StartTime, unless zero, takes its place: nothing that was logged
	// since is missed; not for KindTlog, whose entries say nothing of time. Where StartAtHead or
	// StartTime says so, the first state must come from Init, or a lost one would skip a gap.
	Start     int64
	StartTime time.Time
	Freshness Freshness
	// End is when the log was frozen, or is to be: from then on its newest cosignature may be old. Zero
	// while it takes entries.
	End time.Time
	// Onlookers show which checkpoints of the log they know, to be compared with what it shows us.
	Onlookers []Onlooker
	// Begin is when a log of a Roster begins to take entries: before, it is not followed.
	Begin time.Time
}

// Freshness says when a log is stale: the newest cosignature of its checkpoint is older. Zero
// stands for 15 minutes and one hour; negative: never.
type Freshness struct {
	Warn     time.Duration
	Critical time.Duration
}

// Options configure a Monitor.
type Options struct {
	State       storage.Bucket // private: not the one that logs are served from
	StatePrefix string         // of keys in State; empty: "monitor"
	EvidenceDir string         // created when needed
	Logs        []Log          // at least one, unless there are Rosters
	Peers       []string       // directories of other monitors' pages: Onlookers of all logs
	Rosters     []Roster       // say which logs there are beside Logs
	Rules       *rule.Set      // nil: logs are verified, no identity is watched

	// Authorizations explain the entries of identities that must be authorized.
	Authorizations Authorizations

	Routes  map[string]Route // sinks by name; at least one
	Display Display          // may be nil
	HTTP    *http.Client     // nil: no redirects to other hosts
	Poll    time.Duration    // between two looks at a log; 0: 2 s for loopback URLs, else 10 s

	// Key signs the states, Ed25519: one that is edited, or of another monitor, is refused. Nil: they
	// are not signed, for a State that nobody else can write.
	Key crypto.Signer
	// NewKey says that Key was just made, so that a state that is not there was not lost.
	NewKey bool

	// LogRules are the rules about logs that are named for the whole configuration: switched on or
	// off, with their parameters. Those about entries are not looked at.
	LogRules map[rule.ID]rule.Params

	// Pulse is given a sign of life while all logs are found in order, every PulseEvery, or with every
	// Check; 0: 5 minutes. Nil: none.
	Pulse      Pulse
	PulseEvery time.Duration

	Log *slog.Logger // nil: discard
}

// A Monitor follows logs. Use either Run or Check, one at a time.
type Monitor struct {
	options   Options // checked, with defaults
	seal      *seal
	authority *authority // nil: no authorizations
	metrics   *metrics
	audits    *audits
	rosters   []*roster
	shared    *tail             // holds back for all
	pacers    map[string]*pacer // by sink
	bursts    bursts

	mu    sync.Mutex  // for all below
	tails []*tail     // of Options.Logs first
	start func(*tail) // while Run runs: has another log followed
}

// New checks o. It does no I/O.
func New(o Options) (*Monitor, error) {
	var errs []error
	check := func(bad bool, format string, args ...any) {
		if bad {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	check(o.State == nil, "no state bucket")
	check(o.EvidenceDir == "", "no evidence directory")
	check(len(o.Logs)+len(o.Rosters) == 0, "no logs to follow")
	check(len(o.Routes) == 0, "no sinks")
	check(o.Poll < 0 || o.PulseEvery < 0, "negative duration")
	check(o.Poll > longestPoll, "poll %s is longer than %s: what is logged would be told of too late", o.Poll, longestPoll)
	for name, r := range o.Routes {
		check(name == "" || r.Sink == nil, "sink %q is incomplete", name)
		check(r.Digest < 0 || r.Limit.Max < 0 || r.Limit.Window < 0, "sink %q has a negative digest or limit", name)
		check((r.Limit.Max > 0) != (r.Limit.Window > 0), "sink %q has half a limit", name)
	}
	if o.Rules != nil {
		for _, name := range o.Rules.Notify() {
			_, ok := o.Routes[name]
			check(!ok, "an identity notifies %q, which is no sink", name)
		}
		for _, name := range o.Rules.Authorized() {
			check(o.Authorizations == nil, "identity %q must be authorized, and there are no authorizations", name)
		}
		for name := range o.Rules.Missing() {
			check(o.Authorizations == nil, "identity %q: rule %q needs authorizations, and there are none", name, rule.IDMissing)
		}
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.HTTP == nil {
		o.HTTP = defaultClient()
	}
	errs = append(errs, rule.CheckRules(o.LogRules))
	seal, err := newSeal(o.Key)
	errs = append(errs, err)
	o.PulseEvery = cmp.Or(o.PulseEvery, usualBeat)
	m := &Monitor{options: o, seal: seal, metrics: newMetrics(), pacers: newPacers(o.Routes)}
	origins := map[string]bool{}
	for _, l := range o.Logs {
		t, err := m.newTail(l)
		if err == nil && origins[l.Origin] {
			err = fmt.Errorf("log %q is there twice", l.Origin)
		}
		origins[l.Origin] = true
		errs = append(errs, err)
		m.tails = append(m.tails, t)
	}
	errs = append(errs, m.setRosters(o.Rosters), m.share())
	errs = append(errs, slices.Concat(compared(o), unwitnessed(o))...)
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("configuring monitor: %w", err)
	}
	m.authorize(o.Authorizations)
	return m, nil
}

func (m *Monitor) newTail(l Log) (*tail, error) {
	var errs []error
	layout, ok := layouts[l.Kind]
	if !ok {
		errs = append(errs, fmt.Errorf("kind %q is none of rekor, ct, tlog", l.Kind))
	}
	if !isDirectory(l.URL) {
		errs = append(errs, fmt.Errorf("%q is not an http or https URL of a directory", l.URL))
	}
	switch {
	case l.Start < StartAtHead:
		errs = append(errs, fmt.Errorf("start %d is negative", l.Start))
	case l.Start != 0 && !l.StartTime.IsZero():
		errs = append(errs, errors.New("both an index and a time to start at"))
	case !l.StartTime.IsZero() && ok && layout.made == nil:
		errs = append(errs, fmt.Errorf("start at a time: entries of a log of kind %s do not say when they were made; want an index", l.Kind))
	}
	t, err := m.newOutbox(l)
	if err != nil {
		errs = append(errs, err)
	} else {
		t.layout = layout
		t.cfg.URL = strings.TrimRight(l.URL, "/")
		t.cfg.Freshness = l.Freshness.orDefault()
		t.source = &source{base: t.cfg.URL, http: m.options.HTTP, fetched: t.fetched}
		errs = append(errs, t.trust(l))
		t.survey, err = newSurvey(l, m.options)
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("log %q: %w", l.Origin, err)
	}
	return t, nil
}

// newOutbox returns a tail that has a state and sinks, and no log yet.
func (m *Monitor) newOutbox(l Log) (*tail, error) {
	o := m.options
	t := &tail{m: m, cfg: l, metrics: m.metrics, rules: o.Rules, certificate: o.Rules.Certificate, routes: o.Routes, evidence: o.EvidenceDir,
		limits: limitsOf(o.LogRules), newKey: o.NewKey, maxPending: maxPending, maxWaiting: maxWaiting, maxOutbox: maxOutbox,
		chunkBytes: chunkBytes, log: o.Log, wake: map[string]chan struct{}{}, shownBy: map[string]string{}}
	if t.poll = o.Poll; t.poll == 0 {
		t.poll = 10 * time.Second
		if u, err := url.Parse(l.URL); err == nil && isLoopback(u.Hostname()) {
			t.poll = 2 * time.Second
		}
	}
	for name := range o.Routes {
		t.wake[name] = make(chan struct{}, 1)
	}
	sum := sha256.Sum256([]byte(l.Origin))
	key := cmp.Or(o.StatePrefix, "monitor") + "/" + hex.EncodeToString(sum[:])
	t.journal = newJournal(o.State, key, &state{Version: stateVersion, Origin: l.Origin, VKey: l.VKey, Kind: l.Kind}, m.seal)
	return t, storage.CheckKey(key)
}

// trust sets what verifies l's checkpoints.
func (t *tail) trust(l Log) error {
	key, err := policy.ParseVKey(l.VKey)
	if err != nil {
		return err
	}
	if key.Name() != l.Origin {
		return fmt.Errorf("key is named %q", key.Name())
	}
	t.key = key
	if t.own, err = policy.Parse([]byte("log " + l.VKey + "\nquorum none\n")); err != nil {
		return err
	}
	switch {
	case l.Policy == nil && !l.NoPolicy:
		return errors.New("no policy; to go without one must be said")
	case l.Policy != nil && l.NoPolicy:
		return errors.New("both a policy and none")
	case l.Policy == nil:
		t.policy = t.own
		return nil
	}
	t.policy = l.Policy
	if !slices.ContainsFunc(l.Policy.Logs(), func(line policy.LogLine) bool { return line.Key.Equal(key) }) {
		return errors.New("the policy does not list the log's key")
	}
	return nil
}

func (f Freshness) orDefault() Freshness {
	const never = time.Duration(1<<63 - 1)
	for _, limit := range []struct {
		d     *time.Duration
		usual time.Duration
	}{{&f.Warn, 15 * time.Minute}, {&f.Critical, time.Hour}} {
		switch {
		case *limit.d == 0:
			*limit.d = limit.usual
		case *limit.d < 0:
			*limit.d = never
		}
	}
	return f
}

// isDirectory reports whether text is the URL of a directory.
func isDirectory(text string) bool {
	u, err := url.Parse(text)
	return err == nil && u.Host != "" && (u.Scheme == "http" || u.Scheme == "https") && u.RawQuery == "" && u.Fragment == ""
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || strings.HasSuffix(host, ".localhost") || ip != nil && ip.IsLoopback()
}

// open reads all states before anything else happens, and says what is wrong with each. Its error
// is of ctx, or with none of them usable those of all.
func (m *Monitor) open(ctx context.Context) error {
	sweepEvidence(m.options.EvidenceDir)
	m.openShared(ctx)
	var errs []error
	for _, r := range m.rosters {
		err := r.resume(ctx)
		if ctx.Err() != nil {
			return err
		}
		if err != nil {
			r.log.Error("trust material is not read: its state cannot be used", "origin", r.cfg.Origin, "err", err)
			errs = append(errs, err)
		}
	}
	for _, t := range m.all() {
		err := t.open(ctx)
		if ctx.Err() != nil {
			return err
		}
		if err != nil {
			t.log.Error("log is not followed: its state cannot be used", "origin", t.cfg.Origin, "err", err)
			errs = append(errs, err)
		}
	}
	if len(errs) < len(m.all())+len(m.rosters) {
		return nil
	}
	return errors.Join(errs...)
}

// Run follows all logs and delivers events until ctx ends, and then returns nil. A log that
// misbehaves, does not answer or of which the state cannot be used stops neither Run nor the other
// logs; a state is tried again with every poll. Only when there is a *StateError for each log are
// they returned, at once.
func (m *Monitor) Run(ctx context.Context) error {
	if err := m.open(ctx); ctx.Err() != nil {
		return nil // it ended before it began
	} else if err != nil {
		return err
	}
	var wg sync.WaitGroup
	if m.authority != nil {
		wg.Go(func() { m.authority.run(ctx) })
	}
	deliver := func(t *tail) {
		for name := range t.routes {
			wg.Go(func() { newCourier(t, name).run(ctx) })
		}
	}
	m.mu.Lock()
	m.start = func(t *tail) {
		t.daemon = true
		following, stop := context.WithCancel(ctx)
		t.stop = stop
		wg.Go(func() { t.run(following) })
		if len(t.survey.onlookers) > 0 {
			wg.Go(func() { t.survey.watch(following, t) })
		}
		deliver(t)
	}
	for _, t := range m.tails {
		m.start(t)
	}
	m.mu.Unlock()
	for _, r := range m.rosters {
		r.daemon = true
		wg.Go(func() { r.run(ctx) })
		deliver(r.tail)
	}
	deliver(m.shared)
	if m.options.Display != nil {
		wg.Go(func() { m.show(ctx) })
	}
	if m.options.Pulse != nil {
		wg.Go(func() { m.beat(ctx) })
	}
	wg.Wait()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.start = nil
	return nil
}

// all returns the logs that are followed now.
func (m *Monitor) all() []*tail {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.tails)
}

// position returns where in m.tails the log of an origin is, -1 if it is not. m.mu must be locked.
func (m *Monitor) position(origin string) int {
	return slices.IndexFunc(m.tails, func(t *tail) bool { return t.cfg.Origin == origin })
}

// outboxes returns all that events are delivered from.
func (m *Monitor) outboxes() []*tail {
	out := m.all()
	for _, r := range m.rosters {
		out = append(out, r.tail)
	}
	return append(out, m.shared)
}

// A Result is what one Check found.
type Result struct {
	Class       rule.Class    `json:"class"`              // worst of all; its value is the exit code
	Events      []Event       `json:"events"`             // raised by this Check
	Standing    []string      `json:"standing,omitempty"` // what was told before about logs and is still so, safe to print
	Undelivered int           `json:"undelivered"`        // events that some sink has not taken yet
	Held        int           `json:"held"`               // events held back, for a digest or by a limit; once for each sink
	GivenUp     int64         `json:"given_up"`           // deliveries given up, until they are acknowledged
	Failures    []Failure     `json:"failures,omitempty"` // some of them, of each log the newest first
	Logs        []LogStatus   `json:"logs"`               // in the order of Options.Logs, then those of Options.Rosters
	Trust       []TrustStatus `json:"trust,omitempty"`

	// Unusable says why authorizations cannot be used, safe to print; empty if they can.
	Unusable string `json:"unusable,omitempty"`
}

// Check brings all logs to their current checkpoints and delivers the outbox, once. What it finds
// wrong with logs, states and sinks is in the Result; its error, of ctx, is about the Check itself.
func (m *Monitor) Check(ctx context.Context) (Result, error) {
	sweepEvidence(m.options.EvidenceDir)
	m.openShared(ctx)
	var wg sync.WaitGroup
	for _, r := range m.rosters {
		wg.Go(func() { r.check(ctx) })
	}
	wg.Wait()
	for _, t := range m.all() {
		wg.Go(func() { t.check(ctx) })
	}
	wg.Wait()
	// What waits may be explained by what another log has.
	for _, t := range m.all() {
		wg.Go(func() { t.checkWaiting(ctx) })
	}
	for _, r := range m.rosters { // what it says of a log is told now
		wg.Go(func() { r.deliver(ctx) })
	}
	wg.Wait()
	m.shared.deliver(ctx)
	if err := ctx.Err(); err != nil {
		return Result{Class: rule.Operational}, fmt.Errorf("checking logs: %w", err)
	}
	r := Result{Events: []Event{}, Logs: []LogStatus{}, Trust: m.Trust()}
	for _, t := range m.outboxes() {
		class, events, standing := t.take()
		s := t.status()
		r.Class = rule.Worse(r.Class, class)
		r.Events = append(r.Events, events...)
		r.Standing = append(r.Standing, standing...)
		r.Undelivered += s.Pending
		r.Held += s.Held
		r.GivenUp += s.GivenUp
		r.Failures = append(r.Failures, s.Failures...)
		if t.cfg.Kind != kindRoster && t.cfg.Kind != kindShared {
			r.Logs = append(r.Logs, s)
		}
	}
	r.Unusable = m.authority.trouble()
	if r.Undelivered > 0 || r.GivenUp > 0 {
		r.Class = rule.Worse(r.Class, rule.Operational)
	}
	m.beatOnce(ctx)
	if m.options.Display != nil {
		if err := m.options.Display.Show(ctx, m.overview()); err != nil {
			m.options.Log.Error("showing what there is to see", "err", err)
			r.Class = rule.Worse(r.Class, rule.Operational)
		}
	}
	return r, nil
}

// Acknowledge forgets the deliveries that were given up, as last seen in Status or a Result: they
// are known to whoever calls it, and no trouble any more.
func (m *Monitor) Acknowledge(ctx context.Context) error {
	var errs []error
	for _, t := range m.outboxes() {
		if st := t.journal.peek(); st == nil || st.GivenUp == 0 {
			continue
		}
		_, err := t.journal.update(ctx, nil, func(s *state) { s.GivenUp, s.Failures = 0, nil })
		if err != nil {
			errs = append(errs, fmt.Errorf("acknowledging failed deliveries of log %q: %w", t.cfg.Origin, err))
		}
	}
	return errors.Join(errs...)
}

// Status returns where all logs stand, those of Options.Logs first, in their order.
func (m *Monitor) Status() []LogStatus {
	var out []LogStatus
	for _, t := range m.all() {
		out = append(out, t.status())
	}
	return out
}

// sinkNames returns the names of the routes in order.
func sinkNames(routes map[string]Route) []string { return slices.Sorted(maps.Keys(routes)) }
