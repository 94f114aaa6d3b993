package monitor

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"tallywood/monitor/rule"
	"tallywood/witness/policy"
)

// An Onlooker is somebody else who shows which checkpoint of a log it knows: a witness, or another
// monitor.
type Onlooker struct {
	Name    string // of a witness, as in the policy of the log; of a monitor any
	URL     string // a witness's monitoring prefix, or the directory of a monitor's pages
	Witness bool

	full bool // it is the log itself, with the cosignatures that came after the quorum
}

// fullCheckpoint is where our logs show those cosignatures, below their URL.
const fullCheckpoint = "checkpoint.full"

// path returns where below its URL an onlooker shows the checkpoint of the log with an origin: a
// witness by c2sp.org/tlog-witness, a monitor with its pages, the log beside its checkpoint.
func (o Onlooker) path(origin string) string {
	if o.full {
		return fullCheckpoint
	}
	sum := sha256.Sum256([]byte(origin))
	if o.Witness {
		return fmt.Sprintf("%x/checkpoint", sum)
	}
	return fmt.Sprintf("checkpoints/%x", sum)
}

const (
	surveyPolls   = 6                // polls of the log between two surveys
	surveyTimeout = 10 * time.Second // of all requests of one
)

// A sight is what an onlooker shows.
type sight struct {
	by     Onlooker
	note   []byte
	at     time.Time
	judged bool // it agrees with the log, as far as that can be
}

// A survey is what all onlookers of a log show. It is safe for concurrent use.
type survey struct {
	onlookers []Onlooker
	sources   []*source

	mu    sync.Mutex
	shown map[Onlooker]*sight // those that have shown one
	asked bool                // all were, at least once
}

// ask has all onlookers asked at once.
func (s *survey) ask(ctx context.Context, t *tail) {
	ctx, cancel := context.WithTimeout(ctx, surveyTimeout)
	defer cancel()
	var wg sync.WaitGroup
	for i, o := range s.onlookers {
		wg.Go(func() {
			note, err := s.sources[i].attempt(ctx, nil, o.path(t.cfg.Origin), maxCheckpoint, false)
			if err != nil {
				if !errors.Is(err, fs.ErrNotExist) { // it may not know the log yet
					t.log.Debug("asking for the checkpoint of somebody else", "origin", t.cfg.Origin, "key", o.Name, "err", err)
				}
				return
			}
			s.mu.Lock()
			defer s.mu.Unlock()
			if old := s.shown[o]; old == nil || string(old.note) != string(note) {
				s.shown[o] = &sight{by: o, note: note, at: time.Now()}
			}
		})
	}
	wg.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = true
}

// complete reports whether all that onlookers can show has been asked for, at least once.
func (s *survey) complete() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked || len(s.onlookers) == 0
}

// open returns what is still to be judged.
func (s *survey) open() []*sight {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []*sight
	for _, o := range s.onlookers {
		if v := s.shown[o]; v != nil && !v.judged {
			out = append(out, v)
		}
	}
	return out
}

// settle notes that a sight needs no second look.
func (s *survey) settle(v *sight) {
	s.mu.Lock()
	defer s.mu.Unlock()
	v.judged = true
}

// watch asks the onlookers again and again until ctx ends.
func (s *survey) watch(ctx context.Context, t *tail) {
	for {
		s.ask(ctx, t)
		select {
		case <-time.After(surveyPolls * t.poll):
		case <-ctx.Done():
			return
		}
	}
}

// onlook compares what onlookers show with cp, whose tree is tr. It returns the checkpoints that the
// log has signed, to be judged as its claims are; a witness that shows another tree is raised here.
func (t *tail) onlook(ctx context.Context, cp policy.Checkpoint, tr *tree) ([]policy.Checkpoint, error) {
	if !t.daemon {
		t.survey.ask(ctx, t)
	}
	var claims []policy.Checkpoint
	var errs []error
	clear(t.shownBy)
	for _, v := range t.survey.open() {
		signed, err := t.own.OpenLog(v.note)
		if err == nil { // whoever shows it, the log answers for it
			t.shownBy[string(signed.Note())] = v.by.Name
			claims = append(claims, signed)
		}
		done, err := t.conflict(ctx, cp, tr, v, err == nil)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if done {
			t.survey.settle(v)
		}
	}
	return claims, errors.Join(errs...)
}

