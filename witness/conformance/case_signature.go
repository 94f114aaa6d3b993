package conformance

import (
	"context"
	"encoding/hex"
	"strings"
)

// signatureCases are about whose signatures a note has, and whether they verify.
func signatureCases() []testCase {
	return append(append(append(forgedCases(), unknownKeyCases()...), severalKeysCases()...), mldsaLogCases()...)
}

// signature returns the line of s with other bytes after the key ID.
func (s signer) with(sig []byte) string { return signatureLine(s.name, s.id(), sig) }

// onlyLines returns an edit that replaces the signature lines.
func onlyLines(f func(l *testLog, r *request) []string) func(*testLog, *request) {
	return func(l *testLog, r *request) { r.lines = f(l, r) }
}

// forgeries are signatures that the log did not make of the text.
var forgeries = []struct {
	id, about string
	sig       func(l *testLog, r *request) []byte
}{
	{"bit", "one bit is another one", func(l *testLog, r *request) []byte {
		sig := l.signers[0].sign(r.note())
		sig[10] ^= 4
		return sig
	}},
	{"zeros", "it is all zeroes", func(*testLog, *request) []byte { return make([]byte, 64) }},
	{"short", "it is a byte short", func(l *testLog, r *request) []byte { return l.signers[0].sign(r.note())[:63] }},
	{"long", "it is a byte too long", func(l *testLog, r *request) []byte { return append(l.signers[0].sign(r.note()), 0) }},
	{"one-byte", "it is of one byte", func(*testLog, *request) []byte { return []byte{0} }},
	{"other-key", "another key made it", func(_ *testLog, r *request) []byte { return stranger(0).sign(r.note()) }},
	{"older-checkpoint", "it is of an older checkpoint", func(l *testLog, _ *request) []byte { return l.signers[0].sign(newRequest(l, 0, 5).note()) }},
	{"other-root", "it is of another root hash", func(l *testLog, r *request) []byte {
		other := *r
		other.root = l.tree.root(0, 7).String()
		return l.signers[0].sign(other.note())
	}},
	{"other-origin", "it is of another origin", func(l *testLog, r *request) []byte {
		other := *r
		other.origin += "x"
		return l.signers[0].sign(other.note())
	}},
	{"no-final-newline", "it is over the text without its final newline", func(l *testLog, r *request) []byte {
		return l.signers[0].sign(strings.TrimSuffix(r.note(), "\n"))
	}},
	{"with-blank-line", "it is over the text with the blank line", func(l *testLog, r *request) []byte { return l.signers[0].sign(r.note() + "\n") }},
	{"crlf", "it is over the text with CR LF", func(l *testLog, r *request) []byte {
		return l.signers[0].sign(strings.ReplaceAll(r.note(), "\n", "\r\n"))
	}},
	{"s-not-reduced", "its S is not reduced modulo the order of the group, which RFC 8032 demands", func(l *testLog, r *request) []byte {
		return unreduced(l.signers[0].sign(r.note()))
	}},
	{"whole-note", "it is over the whole note", func(l *testLog, r *request) []byte {
		return l.signers[0].sign(r.note() + "\n" + l.signers[0].line(r.note()) + "\n")
	}},
}

// unreduced adds the order of the group to S in an Ed25519 signature: the same equation holds.
func unreduced(sig []byte) []byte {
	order, _ := hex.DecodeString("edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010")
	carry := 0
	for i, b := range order {
		carry += int(sig[32+i]) + int(b)
		sig[32+i] = byte(carry)
		carry >>= 8
	}
	return sig
}

