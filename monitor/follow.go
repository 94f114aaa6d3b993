package monitor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/transparency-dev/merkle/compact"
	"golang.org/x/mod/sumdb/tlog"

	"tallywood/monitor/rule"
	"tallywood/witness/policy"
)

const (
	chunk      = 1 << 16  // entries after which progress is saved: those of one level-1 hash tile
	chunkHits  = 64       // or as many hits, which are kept in memory until then
	chunkBytes = 4 << 20  // or hits that make events of so many bytes
	maxPending = 4096     // events in an outbox at which following waits until sinks catch up
	maxOutbox  = 24 << 20 // bytes of a state at which it waits too
)

// errBacklog reports that events are found faster than sinks take them.
var errBacklog = errors.New("outbox is full, waiting for sinks")

// A walk follows one verified checkpoint from the state's position to its end.
type walk struct {
	tail  *tail
	state *state            // as last committed
	cp    policy.Checkpoint // verified, and consistent with the state's
	after policy.Checkpoint // the one before it; zero if there is none
	tree  *tree             // of cp
	reach *compact.Range    // of the entries verified so far
	book  *rule.Book        // what the rules remember of those
	usage Usage             // what is shown of them
	hits  []hit             // found since the last commit, bound to cp's root
	bad   []scanned         // bundles with malformed entries, likewise
	bytes int               // of the events that hits and bad will make, roughly

	refreshed bool    // what explains entries was looked at again
	from      int64   // where the walk began
	counted   int64   // entries below it are in the metrics
	noted     []noted // signatures found since the last commit

	roots     []tlog.Hash // of the full bundles [rootsFrom, rootsFrom+len)
	rootsFrom int64
}

// run follows to the end of cp. Whatever stops it, what was verified before is committed.
func (w *walk) run(ctx context.Context) error {
	size := w.cp.Size()
	from := int64(w.reach.End())
	if w.from = from; w.tail.expecting() {
		_ = w.tail.refresh(ctx, false) // ripe tells
	}
	first, last := from/bundleWidth, (size+bundleWidth-1)/bundleWidth
	if from == size {
		last = first
	}
	err := inOrder(ctx, first, last, readAhead,
		func(ctx context.Context, n int64) (*scanned, error) {
			return w.tail.scan(ctx, n, w.width(n), from, false)
		},
		func(s *scanned) error { return w.accept(ctx, s, from) })
	w.tail.source.buffers.drop()    // until the next backlog
	if errors.Is(err, errBacklog) { // what is not committed does not fit
		return err
	}
	if commitErr := w.commit(ctx); commitErr != nil {
		return errors.Join(err, commitErr)
	}
	if err != nil {
		return err
	}
	root, err := w.reach.GetRootHash(nil)
	if err != nil {
		return fmt.Errorf("computing root of size %d: %w", size, err)
	}
	if size > 0 && tlog.Hash(root) != w.tree.root {
		// Every entry was checked against tiles that make this root.
		return &inconsistentError{size: size, root: w.tree.root, note: w.tree.note, err: fmt.Errorf("entries make root %x", root)}
	}
	return nil
}

// width returns how many entries bundle n has in the checkpoint's tree.
func (w *walk) width(n int64) int {
	return int(min(bundleWidth, w.cp.Size()-n*bundleWidth))
}

// accept takes the next bundle, after binding it to the root, past caches if need be.
func (w *walk) accept(ctx context.Context, s *scanned, from int64) error {
	wrong, err := w.verify(ctx, s)
	if err == nil && wrong != nil {
		s, wrong, err = w.again(ctx, s, wrong, from)
	}
	if err != nil {
		return err
	}
	if wrong != nil {
		return w.mismatched(s, wrong)
	}
	err = w.take(ctx, s)
	w.tail.source.buffers.give(s.raw.data)
	return err
}

