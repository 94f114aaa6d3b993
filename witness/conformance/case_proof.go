package conformance

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// smallSizes bounds the pairs of sizes that are all tried.
const smallSizes = 8

// proofCases have proofs from every small size to every larger one, right and wrong.
func proofCases() []testCase {
	var rows []caser
	for old := int64(1); old < smallSizes; old++ {
		for size := old + 1; size <= smallSizes; size++ {
			rows = append(rows, pairCase(old, size))
		}
	}
	for _, p := range [][2]int64{{255, 256}, {256, 257}, {256, 512}, {1, 1000}, {511, 1023}, {1023, 1024}, {1024, 1025}, {640, 1100}} {
		rows = append(rows, pairCase(p[0], p[1]))
	}
	swap := func(l *testLog, r *request) { r.proof[0], r.proof[1] = r.proof[1], r.proof[0] }
	return table(append(rows,
		refusal{id: "swapped", about: "two hashes of the proof in the other order", rule: ruleProof, edit: swap, want: only(422)},
		refusal{id: "reversed", about: "the hashes of the proof in reverse", rule: ruleProof, want: only(422),
			edit: func(_ *testLog, r *request) { slices.Reverse(r.proof) }},
		refusal{id: "twice", about: "the proof twice", rule: ruleProof, want: only(422),
			edit: func(_ *testLog, r *request) { r.proof = append(r.proof, r.proof...) }},
		refusal{id: "of-other-old-size", about: "the proof from size 4 to 8 with old size 5", rule: ruleProof, want: only(422),
			edit: func(l *testLog, r *request) { r.proof = encode(l.tree.proof(4, 8)) }},
		refusal{id: "of-other-size", about: "the proof from size 5 to 9 with a checkpoint of 8", rule: ruleProof, want: only(422),
			edit: func(l *testLog, r *request) { r.proof = encode(l.tree.proof(5, 9)) }},
		refusal{id: "inclusion", about: "an inclusion proof of the last leaf", rule: ruleProof, want: only(422),
			edit: func(l *testLog, r *request) { r.proof = encode(l.tree.subtreeProof(7, 8, 8)) }},
		refusal{id: "none", about: "no proof", rule: ruleProof, want: only(422), edit: func(_ *testLog, r *request) { r.proof = nil }},
		refusal{id: "zeros", about: "a proof of zeroes", rule: ruleProof, want: only(422),
			edit: func(_ *testLog, r *request) {
				for i := range r.proof {
					r.proof[i] = hash{}.String()
				}
			}},
		refusal{id: "old-root-first", about: "the old root hash before a proof from a size that is a power of two", rule: ruleProof, at: 4, want: only(422),
			edit: func(l *testLog, r *request) { r.proof = append([]string{l.tree.root(0, 4).String()}, r.proof...) }},
		refusal{id: "fork", about: "a larger tree of another history, with its own proof", rule: ruleProof, want: only(422), edit: onFork},
		refusal{id: "fork-honest-proof", about: "a larger tree of another history, with the honest proof", rule: ruleProof, want: only(422),
			edit: func(_ *testLog, r *request) { r.root = forkTree().root(0, 8).String() }},
		refusal{id: "fork-no-proof", about: "a larger tree of another history, without a proof", rule: ruleProof, want: only(422),
			edit: func(_ *testLog, r *request) { r.root, r.proof = forkTree().root(0, 8).String(), nil }},
		refusal{id: "grown-with-same-root", about: "the recorded root hash under a larger size, without a proof", rule: ruleProof, want: only(422),
			edit: func(l *testLog, r *request) { r.root, r.proof = l.tree.root(0, 5).String(), nil }},
	)...)
}

func forkTree() *tree { return newTree("other entry", 2) }

func onFork(_ *testLog, r *request) {
	fork := forkTree()
	r.root, r.proof = fork.root(0, 8).String(), encode(fork.proof(5, 8))
}

// pairCase tries wrong proofs from old to size, and then the right one.
func pairCase(old, size int64) testCase {
	return testCase{
		id: fmt.Sprintf("%d-to-%d", old, size), rule: ruleProof,
		about: fmt.Sprintf("from size %d to %d: every hash missing, changed and doubled, one too many, then the honest proof", old, size),
		run: func(ctx context.Context, t *trial) error {
			// Logs are reused: any that was left at old by another pair does.
			l, err := t.at(ctx, old)
			if err != nil {
				return err
			}
			t.drop(l)
			for _, s := range spoiled(l.tree.proof(old, size)) {
				r := newRequest(l, old, size)
				r.proof = encode(s.proof)
				if err := t.refuse(ctx, l, r.body(), only(422)); err != nil {
					return fmt.Errorf("with %s: %w", s.fault, err)
				}
			}
			if err := t.advance(ctx, l, size); err != nil {
				return fmt.Errorf("with the honest proof: %w", err)
			}
			if t.shared[size] == nil {
				t.shared[size] = l
			}
			return nil
		},
	}
}

