package driver

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	flog "github.com/transparency-dev/formats/log"
	"golang.org/x/mod/sumdb/note"

	"tallywood/witness/policy"
)

// ErrGate reports that too few witnesses answered to know that the bucket was not rolled back.
var ErrGate = errors.New("too few witnesses answer to rule out that the log was rolled back")

// gateTimeout is how long silent witnesses are waited for if the others are enough.
const gateTimeout = 2 * time.Second

// passGate is the anti-rollback gate, storage-protocol section 4.3: no witness may have cosigned
// what the log, in state s, does not have. It fails with a *DamageError if one shows that it has, and
// with ErrGate if the witnesses that did not answer could meet the quorum by themselves: then they may
// have cosigned a checkpoint that nobody else remembers. A witness that only says that it has, without
// the log's signature, may be lying: it counts as silent, so that it has no more than its vote.
func (l *Log) passGate(ctx context.Context, f floor, s state) error {
	if l.o.Sizes == nil {
		return nil
	}
	checkpoint, err := l.gateCheckpoint()
	if err != nil {
		return err
	}
	sizes, err := l.askWitnesses(ctx, checkpoint)
	if err != nil {
		return fmt.Errorf("asking the witnesses: %w", err)
	}
	var names []string
	for i, w := range sizes {
		if w.Err == nil {
			err := l.believe(ctx, f, s, w)
			if claim := (*unproven)(nil); !errors.As(err, &claim) && err != nil {
				return err
			}
			if sizes[i].Err = err; err != nil {
				l.o.Log.ErrorContext(ctx, "a witness is at odds with the log", "origin", l.o.Origin, "key", w.Name, "err", err)
			}
		}
		if err := sizes[i].Err; err != nil {
			names = append(names, fmt.Sprintf("%s (%v)", w.Name, err))
		}
	}
	if l.enough(sizes) {
		return nil
	}
	if l.o.SkipGate {
		l.o.Log.WarnContext(ctx, "leading without asking enough witnesses, as configured", "origin", l.o.Origin)
		return nil
	}
	return fmt.Errorf("%w: no answer of %s", ErrGate, strings.Join(names, ", "))
}

// gateCheckpoint returns the checkpoint the witnesses are asked about: the bucket's, or the empty
// log's, which is the one that may be signed before leading.
func (l *Log) gateCheckpoint() ([]byte, error) {
	if l.found {
		return l.published.Note, nil
	}
	empty := flog.Checkpoint{Origin: l.o.Origin, Hash: emptyHash[:]}
	signed, err := note.Sign(&note.Note{Text: string(empty.Marshal())}, l.o.Signers[0])
	if err != nil {
		return nil, fmt.Errorf("signing the empty checkpoint: %w", err)
	}
	return signed, nil
}

// An unproven is what a witness says against the log without showing the log's signature of it.
type unproven struct{ what string }

func (u *unproven) Error() string { return u.what + ", and shows no proof" }

// contradicted is the error of a witness that says what: damage, met at slot unless that is -1, if it
// shows the log's signature of it.
func contradicted(w policy.WitnessSize, slot int64, what string) error {
	if w.Root == nil {
		return &unproven{"says that it has cosigned " + what}
	}
	damage := damagef("rolled back: witness %q has cosigned %s", w.Name, what)
	if slot < 0 {
		return damage
	}
	return &oddity{slot, damage}
}

// believe compares what one witness has cosigned with state s.
func (l *Log) believe(ctx context.Context, f floor, s state, w policy.WitnessSize) error {
	size, root, slot := int64(0), emptyHash, int64(-1)
	if l.found {
		size, root = l.published.Size, l.published.Root
	}
	switch {
	case w.Size < size:
		return nil // it lags
	case w.Size > s.size:
		return contradicted(w, -1, fmt.Sprintf("size %d, but the bucket has only %d", w.Size, s.size))
	case w.Size > size:
		h, _, at, err := l.search(ctx, f.N, s.n, w.Size)
		if err != nil {
			return l.missing(at, err)
		}
		if h.NewSize != w.Size {
			return contradicted(w, at, fmt.Sprintf("size %d, at which no record ends", w.Size))
		}
		root, slot = h.NewRoot, at
	}
	if w.Root != nil && *w.Root != root {
		return contradicted(w, slot, fmt.Sprintf("root %x at size %d, the bucket has %x", *w.Root, w.Size, root))
	}
	return nil
}

// witnessesAnswer reports whether enough witnesses answer this process for the gate.
func (l *Log) witnessesAnswer(ctx context.Context) bool {
	if l.o.Sizes == nil {
		return true
	}
	var err error
	if l.published, l.found, err = l.readCheckpoint(ctx); err != nil {
		return false
	}
	checkpoint, err := l.gateCheckpoint()
	if err != nil {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, gateTimeout)
	defer cancel()
	sizes, err := l.o.Sizes(ctx, checkpoint)
	return err == nil && l.enough(sizes)
}

// enough reports whether the silent witnesses could not meet the quorum by themselves.
func (l *Log) enough(sizes []policy.WitnessSize) bool {
	silent := map[string]bool{}
	for _, w := range sizes {
		silent[w.Name] = w.Err != nil
	}
	return !l.o.Satisfied(func(name string) bool { return silent[name] })
}

// askWitnesses returns what the witnesses have cosigned, those that do not answer soon as silent
// ones, unless it needs them.
func (l *Log) askWitnesses(ctx context.Context, checkpoint []byte) ([]policy.WitnessSize, error) {
	soon, cancel := context.WithTimeout(ctx, gateTimeout)
	defer cancel()
	sizes, err := l.o.Sizes(soon, checkpoint)
	if soon.Err() == nil || err == nil && l.enough(sizes) {
		return sizes, err
	}
	return l.o.Sizes(ctx, checkpoint)
}
