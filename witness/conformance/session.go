package conformance

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// A testLog is a throw-away log with what the witness should remember of it.
type testLog struct {
	Log
	tree *tree
	size int64 // of the last cosigned checkpoint; never: none
	last cosigned
}

// never is the size of a log of which the witness has not cosigned anything.
const never = -1

// A cosigned is an answer of 200.
type cosigned struct {
	request *request
	lines   []cosignature
}

// A session is one run of the suite.
type session struct {
	url, monitoring string
	keys            []witnessKey
	kinds           []Kind
	http            *http.Client
	restart         func(ctx context.Context) error
	throttled       atomic.Int64

	honest, fork *tree // of all logs; fork differs from the third leaf on
	unused       map[Kind][]Log
	shared       map[int64]*testLog // for refusals, by size

	// What is found out at the beginning.
	known      string // origin of a log that the witness knows
	monitored  bool   // the monitoring prefix serves a checkpoint as soon as it is cosigned
	freshProbe bool   // a first request with a wrong old size is a conflict, as it should be
	subtrees   bool   // sign-subtree is there, and a key for it
}

// A trial is a session during one case.
type trial struct {
	*session
	got     string // the last answer that decided, in short
	differs string // what is permitted, but not how ours is
}

func newSession(o Options) (*session, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	s := &session{
		url: strings.TrimSuffix(o.URL, "/"), monitoring: strings.TrimSuffix(o.Monitoring, "/"), kinds: o.Kinds, restart: o.Restart,
		honest: newTree("entry", treeSize), fork: newTree("other entry", 2), unused: map[Kind][]Log{}, shared: map[int64]*testLog{},
	}
	if s.monitoring == "" {
		s.monitoring = s.url
	}
	if s.kinds == nil {
		s.kinds = Listed()
	}
	if o.HTTP == nil {
		o.HTTP = &http.Transport{Proxy: http.ProxyFromEnvironment, MaxIdleConnsPerHost: 64}
	}
	if o.Timeout == 0 {
		o.Timeout = 20 * time.Second
	}
	s.http = &http.Client{
		Transport: o.HTTP, Timeout: o.Timeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	for _, vkey := range o.VKeys {
		k, err := parseWitnessKey(vkey)
		if err != nil {
			return nil, err
		}
		s.keys = append(s.keys, k)
	}
	for _, l := range o.Logs.All(s.kinds...) {
		s.unused[l.Kind] = append(s.unused[l.Kind], l)
	}
	return s, nil
}

// begin makes sure that the witness knows the logs and cosigns, and finds out what it can do.
func (s *session) begin(ctx context.Context) error {
	t := &trial{session: s}
	l, err := t.take(Plain)
	if err != nil {
		return err
	}
	for {
		if err = t.advance(ctx, l, 5); err == nil {
			break
		}
		if t.got == noAnswer {
			return err
		}
		if !strings.HasPrefix(t.got, "409 ") {
			return fmt.Errorf("the witness does not cosign a first checkpoint of %q (does it know the throw-away logs?): %w", l.Origin, err)
		}
		if l, err = t.take(Plain); err != nil { // it has state from an earlier run
			return err
		}
	}
	s.shared[5], s.known = l, l.Origin
	served, err := s.get(ctx, l)
	s.monitored = err == nil && served.status == http.StatusOK && strings.HasPrefix(served.body, l.last.request.note()+"\n")
	if l, err = t.take(Plain); err != nil {
		return err
	}
	a, err := s.post(ctx, "add-checkpoint", newRequest(l, 1, 1).body())
	if err != nil {
		return err
	}
	s.freshProbe = a.status == http.StatusConflict
	hasKey := slices.ContainsFunc(s.keys, func(k witnessKey) bool { return k.alg == algMLDSA })
	a, err = s.post(ctx, "sign-subtree", "")
	s.subtrees = hasKey && err == nil && a.status != http.StatusNotFound && a.status != http.StatusMethodNotAllowed
	return nil
}

// take returns the next log of a kind that the suite has not used.
func (t *trial) take(kind Kind) (*testLog, error) {
	if !slices.Contains(t.kinds, kind) {
		return nil, &skipError{fmt.Sprintf("the witness was told about no %s logs", kind)}
	}
	rest := t.unused[kind]
	if len(rest) == 0 {
		return nil, fmt.Errorf("no %s log is left that the witness has not cosigned before; make a new list", kind)
	}
	t.unused[kind] = rest[1:]
	return &testLog{Log: rest[0], tree: t.honest, size: never}, nil
}

// fresh returns a log of a kind that the witness has never cosigned.
func (t *trial) fresh(ctx context.Context, kind Kind) (*testLog, error) {
	for {
		l, err := t.take(kind)
		if err != nil || !t.freshProbe {
			return l, err
		}
		err = t.probe(ctx, l)
		if err == nil {
			return l, nil
		}
		var c *conflictError
		if !errors.As(err, &c) { // else it has state from an earlier run
			return nil, fmt.Errorf("taking a new log: %w", err)
		}
	}
}

// freshAt returns a log of a kind whose first checkpoint, of the size, was just cosigned.
func (t *trial) freshAt(ctx context.Context, kind Kind, size int64) (*testLog, error) {
	l, err := t.fresh(ctx, kind)
	if err == nil && size != never {
		err = t.advance(ctx, l, size)
	}
	return l, err
}

// at returns a plain log at a size. Cases that move it, or fail, must drop it.
func (t *trial) at(ctx context.Context, size int64) (*testLog, error) {
	if l := t.shared[size]; l != nil {
		return l, nil
	}
	l, err := t.freshAt(ctx, Plain, size)
	if err != nil {
		return nil, fmt.Errorf("preparing: %w", err)
	}
	t.shared[size] = l
	return l, nil
}

// drop makes sure that no other case relies on l's state.
func (t *trial) drop(l *testLog) {
	for size, other := range t.shared {
		if other == l {
			delete(t.shared, size)
		}
	}
}

// unknown returns a log that the witness was not told about.
func (t *trial) unknown() *testLog {
	origin := t.known + "/unknown"
	return &testLog{
		Log:  Log{Kind: Plain, Origin: origin, signers: []signer{newEd25519Signer(origin, [32]byte{1})}},
		tree: t.honest, size: unlisted,
	}
}

// advance has the next checkpoint of l cosigned.
func (t *trial) advance(ctx context.Context, l *testLog, size int64) error {
	return t.accept(ctx, l, newRequest(l, max(l.size, 0), size), size)
}

// accept sends a request that must be cosigned, and checks everything about it.
func (t *trial) accept(ctx context.Context, l *testLog, r *request, size int64) error {
	t.got = noAnswer
	a, err := t.post(ctx, "add-checkpoint", r.body())
	if err != nil {
		return err
	}
	t.got = a.short()
	return t.accepted(ctx, l, r, size, a)
}

// accepted checks that an answer cosigns what r asked for, and that the witness serves it.
func (t *trial) accepted(ctx context.Context, l *testLog, r *request, size int64, a answer) error {
	if a.status != http.StatusOK {
		t.drop(l)
		return fmt.Errorf("answered %s; want 200", a.short())
	}
	lines, err := t.verify(a.body, r.statement(uint64(size)))
	if err != nil {
		t.drop(l)
		return fmt.Errorf("answered 200, but %w", err)
	}
	l.size, l.last = size, cosigned{r, lines}
	if !t.monitored {
		return nil
	}
	served, err := t.get(ctx, l)
	if err != nil {
		return err
	}
	if served.status != http.StatusOK || !strings.HasPrefix(served.body, r.note()+"\n") || !containsLines(served.body, a.body) {
		t.drop(l)
		return fmt.Errorf("after 200 the monitoring prefix serves %s, which is not the checkpoint with its cosignatures", served.short())
	}
	return nil
}

// refuse sends a request that must be refused, and checks that nothing changed.
func (t *trial) refuse(ctx context.Context, l *testLog, body string, want answers) error {
	var before answer
	if t.monitored && l.size != unlisted {
		var err error
		if before, err = t.get(ctx, l); err != nil {
			return err
		}
	}
	t.got = noAnswer
	a, err := t.post(ctx, "add-checkpoint", body)
	if err != nil {
		return err
	}
	t.got = a.short()
	if err = want.judge(t, a); err == nil && a.status == http.StatusConflict && a.body != fmt.Sprintf("%d\n", max(l.size, 0)) {
		err = fmt.Errorf("answered 409 with body %.40q; want %q", a.body, fmt.Sprintf("%d\n", max(l.size, 0)))
	}
	if err == nil && l.size != unlisted {
		err = t.unchanged(ctx, l, before)
	}
	if err != nil {
		t.drop(l)
	}
	return err
}

// unlisted is the size of a log that the witness does not know.
const unlisted = -2

// unchanged checks that the witness remembers of l what it did before.
func (t *trial) unchanged(ctx context.Context, l *testLog, before answer) error {
	if t.freshProbe || l.size != never {
		if err := t.probe(ctx, l); err != nil {
			return fmt.Errorf("after the refusal the state is another one: %w", err)
		}
	}
	if !t.monitored {
		return nil
	}
	after, err := t.get(ctx, l)
	if err == nil && (after.status != before.status || after.body != before.body && after.status == http.StatusOK) {
		err = fmt.Errorf("after the refusal the monitoring prefix serves %s, before it %s", after.short(), before.short())
	}
	return err
}

// A conflictError reports another size than the suite expects.
type conflictError struct{ body string }

func (e *conflictError) Error() string { return fmt.Sprintf("the witness names size %.40q", e.body) }

// probe asks, with an authentic checkpoint and an old size that is not the recorded one, for the
// recorded one, and compares.
func (t *trial) probe(ctx context.Context, l *testLog) error {
	size := max(l.size, 0) + 1
	a, err := t.post(ctx, "add-checkpoint", newRequest(l, size, size).body())
	switch {
	case err != nil:
		return err
	case a.status != http.StatusConflict:
		return fmt.Errorf("asking for the recorded size with old size %d was answered %s; want 409", size, a.short())
	case a.body != fmt.Sprintf("%d\n", max(l.size, 0)):
		return &conflictError{a.body}
	}
	return nil
}