// forgedCases have a line of the log's key that does not verify.
func forgedCases() []testCase {
	var rows []caser
	for _, c := range forgeries {
		rows = append(rows, refusal{id: "forged-" + c.id, about: "the log's only signature is wrong: " + c.about, rule: ruleForged, want: only(403),
			edit: onlyLines(func(l *testLog, r *request) []string { return []string{l.signers[0].with(c.sig(l, r))} })})
	}
	good := func(l *testLog, r *request) string { return l.signers[0].line(r.note()) }
	bad := func(l *testLog, r *request) string { return l.signers[0].forged(r.note()) }
	lines := func(makers ...func(*testLog, *request) string) func(*testLog, *request) {
		return onlyLines(func(l *testLog, r *request) []string {
			var all []string
			for _, make := range makers {
				all = append(all, make(l, r))
			}
			return all
		})
	}
	other := func(*testLog, *request) string { return strangers(1, 64)[0] }
	short := func(l *testLog, r *request) string { return l.signers[0].with(l.signers[0].sign(r.note())[:60]) }
	return table(append(rows,
		refusal{id: "good-then-forged", about: "two lines of the log's key; the second is forged", rule: ruleForged, edit: lines(good, bad), want: only(403)},
		refusal{id: "forged-then-good", about: "two lines of the log's key; the first is forged", rule: ruleForged, edit: lines(bad, good), want: only(403)},
		refusal{id: "good-then-short", about: "two lines of the log's key; the second is too short", rule: ruleForged, edit: lines(good, short), want: only(403)},
		refusal{id: "good-good-forged", about: "three lines of the log's key; the last is forged", rule: ruleForged, edit: lines(good, good, bad), want: only(403)},
		refusal{id: "good-other-forged", about: "a good line, one of an unknown key, and a forged one", rule: ruleForged, edit: lines(good, other, bad), want: only(403)},
		refusal{id: "forged-16th", about: "a good line, 14 of unknown keys, and a forged one", rule: ruleForged, want: only(403),
			edit: onlyLines(func(l *testLog, r *request) []string {
				return append(append([]string{good(l, r)}, strangers(14, 64)...), bad(l, r))
			})},
		acceptance{id: "good-twice", about: "the same good line twice", rule: ruleVerify, edit: lines(good, good)},
		refusal{id: "first-forged", about: "a forged first checkpoint", rule: ruleForged, at: never, edit: lines(bad), want: only(403)},
		refusal{id: "first-good-then-forged", about: "a first checkpoint with a good line and a forged one", rule: ruleForged, at: never, edit: lines(good, bad), want: only(403)},
		refusal{id: "same-size-forged", about: "the recorded checkpoint once more, forged", rule: ruleForged, to: 5, edit: lines(bad), want: only(403)},
	)...)
}

