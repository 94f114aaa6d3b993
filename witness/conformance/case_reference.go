package conformance

import (
	"context"
	"encoding/base64"
	"net/http"
	"strings"
)

// subtreeAcceptance is a case in which one sign-subtree request must be answered with a line.
func subtreeAcceptance(id, about string, rule Rule, edit func(l *testLog, r *request)) testCase {
	return testCase{id: id, about: about, rule: rule, run: func(ctx context.Context, t *trial) error {
		l, err := t.reference(ctx, subtreeOf)
		if err != nil {
			return err
		}
		r := subtreeRequest(l, subtreeStart, subtreeEnd)
		edit(l, r)
		_, err = t.signSubtree(ctx, l, r.body(), subtreeStart, subtreeEnd)
		return err
	}}
}

// flip changes a bit of the signature in a line.
func flip(line string) string {
	i := len(line) - 10
	other := "A"
	if line[i] == 'A' {
		other = "B"
	}
	return line[:i] + other + line[i+1:]
}

// retimed changes the timestamp in a cosignature's line.
func retimed(line string) string {
	head, b64 := line[:strings.LastIndexByte(line, ' ')+1], line[strings.LastIndexByte(line, ' ')+1:]
	blob, _ := base64.StdEncoding.DecodeString(b64) // it was verified
	blob[11] ^= 1
	return head + base64.StdEncoding.EncodeToString(blob)
}

// referenceCases are about the checkpoint of a sign-subtree request.
func referenceCases() []testCase {
	return append(append(oldReferenceCases(), badReferenceCases()...),
		subtreeAcceptance("only-own-line", "a reference with nothing but the witness's ML-DSA-44 line", ruleSubOnlyOurs, func(*testLog, *request) {}),
		subtreeAcceptance("with-log-line", "a reference with the log's line too", ruleSub200, func(l *testLog, r *request) {
			r.lines = append([]string{l.signers[0].line(r.note())}, r.lines...)
		}),
		subtreeAcceptance("with-all-lines", "a reference with all lines, as the log publishes it", ruleSub200, func(l *testLog, r *request) {
			r.lines = []string{l.signers[0].line(r.note())}
			for _, c := range l.last.lines {
				r.lines = append(r.lines, c.line)
			}
		}),
		subtreeAcceptance("with-unknown-lines", "a reference with lines of unknown keys", ruleSub200, func(_ *testLog, r *request) {
			r.lines = append(strangers(10, 64), r.lines...)
		}),
		subtreeAcceptance("same-name-other-id", "a reference with garbage of the witness's name and another key ID", ruleUnknown, func(l *testLog, r *request) {
			r.lines = append(r.lines, signatureLine(l.last.lines[0].key.name, [4]byte{1, 2, 3, 4}, []byte("garbage")))
		}),
		subtreeAcceptance("good-twice", "a reference with the witness's ML-DSA-44 line twice", ruleSub200, func(_ *testLog, r *request) {
			r.lines = append(r.lines, r.lines[0])
		}),
		subtreeAcceptance("extension", "a reference with an extension line, which ML-DSA-44 does not cover", ruleExtMLDSA, func(_ *testLog, r *request) {
			r.extra = []string{"not said by anyone"}
		}),
		subtreeAcceptance("with-forged-log-line", "a reference with a line of the log's key that does not verify: the log's keys are not asked for", ruleSub200, func(l *testLog, r *request) {
			r.lines = append([]string{l.signers[0].forged(r.note())}, r.lines...)
		}),
	)
}

