package monitor

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"tallywood/monitor/rule"
)

// A Roster says which logs there are, as trust material has it: shards come, and are retired.
type Roster interface {
	// Name says which it is: a URL or a path.
	Name() string
	// Fetch returns the trust material of now, verified.
	Fetch(ctx context.Context) (Material, error)
	// Logs returns the logs that material names, and those that cannot be followed. It does no I/O.
	Logs(material []byte) ([]Log, []LeftOut, error)
}

// A Material is what a Roster fetched.
type Material struct {
	Data    []byte
	Root    int64     // version of the TUF root; 0 if there is none
	Role    string    // of the metadata that expires first
	Expires time.Time // when it does; zero: never
}

// A LeftOut is a log that trust material names and nobody here follows.
type LeftOut struct {
	Log string `json:"log"` // origin or URL
	Why string `json:"why"` // for people
}

// ErrExpired is wrapped by errors of Fetch about material that has expired.
var ErrExpired = errors.New("trust material has expired")

const (
	kindRoster  Kind = "roster" // of the state, not of a log
	rosterPolls      = 30       // polls of a log between two of a roster
	maxFormer        = 16       // earlier materials that are kept for the logs in them
	expiresSoon      = 24 * time.Hour
)

// known is what the state of a roster holds of it.
type known struct {
	Data   string   `json:"data"`             // the material seen last
	Root   int64    `json:"root,omitempty"`   // its TUF root
	Begun  []string `json:"begun"`            // origins that were there at first: Log.Start is about these
	Former []string `json:"former,omitempty"` // earlier materials, with logs or keys that are in no later one

	Untiled map[string]string `json:"untiled,omitempty"` // logs found not to have tiles, by URL, and why that is so
}

// A roster brings what one Roster names into a Monitor. Its tail follows no log: it has a state, an
// outbox and sinks.
type roster struct {
	*tail
	source Roster

	left    []LeftOut // of the material seen last; under tail.mu
	expires time.Time // when that does; zero: never; likewise
}

func newRoster(source Roster, m *Monitor) (*roster, error) {
	t, err := m.newOutbox(Log{Origin: source.Name(), URL: source.Name(), Kind: kindRoster})
	if err != nil {
		return nil, fmt.Errorf("trust material %q: %w", source.Name(), err)
	}
	t.poll = rosterPolls * t.poll
	return &roster{tail: t, source: source}, nil
}

