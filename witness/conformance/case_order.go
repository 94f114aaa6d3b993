package conformance

import "context"

// forged replaces the signature lines by one of the log's key that does not verify.
func forged(l *testLog, r *request) { r.lines = []string{l.signers[0].forged(r.note())} }

// badProof replaces the proof by a hash that is none of it.
func badProof(_ *testLog, r *request) { r.proof = []string{r.root} }

// both returns an edit that makes several.
func both(edits ...func(*testLog, *request)) func(*testLog, *request) {
	return func(l *testLog, r *request) {
		for _, edit := range edits {
			edit(l, r)
		}
	}
}

// orderCases are requests with two faults. The specification says of each fault how it is answered,
// and seldom which comes first: where it does not, both answers are permitted.
func orderCases() []testCase { return append(unknownOriginCases(), knownCases()...) }

func unknownOriginCases() []testCase {
	stranger := func(id, about string, rule Rule, edit func(*testLog, *request), want answers) testCase {
		return testCase{id: "unknown-" + id, about: "an unknown origin, and " + about, rule: rule, run: func(ctx context.Context, t *trial) error {
			l := t.unknown()
			r := newRequest(l, defaultAt, defaultTo)
			if edit != nil {
				edit(l, r)
			}
			return t.refuse(ctx, l, r.body(), want)
		}}
	}
	return table(
		stranger("origin", "nothing else", rule404, nil, only(404)),
		stranger("many-lines", "signature lines of ten more keys", rule404, also(strangers(10, 64)...), only(404)),
		stranger("forged", "a forged signature", rule404, forged, only(404)),
		stranger("unsigned", "no signature line", rule404, func(_ *testLog, r *request) { r.lines = []string{} }, either(404, 403, 400)),
		stranger("bad-proof", "a proof that does not verify", rule404, badProof, only(404)),
		stranger("first", "old size 0", rule404, func(_ *testLog, r *request) { r.first, r.proof = "old 0", nil }, only(404)),
		stranger("old-above-size", "an old size above the checkpoint's", rule404, first("old 9"), either(404, 400)),
		stranger("bad-size", "a size with a leading zero", rule404, func(_ *testLog, r *request) { r.size = "08" }, either(404, 400)),
		stranger("bad-root", "a root hash of 31 bytes", rule404, func(_ *testLog, r *request) { r.root = hashLines[1].spoil(r.root) }, either(404, 400)),
		stranger("bad-line", "a signature line that is none", rule404, also("text"), either(404, 400)),
		stranger("bad-old-line", "an old size line that is none", ruleOldLine, first("old x"), either(400, 404)),
		stranger("bad-proof-line", "a proof line that is none", ruleProofLine, func(_ *testLog, r *request) { r.proof = []string{"x"} }, either(400, 404)),
	)
}

// knownCases have a second fault beside one of a known log.
func knownCases() []testCase {
	return table(
		refusal{id: "forged-conflict", about: "a forged signature, and an old size that is not the recorded one: strangers must not learn that", rule: ruleForged, old: 6, edit: forged, want: either(403, 409)},
		refusal{id: "unsigned-conflict", about: "no signature of the log, and an old size that is not the recorded one", rule: rule403, old: 6, want: either(403, 409),
			edit: onlyLines(func(*testLog, *request) []string { return strangers(1, 64) })},
		refusal{id: "forged-old-above-size", about: "a forged signature, and an old size above the checkpoint's", rule: ruleForged, edit: both(forged, first("old 9")), want: either(403, 400)},
		refusal{id: "unsigned-old-above-size", about: "no signature of the log, and an old size above the checkpoint's", rule: rule403, want: either(403, 400),
			edit: both(onlyLines(func(*testLog, *request) []string { return strangers(1, 64) }), first("old 9"))},
		refusal{id: "first-forged-bad-proof", about: "a forged first checkpoint with a proof", rule: ruleForged, at: never, edit: both(badProof, forged), want: either(403, 422)},
		refusal{id: "forged-bad-proof", about: "a forged signature, and a proof that does not verify", rule: ruleForged, edit: both(badProof, forged), want: either(403, 422)},
		refusal{id: "forged-other-root", about: "a forged signature, and another root hash at the recorded size", rule: ruleForged, to: 5, want: either(403, 422),
			edit: both(func(_ *testLog, r *request) { r.root = hash{1}.String() }, forged)},
		refusal{id: "forged-bad-size", about: "a forged signature, and a size with a leading zero", rule: ruleForged, want: either(403, 400),
			edit: both(func(_ *testLog, r *request) { r.size = "08" }, forged)},
		refusal{id: "forged-64-proof-lines", about: "a forged signature, and 64 proof lines", rule: rule63, want: either(400, 403),
			edit: both(func(_ *testLog, r *request) {
				for len(r.proof) < 64 {
					r.proof = append(r.proof, r.root)
				}
			}, forged)},
		refusal{id: "conflict-bad-proof", about: "an old size that is not the recorded one, and a proof that does not verify", rule: rule409, old: 4, edit: badProof, want: either(409, 422)},
		refusal{id: "conflict-no-proof", about: "an old size that is not the recorded one, and no proof", rule: rule409, old: 4, want: either(409, 422),
			edit: func(_ *testLog, r *request) { r.proof = nil }},
		refusal{id: "conflict-old-0-with-proof", about: "old size 0 where 5 is recorded, with a proof", rule: rule409, old: zero, edit: badProof, want: either(409, 422)},
		refusal{id: "conflict-same-size-other-root", about: "old size 8 where 5 is recorded, and two roots of size 8", rule: rule409, old: 8, want: either(409, 422),
			edit: func(_ *testLog, r *request) { r.root = hash{1}.String() }},
		refusal{id: "first-conflict-bad-proof", about: "old size 3 of a log never cosigned, and a proof that does not verify", rule: rule409, at: never, old: 3, edit: badProof, want: either(409, 422)},
		refusal{id: "first-conflict-other-root", about: "old size 8 of a log never cosigned, without a proof", rule: rule409, at: never, old: 8, want: only(409)},
		refusal{id: "old-above-size-bad-proof", about: "an old size above the checkpoint's, and a proof that does not verify", rule: rule400, edit: both(first("old 9"), badProof), want: either(400, 409, 422)},
		refusal{id: "empty-tree-conflict", about: "a checkpoint of size 0 with another root hash, where 5 is recorded", rule: ruleEmptyTree, old: zero, to: 1, want: either(422, 409),
			edit: func(_ *testLog, r *request) { r.size, r.root, r.proof = "0", hash{}.String(), nil }},
		refusal{id: "empty-tree-old-above-size", about: "a checkpoint of size 0 with another root hash, and old size 5", rule: rule400, to: 1, want: either(400, 422),
			edit: func(_ *testLog, r *request) { r.size, r.root, r.proof = "0", hash{}.String(), nil }},
		refusal{id: "extension-empty-conflict", about: "an empty extension line, and an old size that is not the recorded one", rule: ruleExtensions, old: 6, want: either(400, 409),
			edit: func(_ *testLog, r *request) { r.extra = []string{""} }},
		refusal{id: "old-00-conflict", about: "old size 00 where 5 is recorded", rule: ruleOldSize, edit: first("old 00"), want: either(400, 409)},
	)
}
