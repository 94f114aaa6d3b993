package driver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	flog "github.com/transparency-dev/formats/log"
	"golang.org/x/mod/sumdb/note"

	"tallywood/storage"
)

const checkpointLimit = 1 << 20 // bytes of a checkpoint that is read back

// readCheckpoint returns the bucket's checkpoint, verified, and whether there is one.
func (l *Log) readCheckpoint(ctx context.Context) (Published, bool, error) {
	p, _, found, err := l.readCheckpointVersion(ctx)
	return p, found, err
}

func (l *Log) readCheckpointVersion(ctx context.Context) (Published, storage.Version, bool, error) {
	raw, v, err := l.o.Bucket.Get(ctx, l.publicKey("checkpoint"), storage.Range{Length: checkpointLimit})
	if errors.Is(err, fs.ErrNotExist) {
		return Published{}, "", false, nil
	}
	if err != nil {
		return Published{}, "", false, fmt.Errorf("reading checkpoint: %w", err)
	}
	p, err := l.openCheckpoint(raw)
	return p, v, err == nil, err
}

// openCheckpoint verifies our signature on a stored checkpoint.
func (l *Log) openCheckpoint(raw []byte) (Published, error) {
	n, err := note.Open(raw, note.VerifierList(l.verifier))
	if err != nil {
		return Published{}, damagef("opening the stored checkpoint: %w", err)
	}
	var cp flog.Checkpoint
	if _, err := cp.Unmarshal([]byte(n.Text)); err != nil {
		return Published{}, damagef("parsing the stored checkpoint: %w", err)
	}
	p := Published{Size: int64(cp.Size), Note: raw, Time: time.Now()}
	if cp.Origin != l.o.Origin || len(cp.Hash) != len(p.Root) || p.Size < 0 || string(cp.Marshal()) != n.Text {
		return Published{}, damagef("the stored checkpoint is of origin %q, size %d or malformed", cp.Origin, cp.Size)
	}
	p.Root = [32]byte(cp.Hash)
	return p, nil
}

// swap swaps the bucket's checkpoint forward whenever a newer one was published, until ctx ends.
func (l *Log) swap(ctx context.Context) error {
	var wait backoff
	for {
		var p Published
		if !l.await(ctx, func() bool {
			p = l.published
			return l.found && !bytes.Equal(p.Note, l.stored) && p.Size >= l.storedSize
		}) {
			return nil
		}
		began := time.Now()
		sctx, sp := p.traced.Start(ctx, "swap")
		err := l.swapTo(sctx, p)
		l.observe(StageSwap, began, err)
		sp.End(err)
		switch {
		case err == nil:
			wait = backoff{}
			next := time.Now().Add(l.o.SwapInterval)
			if time.Since(l.hinted) >= hintInterval {
				l.hinted = time.Now()
				l.writeHint(ctx, l.newestSlot())
			}
			pause(ctx, time.Until(next))
			continue
		case ctx.Err() != nil:
			return nil
		}
		var damage *DamageError
		err = l.refuse(ctx, err, l.newestSlot()+1, -1)
		if errors.As(err, &damage) || errors.Is(err, errOvertaken) || unusable(err) {
			return err
		}
		l.o.Log.WarnContext(ctx, "publishing in the bucket", "origin", l.o.Origin, "size", p.Size, "err", err)
		if !wait.sleep(ctx) {
			return nil
		}
	}
}

// swapTo makes p the bucket's checkpoint unless that is larger. One of the same size is replaced,
// which refreshes it, but not if a process that has taken over wrote it: that one is newer.
func (l *Log) swapTo(ctx context.Context, p Published) error {
	old, v, found, err := l.readCheckpointVersion(ctx)
	if err != nil {
		return err
	}
	if err := l.wentBack(old, found); err != nil {
		return err
	}
	o := current
	switch size, _ := l.Head(); {
	case !found:
		o.If = storage.Absent()
	case old.Size > size:
		return damagef("the stored checkpoint has size %d, but only %d are committed", old.Size, size)
	case old.Size == p.Size && old.Root != p.Root:
		return damagef("the stored checkpoint has another root at size %d", p.Size)
	case old.Size > p.Size || bytes.Equal(old.Note, p.Note):
		l.setStored(old)
		return nil
	case old.Size == p.Size && !l.isStored(old.Note):
		// Not what we left there: written by a predecessor, by a request of ours that seemed lost,
		// or by a successor, whose LEADER record is there since before it signed.
		if overtaken, err := l.overtaken(ctx, l.newestSlot()+1, -1); err != nil {
			return err
		} else if overtaken {
			return errOvertaken
		}
		o.If = storage.Match(v)
	default:
		o.If = storage.Match(v)
	}
	if _, err := l.put(ctx, l.publicKey("checkpoint"), p.Note, o); err != nil {
		return fmt.Errorf("swapping the checkpoint to size %d: %w", p.Size, err)
	}
	l.setStored(p)
	return nil
}

// wentBack is damage if the bucket had a larger checkpoint than it has now. Checkpoints go forward only,
// so the bucket was restored from an older copy, or emptied: entries that were acknowledged are gone
// from it, and others would be acknowledged on top of that.
func (l *Log) wentBack(now Published, found bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.storedSize < 0:
		return nil
	case !found:
		return damagef("rolled back: the checkpoint of size %d is gone", l.storedSize)
	case now.Size < l.storedSize:
		return damagef("rolled back: the stored checkpoint has gone back from size %d to %d", l.storedSize, now.Size)
	}
	return nil
}

func (l *Log) setStored(p Published) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stored, l.storedSize = p.Note, p.Size
	l.storedSlot = max(l.storedSlot, p.slot) // 0 if it is not known: an older one is as good
	l.notifyLocked()
}

// hasStored reports whether the bucket has had a checkpoint.
func (l *Log) hasStored() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.storedSize >= 0
}

func (l *Log) isStored(note []byte) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return bytes.Equal(l.stored, note)
}

func (l *Log) newestSlot() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.head.next - 1
}
