package conformance

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
)

// The tree of the subtree cases, and the subtree that a request is about if the case says no other.
const (
	subtreeOf    = 14
	subtreeStart = 8
	subtreeEnd   = 13
)

// subtreeCases are about sign-subtree.
func subtreeCases() []testCase {
	all := append(append(append(subtreeLineCases(), rangeCases()...), referenceCases()...), subtreeProofCases()...)
	return append(all, methodCases("sign-subtree", ruleSubPost, (*trial).needSubtrees)...)
}

func (t *trial) needSubtrees() error {
	if !t.subtrees {
		return &skipError{"the witness has no sign-subtree, which is OPTIONAL, or no ML-DSA-44 key was given"}
	}
	return nil
}

// subtreeRequest returns an honest sign-subtree request about the last cosigned checkpoint of l.
func subtreeRequest(l *testLog, start, end int64) *request {
	r := newRequest(l, l.size, l.size)
	r.first = fmt.Sprintf("subtree %d %d", start, end)
	r.second = []string{l.tree.root(start, end).String()}
	r.proof = encode(l.tree.subtreeProof(start, end, l.size))
	r.extra = l.last.request.extra
	r.lines = cosignaturesOf(l, algMLDSA)
	return r
}

// cosignaturesOf returns the lines of one type of key in the last answer.
func cosignaturesOf(l *testLog, alg byte) []string {
	lines := []string{}
	for _, c := range l.last.lines {
		if c.key.alg == alg {
			lines = append(lines, c.line)
		}
	}
	return lines
}

// reference returns a log that was cosigned at size.
func (t *trial) reference(ctx context.Context, size int64) (*testLog, error) {
	if err := t.needSubtrees(); err != nil {
		return nil, err
	}
	l, err := t.at(ctx, size)
	if err == nil && len(cosignaturesOf(l, algMLDSA)) == 0 {
		err = errors.New("preparing: the witness did not cosign the reference with ML-DSA-44")
	}
	return l, err
}

// signSubtree sends a request that must be answered with lines for [start, end).
func (t *trial) signSubtree(ctx context.Context, l *testLog, body string, start, end int64) ([]cosignature, error) {
	a, err := t.post(ctx, "sign-subtree", body)
	if err != nil {
		return nil, err
	}
	if t.got = a.short(); a.status != http.StatusOK {
		return nil, fmt.Errorf("[%d, %d): answered %s (%.80q); want 200", start, end, a.short(), a.body)
	}
	lines, err := t.parseLines(a.body, statement{origin: l.Origin, start: uint64(start), end: uint64(end), root: l.tree.root(start, end)})
	for _, c := range lines {
		switch {
		case c.key.alg != algMLDSA:
			err = errors.Join(err, errors.New("a line is of a format without subtrees"))
		case c.timestamp != 0:
			err = errors.Join(err, fmt.Errorf("the timestamp is %d; want 0", c.timestamp))
		}
	}
	if err != nil {
		return nil, fmt.Errorf("[%d, %d): answered 200, but %w", start, end, err)
	}
	return lines, nil
}

func (t *trial) refuseSubtree(ctx context.Context, body string, want answers) error {
	a, err := t.post(ctx, "sign-subtree", body)
	if err != nil {
		return err
	}
	t.got = a.short()
	return want.judge(t, a)
}

// subtreeRefusal is a case in which one sign-subtree request must be refused.
func subtreeRefusal(id, about string, level Level, rule Rule, want answers, edit func(l *testLog, r *request)) testCase {
	return testCase{id: id, about: about, level: level, rule: rule, run: func(ctx context.Context, t *trial) error {
		l, err := t.reference(ctx, subtreeOf)
		if err != nil {
			return err
		}
		r := subtreeRequest(l, subtreeStart, subtreeEnd)
		edit(l, r)
		return t.refuseSubtree(ctx, r.body(), want)
	}}
}