// unknownKeyCases have lines of keys that are not the log's.
func unknownKeyCases() []testCase {
	sameName := func(l *testLog, r *request) string {
		return newEd25519Signer(l.Origin, [32]byte{3}).line(r.note())
	}
	sameID := func(l *testLog, r *request) string {
		return signatureLine("stranger.invalid/same-id", l.signers[0].id(), l.signers[0].sign(r.note()))
	}
	cosignature := func(l *testLog, r *request) string {
		s := l.signers[0]
		message := append([]byte{0, 0, 0, 0, 0x65, 0, 0, 0}, s.sign("cosignature/v1\ntime 1694498816\n"+r.note())...)
		return signatureLine(s.name, keyID(s.name, algCosignature, s.public), message)
	}
	garbage := func(name string, id [4]byte) string { return signatureLine(name, id, []byte("garbage")) }
	one := func(f func(l *testLog, r *request) string) func(*testLog, *request) {
		return onlyLines(func(l *testLog, r *request) []string { return []string{f(l, r)} })
	}
	plus := func(f func(l *testLog, r *request) string) func(*testLog, *request) {
		return func(l *testLog, r *request) { r.lines = append(r.signed(), f(l, r)) }
	}
	before := func(f func(l *testLog, r *request) string) func(*testLog, *request) {
		return func(l *testLog, r *request) { r.lines = append([]string{f(l, r)}, r.signed()...) }
	}
	return table(
		refusal{id: "only-unknown", about: "only the signature of an unknown key", rule: rule403, want: only(403),
			edit: one(func(_ *testLog, r *request) string { return stranger(0).line(r.note()) })},
		refusal{id: "only-16-unknown", about: "only signatures of 16 unknown keys", rule: rule403, want: only(403),
			edit: onlyLines(func(*testLog, *request) []string { return strangers(16, 64) })},
		refusal{id: "only-same-name", about: "only the signature of another key of the log's name", rule: ruleUnknown, edit: one(sameName), want: only(403)},
		refusal{id: "only-same-id", about: "only the log's signature under another name", rule: ruleUnknown, edit: one(sameID), want: only(403)},
		refusal{id: "only-cosignature-of-log-key", about: "only a cosignature/v1 by the log's own key, whose key ID is another one", rule: ruleTrusted, edit: one(cosignature), want: only(403)},
		refusal{id: "first-only-unknown", about: "a first checkpoint with only the signature of an unknown key", rule: rule403, at: never, want: only(403),
			edit: one(func(_ *testLog, r *request) string { return stranger(0).line(r.note()) })},
		refusal{id: "first-unsigned", about: "a first checkpoint without a signature line", rule: rule403, at: never, want: either(403, 400),
			edit: onlyLines(func(*testLog, *request) []string { return []string{} })},
		testCase{id: "other-known-log", about: "only the signature of another log that the witness knows", rule: ruleTrusted, run: otherKnownLog},
		acceptance{id: "unknown-after", about: "an unknown key's garbage after the log's line", rule: ruleUnknown,
			edit: plus(func(*testLog, *request) string { return garbage("stranger.invalid/g", [4]byte{1, 2, 3, 4}) })},
		acceptance{id: "unknown-before", about: "an unknown key's garbage before the log's line", rule: ruleUnknown,
			edit: before(func(*testLog, *request) string { return garbage("stranger.invalid/g", [4]byte{1, 2, 3, 4}) })},
		acceptance{id: "one-byte-after-id", about: "a line of an unknown key with a single byte after the key ID", rule: ruleBlob,
			edit: plus(func(*testLog, *request) string {
				return signatureLine("stranger.invalid/b", [4]byte{1, 2, 3, 4}, []byte{0})
			})},
		acceptance{id: "same-name-other-id", about: "garbage with the log's key name and another key ID", rule: ruleUnknown,
			edit: plus(func(l *testLog, _ *request) string { return garbage(l.signers[0].name, [4]byte{1, 2, 3, 4}) })},
		acceptance{id: "same-id-other-name", about: "garbage with the log's key ID and another name", rule: ruleUnknown,
			edit: plus(func(l *testLog, _ *request) string { return garbage("stranger.invalid/g", l.signers[0].id()) })},
		acceptance{id: "same-name-other-id-before", about: "the same before the log's line", rule: ruleUnknown,
			edit: before(func(l *testLog, _ *request) string { return garbage(l.signers[0].name, [4]byte{1, 2, 3, 4}) })},
		acceptance{id: "same-id-other-name-before", about: "garbage with the log's key ID and another name before the log's line", rule: ruleUnknown,
			edit: before(func(l *testLog, _ *request) string { return garbage("stranger.invalid/g", l.signers[0].id()) })},
		acceptance{id: "unknown-unicode-name", about: "a line of an unknown key whose name is not ASCII", rule: ruleUnknown,
			edit: plus(func(*testLog, *request) string { return garbage("ström.invalid/ñ漢", [4]byte{1, 2, 3, 4}) })},
		acceptance{id: "unknown-same-key-twice", about: "two lines of one unknown key", rule: ruleUnknown,
			edit: also(strangers(1, 64)[0], strangers(1, 64)[0])},
		testCase{id: "own-cosignature", about: "the recorded checkpoint with the witness's cosignatures, as the log publishes it", rule: ruleMany, run: ownCosignature},
		testCase{id: "own-cosignature-forged", about: "a forged line of the witness's own key beside the log's good one", rule: ruleTrusted, run: ownForged},
	)
}

func otherKnownLog(ctx context.Context, t *trial) error {
	l, err := t.at(ctx, defaultAt)
	if err != nil {
		return err
	}
	other, err := t.take(Plain)
	if err != nil {
		return err
	}
	r := newRequest(l, defaultAt, defaultTo)
	r.by = other.signers
	return t.refuse(ctx, l, r.body(), only(403))
}

