package trial

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"sync"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"tallywood/storage/driver"
	"tallywood/witness/policy"
)

const (
	witnesses = 3
	quorum    = 2                    // of them
	answering = 2 * time.Millisecond // of a witness
)

// A panel is the witnesses of a log. Each remembers what it has cosigned, and cosigns nothing that
// does not extend it.
type panel struct {
	referee *Referee

	mu      sync.Mutex // guards the fields below
	members [witnesses]struct {
		newest   tlog.Tree
		cosigned map[int64]tlog.Hash
	}
	calls uint64
}

func newPanel(f *Referee) *panel {
	p := &panel{referee: f}
	for i := range p.members {
		p.members[i].cosigned = map[int64]tlog.Hash{}
	}
	f.Cosigners, f.Quorum = p.cosigners, quorum
	return p
}

func witnessName(i int) string { return fmt.Sprint("w", i) }

// cosigners returns how many witnesses have cosigned the checkpoint.
func (p *panel) cosigners(checkpoint []byte, t tlog.Tree) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := 0
	for i := range p.members {
		if bytes.Contains(checkpoint, []byte("\u2014 "+witnessName(i)+" ")) && p.members[i].cosigned[t.N] == t.Hash {
			n++
		}
	}
	return n
}

func satisfied(has func(string) bool) bool {
	n := 0
	for i := range witnesses {
		if has(witnessName(i)) {
			n++
		}
	}
	return n >= quorum
}

// sizes answers the anti-rollback gate.
func (p *panel) sizes(ctx context.Context, _ []byte) ([]policy.WitnessSize, error) {
	if err := sleep(ctx, answering); err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	var sizes []policy.WitnessSize
	for i := range p.members {
		s := policy.WitnessSize{Name: witnessName(i), Size: p.members[i].newest.N}
		if s.Size > 0 {
			root := [32]byte(p.members[i].newest.Hash)
			s.Root = &root
		}
		sizes = append(sizes, s)
	}
	return sizes, nil
}

// cosign asks one witness after the other, beginning with another each time, until there is a quorum.
func (p *panel) cosign(ctx context.Context, who string, checkpoint []byte, prove driver.ProofFunc) ([]byte, error) {
	t, ok := p.referee.Parse(who, checkpoint)
	if !ok {
		return nil, fmt.Errorf("asking witnesses: no checkpoint")
	}
	p.mu.Lock()
	p.calls++
	call := p.calls
	p.mu.Unlock()
	signed := bytes.Clone(checkpoint)
	have := 0
	for i := range witnesses {
		at := (int(call) + i) % witnesses
		if err := sleep(ctx, answering); err != nil {
			return nil, err
		}
		if err := p.cosignedBy(ctx, who, at, t, prove); err != nil {
			continue
		}
		sig := binary.BigEndian.AppendUint64([]byte{1, 2, 3, 4}, call)
		signed = fmt.Appendf(signed, "\u2014 %s %s\n", witnessName(at), base64.StdEncoding.EncodeToString(sig))
		if have++; have == quorum {
			return signed, nil
		}
	}
	return nil, fmt.Errorf("asking witnesses: %d of %d cosigned size %d", have, quorum, t.N)
}

// cosignedBy has witness i cosign t, or says why it does not.
func (p *panel) cosignedBy(ctx context.Context, who string, i int, t tlog.Tree, prove driver.ProofFunc) error {
	p.mu.Lock()
	old := p.members[i].newest
	p.mu.Unlock()
	if old.N > t.N {
		return fmt.Errorf("it has cosigned size %d", old.N)
	}
	if old.N > 0 && old.N < t.N {
		proof, err := prove(ctx, old.N, t.N)
		if err != nil {
			return err
		}
		if err := tlog.CheckTree(hashesOf(proof), t.N, t.Hash, old.N, old.Hash); err != nil {
			p.referee.Fail("%s showed a witness a tree of size %d that does not extend size %d: %v", who, t.N, old.N, err)
			return err
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.members[i].newest != old {
		return fmt.Errorf("it has cosigned another checkpoint meanwhile")
	}
	if old.N > 0 && old.N == t.N && old.Hash != t.Hash {
		p.referee.Fail("%s showed a witness another tree of size %d", who, t.N)
		return fmt.Errorf("it has cosigned another tree")
	}
	p.members[i].newest = t
	p.members[i].cosigned[t.N] = t.Hash
	return nil
}

func hashesOf(proof [][]byte) []tlog.Hash {
	out := make([]tlog.Hash, len(proof))
	for i, h := range proof {
		copy(out[i][:], h)
	}
	return out
}

// sleep waits for d, or until ctx ends.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
