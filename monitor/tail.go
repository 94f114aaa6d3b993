package monitor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/transparency-dev/merkle/compact"
	"golang.org/x/mod/sumdb/tlog"

	"tallywood/monitor/rule"
	"tallywood/witness/policy"
)

// A trouble is why a log cannot be followed any further just now, with the evidence for it. It is
// raised once, whatever the number of polls that meet it.
type trouble struct {
	rule     rule.ID
	severity rule.Severity // if other than the rule's
	key      string        // tells it from other troubles of the same rule and log
	index    int64
	size     int64
	summary  string
	files    []file
}

func (t *trouble) Error() string { return fmt.Sprintf("%s: %s", t.rule, t.summary) }

// same reports whether both make the same event.
func (t *trouble) same(other *trouble) bool { return t.rule == other.rule && t.key == other.key }

// union returns the troubles of a, and those of b that are other ones.
func union(a, b []*trouble) []*trouble {
	for _, tr := range b {
		if !slices.ContainsFunc(a, tr.same) {
			a = append(slices.Clip(a), tr)
		}
	}
	return a
}

// joined returns the troubles as one error, nil if there are none.
func joined(found []*trouble) error {
	errs := make([]error, len(found))
	for i, tr := range found {
		errs[i] = tr
	}
	return errors.Join(errs...)
}

// A tail follows one log.
type tail struct {
	m           *Monitor // whose it is
	cfg         Log
	layout      layout
	source      *source
	key         policy.Key
	own         *policy.Policy // the log's key alone, quorum none
	policy      *policy.Policy // the log's policy; own if it has none
	rules       *rule.Set
	certificate certificateReader // rules.Certificate

	authority *authority     // nil: none
	audits    *audits        // the CA's records, of all logs
	peers     func() []*tail // all logs, this one too
	routes    map[string]Route
	wake      map[string]chan struct{} // by sink: its outbox may have something new
	evidence  string                   // directory
	journal   *journal
	log       *slog.Logger

	poll       time.Duration
	maxPending int // events in the outbox at which following waits
	maxWaiting int // entries that wait at once
	maxOutbox  int // bytes of the state at which it does
	chunkBytes int // of events that are committed at once
	limits     limits
	metrics    *metrics
	survey     *survey           // of the log's onlookers; nil: this is not of a log
	shownBy    map[string]string // names of the onlookers, by the note; of the goroutine that steps
	listed     bool              // it is of a Roster
	stop       func()            // while Run runs: has it followed no more
	newKey     bool              // a state that is not there was not lost
	daemon     bool              // it polls, and need not raise at once what may pass

	opened bool // the state is good and prepared for; of the goroutine that steps

	mu         sync.Mutex        // for all below
	class      rule.Class        // worst met since it was last taken
	raised     []Event           // since they were last taken
	standing   []string          // what raised events told of before and is still so, since then
	seen       policy.Checkpoint // newest verified
	size       int64             // of the newest verified checkpoint
	cosigned   time.Time         // its newest cosignature
	upTo       time.Time         // when the last step without error began: all that was there then is matched
	checked    time.Time         // last step without error
	lastErr    error             // of the last step
	lost       bool              // the checkpoint seen last does not satisfy the policy
	staleSince time.Time         // when the checkpoint was first found stale, without break
}

// step brings the log to its current checkpoint: nil when it is there. An error that is not a
// trouble is about the network, the sinks or the state, not about the log.
func (t *tail) step(ctx context.Context) error {
	if err := t.open(ctx); err != nil {
		return err
	}
	st, err := t.journal.load(ctx)
	if err != nil {
		return err
	}
	verified, err := t.verified(st)
	if err != nil {
		return err
	}
	s, err := t.checkpoint(ctx, verified)
	if err != nil {
		return errors.Join(t.raise(ctx, verified, err), t.keepClaims(ctx, st, s.aside, nil))
	}
	// Whatever was proved, the log is followed with what it shows us now.
	return errors.Join(t.raise(ctx, verified, joined(s.proved)), t.follow(ctx, st, verified, s))
}