// conflict raises witness.conflict if v is a witness's, cosigned by it, and of another tree than cp. It
// reports whether v needs no second look: not so while it is larger.
func (t *tail) conflict(ctx context.Context, cp policy.Checkpoint, tr *tree, v *sight, signed bool) (bool, error) {
	n, err := policy.ParseNote(v.note)
	if err != nil {
		return true, nil // says nothing
	}
	shown, err := policy.ParseTree(n.Text)
	switch {
	case err != nil || shown.Origin != t.cfg.Origin || !signed && !t.cosignedBy(n, v.by):
		return true, nil
	case shown.Size > cp.Size():
		return false, nil // until the log has grown
	}
	root, err := tr.rootAt(ctx, shown.Size)
	if err != nil {
		return false, err
	}
	if root == tlog.Hash(shown.Root) || !t.limits.on(rule.WitnessConflict) || !t.cosignedBy(n, v.by) {
		return true, nil
	}
	return true, t.raiseOne(ctx, &trouble{rule: rule.WitnessConflict, key: fmt.Sprintf("%s %d %x", v.by.Name, shown.Size, shown.Root),
		index: NoIndex, size: shown.Size, summary: fmt.Sprintf("witness %s shows size %d with root %x; in the verified tree of size %d it has root %x",
			v.by.Name, shown.Size, shown.Root, cp.Size(), root[:]),
		files: append(t.notes(cp, v.note), tr.copies()...)})
}

// cosignedBy reports whether an onlooker is a witness and cosigned a note.
func (t *tail) cosignedBy(n policy.Note, o Onlooker) bool {
	for _, w := range t.policy.Witnesses() {
		if !o.Witness || w.Name != o.Name {
			continue
		}
		for _, sig := range n.Signatures {
			if !w.Key.Matches(sig) {
				continue
			}
			if at, err := w.Key.Verify(n.Text, sig.Sig); err == nil && !at.IsZero() {
				return true
			}
		}
	}
	return false
}

// shown says who showed a checkpoint, if it was not the log.
func (t *tail) shown(cp policy.Checkpoint) string {
	if by, ok := t.shownBy[string(cp.Note())]; ok {
		return ", as " + by + " shows"
	}
	return ""
}

// newSurvey returns that of a log's onlookers.
func newSurvey(l Log, o Options) (*survey, error) {
	s := &survey{shown: map[Onlooker]*sight{}}
	var errs []error
	for _, other := range l.Onlookers {
		if other.Witness && l.Policy != nil && !lists(l.Policy, other.Name) {
			errs = append(errs, fmt.Errorf("witness %q is not in the policy", other.Name))
		}
		s.onlookers = append(s.onlookers, other)
	}
	if limitsOf(o.LogRules).on(rule.WitnessMissing) && l.Policy != nil {
		s.onlookers = append(s.onlookers, Onlooker{Name: fullCheckpoint, URL: l.URL, full: true})
	}
	for _, peer := range o.Peers {
		s.onlookers = append(s.onlookers, Onlooker{Name: peer, URL: peer})
	}
	for _, other := range s.onlookers {
		if !isDirectory(other.URL) || other.Name == "" {
			errs = append(errs, fmt.Errorf("%q of %q is not an http or https URL of a directory", other.URL, other.Name))
		}
		s.sources = append(s.sources, &source{base: strings.TrimRight(other.URL, "/"), http: o.HTTP})
	}
	return s, errors.Join(errs...)
}

// lists reports whether a policy has a witness of that name.
func lists(p *policy.Policy, name string) bool {
	for _, w := range p.Witnesses() {
		if w.Name == name {
			return true
		}
	}
	return false
}
