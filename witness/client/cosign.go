package client

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"tallywood/witness/policy"
)

// A QuorumError reports a checkpoint that too few witnesses cosigned in time.
type QuorumError struct {
	Origin    string
	Size      int64
	Cosigned  []string       // names of the witnesses that did
	Witnesses []WitnessError // the others that count towards the quorum, in the order of the policy
}

// A WitnessError says why one witness did not cosign.
type WitnessError struct {
	Name string // in the policy
	Err  error
}

func (e *QuorumError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "no quorum for %q, size %d", e.Origin, e.Size)
	for _, name := range e.Cosigned {
		fmt.Fprintf(&b, "; %s: cosigned", name)
	}
	for _, w := range e.Witnesses {
		fmt.Fprintf(&b, "; %s: %v", w.Name, w.Err)
	}
	return b.String()
}

// Unwrap returns the witnesses' errors.
func (e *QuorumError) Unwrap() []error {
	errs := make([]error, len(e.Witnesses))
	for i, w := range e.Witnesses {
		errs[i] = w.Err
	}
	return errs
}

// A round is one checkpoint on its way to all witnesses.
type round struct {
	number   int
	text     string
	logLines string // those of the checkpoint that are not by witnesses of the policy
	tree     policy.Tree
	build    ProofFunc

	cosignatures map[string]cosignature // by witness name, late ones too; guarded by Client.mu
	superseded   chan struct{}          // closed when there is a newer round
	outdone      chan struct{}          // closed when a newer round has met the quorum; guarded by Client.mu

	mu     sync.Mutex // guards proofs
	proofs map[int64]func() ([][]byte, error)
}

// prove returns the proof from old, which is built once for all witnesses.
func (r *round) prove(ctx context.Context, old int64) ([][]byte, error) {
	if old == 0 || old == r.tree.Size {
		return nil, nil
	}
	r.mu.Lock()
	f := r.proofs[old]
	if f == nil {
		f = sync.OnceValues(func() ([][]byte, error) { return r.build(ctx, old, r.tree.Size) })
		r.proofs[old] = f
	}
	r.mu.Unlock()
	proof, err := f()
	if err != nil {
		return nil, fmt.Errorf("proving consistency with size %d: %w", old, err)
	}
	return proof, nil
}

// Cosign has the checkpoint, which the log has signed, cosigned by the witnesses, and returns it
// as soon as the policy is satisfied: the log's lines as given, then the cosignatures that count. It tries
// again and again what may yet succeed until ctx ends (or for 30 s if it has no deadline), and
// then returns a [QuorumError]. A newer call for the same log takes the witnesses over.
func (c *Client) Cosign(ctx context.Context, checkpoint []byte, prove ProofFunc) ([]byte, error) {
	ctx, cancel := deadline(ctx)
	defer cancel()
	r, err := c.begin(checkpoint, prove)
	if err != nil {
		return nil, err
	}
	results := make(chan result, len(c.endpoints))
	waiting := 0
	for _, e := range c.endpoints {
		if !e.counts || c.has(r, e) {
			continue // it is asked later, or answered a call for this very checkpoint a moment ago
		}
		waiting++
		c.running.Go(func() {
			err := c.ask(ctx, e, r)
			results <- result{e, err}
		})
	}
	failed := map[*endpoint]error{}
	for ; ; waiting-- {
		if note, ok := c.satisfied(r); ok {
			cancel() // from here on nobody waits
			c.askOthers(ctx, r)
			return c.leave(r, note)
		}
		if waiting == 0 || ctx.Err() != nil {
			return nil, c.quorumError(r, failed)
		}
		select {
		case res := <-results:
			failed[res.endpoint] = res.err
		case <-ctx.Done(): // what has come by now counts
		}
	}
}

// askOthers asks the witnesses that do not count, whose cosignatures go into Full.
func (c *Client) askOthers(ctx context.Context, r *round) {
	for _, e := range c.endpoints {
		if !e.counts && !c.has(r, e) {
			c.running.Go(func() { _ = c.ask(ctx, e, r) }) // the endpoint remembers what came of it
		}
	}
}