// follow goes on to a checkpoint that satisfies the policy.
func (t *tail) follow(ctx context.Context, st *state, verified policy.Checkpoint, s sighting) error {
	tr := newTree(t.source, s.cp)
	if err := t.consistent(ctx, verified, s.cp, tr); err != nil {
		if err = t.raise(ctx, verified, err); len(troubles(err)) == 0 {
			s.aside = append(s.aside, s.cp)
		}
		return errors.Join(err, t.keepClaims(ctx, st, s.aside, nil))
	}
	t.sawCheckpoint(s.cp)
	seen, seenErr := t.onlook(ctx, s.cp, tr)
	claimErr := errors.Join(seenErr, t.judge(ctx, st, s.cp, tr, append(s.aside, seen...)), t.cosigners(ctx, st, s.cp))
	return t.raise(ctx, verified, errors.Join(claimErr, t.read(ctx, st, verified, s.cp, tr)))
}

// read matches what is new up to cp, which is consistent with the verified checkpoint.
func (t *tail) read(ctx context.Context, st *state, verified, cp policy.Checkpoint, tr *tree) error {
	if err := t.fresh(ctx, cp); err != nil {
		return err
	}
	switch {
	case st.Checkpoint != "" && st.Next == cp.Size() && !newer(cp, verified):
		return nil
	case t.full(st):
		return errors.Join(errBacklog, t.behind(ctx, st, cp.Size()))
	}
	reach, err := t.position(ctx, st, tr)
	if err != nil {
		return err
	}
	w := &walk{tail: t, state: st, cp: cp, counted: int64(reach.End()), after: verified, tree: tr, reach: reach, book: st.Book.Clone(), usage: st.Usage.clone()}
	t.rules.Attend(w.book, int64(reach.End()), passed(verified, cp))
	return w.run(ctx)
}

// passed returns when, at the latest, what is not read any more was logged: before cp, and before
// the checkpoint verified ahead of it, if any.
func passed(verified, cp policy.Checkpoint) time.Time {
	if _, last := cosigned(verified); !last.IsZero() {
		return last
	}
	if _, last := cosigned(cp); !last.IsZero() {
		return last
	}
	return time.Now()
}

// full reports whether following waits until sinks have taken events.
func (t *tail) full(st *state) bool {
	return len(st.Outbox) >= t.maxPending || st.bytes >= t.maxOutbox
}

// verified returns the checkpoint in the state, the zero Checkpoint if there is none yet.
func (t *tail) verified(st *state) (policy.Checkpoint, error) {
	if st.Checkpoint == "" {
		return policy.Checkpoint{}, nil
	}
	cp, err := t.policy.OpenLog([]byte(st.Checkpoint))
	if err == nil {
		err = st.fits(cp)
	}
	if err != nil {
		return cp, &StateError{t.cfg.Origin, t.journal.key, err}
	}
	return cp, nil
}

// newer reports whether a is a checkpoint to keep instead of b: a larger one, or the same with
// later cosignatures.
func newer(a, b policy.Checkpoint) bool {
	_, la := cosigned(a)
	_, lb := cosigned(b)
	return a.Size() > b.Size() || la.After(lb)
}

// position returns the compact range of the entries that need not be matched any more.
func (t *tail) position(ctx context.Context, st *state, tr *tree) (*compact.Range, error) {
	if st.Checkpoint != "" {
		r, err := st.compactRange()
		if err != nil {
			return nil, err
		}
		if there, err := tr.rangeAt(ctx, st.Next); err != nil {
			return nil, err
		} else if !there.Equal(r) { // the tree is consistent, so it is the state that is wrong
			return nil, &StateError{t.cfg.Origin, t.journal.key, errors.New("its compact range is not of this log")}
		}
		return r, nil
	}
	if t.cfg.Start > tr.size { // StartAtHead and StartTime have come by Init
		return nil, fmt.Errorf("log %q has %d entries, start is %d", t.cfg.Origin, tr.size, t.cfg.Start)
	}
	return tr.rangeAt(ctx, t.cfg.Start)
}

