package conformance

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// sizeCases are about the old size, the recorded one and the checkpoint's.
func sizeCases() []testCase {
	return append(append(append(firstContactCases(), conflictCases()...), emptyTreeCases()...), againCases()...)
}

func firstContactCases() []testCase {
	var rows []caser
	for _, size := range []int64{1, 2, 1000} {
		rows = append(rows, acceptance{id: fmt.Sprintf("first-%d", size), about: fmt.Sprintf("a first checkpoint of size %d, with old size 0 and no proof", size), rule: rule200, kind: Plain, at: never, to: size})
	}
	for _, c := range []struct{ old, to int64 }{{1, 1}, {1, 8}, {3, 8}, {5, 5}, {8, 8}, {1000, 1000}} {
		rows = append(rows, refusal{id: fmt.Sprintf("first-old-%d-size-%d", c.old, c.to), about: fmt.Sprintf("a first checkpoint of size %d with old size %d", c.to, c.old),
			rule: rule409, at: never, old: c.old, to: c.to, want: only(409)})
	}
	return table(append(rows,
		refusal{id: "first-old-above-size", about: "a first checkpoint of size 3 with old size 5", rule: rule400, at: never, old: 5, to: 3, want: only(400)},
		refusal{id: "first-old-2-to-62", about: "a first checkpoint of size 3 with old size 2^62", rule: rule400, at: never, old: 1 << 62, to: 3, want: only(400)},
		refusal{id: "first-with-proof", about: "a first checkpoint with a proof line", rule: ruleNoProof, at: never, want: only(422),
			edit: func(_ *testLog, r *request) { r.proof = []string{r.root} }},
		refusal{id: "first-with-consistency-proof", about: "a first checkpoint with a consistency proof from a smaller one", rule: ruleNoProof, at: never, want: only(422),
			edit: func(l *testLog, r *request) { r.proof = encode(l.tree.proof(5, 8)) }},
		refusal{id: "first-with-63-proof-lines", about: "a first checkpoint with 63 proof lines", rule: ruleNoProof, at: never, want: only(422),
			edit: func(_ *testLog, r *request) { r.proof = strings.Split(strings.Repeat(r.root+"\n", 62)+r.root, "\n") }},
		testCase{id: "first-then-grows", about: "an honest log from its first checkpoint through many sizes", rule: rule200, run: func(ctx context.Context, t *trial) error {
			l, err := t.fresh(ctx, Plain)
			for _, size := range []int64{1, 2, 3, 4, 7, 8, 9, 63, 64, 65, 128, 255, 256, 257, 1024} {
				if err == nil {
					err = t.advance(ctx, l, size)
				}
			}
			return err
		}},
		testCase{id: "first-after-conflict", about: "a log asks with old size 0, is told the recorded size, and goes on from there", rule: ruleProbe, run: afterConflict},
	)...)
}

func afterConflict(ctx context.Context, t *trial) error {
	l, err := t.freshAt(ctx, Plain, 6)
	if err != nil {
		return err
	}
	a, err := t.post(ctx, "add-checkpoint", newRequest(l, 0, 9).body())
	if err != nil {
		return err
	}
	if t.got = a.short(); a.status != http.StatusConflict || a.body != "6\n" {
		return fmt.Errorf("answered %s; want 409 with the size 6", a.short())
	}
	return t.advance(ctx, l, 9)
}