func ownCosignature(ctx context.Context, t *trial) error {
	l, err := t.at(ctx, defaultAt)
	if err != nil {
		return err
	}
	if err := t.advance(ctx, l, defaultAt); err != nil {
		return err
	}
	r := newRequest(l, defaultAt, defaultAt)
	r.signed()
	for _, c := range l.last.lines {
		r.lines = append(r.lines, c.line)
	}
	return t.accept(ctx, l, r, defaultAt)
}

func ownForged(ctx context.Context, t *trial) error {
	l, err := t.at(ctx, defaultAt)
	if err != nil {
		return err
	}
	r := newRequest(l, defaultAt, defaultAt)
	r.signed()
	for _, k := range t.keys {
		length := map[byte]int{algCosignature: 72, algMLDSA: 2428}[k.alg]
		r.lines = append(r.lines, signatureLine(k.name, k.id(), make([]byte, length)))
	}
	if err := t.accept(ctx, l, r, defaultAt); err != nil {
		return err
	}
	served, err := t.get(ctx, l)
	if err != nil || !t.monitored {
		return err
	}
	for _, line := range r.lines[1:] {
		if containsLines(served.body, line) {
			t.drop(l)
			t.differs = "the monitoring prefix serves the forged line too"
		}
	}
	return nil
}

// severalKeysCases are about a log with two keys.
func severalKeysCases() []testCase {
	by := func(which ...int) func(*testLog, *request) {
		return onlyLines(func(l *testLog, r *request) []string {
			var lines []string
			for _, i := range which {
				if i < 0 {
					lines = append(lines, l.signers[-1-i].forged(r.note()))
				} else {
					lines = append(lines, l.signers[i].line(r.note()))
				}
			}
			return lines
		})
	}
	refuseRotated := func(id, about string, rule Rule, edit func(*testLog, *request)) testCase {
		return testCase{id: id, about: about, rule: rule, run: func(ctx context.Context, t *trial) error {
			l, err := t.freshAt(ctx, Rotated, defaultAt)
			if err != nil {
				return err
			}
			r := newRequest(l, defaultAt, defaultTo)
			edit(l, r)
			return t.refuse(ctx, l, r.body(), only(403))
		}}
	}
	return table(
		testCase{id: "rotation", about: "a log with two keys signs with the first, the second, and both", rule: ruleRotation, run: func(ctx context.Context, t *trial) error {
			l, err := t.fresh(ctx, Rotated)
			if err != nil {
				return err
			}
			for i, which := range [][]int{{0}, {1}, {0, 1}, {1, 0}} {
				r := newRequest(l, max(l.size, 0), int64(i)+3)
				by(which...)(l, r)
				if err := t.accept(ctx, l, r, int64(i)+3); err != nil {
					return err
				}
			}
			return nil
		}},
		refuseRotated("rotation-second-forged", "a log with two keys; the line of the second is forged", ruleForged, by(0, -2)),
		refuseRotated("rotation-first-forged", "a log with two keys; the line of the first is forged", ruleForged, by(-1, 1)),
		refuseRotated("rotation-both-forged", "a log with two keys; both lines are forged", ruleForged, by(-1, -2)),
		refuseRotated("rotation-swapped", "a log with two keys; each line has the other's signature", ruleForged, onlyLines(func(l *testLog, r *request) []string {
			return []string{l.signers[0].with(l.signers[1].sign(r.note())), l.signers[1].with(l.signers[0].sign(r.note()))}
		})),
		testCase{id: "key-named-otherwise", about: "a log whose origin is not its key's name; the signature line names the origin", rule: ruleUnknown, run: func(ctx context.Context, t *trial) error {
			l, err := t.freshAt(ctx, Renamed, defaultAt)
			if err != nil {
				return err
			}
			r := newRequest(l, defaultAt, defaultTo)
			r.lines = []string{signatureLine(l.Origin, l.signers[0].id(), l.signers[0].sign(r.note()))}
			return t.refuse(ctx, l, r.body(), only(403))
		}},
	)
}