// again looks past caches at a bundle that is wrong. If that fails, its error holds what the first
// look found.
func (w *walk) again(ctx context.Context, first *scanned, found *wrong, from int64) (*scanned, *wrong, error) {
	s, err := w.tail.scan(ctx, first.n, first.width, from, true)
	var still *wrong
	if err == nil {
		still, err = w.verify(ctx, s)
	}
	if err != nil && ctx.Err() == nil {
		err = errors.Join(w.mismatched(first, found), err)
	}
	return s, still, err
}

// take goes over the entries of a bundle that is bound to the root. It commits whenever there is
// enough, within a bundle too: one bundle may hold more hits than fit a state at once.
func (w *walk) take(ctx context.Context, s *scanned) error {
	start := s.n * bundleWidth
	hits, bad := s.hits, s.malformed
	for i := int64(w.reach.End()) - start; i < int64(s.width); i++ {
		if err := w.reach.Append(s.leaves[i][:], nil); err != nil {
			return fmt.Errorf("appending to compact range: %w", err)
		}
		if len(hits) > 0 && hits[0].index == start+i {
			if err := w.hit(ctx, hits[0]); err != nil {
				return err
			}
			hits = hits[1:]
		}
		if len(bad) > 0 && bad[0].index == start+i { // the first stands for all of the bundle
			w.tail.metrics.malformed.WithLabelValues(w.tail.cfg.Origin).Add(float64(len(bad)))
			w.bad = append(w.bad, scanned{n: s.n, malformed: bad})
			bad = nil
		}
		if int64(w.reach.End())-w.state.Next >= chunk || len(w.hits)+len(w.bad) >= chunkHits || w.bytes >= w.tail.chunkBytes {
			if err := w.commit(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

// hit judges a hit, which is bound to the root, and takes what is to be told of it into the next
// commit.
func (w *walk) hit(ctx context.Context, h hit) error {
	at := rule.Times{Now: time.Now().UTC()}
	if h.index >= w.after.Size() {
		_, at.After = cosigned(w.after)
		at.Before, _ = cosigned(w.cp)
	}
	if h.err != nil {
		w.tail.metrics.malformed.WithLabelValues(w.tail.cfg.Origin).Inc()
	}
	for _, m := range h.matches {
		w.tail.metrics.matches.WithLabelValues(m.Identity).Inc()
		v := w.tail.rules.Judge(w.book, &h.decoded.entry, m, at)
		w.used(h, v, at)
		h.await(v, at)
		if !v.Report {
			continue
		}
		f := v.Finding
		w.relate(ctx, h, &f, at)
		// That its bytes make no sense is told of an identity to which nothing worse happened.
		h.findings = slices.DeleteFunc(h.findings, func(g rule.Finding) bool { return g.Identity == f.Identity && f.Severity >= g.Severity })
		if !slices.ContainsFunc(h.findings, func(g rule.Finding) bool { return g.Identity == f.Identity }) {
			h.findings = append(h.findings, f)
		}
	}
	w.settle(ctx, &h)
	w.note(h)
	if len(h.findings) == 0 && h.err != nil && w.tail.limits.on(rule.LogMalformedEntry) {
		w.bad = append(w.bad, scanned{n: h.index / bundleWidth, malformed: []hit{h}})
	}
	if len(h.findings)+len(h.waits) == 0 {
		return nil
	}
	findings := slices.Clip(h.findings)
	for _, d := range h.waits {
		findings = append(findings, d.finding)
	}
	for _, f := range findings {
		text, err := json.Marshal(w.event(h, f))
		if err != nil {
			return fmt.Errorf("encoding event: %w", err)
		}
		w.bytes += len(text)
	}
	w.hits = append(w.hits, h)
	return nil
}

// A wrong says which entry is not what the root commits to.
type wrong struct {
	index int64 // of the first such entry, or of the bundle's first if its bytes make no sense
	why   error
}

// verify returns what is wrong with s, or nil. Its error is one of reading the hash tiles that
// decide it.
func (w *walk) verify(ctx context.Context, s *scanned) (*wrong, error) {
	start := s.n * bundleWidth
	if s.err != nil {
		return &wrong{start, s.err}, nil
	}
	if s.width == bundleWidth { // then one hash of the next level decides
		want, err := w.bundleRoot(ctx, s.n)
		if err != nil || subtreeRoot(slices.Clone(s.leaves)) == want {
			return nil, err
		}
	}
	want, err := w.tree.leafHashes(ctx, start, start+int64(s.width))
	if err != nil {
		return nil, err
	}
	for i := range want {
		if want[i] != s.leaves[i] {
			return &wrong{start + int64(i), fmt.Errorf("entry %d has leaf hash %x, in the tree is %x",
				start+int64(i), s.leaves[i][:], want[i][:])}, nil
		}
	}
	return nil, nil
}

// bundleRoot returns the root of full bundle n from an authenticated level-1 tile, which is read
// once for all bundles it covers.
func (w *walk) bundleRoot(ctx context.Context, n int64) (tlog.Hash, error) {
	if i := n - w.rootsFrom; i >= 0 && i < int64(len(w.roots)) {
		return w.roots[i], nil
	}
	end := min((n/bundleWidth+1)*bundleWidth, w.cp.Size()/bundleWidth)
	roots, err := w.tree.bundleRoots(ctx, n, end)
	if err != nil {
		return tlog.Hash{}, err
	}
	w.roots, w.rootsFrom = roots, n
	return roots[0], nil
}

// subtreeRoot returns the root over a power of two of leaf hashes, which it overwrites.
func subtreeRoot(h []tlog.Hash) tlog.Hash {
	for len(h) > 1 {
		for i := 0; i < len(h)/2; i++ {
			h[i] = tlog.NodeHash(h[2*i], h[2*i+1])
		}
		h = h[:len(h)/2]
	}
	return h[0]
}

// mismatched returns the trouble of a bundle that does not hash into the tree. It is named after
// the position that it stops at: a log that answers with other bytes each time is still one trouble.
func (w *walk) mismatched(s *scanned, wr *wrong) error {
	w.tail.metrics.mismatches.WithLabelValues(w.tail.cfg.Origin).Inc()
	return &trouble{
		rule: rule.LogBundleMismatch, key: fmt.Sprint(w.reach.End()), index: wr.index, size: w.cp.Size(),
		summary: fmt.Sprintf("entry bundle %d does not hash into the tree of size %d: %v", s.n, w.cp.Size(), wr.why),
		files:   append(append(w.tail.notes(w.after, w.cp.Note()), s.raw), w.tree.copies()...),
	}
}

// commit makes events of the hits, with evidence on disk, and swaps position and outbox in.
func (w *walk) commit(ctx context.Context) error {
	if w.state.Checkpoint == string(w.cp.Note()) && w.state.Next == int64(w.reach.End()) {
		return nil
	}
	reports, err := w.reports(ctx)
	if err != nil {
		return err
	}
	var raised []Event
	next, err := w.tail.journal.update(ctx, w.state, func(s *state) {
		s.Checkpoint = string(w.cp.Note())
		s.advance(w.reach)
		w.remember(s)
		s.Behind = behindSince(s.Behind, s.Next, w.cp.Size())
		s.Book = *w.book.Clone()
		s.Usage = w.usage.clone()
		s.Usage.grew(w.cp.Size(), time.Now())
		s.Usage.forget(w.tail.rules.Watches)
		for _, r := range reports {
			if !r.due.IsZero() {
				raised = append(raised, w.tail.await(s, r)...)
				continue
			}
			s.queue(r.event, w.tail.routesFor(r.event, r.notify))
			raised = append(raised, r.event)
		}
	})
	if err != nil {
		return err
	}
	w.tail.metrics.scanned.WithLabelValues(w.tail.cfg.Origin).Add(float64(next.Next - w.counted))
	w.counted = next.Next
	w.state, w.usage, w.hits, w.bad, w.noted, w.bytes = next, next.Usage.clone(), nil, nil, nil, 0
	for _, e := range raised {
		w.tail.queued(e)
	}
	if err := w.tail.behind(ctx, next, w.cp.Size()); err != nil {
		return err
	}
	if w.tail.full(next) {
		return errBacklog
	}
	return nil
}
