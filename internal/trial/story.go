package trial

import (
	"context"
	"fmt"
	"time"

	"github.com/transparency-dev/tessera"
	"golang.org/x/mod/sumdb/tlog"

	"tallywood/storage/driver"
)

const (
	patience = 10 * time.Second      // of a client that waits for an index
	poll     = 20 * time.Millisecond // between two looks at what has come of something
)

// Long is a story in which every operation of the driver occurs: a log is created, grows over the
// width of a tile, and goes from one replica to another by a handover, by a death without a word and
// by handovers again, with records and partials collected all the time. Part of it are restarts of
// processes that faults have ended.
func (w *Trial) Long() {
	parts := []func(){
		func() {
			w.start("a")
			w.add(1)
			w.add(3)
		},
		func() {
			w.start("b")
			w.add(254)
			w.trickle(4)
		},
		func() {
			w.leave("a")
			w.trickle(4)
		},
		func() {
			w.start("c")
			w.trickle(1)
			if p := w.taker(); p != nil {
				p.Kill()
			}
		},
		func() { w.trickle(4) },
		func() {
			w.start("d")
			w.trickle(1)
		},
	}
	w.run(parts)
}

// Short is a story of one handover: a log is created, two batches are added and published, another
// replica takes over and adds one.
func (w *Trial) Short() {
	w.run([]func(){
		func() {
			w.start("a")
			w.add(2)
		},
		func() {
			w.start("b")
			w.add(1)
		},
		func() {
			w.leave("a")
			w.add(1)
		},
	})
}

// run plays the parts, then lets nothing fail any more and looks at what is left: the log takes
// entries, and once all processes have left, everything is published.
func (w *Trial) run(parts []func()) {
	for i, part := range parts {
		if w.Violation() == "" {
			part()
		}
		w.look()
		w.Between(i)
	}
	w.Healed()
	if w.Violation() == "" {
		w.trickle(1)
		w.settle()
		time.Sleep(3 * w.Options.GCInterval)
	}
	for _, p := range w.up() {
		if w.Violation() != "" {
			p.Kill()
		} else {
			p.leave()
		}
	}
	for _, p := range w.started {
		<-p.ended
	}
	if w.Violation() != "" {
		return
	}
	w.End()
	if left := w.Leftovers(); len(left) > 0 && !w.stray.Load() {
		w.fail("garbage is left: %v", left)
	}
	b, cut := w.Open("the auditor")
	defer cut()
	r, err := driver.Verify(context.Background(), b, logName, nil)
	if err != nil || r.Size != int64(len(w.Entries)) {
		w.fail("fsck of size %d: %v", r.Size, err)
	}
}

// settle waits until the bucket's checkpoint covers all that is committed.
func (w *Trial) settle() {
	for end := time.Now().Add(w.Limit); w.Unpublished() > 0 && w.Violation() == ""; time.Sleep(poll) {
		if time.Now().After(end) {
			w.fail("%d entries were not published in the bucket in %v", w.Unpublished(), w.Limit)
		}
	}
}

// leave has the process at url, if there is one, hand over.
func (w *Trial) leave(url string) {
	for _, p := range w.up() {
		if p.url == url {
			p.leave()
		}
	}
}

// trickle adds n entries one by one, with time in between.
func (w *Trial) trickle(n int) {
	for range n {
		time.Sleep(w.Pace)
		w.add(1)
	}
}

// add adds n entries at a time until all of them are acknowledged and published.
func (w *Trial) add(n int) {
	for end := time.Now().Add(w.Limit); w.Violation() == ""; {
		if p := w.taker(); p != nil && w.addTo(p, n) {
			return
		}
		if len(w.up()) == 0 {
			w.start("e")
		}
		if time.Now().After(end) {
			w.fail("the log took no entries for %v", w.Limit)
		}
		time.Sleep(poll)
		w.look()
	}
}

// taker returns a process that takes entries, nil if there is none.
func (w *Trial) taker() *Process {
	for _, p := range w.up() {
		if r := p.current(); r != nil && r.Admits() {
			return p
		}
	}
	return nil
}

// look checks that what a process shows does not shrink.
func (w *Trial) look() {
	for _, p := range w.up() {
		r := p.current()
		if r == nil {
			continue
		}
		shown, ok := r.Published()
		p.mu.Lock()
		if ok && shown.Size < p.shown {
			w.fail("%s showed size %d after size %d", p.who, shown.Size, p.shown)
		}
		p.shown = shown.Size
		p.mu.Unlock()
	}
}

// addTo adds n entries to p, and reports whether all were acknowledged, and published with a quorum.
// What was acknowledged the referee judges.
func (w *Trial) addTo(p *Process, n int) bool {
	r := p.current()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	w.mu.Lock()
	first := w.added
	w.added += n
	w.mu.Unlock()
	futures := make([]tessera.IndexFuture, n)
	for i := range futures {
		futures[i] = r.Add(ctx, tessera.NewEntry(fmt.Appendf(nil, "entry %d", first+i)))
	}
	last, all := int64(-1), make(chan bool, 1)
	go func() {
		done := true
		for i, f := range futures {
			index, err := f()
			if err != nil {
				done = false
				continue
			}
			last = int64(index.Index)
			if !p.isDead() {
				w.Acked(p.who, last, fmt.Sprintf("entry %d", first+i))
			}
		}
		all <- done
	}()
	select {
	case done := <-all:
		return done && w.receipt(ctx, p, last)
	case <-ctx.Done():
		return false
	}
}

// receipt has p prove entry index in a published checkpoint, and reports whether it does.
func (w *Trial) receipt(ctx context.Context, p *Process, index int64) bool {
	r := p.current()
	pub, err := r.Await(ctx, index+1)
	if err != nil || p.isDead() {
		return false
	}
	w.Cosigned(p.who, pub.Note)
	proof, err := r.InclusionProof(ctx, index, pub.Size)
	if err != nil || p.isDead() {
		p.refuses("proving inclusion", err)
		return false
	}
	leaf := tlog.RecordHash([]byte(w.entry(index)))
	if err := tlog.CheckRecord(hashesOf(proof), pub.Size, pub.Root, index, leaf); err != nil {
		w.fail("%s proved entry %d of %d: %v", p.who, index, pub.Size, err)
	}
	return true
}

// entry returns the entry that is committed at index.
func (w *Trial) entry(index int64) string {
	w.Referee.mu.Lock()
	defer w.Referee.mu.Unlock()
	return w.Entries[index]
}