// rangeLines are first lines that are no subtree range line.
var rangeLines = []struct{ id, line, about string }{
	{"empty", "", "an empty first line"},
	{"word-only", "subtree", "only the word"},
	{"one-number", "subtree 8", "one number"},
	{"three-numbers", "subtree 8 13 14", "three numbers"},
	{"uppercase", "SUBTREE 8 13", "the word in capitals"},
	{"old", "old 8", "the first line of add-checkpoint"},
	{"other-word", "subtrees 8 13", "another word"},
	{"no-space", "subtree8 13", "no space after the word"},
	{"two-spaces", "subtree  8 13", "two spaces after the word"},
	{"two-spaces-between", "subtree 8  13", "two spaces between the numbers"},
	{"tab", "subtree\t8 13", "a tab after the word"},
	{"tab-between", "subtree 8\t13", "a tab between the numbers"},
	{"comma", "subtree 8,13", "a comma between the numbers"},
	{"leading-space", " subtree 8 13", "a space at the beginning"},
	{"trailing-space", "subtree 8 13 ", "a space at the end"},
	{"cr", "subtree 8 13\r", "CR LF at the end"},
	{"start-leading-zero", "subtree 08 13", "a start with a leading zero"},
	{"end-leading-zero", "subtree 8 013", "an end with a leading zero"},
	{"start-00", "subtree 00 8", "a start of 00"},
	{"start-plus", "subtree +8 13", "a start with a plus sign"},
	{"end-plus", "subtree 8 +13", "an end with a plus sign"},
	{"start-minus", "subtree -8 13", "a start with a minus sign"},
	{"start-minus-0", "subtree -0 8", "a start of -0"},
	{"start-hex", "subtree 0x8 13", "a hexadecimal start"},
	{"end-2-to-64-and-13", "subtree 8 18446744073709551629", "an end of 2^64+13, which is 13 in 64 bits"},
	{"end-2-to-64", "subtree 0 18446744073709551616", "an end of 2^64"},
	{"start-word", "subtree eight 13", "a start in words"},
	{"byte-order-mark", "\ufeffsubtree 8 13", "a byte order mark at the beginning"},
}

func subtreeLineCases() []testCase {
	var all []testCase
	for _, c := range rangeLines {
		all = append(all, subtreeRefusal("line-"+c.id, "subtree range line: "+c.about, "", ruleSubRange, only(400), first(c.line)))
	}
	for _, h := range hashLines {
		rule, proofRule := ruleSubHash, ruleSubLine
		if h.level == Ours {
			rule, proofRule = *h.rule, *h.rule
		}
		all = append(all,
			subtreeRefusal("hash-"+h.id, "subtree hash line: "+h.about, h.level, rule, only(400),
				func(_ *testLog, r *request) { r.second[0] = h.spoil(r.second[0]) }),
			subtreeRefusal("proof-line-"+h.id, "subtree proof line: "+h.about, h.level, proofRule, only(400),
				func(_ *testLog, r *request) { r.proof[0] = h.spoil(r.proof[0]) }))
	}
	lines := func(n int) func(*testLog, *request) {
		return func(_ *testLog, r *request) {
			r.proof = strings.Split(strings.Repeat(r.proof[0]+"\n", n-1)+r.proof[0], "\n")
		}
	}
	return append(all,
		subtreeRefusal("empty-body", "an empty body", "", ruleSubSequence, only(400), instead("")),
		subtreeRefusal("only-range", "nothing but the range line", "", ruleSubSequence, only(400), instead("subtree 8 13\n")),
		subtreeRefusal("no-hash", "no subtree hash line and no proof", "", ruleSubSequence, only(400), func(_ *testLog, r *request) { r.second, r.proof = nil, nil }),
		subtreeRefusal("no-empty-line", "no empty line before the checkpoint", "", ruleSubSequence, only(400), func(_ *testLog, r *request) { r.gap = "" }),
		subtreeRefusal("two-empty-lines", "two empty lines before the checkpoint", "", ruleSubSequence, only(400), func(_ *testLog, r *request) { r.gap = "\n\n" }),
		subtreeRefusal("no-checkpoint", "no checkpoint", "", ruleSubSequence, only(400),
			mangled(func(b string) string { head, _, _ := strings.Cut(b, "\n\n"); return head + "\n\n" })),
		subtreeRefusal("crlf", "CR LF at the end of all lines", "", ruleSubSequence, only(400),
			mangled(func(b string) string { return strings.ReplaceAll(b, "\n", "\r\n") })),
		subtreeRefusal("64-lines", "64 proof lines", "", ruleSub63, only(400), lines(64)),
		subtreeRefusal("63-lines", "63 proof lines, which are allowed but no proof", "", ruleSubProof, only(422), lines(63)),
	)
}