// A spoiledProof is a proof with one fault.
type spoiledProof struct {
	fault string
	proof []hash
}

// spoiled returns proofs that are not quite p.
func spoiled(p []hash) []spoiledProof {
	all := []spoiledProof{
		{"a hash too many at the end", append(slices.Clone(p), hash{1})},
		{"a hash too many at the beginning", append([]hash{{1}}, p...)},
		{"one hash that is none of it", []hash{{2}}},
	}
	for i := range p {
		changed := slices.Clone(p)
		changed[i][31] ^= 1
		all = append(all,
			spoiledProof{fmt.Sprintf("hash %d missing", i+1), slices.Delete(slices.Clone(p), i, i+1)},
			spoiledProof{fmt.Sprintf("hash %d doubled", i+1), slices.Insert(slices.Clone(p), i, p[i])},
			spoiledProof{fmt.Sprintf("hash %d changed", i+1), changed})
	}
	return all
}

// hugeCases are about trees as large as can be written. Nobody has one, but anybody's log can sign
// that it has. They come late: some verifiers do not come to an end.
func hugeCases() []testCase {
	return []testCase{
		{id: "63-lines", about: "from size 1 to 2^63-1, with a right proof of 63 hashes", rule: rule63, run: func(ctx context.Context, t *trial) error {
			return huge(ctx, t, 1<<63-1)
		}},
		{id: "62-lines", about: "from size 1 to 2^62, with a right proof of 62 hashes", rule: ruleProof, run: func(ctx context.Context, t *trial) error {
			return huge(ctx, t, 1<<62)
		}},
		{id: "48-lines", about: "from size 1 to 2^48-1, with a right proof of 48 hashes", rule: ruleProof, run: func(ctx context.Context, t *trial) error {
			return huge(ctx, t, 1<<48-1)
		}},
		{id: "first", about: "a first checkpoint of size 2^63-1", rule: rule200, run: func(ctx context.Context, t *trial) error {
			l, err := t.fresh(ctx, Plain)
			if err != nil {
				return err
			}
			r := newRequest(l, 0, 1)
			r.size = "9223372036854775807"
			return t.accept(ctx, l, r, 1<<63-1)
		}},
		{id: "first-2-to-63", about: "a first checkpoint of size 2^63", level: Ours, rule: ruleClientErr, run: func(ctx context.Context, t *trial) error {
			l, err := t.fresh(ctx, Plain)
			if err != nil {
				return err
			}
			r := newRequest(l, 0, 1)
			r.size = "9223372036854775808"
			a, err := t.post(ctx, "add-checkpoint", r.body())
			if err != nil {
				return err
			}
			if t.got = a.short(); a.status != http.StatusOK {
				return refused(400).judge(t, a)
			}
			t.differs = "answered 200; ours, whose sizes are below 2^63, answers 400"
			_, err = t.verify(a.body, r.statement(1<<63))
			return err
		}},
		{id: "wrong-proof", about: "from size 1 to 2^63-1, with a wrong hash in the proof", rule: ruleProof, run: func(ctx context.Context, t *trial) error {
			l, r, err := deep(ctx, t, 1<<63-1)
			if err != nil {
				return err
			}
			r.proof[40] = hash{}.String()
			return t.refuse(ctx, l, r.body(), only(422))
		}},
	}
}

// deep returns a log at size 1 and a request to a tree of many entries.
func deep(ctx context.Context, t *trial, size uint64) (*testLog, *request, error) {
	old, root, proof := deepProof(size)
	l, err := t.fresh(ctx, Plain)
	if err != nil {
		return nil, nil, err
	}
	l.tree = &tree{leaves: []hash{old, old}, whole: map[[2]int64]hash{}}
	if err := t.advance(ctx, l, 1); err != nil {
		return nil, nil, err
	}
	r := newRequest(l, 0, 1)
	r.first, r.proof, r.size, r.root = "old 1", encode(proof), fmt.Sprint(size), root.String()
	return l, r, nil
}

// huge has a tree of many entries cosigned, and the witness asked afterwards what it remembers.
func huge(ctx context.Context, t *trial, size uint64) error {
	l, r, err := deep(ctx, t, size)
	if err != nil {
		return err
	}
	if err := t.accept(ctx, l, r, int64(size)); err != nil {
		return err
	}
	got := t.got
	a, err := t.post(ctx, "add-checkpoint", strings.Replace(r.body(), "old 1\n", "old 2\n", 1))
	if err == nil && (a.status != http.StatusConflict || a.body != fmt.Sprintf("%d\n", size)) {
		err = errors.New("afterwards the witness does not name that size: " + a.short())
	}
	t.got = got
	return err
}