// badReferenceCases have a reference that vouches for nothing.
func badReferenceCases() []testCase {
	return []testCase{
		subtreeRefusal("unknown-origin", "a reference of an unknown origin", "", ruleSub404, only(404), func(_ *testLog, r *request) { r.origin += "x" }),
		subtreeRefusal("unsigned", "a reference without a signature line", "", ruleSub403, either(403, 400), func(_ *testLog, r *request) { r.lines = []string{} }),
		subtreeRefusal("only-log-line", "a reference with only the log's line", "", ruleSub403, only(403), func(l *testLog, r *request) {
			r.lines = []string{l.signers[0].line(r.note())}
		}),
		subtreeRefusal("only-unknown-lines", "a reference with only lines of unknown keys", "", ruleSub403, only(403), func(_ *testLog, r *request) {
			r.lines = strangers(3, 2428)
		}),
		subtreeRefusal("forged", "a reference whose cosignature has another bit", "", ruleSub403, only(403), func(_ *testLog, r *request) {
			r.lines = []string{flip(r.lines[0])}
		}),
		subtreeRefusal("good-then-forged", "a reference with a good cosignature and a forged one of the same key", Should,
			Rule{"c2sp.org/signed-note", "Signatures", "If a signature from a known key fails to verify, clients SHOULD reject the whole note."}, only(403),
			func(_ *testLog, r *request) { r.lines = append(r.lines, flip(r.lines[0])) }),
		subtreeRefusal("good-and-forged-ed25519", "a reference with a good ML-DSA-44 cosignature and a forged Ed25519 one of the witness", Should,
			Rule{"c2sp.org/signed-note", "Signatures", "If a signature from a known key fails to verify, clients SHOULD reject the whole note."}, only(403),
			func(l *testLog, r *request) {
				for _, c := range cosignaturesOf(l, algCosignature) {
					r.lines = append(r.lines, flip(c))
				}
				if len(r.lines) == 1 { // the witness has no such key: another fault of the same kind
					r.lines = append(r.lines, flip(r.lines[0]))
				}
			}),
		subtreeRefusal("other-time", "the cosignature with another timestamp before it", "", ruleSub403, only(403), func(_ *testLog, r *request) {
			r.lines = []string{retimed(r.lines[0])}
		}),
		subtreeRefusal("other-size", "the cosignature of another size", "", ruleSub403, only(403), func(l *testLog, r *request) {
			r.size, r.root = "13", l.tree.root(0, 13).String()
		}),
		subtreeRefusal("other-root", "the cosignature under another root hash", "", ruleSub403, only(403), func(_ *testLog, r *request) { r.root = hash{1}.String() }),
		subtreeRefusal("bad-size", "a reference whose size has a leading zero", "", ruleSub403, either(403, 400), func(_ *testLog, r *request) { r.size = "014" }),
		subtreeRefusal("bad-line", "a reference with a signature line that is none", "", ruleSubSequence, either(400, 403), func(_ *testLog, r *request) {
			r.lines = append(r.lines, "text")
		}),
		subtreeRefusal("no-final-newline", "a reference without its last newline", "", ruleSubSequence, only(400), mangled(func(b string) string { return strings.TrimSuffix(b, "\n") })),
		subtreeRefusal("control", "a reference with a control character", "", ruleSubSequence, either(400, 403), func(_ *testLog, r *request) {
			r.lines = append(r.lines, emDash+"a\tb AAAAAAAA")
		}),
		subtreeRefusal("invalid-range-unknown-origin", "a range that is no subtree, and an unknown origin", "", ruleSubValid, either(400, 404), func(_ *testLog, r *request) {
			r.first = "subtree 4 13"
			r.origin += "x"
		}),
		subtreeRefusal("bad-proof-unsigned", "a proof that does not verify, and no cosignature", "", ruleSub403, either(403, 422), func(l *testLog, r *request) {
			r.proof, r.lines = nil, []string{l.signers[0].line(r.note())}
		}),
	}
}

// strictCase has a reference that the specification permits to sign by, and ours does not.
func strictCase(id, about string, lines func(ctx context.Context, t *trial, l *testLog) ([]string, error)) testCase {
	return testCase{id: id, about: about, level: Ours, rule: ruleSub403, run: func(ctx context.Context, t *trial) error {
		l, err := t.reference(ctx, subtreeOf)
		if err != nil {
			return err
		}
		r := subtreeRequest(l, subtreeStart, subtreeEnd)
		if r.lines, err = lines(ctx, t, l); err != nil {
			return err
		}
		a, err := t.post(ctx, "sign-subtree", r.body())
		if err != nil {
			return err
		}
		if t.got = a.short(); a.status == http.StatusOK {
			t.differs = "answered 200; ours answers 403"
			return nil
		}
		return only(403).judge(t, a)
	}}
}

func olderReference(ctx context.Context, t *trial) error {
	if err := t.needSubtrees(); err != nil {
		return err
	}
	l, err := t.freshAt(ctx, Plain, subtreeOf)
	if err != nil {
		return err
	}
	r := subtreeRequest(l, subtreeStart, subtreeEnd)
	if err := t.advance(ctx, l, 21); err != nil {
		return err
	}
	_, err = t.signSubtree(ctx, l, r.body(), subtreeStart, subtreeEnd)
	return err
}