// rangeCases are about which ranges are subtrees.
func rangeCases() []testCase {
	return []testCase{
		{id: "invalid-ranges", about: fmt.Sprintf("every range within %d entries that is no subtree", subtreeOf), rule: ruleSubValid, run: func(ctx context.Context, t *trial) error {
			l, err := t.reference(ctx, subtreeOf)
			for start := int64(0); start <= subtreeOf; start++ {
				for end := int64(0); end <= subtreeOf && err == nil; end++ {
					if validSubtree(start, end) {
						continue
					}
					r := subtreeRequest(l, subtreeStart, subtreeEnd)
					r.first = fmt.Sprintf("subtree %d %d", start, end)
					if err = t.refuseSubtree(ctx, r.body(), only(400)); err != nil {
						err = fmt.Errorf("[%d, %d): %w", start, end, err)
					}
				}
			}
			return err
		}},
		subtreeRefusal("end-above-size", "an end above the checkpoint's size", "", ruleSubValid, only(400), first("subtree 8 15")),
		subtreeRefusal("end-far-above-size", "an end of 2^62", "", ruleSubValid, only(400), first("subtree 0 4611686018427387904")),
		subtreeRefusal("end-2-to-63", "an end of 2^63", "", ruleSubValid, only(400), first("subtree 0 9223372036854775808")),
		subtreeRefusal("start-2-to-62", "a start of 2^62", "", ruleSubValid, only(400), first("subtree 4611686018427387904 4611686018427387905")),
		subtreeRefusal("empty-range", "[8, 8)", "", ruleSubValid, only(400), first("subtree 8 8")),
		subtreeRefusal("empty-range-of-nothing", "[8, 8) with the hash of nothing, and no proof", "", ruleSubValid, only(400), func(_ *testLog, r *request) {
			r.first, r.second, r.proof = "subtree 8 8", []string{forkTree().root(0, 0).String()}, nil
		}),
		subtreeRefusal("backwards", "[13, 8)", "", ruleSubValid, only(400), first("subtree 13 8")),
		subtreeRefusal("unaligned", "[4, 13)", "", ruleSubValid, only(400), first("subtree 4 13")),
	}
}

// subtreeProofCases sign every subtree of some trees, and none with a wrong hash or proof.
func subtreeProofCases() []testCase {
	var all []testCase
	for _, size := range []int64{subtreeOf, 8, 5, 1} {
		all = append(all, testCase{id: fmt.Sprintf("all-of-%d", size), about: fmt.Sprintf("every subtree of %d entries, each also with wrong hashes and proofs", size), rule: ruleSub200,
			run: func(ctx context.Context, t *trial) error {
				l, err := t.reference(ctx, size)
				for start := int64(0); start < size; start++ {
					for end := start + 1; end <= size && err == nil; end++ {
						if validSubtree(start, end) {
							err = t.everySubtree(ctx, l, start, end)
						}
					}
				}
				return err
			}})
	}
	return append(all,
		subtreeRefusal("wrong-hash", "another subtree hash", "", ruleSubProof, only(422), func(_ *testLog, r *request) { r.second[0] = hash{1}.String() }),
		subtreeRefusal("hash-of-other-range", "the hash of another subtree", "", ruleSubProof, only(422),
			func(l *testLog, r *request) { r.second[0] = l.tree.root(8, 12).String() }),
		subtreeRefusal("no-proof", "no proof", "", ruleSubProof, only(422), func(_ *testLog, r *request) { r.proof = nil }),
		subtreeRefusal("proof-of-other-range", "the proof of another subtree", "", ruleSubProof, only(422),
			func(l *testLog, r *request) { r.proof = encode(l.tree.subtreeProof(8, 12, subtreeOf)) }),
		subtreeRefusal("fork", "the hash of a subtree of another history", "", ruleSubProof, only(422),
			func(_ *testLog, r *request) { r.second[0] = forkTree().root(8, 13).String() }),
		testCase{id: "time", about: "a subtree cosignature: the timestamp is zero", rule: ruleSubTime, run: func(ctx context.Context, t *trial) error {
			l, err := t.reference(ctx, subtreeOf)
			if err != nil {
				return err
			}
			_, err = t.signSubtree(ctx, l, subtreeRequest(l, 0, subtreeOf).body(), 0, subtreeOf)
			return err
		}},
	)
}

// everySubtree asks for one subtree, with wrong proofs and then with the right one.
func (t *trial) everySubtree(ctx context.Context, l *testLog, start, end int64) error {
	proof := l.tree.subtreeProof(start, end, l.size)
	for _, s := range spoiled(proof) {
		r := subtreeRequest(l, start, end)
		r.proof = encode(s.proof)
		if err := t.refuseSubtree(ctx, r.body(), only(422)); err != nil {
			return fmt.Errorf("[%d, %d) with %s: %w", start, end, s.fault, err)
		}
	}
	_, err := t.signSubtree(ctx, l, subtreeRequest(l, start, end).body(), start, end)
	return err
}