// conflictCases have an old size that is not the recorded one.
func conflictCases() []testCase {
	var rows []caser
	for _, c := range []struct{ old, to int64 }{{4, 8}, {6, 8}, {8, 8}, {1, 8}, {zero, 8}, {7, 7}, {4, 5}, {3, 4}, {3, 3}, {1, 1}, {zero, 5}, {zero, 3}} {
		shown := max(c.old, 0)
		rows = append(rows, refusal{id: fmt.Sprintf("old-%d-size-%d-of-5", shown, c.to), about: fmt.Sprintf("old size %d for a checkpoint of size %d, where 5 is recorded", shown, c.to),
			rule: rule409, old: c.old, to: c.to, want: only(409)})
	}
	for _, c := range []struct{ old, to int64 }{{8, 6}, {6, 4}, {1000, 999}, {1 << 40, 8}} {
		rows = append(rows, refusal{id: fmt.Sprintf("old-%d-above-size-%d", c.old, c.to), about: fmt.Sprintf("old size %d for a checkpoint of size %d, where 5 is recorded", c.old, c.to),
			rule: rule400, old: c.old, to: c.to, want: either(400, 409)})
	}
	return table(append(rows,
		refusal{id: "rollback", about: "the recorded old size 5, and a checkpoint of size 3", rule: rule400, old: 5, to: 3, want: only(400)},
		refusal{id: "rollback-by-one", about: "the recorded old size 5, and a checkpoint of size 4", rule: rule400, old: 5, to: 4, want: only(400)},
		refusal{id: "conflict-large", about: "old size 0 where 1000 is recorded", rule: rule409Body, at: 1000, old: zero, to: 1001, want: only(409)},
		testCase{id: "conflict-type", about: "the Content-Type of a conflict", rule: rule409Type, run: conflictType},
		testCase{id: "conflict-body-first", about: "the body of a conflict about a log never cosigned", rule: rule409Body, run: func(ctx context.Context, t *trial) error {
			l, err := t.at(ctx, never)
			if err != nil {
				return err
			}
			if err = t.probe(ctx, l); err != nil {
				t.drop(l)
				return err
			}
			t.got = "409"
			return nil
		}},
	)...)
}

func conflictType(ctx context.Context, t *trial) error {
	l, err := t.at(ctx, defaultAt)
	if err != nil {
		return err
	}
	a, err := t.post(ctx, "add-checkpoint", newRequest(l, 6, 8).body())
	if err != nil {
		return err
	}
	t.got = a.short()
	if values := a.header.Values("Content-Type"); a.status != http.StatusConflict || len(values) != 1 || values[0] != "text/x.tlog.size" {
		return fmt.Errorf("answered %d with Content-Type %q; want 409 with exactly %q", a.status, values, "text/x.tlog.size")
	}
	return nil
}

// emptyTreeCases are about checkpoints of size 0.
func emptyTreeCases() []testCase {
	root := func(h hash) func(*testLog, *request) {
		return func(_ *testLog, r *request) { r.root, r.size = h.String(), "0" }
	}
	wrong := func(id, about string, h hash) refusal {
		return refusal{id: id, about: about, rule: ruleEmptyTree, at: never, to: 1, edit: root(h), want: only(422)}
	}
	return table(
		wrong("empty-zeros", "a first checkpoint of size 0 whose root hash is all zeroes", hash{}),
		wrong("empty-leaf", "a first checkpoint of size 0 whose root hash is that of an empty leaf", sha256.Sum256([]byte{0})),
		wrong("empty-of-one", "a first checkpoint of size 0 with the root hash of size 1", newTree("entry", treeSize).root(0, 1)),
		refusal{id: "empty-old-5", about: "old size 5, and a checkpoint of size 0", rule: rule400, to: 1, want: only(400),
			edit: func(l *testLog, r *request) { r.root, r.size, r.proof = l.tree.root(0, 0).String(), "0", nil }},
		refusal{id: "empty-after-5", about: "old size 0, and a checkpoint of size 0, where 5 is recorded", rule: rule409, old: zero, to: 1, want: only(409),
			edit: func(l *testLog, r *request) { r.root, r.size, r.proof = l.tree.root(0, 0).String(), "0", nil }},
		testCase{id: "empty", about: "size 0 is cosigned, once more, and then a larger tree without a proof", rule: rule200, run: func(ctx context.Context, t *trial) error {
			l, err := t.fresh(ctx, Plain)
			for _, size := range []int64{0, 0, 8, 9} {
				if err == nil {
					err = t.advance(ctx, l, size)
				}
			}
			return err
		}},
		testCase{id: "empty-with-proof", about: "size 0 with a proof line", rule: ruleNoProof, run: func(ctx context.Context, t *trial) error {
			l, err := t.fresh(ctx, Plain)
			if err != nil {
				return err
			}
			r := newRequest(l, 0, 0)
			r.proof = []string{r.root}
			return t.refuse(ctx, l, r.body(), only(422))
		}},
		testCase{id: "empty-then-proof", about: "a proof line from size 0, where size 0 is recorded", rule: ruleNoProof, run: func(ctx context.Context, t *trial) error {
			l, err := t.freshAt(ctx, Plain, 0)
			if err != nil {
				return err
			}
			r := newRequest(l, 0, 8)
			r.proof = []string{l.tree.root(0, 0).String()}
			return t.refuse(ctx, l, r.body(), only(422))
		}},
		testCase{id: "empty-then-conflict", about: "old size 3 where size 0 is recorded", rule: rule409, run: func(ctx context.Context, t *trial) error {
			l, err := t.freshAt(ctx, Plain, 0)
			if err != nil {
				return err
			}
			return t.refuse(ctx, l, newRequest(l, 3, 8).body(), only(409))
		}},
	)
}

