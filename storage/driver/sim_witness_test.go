package driver_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"tallywood/storage/driver"
	"tallywood/witness/policy"
)

// A simWitness remembers what it cosigned. Under the world's mutex.
type simWitness struct {
	name     string
	newest   tlog.Tree
	cosigned map[int64]tlog.Hash
	silent   time.Time // until then
}

func (w *world) satisfied(has func(string) bool) bool {
	n := 0
	for _, v := range w.witnesses {
		if has(v.name) {
			n++
		}
	}
	return n >= quorumOf3
}

// cosigners returns how many witnesses have cosigned the checkpoint. The mutex is held.
func (w *world) cosigners(checkpoint []byte, t tlog.Tree) int {
	n := 0
	for _, v := range w.witnesses {
		if bytes.Contains(checkpoint, []byte("\u2014 "+v.name+" ")) && v.cosigned[t.N] == t.Hash {
			n++
		}
	}
	return n
}

// answers reports whether v answers p now, and what it cosigned last.
func (v *simWitness) answers(p *process) (tlog.Tree, bool) {
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	now := time.Now()
	return v.newest, !now.Before(v.silent) && !now.Before(p.alone)
}

func (w *world) isRolledBack() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.referee.RolledBack
}

func (p *process) sizes(ctx context.Context, _ []byte) ([]policy.WitnessSize, error) {
	r := rand.New(rand.NewPCG(p.w.seed, p.draw("sizes")))
	var sizes []policy.WitnessSize
	for i, v := range p.w.witnesses {
		s := policy.WitnessSize{Name: v.name}
		tree, ok := v.answers(p)
		if err := p.wait(ctx, p.w.travel(r)); err != nil || !ok {
			s.Err = errNoPath
		} else if s.Size = tree.N; tree.N > 0 {
			root := [32]byte(tree.Hash)
			s.Root = &root
			if r.IntN(3) == 0 && i == 0 && !p.w.isRolledBack() {
				s.Size, s.Root = tree.N+1000, nil // it lies, and can show nothing
			}
		}
		sizes = append(sizes, s)
	}
	return sizes, p.held()
}

// cosign asks one witness after the other until there are enough, again and again.
func (p *process) cosign(ctx context.Context, checkpoint []byte, prove driver.ProofFunc) ([]byte, error) {
	p.w.mu.Lock()
	t, ok := p.w.referee.Parse(p.name, checkpoint)
	p.w.mu.Unlock()
	if !ok {
		return nil, errNoPath
	}
	r := rand.New(rand.NewPCG(p.w.seed, p.draw("cosign")))
	signed := bytes.Clone(checkpoint)
	have := 0
	for asked := r.Perm(3); have < quorumOf3; {
		v := p.w.witnesses[asked[0]]
		asked = append(asked[1:], asked[0])
		if err := p.wait(ctx, p.w.travel(r)*3); err != nil {
			return nil, err
		}
		if err := p.held(); err != nil {
			return nil, err
		}
		if bytes.Contains(signed, []byte("\u2014 "+v.name+" ")) || !p.cosignedBy(ctx, v, t, prove) || !p.w.calm.Load() && r.IntN(20) == 0 {
			continue
		}
		sig := binary.BigEndian.AppendUint64([]byte{1, 2, 3, 4}, r.Uint64())
		signed = fmt.Appendf(signed, "\u2014 %s %s\n", v.name, base64.StdEncoding.EncodeToString(sig))
		have++
	}
	return signed, nil
}

// cosignedBy has v cosign t, and reports whether it does.
func (p *process) cosignedBy(ctx context.Context, v *simWitness, t tlog.Tree, prove driver.ProofFunc) bool {
	old, ok := v.answers(p)
	if !ok || old.N > t.N {
		return false
	}
	if old.N > 0 && old.N < t.N {
		hashes, err := prove(ctx, old.N, t.N)
		if err != nil {
			var damage *driver.DamageError
			if errors.As(err, &damage) {
				p.judge(err)
			}
			return false
		}
		if err := tlog.CheckTree(proofOf(hashes), t.N, t.Hash, old.N, old.Hash); err != nil {
			p.w.fail("%s showed %s a tree of size %d that does not extend size %d: %v", p.name, v.name, t.N, old.N, err)
			return false
		}
	}
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	if v.newest != old {
		return false
	}
	if old.N > 0 && old.N == t.N && old.Hash != t.Hash {
		p.w.fail("%s showed %s another tree of size %d", p.name, v.name, t.N)
		return false
	}
	v.newest = t
	v.cosigned[t.N] = t.Hash
	return true
}
