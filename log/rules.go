package log

import (
	"errors"
	"fmt"

	"tallywood/witness/policy"
)

// Rules are what the checkpoints of a log must satisfy, and who brings the cosignatures for that.
type Rules struct {
	Policy   *policy.Policy // must list the log's key
	Cosigner Cosigner       // nil only if Policy says `quorum none`
	// Full returns a checkpoint with the cosignatures that came after the quorum too, nil without one.
	// It is kept beside the checkpoint, for monitors. Optional.
	Full func() []byte
}

func (r Rules) check(origin string, vkeys []string) error {
	switch {
	case r.Policy == nil:
		return errors.New("no policy")
	case !lists(r.Policy, origin, vkeys):
		return errors.New("the policy does not list the key of this log")
	case r.Cosigner == nil && !r.Policy.None():
		return errors.New("the policy has a quorum, but there is nothing to collect cosignatures")
	}
	return nil
}

// lists reports whether p has the log's first key.
func lists(p *policy.Policy, origin string, vkeys []string) bool {
	for _, l := range p.Logs() {
		if len(vkeys) > 0 && l.Key.String() == vkeys[0] && l.Key.Name() == origin {
			return true
		}
	}
	return false
}

// SetRules replaces the rules that the log was opened with. From its return on no receipt leaves that
// does not satisfy them; what is published and does not is published anew. A log cannot begin to have
// a quorum, nor do without one any more.
func (l *Log) SetRules(r Rules) error {
	if err := r.check(l.o.Origin, l.o.VKeys); err != nil {
		return fmt.Errorf("checking new rules of log %q: %w", l.o.Name, err)
	}
	if old := l.rules.Load(); r.Policy.None() != old.Policy.None() {
		return fmt.Errorf("checking new rules of log %q: a log without quorum cannot get one while it runs, nor lose one", l.o.Name)
	}
	l.rules.Store(&r)
	l.opened.set(r.Policy)
	l.driver.Refresh()
	return nil
}