// setRosters has the monitor take logs from all of sources.
func (m *Monitor) setRosters(sources []Roster) error {
	var errs []error
	for _, source := range sources {
		r, err := newRoster(source, m)
		if slices.ContainsFunc(m.rosters, func(other *roster) bool { return other.source.Name() == source.Name() }) {
			err = fmt.Errorf("trust material %q is there twice", source.Name())
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		m.rosters = append(m.rosters, r)
	}
	return errors.Join(errs...)
}

// resume has the logs followed that are known from before, without asking anyone.
func (r *roster) resume(ctx context.Context) error {
	st, err := r.journal.load(ctx)
	if err != nil || r.opened {
		return err
	}
	if err := r.inherit(ctx, st); err != nil {
		return err
	}
	r.opened = true
	if st.Roster == nil {
		return nil
	}
	_, err = r.enlist(ctx, *st.Roster)
	return err
}

// look fetches the material and has what is new in it followed.
func (r *roster) look(ctx context.Context) error {
	err := r.refresh(ctx)
	if ctx.Err() != nil {
		return err
	}
	var se *StateError
	if errors.As(err, &se) {
		r.met(rule.Operational)
	} else {
		err = errors.Join(err, r.reachable(ctx, err))
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lastErr = err
	if err == nil {
		r.checked = time.Now()
	}
	return err
}

func (r *roster) refresh(ctx context.Context) error {
	if err := r.resume(ctx); err != nil {
		return err
	}
	st, err := r.journal.load(ctx)
	if err != nil {
		return err
	}
	m, err := r.source.Fetch(ctx)
	if err != nil {
		if errors.Is(err, ErrExpired) && r.limits.on(rule.TUFExpiring) {
			day := time.Now().UTC().Format(time.DateOnly)
			err = errors.Join(err, r.raiseOne(ctx, &trouble{rule: rule.TUFExpiring, key: "expired " + day, index: NoIndex, summary: err.Error()}))
		}
		return &fetchError{"trusted root", 0, err}
	}
	logs, _, err := r.source.Logs(m.Data)
	if err != nil {
		return &fetchError{"trusted root", 0, err}
	}
	r.mu.Lock()
	r.expires = m.Expires
	r.mu.Unlock()
	next, changes, err := r.compare(st.Roster, m, logs)
	if err != nil {
		return err
	}
	for _, c := range changes {
		if err := r.raiseOne(ctx, c); err != nil {
			return err
		}
	}
	if st.Roster == nil || st.Roster.Data != next.Data || st.Roster.Root != next.Root {
		if _, err := r.journal.update(ctx, nil, func(s *state) { s.Roster = &next }); err != nil {
			return err
		}
	}
	followed, err := r.enlist(ctx, next)
	if err == nil && followed == 0 { // which is not to be taken for peace
		err = &fetchError{"trusted root", 0, errors.New("it names no log that can be followed")}
	}
	return err
}

// compare returns what is known from m on, and what changed as far as anyone wants to hear of it.
func (r *roster) compare(before *known, m Material, logs []Log) (known, []*trouble, error) {
	changes := r.expiring(m)
	next := known{Data: string(m.Data), Root: m.Root}
	if before == nil {
		for _, l := range logs {
			if !l.Begin.After(time.Now()) {
				next.Begun = append(next.Begun, l.Origin)
			}
		}
		return next, changes, nil
	}
	next.Begun, next.Former, next.Untiled = before.Begun, before.Former, before.Untiled
	if before.Data == next.Data && before.Root == next.Root {
		return next, changes, nil
	}
	old, _, err := r.source.Logs([]byte(before.Data))
	if err != nil {
		return next, nil, &StateError{r.cfg.Origin, r.journal.key, err}
	}
	if slices.ContainsFunc(old, func(l Log) bool { return !slices.ContainsFunc(logs, l.sameKey) }) {
		next.Former = append(slices.Clone(before.Former), before.Data)
	}
	if n := len(next.Former) - maxFormer; n > 0 {
		next.Former = next.Former[n:]
		r.log.Error("forgetting the oldest logs that trust material named", "origin", r.cfg.Origin)
	}
	return next, append(changes, r.differs(*before, m, old, logs)...), nil
}

// tell returns the trouble that something is so with m, if the rule is on.
func (r *roster) tell(id rule.ID, m Material, key, format string, args ...any) []*trouble {
	if !r.limits.on(id) {
		return nil
	}
	return []*trouble{{rule: id, key: key, index: NoIndex, summary: fmt.Sprintf(format, args...),
		files: []file{{name: "trusted_root.json", data: m.Data, at: time.Now()}}}}
}

// expiring tells if m soon does.
func (r *roster) expiring(m Material) []*trouble {
	window := cmp.Or(r.limits[rule.TUFExpiring].Window, expiresSoon)
	if m.Expires.IsZero() || time.Until(m.Expires) >= window {
		return nil
	}
	return r.tell(rule.TUFExpiring, m, fmt.Sprintf("%s %d", m.Role, m.Expires.Unix()),
		"%s metadata expires %s", m.Role, m.Expires.UTC().Format(time.RFC3339))
}

// differs tells what is different in m, which names logs, from before, where it was old.
func (r *roster) differs(before known, m Material, old, logs []Log) []*trouble {
	key := fmt.Sprintf("%d %x", m.Root, sha256.Sum256(m.Data))
	changes := r.tell(rule.TUFRootChanged, m, key, "the trusted root changed")
	if before.Root != m.Root {
		changes = r.tell(rule.TUFRootChanged, m, key, "the TUF root changed from version %d to %d", before.Root, m.Root)
	}
	for _, l := range logs {
		if !slices.ContainsFunc(old, l.sameOrigin) {
			changes = append(changes, r.tell(rule.TUFLogAdded, m, key+" "+l.Origin, "log %q was added: it is followed from its first entry", l.Origin)...)
		}
	}
	for _, l := range old {
		if !slices.ContainsFunc(logs, l.sameOrigin) {
			changes = append(changes, r.tell(rule.TUFLogRemoved, m, key+" "+l.Origin, "log %q is no longer named; it is still followed", l.Origin)...)
		}
	}
	return changes
}

func (l Log) sameOrigin(other Log) bool { return l.Origin == other.Origin }

func (l Log) sameKey(other Log) bool { return l.Origin == other.Origin && l.VKey == other.VKey }

// enlist has all logs followed that k names and that have begun. What was named first stays as it is:
// another key for it is told as such, and not taken. It returns how many are followed.
func (r *roster) enlist(ctx context.Context, k known) (followed int, err error) {
	var errs []error
	var left []LeftOut
	found := map[string]string{} // to have no tiles
	for i, data := range append(slices.Clone(k.Former), k.Data) {
		logs, out, err := r.source.Logs([]byte(data))
		if err != nil {
			return 0, &StateError{r.cfg.Origin, r.journal.key, err}
		}
		if i == len(k.Former) {
			left = append(left, out...)
		}
		for _, l := range logs {
			added := !slices.Contains(k.Begun, l.Origin)
			if added {
				l.Start, l.StartTime = 0, time.Time{}
			}
			if l.Begin.After(time.Now()) {
				left = append(left, LeftOut{l.Origin, "it takes entries from " + l.Begin.UTC().Format(time.RFC3339) + " on"})
				continue
			}
			why := cmp.Or(k.Untiled[l.URL], found[l.URL])
			if why == "" {
				if why = r.m.untiled(ctx, l); why != "" {
					found[l.URL] = why
					r.m.unfollow(l.Origin)
				}
			}
			if out := (LeftOut{l.Origin, why}); why != "" {
				if !slices.Contains(left, out) {
					left = append(left, out)
				}
				continue
			}
			out, err := r.m.follow(ctx, l, added)
			if errs = append(errs, err); out != nil {
				left = append(left, *out)
			} else {
				followed++
			}
		}
	}
	errs = append(errs, r.noteUntiled(ctx, found))
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, l := range left {
		if !slices.Contains(r.left, l) {
			r.log.Info("log is not followed", "origin", l.Log, "err", l.Why)
		}
	}
	r.left = left
	return followed, errors.Join(errs...)
}

// noteUntiled has the state hold which logs were found to have no tiles, so that nobody asks again.
func (r *roster) noteUntiled(ctx context.Context, found map[string]string) error {
	if len(found) == 0 {
		return nil
	}
	_, err := r.journal.update(ctx, nil, func(s *state) {
		if s.Roster == nil {
			return
		}
		next := *s.Roster
		next.Untiled = maps.Clone(found)
		maps.Copy(next.Untiled, s.Roster.Untiled)
		s.Roster = &next
	})
	if err != nil {
		return fmt.Errorf("noting logs without tiles: %w", err)
	}
	return nil
}

// follow has a log of trust material followed, unless it is. added says that it came while the monitor
// ran, so that it need not have a state.
func (m *Monitor) follow(ctx context.Context, l Log, added bool) (*LeftOut, error) {
	t, err := m.listed(l, added)
	switch {
	case err != nil:
		return &LeftOut{l.Origin, err.Error()}, nil
	case !t.listed: // the configuration has it, and knows better
		return nil, nil
	case t.cfg.VKey != l.VKey:
		return &LeftOut{l.Origin, "it has another key now, " + l.VKey}, t.raiseOne(ctx, &trouble{rule: rule.LogKeyChange, key: l.VKey,
			index: NoIndex, summary: fmt.Sprintf("trust material has key %s for it now, before it was %s", l.VKey, t.cfg.VKey)})
	}
	t.ends(l.End)
	return nil, nil
}

// listed returns the tail of a log of trust material, and starts it if there is none.
func (m *Monitor) listed(l Log, added bool) (*tail, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if at := m.position(l.Origin); at >= 0 {
		return m.tails[at], nil
	}
	t, err := m.newTail(l)
	if err != nil {
		return nil, err
	}
	t.listed = true
	t.newKey = t.newKey || added
	t.authority, t.audits, t.peers = m.authority, m.audits, m.all
	m.tails = append(m.tails, t)
	if m.start != nil {
		m.start(t)
	}
	return t, nil
}

// run refreshes until ctx ends.
func (r *roster) run(ctx context.Context) {
	said := ""
	for {
		err := r.look(ctx)
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			said = ""
		} else if text := printable(err.Error()); text != said {
			r.log.Log(ctx, level(err), "reading trust material", "origin", r.cfg.Origin, "err", text)
			said = text
		}
		select {
		case <-time.After(r.poll + rand.N(r.poll/8+1)):
		case <-ctx.Done():
			return
		}
	}
}

// check does one roster's part of Monitor.Check, deliveries excepted.
func (r *roster) check(ctx context.Context) {
	if err := r.look(ctx); err != nil {
		r.met(rule.Operational)
	}
}

// A TrustStatus is where a Monitor stands with one Roster.
type TrustStatus struct {
	Name    string    `json:"name"`
	Root    int64     `json:"root,omitempty"`     // version of the TUF root; 0 if there is none
	Checked time.Time `json:"checked,omitzero"`   // when it was last read; zero: not yet
	Err     string    `json:"error,omitempty"`    // why it was not the last time, safe to print; empty if it was
	LeftOut []LeftOut `json:"left_out,omitempty"` // logs that it names and that are not followed
	Pending int       `json:"undelivered"`        // events that some sink has not taken
	Alerts  []Event   `json:"alerts,omitempty"`   // newest first, at most 20
}

// expiry returns when the material seen last expires; zero: never, or none was seen.
func (r *roster) expiry() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.expires
}

func (r *roster) trustStatus() TrustStatus {
	s := r.status()
	out := TrustStatus{Name: s.Origin, Checked: s.Checked, Err: s.Err, Pending: s.Pending, Alerts: s.Alerts}
	if st := r.journal.peek(); st != nil && st.Roster != nil {
		out.Root = st.Roster.Root
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	out.LeftOut = slices.Clone(r.left)
	return out
}

// Trust returns where the monitor stands with all trust material, in the order of Options.Rosters.
func (m *Monitor) Trust() []TrustStatus {
	out := make([]TrustStatus, len(m.rosters))
	for i, r := range m.rosters {
		out[i] = r.trustStatus()
	}
	return out
}