func changesNothing(ctx context.Context, t *trial) error {
	l, err := t.reference(ctx, subtreeOf)
	if err != nil {
		return err
	}
	before, err := t.get(ctx, l)
	if err != nil {
		return err
	}
	if _, err := t.signSubtree(ctx, l, subtreeRequest(l, 0, 8).body(), 0, 8); err != nil {
		return err
	}
	return t.unchanged(ctx, l, before)
}

// signBySubtree has [0, size) signed, and a subtree of that by that signature.
func (t *trial) signBySubtree(ctx context.Context, size int64) error {
	l, err := t.reference(ctx, subtreeOf)
	if err != nil {
		return err
	}
	lines, err := t.signSubtree(ctx, l, subtreeRequest(l, 0, size).body(), 0, size)
	if err != nil {
		return err
	}
	r := newRequest(l, size, size)
	r.first, r.second = "subtree 4 8", []string{l.tree.root(4, 8).String()}
	r.proof, r.lines = encode(l.tree.subtreeProof(4, 8, size)), []string{lines[0].line}
	_, err = t.signSubtree(ctx, l, r.body(), 4, 8)
	return err
}

func innerAsReference(ctx context.Context, t *trial) error {
	l, err := t.reference(ctx, subtreeOf)
	if err != nil {
		return err
	}
	lines, err := t.signSubtree(ctx, l, subtreeRequest(l, subtreeStart, subtreeEnd).body(), subtreeStart, subtreeEnd)
	if err != nil {
		return err
	}
	r := newRequest(l, 0, subtreeEnd-subtreeStart)
	r.root = l.tree.root(subtreeStart, subtreeEnd).String()
	r.first, r.second = "subtree 0 5", []string{r.root}
	r.proof, r.lines = nil, []string{lines[0].line}
	return t.refuseSubtree(ctx, r.body(), only(403))
}

func otherLogAsReference(ctx context.Context, t *trial) error {
	other, err := t.reference(ctx, subtreeOf)
	if err != nil {
		return err
	}
	l, err := t.freshAt(ctx, Plain, subtreeOf) // of the same tree
	if err != nil {
		return err
	}
	r := subtreeRequest(l, subtreeStart, subtreeEnd)
	r.lines = cosignaturesOf(other, algMLDSA)
	return t.refuseSubtree(ctx, r.body(), only(403))
}

// oldReferenceCases use what was cosigned before, and what is no cosignature of a checkpoint.
func oldReferenceCases() []testCase {
	return []testCase{
		{id: "older-checkpoint", about: "a subtree of a checkpoint that was cosigned before the recorded one", rule: ruleSub200, run: olderReference},
		{id: "changes-nothing", about: "after sign-subtree the recorded checkpoint is the same", rule: ruleSub200, run: changesNothing},
		strictCase("only-ed25519", "a reference with only the witness's Ed25519 line: a broken Ed25519 key must not buy statements of ML-DSA-44",
			func(_ context.Context, _ *trial, l *testLog) ([]string, error) {
				lines := cosignaturesOf(l, algCosignature)
				if len(lines) == 0 {
					return nil, &skipError{"the witness has no Ed25519 key"}
				}
				return lines, nil
			}),
		{id: "subtree-as-reference", about: "a reference whose line came from sign-subtree about [0, size), with timestamp zero", rule: ruleSub200, run: func(ctx context.Context, t *trial) error {
			return t.signBySubtree(ctx, subtreeOf)
		}},
		{id: "prefix-as-reference", about: "a reference that was never submitted, whose line came from sign-subtree about [0, size)", rule: ruleSub200, run: func(ctx context.Context, t *trial) error {
			return t.signBySubtree(ctx, subtreeEnd)
		}},
		{id: "inner-subtree-as-reference", about: "the cosignature of [8, 13), as if it were of a checkpoint of size 5 with that hash", rule: ruleSub403, run: innerAsReference},
		{id: "other-log", about: "the cosignature of another log's checkpoint of the same tree", rule: ruleSub403, run: otherLogAsReference},
		{id: "empty-tree", about: "a subtree of the empty tree", rule: ruleSubValid, run: func(ctx context.Context, t *trial) error {
			if err := t.needSubtrees(); err != nil {
				return err
			}
			l, err := t.freshAt(ctx, Plain, 0)
			if err != nil {
				return err
			}
			r := subtreeRequest(l, 0, 0)
			r.first = "subtree 0 1"
			return t.refuseSubtree(ctx, r.body(), only(400))
		}},
	}
}
