package stack

import (
	"bytes"
	"context"
	"fmt"
	"os"

	"tallywood/internal/config"
	"tallywood/log"
	"tallywood/witness/client"
	"tallywood/witness/policy"
)

// logRules are a log's policy and what reaches its witnesses. They are replaced as a whole.
type logRules struct {
	path     string // of the policy's file
	text     []byte // what it holds, with the witnesses of peers
	policy   *policy.Policy
	cosigner *client.Client // nil if the policy is "quorum none"
}

// policy returns the policy in force.
func (l *logPart) policy() *policy.Policy { return l.rules.Load().policy }

// policyText returns the policy in force: what its file holds, with the witnesses of peers.
func (l *logPart) policyText() []byte { return l.rules.Load().text }

// engine returns the rules as the log takes them.
func (r *logRules) engine(origin string) log.Rules {
	if r.cosigner == nil {
		return log.Rules{Policy: r.policy}
	}
	return log.Rules{Policy: r.policy, Cosigner: r.cosigner, Full: func() []byte { return r.cosigner.Full(origin) }}
}

// readRules reads the policy of a log at path and makes what reaches its witnesses, which Close closes.
func (s *Stack) readRules(l *logPart, path string) (*logRules, error) {
	r := &logRules{path: path}
	var err error
	if r.policy, r.text, err = s.readPolicy(path, l.cfg.Origin, l.vkey); err != nil {
		return nil, err
	}
	if !r.policy.None() {
		r.cosigner, err = client.New(client.Options{Policy: r.policy, Log: s.log, Observe: s.metrics.witnessOf(l.cfg.Name, l.seen)})
		if err != nil {
			return nil, fmt.Errorf("reaching witnesses: %w", err)
		}
		s.closers = append(s.closers, r.cosigner)
	}
	return r, nil
}

// readPolicy reads the tlog-policy of a log, gives it the witnesses of peers, and checks that it speaks
// of that log; of one whose vkey is not known, that it speaks of one with its origin.
func (s *Stack) readPolicy(path, origin, vkey string) (*policy.Policy, []byte, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, nil, fmt.Errorf("reading policy: %w", err)
	}
	if text, err = withPeers(text, s.cfg); err != nil {
		return nil, nil, fmt.Errorf("policy %s: %w", path, err)
	}
	p, err := policy.Parse(text)
	if err != nil {
		return nil, nil, fmt.Errorf("policy %s: %w", path, err)
	}
	for _, l := range p.Logs() {
		if l.Key.String() == vkey || vkey == "" && l.Key.Name() == origin {
			return p, text, nil
		}
	}
	if vkey == "" {
		return nil, nil, fmt.Errorf("policy %s does not list this log; it needs a line \"log %s+…\" with its vkey", path, origin)
	}
	return nil, nil, fmt.Errorf("policy %s does not list this log; it needs the line \"log %s\"", path, vkey)
}

// rereadRules reads the policy of a log again, perhaps from another file.
func (s *Stack) rereadRules(l *logPart) func(context.Context, *config.Config) (change, error) {
	return func(_ context.Context, next *config.Config) (change, error) {
		old, c := l.rules.Load(), l.cfg
		if n, ok := next.LogNamed(c.Name); ok {
			c = n
		}
		p, text, err := s.readPolicy(c.Policy, l.cfg.Origin, l.vkey)
		switch {
		case err != nil:
			return change{}, err
		case bytes.Equal(text, old.text) && c.Policy == old.path:
			return change{}, nil
		case p.None() != old.policy.None():
			return change{}, fmt.Errorf("policy %s: a restart is needed to begin with a quorum, or to do without", c.Policy)
		}
		r, err := s.readRules(l, c.Policy)
		if err != nil {
			return change{}, err
		}
		return change{what: []string{quorumText(r.policy)}, apply: func() error {
			if err := l.log.SetRules(r.engine(c.Origin)); err != nil {
				return err
			}
			s.metrics.expect(c.Name, r.policy)
			l.rules.Store(r)
			return nil
		}}, nil
	}
}