type result struct {
	endpoint *endpoint
	err      error // nil: it cosigned
}

func deadline(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, roundTimeout)
}

// begin verifies the checkpoint and makes its round the newest. Cosignatures of the same text
// that came late in the last round are taken over.
func (c *Client) begin(checkpoint []byte, prove ProofFunc) (*round, error) {
	r, err := c.parse(checkpoint)
	if err != nil {
		return nil, err
	}
	r.build = prove
	c.mu.Lock()
	defer c.mu.Unlock()
	if last := c.rounds[r.tree.Origin]; last != nil {
		r.number = last.number + 1
		close(last.superseded)
		for name, cs := range last.cosignatures {
			if last.text == r.text && c.now().Sub(cs.time).Abs() <= reuse {
				r.cosignatures[name] = cs
			}
		}
	}
	c.rounds[r.tree.Origin] = r
	return r, nil
}

// parse verifies that a log of the policy has signed the checkpoint, and sorts its lines.
func (c *Client) parse(checkpoint []byte) (*round, error) {
	cp, err := c.policy.OpenLog(checkpoint)
	if err != nil {
		return nil, fmt.Errorf("checkpoint to be cosigned: %w", err)
	}
	n, err := policy.ParseNote(checkpoint)
	if err != nil {
		return nil, fmt.Errorf("checkpoint to be cosigned: %w", err)
	}
	r := &round{
		text: n.Text, tree: cp.Tree(),
		cosignatures: map[string]cosignature{}, superseded: make(chan struct{}), outdone: make(chan struct{}),
		proofs: map[int64]func() ([][]byte, error){},
	}
	for _, sig := range n.Signatures {
		ours := true
		for _, w := range c.policy.Witnesses() {
			ours = ours && !w.Key.Matches(sig)
		}
		if ours {
			r.logLines += sig.Line + "\n"
		}
	}
	return r, nil
}

// has reports whether every key of an endpoint has cosigned already.
func (c *Client) has(r *round, e *endpoint) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, w := range e.witnesses {
		if _, ok := r.cosignatures[w.Name]; !ok {
			return false
		}
	}
	return true
}

// satisfied returns the note with what has come in, if the policy is satisfied with it.
func (c *Client) satisfied(r *round) ([]byte, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.policy.Satisfied(func(name string) bool { return r.cosignatures[name].line != "" }) {
		return nil, false
	}
	c.consider(r)
	return c.assemble(r, false), true
}

// leave evaluates the policy on the very bytes that are returned.
func (c *Client) leave(r *round, note []byte) ([]byte, error) {
	if _, err := c.policy.Open(note); err != nil {
		return nil, fmt.Errorf("checking cosigned checkpoint of size %d: %w", r.tree.Size, err)
	}
	return note, nil
}

func (c *Client) quorumError(r *round, failed map[*endpoint]error) error {
	qe := &QuorumError{Origin: r.tree.Origin, Size: r.tree.Size}
	state := map[string]error{}
	for _, e := range c.endpoints {
		err, done := failed[e]
		if !done {
			err = e.state()
		}
		for _, w := range e.witnesses {
			state[w.Name] = err
		}
	}
	for _, w := range c.unasked {
		state[w.Name] = errNoURL
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, w := range c.policy.Witnesses() {
		switch err := state[w.Name]; {
		case r.cosignatures[w.Name].line != "":
			qe.Cosigned = append(qe.Cosigned, w.Name)
		case !c.policy.Counts(w.Name):
		case err == nil:
			qe.Witnesses = append(qe.Witnesses, WitnessError{w.Name, errNoLine})
		default:
			qe.Witnesses = append(qe.Witnesses, WitnessError{w.Name, err})
		}
	}
	return qe
}

var (
	errNoURL      = errors.New("has no URL in the policy")
	errNoLine     = errors.New("answered without a line by this key")
	errSuperseded = errors.New("not asked: a newer checkpoint took over")
)