// againCases are about the recorded checkpoint once more.
func againCases() []testCase {
	return table(
		acceptance{id: "again", about: "the recorded checkpoint once more", rule: rule200},
		acceptance{id: "again-large", about: "the recorded checkpoint of size 1000 once more", rule: rule200, at: 1000},
		refusal{id: "again-other-root", about: "another root hash at the recorded size", rule: ruleSameRoot, to: 5, want: only(422),
			edit: func(_ *testLog, r *request) { r.root = hash{1}.String() }},
		refusal{id: "again-root-of-other-size", about: "the root hash of size 6 at the recorded size 5", rule: ruleSameRoot, to: 5, want: only(422),
			edit: func(l *testLog, r *request) { r.root = l.tree.root(0, 6).String() }},
		refusal{id: "again-with-proof", about: "the recorded checkpoint with a proof line", rule: ruleProof, to: 5, want: only(422),
			edit: func(_ *testLog, r *request) { r.proof = []string{r.root} }},
		refusal{id: "again-with-other-proof", about: "the recorded checkpoint with a proof to a larger one", rule: ruleProof, to: 5, want: only(422),
			edit: func(l *testLog, r *request) { r.proof = encode(l.tree.proof(5, 8)) }},
		testCase{id: "again-later", about: "the recorded checkpoint once more, two seconds later", rule: ruleGenerated, run: againLater},
		testCase{id: "timestamps-grow", about: "the timestamps of ten answers in a row", rule: ruleLargest, run: timestampsGrow},
	)
}

func againLater(ctx context.Context, t *trial) error {
	l, err := t.at(ctx, defaultAt)
	if err != nil {
		return err
	}
	if err := t.advance(ctx, l, defaultAt); err != nil {
		return err
	}
	before := l.last.lines
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(2100 * time.Millisecond):
	}
	if err := t.advance(ctx, l, defaultAt); err != nil {
		return err
	}
	for _, old := range before {
		for _, now := range l.last.lines {
			if now.key.id() == old.key.id() && now.timestamp <= old.timestamp {
				return fmt.Errorf("two seconds later the timestamp of %s is %d, as before", now.key.name, now.timestamp)
			}
		}
	}
	return nil
}

func timestampsGrow(ctx context.Context, t *trial) error {
	l, err := t.freshAt(ctx, Plain, 1)
	if err != nil {
		return err
	}
	newest := l.last.lines[0].timestamp
	for size := int64(2); size <= 11; size++ {
		if err := t.advance(ctx, l, size-size%2); err != nil {
			return err
		}
		for _, c := range l.last.lines {
			if c.timestamp < newest {
				return fmt.Errorf("for size %d the timestamp %d is before that of the answer before, %d", l.size, c.timestamp, newest)
			}
			newest = max(newest, c.timestamp)
		}
	}
	return nil
}
