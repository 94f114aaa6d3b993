package demo

import (
	"context"
	"io"
	"time"

	"tallywood/log/verify"
	"tallywood/monitor/rule"
	"tallywood/witness/policy"
)

// A Stage is a stage whose first step was shown.
type Stage struct{ s *stage }

// WithStage sets the stage up below dir, shows the first step, and calls f.
func WithStage(ctx context.Context, dir string, f func(context.Context, Stage) error) error {
	s, err := prepare(ctx, dir)
	if err != nil {
		return err
	}
	return s.run(ctx, func(ctx context.Context) error {
		if err := s.sign(ctx, &teller{out: io.Discard}); err != nil {
			return err
		}
		s.patience = 100 * time.Millisecond
		return f(ctx, Stage{s})
	})
}

// RefusalOfAlice wants what Alice signed to be refused by a check.
func (s Stage) RefusalOfAlice(check verify.Check) error {
	return s.s.refusal(&teller{out: io.Discard}, s.s.program, s.s.bundle, check)
}

// RefusalOfBob wants what Bob signed to be refused, as Alice's, by a check.
func (s Stage) RefusalOfBob(check verify.Check) error {
	return s.s.refusal(&teller{out: io.Discard}, s.s.dir+"/bob.txt", s.s.dir+"/bob.txt.sigstore.json", check)
}

// Alert wants an alert.
func (s Stage) Alert(ctx context.Context, id rule.ID) error {
	_, err := s.s.alert(ctx, id, origin)
	return err
}

// AskAll wants the witnesses of p to refuse the old checkpoint.
func (s Stage) AskAll(ctx context.Context, p *policy.Policy) error {
	s.s.policy = p
	return s.s.askAll(ctx, &teller{out: io.Discard}, 2, s.s.old)
}

// Policy is the policy of the stage's log.
func (s Stage) Policy() *policy.Policy { return s.s.policy }