// consistent checks that cp's tree grew out of that of the verified checkpoint.
func (t *tail) consistent(ctx context.Context, verified, cp policy.Checkpoint, tr *tree) error {
	if verified.Size() == 0 || verified.Size() == cp.Size() { // equal sizes were compared already
		return nil
	}
	was, err := tr.rootAt(ctx, verified.Size())
	if err != nil {
		return err
	}
	t.checkedConsistency(was == tlog.Hash(verified.Root()))
	if was == tlog.Hash(verified.Root()) {
		return nil
	}
	return &trouble{
		rule: rule.LogSplitView, key: forkKey(cp), index: NoIndex, size: cp.Size(),
		summary: fmt.Sprintf("size %d does not grow out of size %d: its first %d entries have root %x, the verified root is %x",
			cp.Size(), verified.Size(), verified.Size(), was[:], verified.Root()),
		files: append(t.notes(verified, cp.Note()), tr.copies()...),
	}
}

// raise queues an event for every trouble in err, unless it did before, and returns err.
func (t *tail) raise(ctx context.Context, verified policy.Checkpoint, err error) error {
	var ie *inconsistentError
	if errors.As(err, &ie) {
		err = errors.Join(err, &trouble{
			rule: rule.LogInconsistent, key: fmt.Sprintf("%d %x", ie.size, ie.root), index: NoIndex, size: ie.size,
			summary: ie.Error(), files: append(t.notes(verified, ie.note), ie.tiles...),
		})
	}
	for _, tr := range troubles(err) {
		if raiseErr := t.raiseOne(ctx, tr); raiseErr != nil {
			err = errors.Join(err, fmt.Errorf("raising %s: %w", tr.rule, raiseErr))
		}
	}
	return err
}

func (t *tail) raiseOne(ctx context.Context, tr *trouble) error {
	r, _ := rule.Lookup(tr.rule)
	e := Event{
		ID:   eventID(string(tr.rule), t.cfg.Origin, tr.key),
		Time: time.Now().UTC(), Rule: tr.rule, Severity: max(r.Severity, tr.severity),
		Origin: t.cfg.Origin, Index: tr.index, Size: tr.size, LogURL: t.cfg.URL,
		Summary: clipped(fmt.Sprintf("%s: %s", t.cfg.Origin, tr.summary), maxSummary),
	}
	t.met(e.Class())
	st, err := t.journal.load(ctx)
	if err != nil {
		return err
	}
	if slices.Contains(st.Raised, e.ID) {
		t.stands(e)
		return nil
	}
	if e.Evidence, err = writeEvidence(t.evidence, e, tr.files); err != nil {
		return err
	}
	if st.bytes >= t.journal.limit/2 { // the other half is for what deliveries note
		return errBacklog
	}
	added := false
	_, err = t.journal.update(ctx, nil, func(s *state) {
		if added = !slices.Contains(s.Raised, e.ID); added {
			s.Raised = append(s.Raised, e.ID)
			s.queue(e, t.routesFor(e, nil))
		}
	})
	if err == nil && added {
		t.queued(e)
	}
	return err
}

// troubles returns all troubles in an error tree.
func troubles(err error) []*trouble {
	switch e := err.(type) {
	case *trouble:
		return []*trouble{e}
	case interface{ Unwrap() []error }:
		var all []*trouble
		for _, inner := range e.Unwrap() {
			all = append(all, troubles(inner)...)
		}
		return all
	case interface{ Unwrap() error }:
		return troubles(e.Unwrap())
	}
	return nil
}

// notes returns the signed notes that a trouble is about, as evidence.
func (t *tail) notes(verified policy.Checkpoint, seen []byte) []file {
	files := []file{{name: "checkpoint.seen", data: seen, url: "checkpoint", at: time.Now()}}
	if v := verified.Note(); len(v) > 0 {
		files = append(files, file{name: "checkpoint.verified", data: v})
	}
	return files
}

// routesFor returns the names of the sinks that e goes to: those asked for, or all, that want its
// severity.
func (t *tail) routesFor(e Event, asked []string) []string {
	var names []string
	for name, r := range t.routes {
		if e.Severity >= r.MinSeverity && (len(asked) == 0 || r.Always || slices.Contains(asked, name)) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}
