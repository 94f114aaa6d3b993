package conformance

import (
	"context"
	"encoding/binary"
)

// mldsaRefusal is a case in which a request of a log that signs with ML-DSA-44 must be refused.
func mldsaRefusal(id, about string, level Level, rule Rule, want answers, edit func(*testLog, *request)) testCase {
	return testCase{id: "ml-dsa-" + id, about: about, level: level, rule: rule, run: func(ctx context.Context, t *trial) error {
		l, err := t.freshAt(ctx, MLDSA, defaultAt)
		if err != nil {
			return err
		}
		r := newRequest(l, defaultAt, defaultTo)
		edit(l, r)
		return t.refuse(ctx, l, r.body(), want)
	}}
}

// mldsaMessages are what an ML-DSA-44 signature of a log is over, but should not be.
var mldsaMessages = []struct {
	id, about string
	edit      func(m *mldsaMessage)
}{
	{"other-cosigner", "another cosigner's name", func(m *mldsaMessage) { m.cosigner += "x" }},
	{"other-origin", "another origin", func(m *mldsaMessage) { m.origin += "x" }},
	{"other-end", "another size", func(m *mldsaMessage) { m.end++ }},
	{"other-root", "another root hash", func(m *mldsaMessage) { m.root = hash{1} }},
	{"subtree", "a subtree that does not begin at 0", func(m *mldsaMessage) { m.start, m.timestamp = 4, 0 }},
	{"other-time", "another time than the signature states", func(m *mldsaMessage) { m.timestamp++ }},
}

// mldsaLogCases are about logs that sign with ML-DSA-44.
func mldsaLogCases() []testCase {
	only403 := only(403)
	sig := func(f func(l *testLog, r *request) []byte) func(*testLog, *request) {
		return onlyLines(func(l *testLog, r *request) []string { return []string{l.signers[0].with(f(l, r))} })
	}
	rows := []caser{
		acceptance{id: "ml-dsa-log", about: "a log that signs with ML-DSA-44 grows", rule: ruleTrusted, kind: MLDSA, at: 5, to: 8},
		acceptance{id: "ml-dsa-no-time", about: "the ML-DSA-44 signature of a log has timestamp 0, which makes no statement", rule: ruleNoTime, kind: MLDSA, at: 5, to: 8,
			edit: sig(func(l *testLog, r *request) []byte { return l.signers[0].mldsaAt(r, 0) })},
		mldsaRefusal("forged", "the ML-DSA-44 signature of a log is forged", "", ruleForged, only403, forged),
		mldsaRefusal("good-then-forged", "a good ML-DSA-44 line of a log, and a forged one", "", ruleForged, only403, onlyLines(func(l *testLog, r *request) []string {
			return []string{l.signers[0].line(r.note()), l.signers[0].forged(r.note())}
		})),
		mldsaRefusal("short", "the ML-DSA-44 signature of a log is cut short", "", ruleForged, only403, sig(func(l *testLog, r *request) []byte {
			whole := l.signers[0].sign(r.note())
			return whole[:len(whole)-1]
		})),
		mldsaRefusal("long", "the ML-DSA-44 signature of a log is a byte too long", "", ruleForged, only403, sig(func(l *testLog, r *request) []byte {
			return append(l.signers[0].sign(r.note()), 0)
		})),
		mldsaRefusal("without-timestamp", "the ML-DSA-44 signature of a log without the timestamp before it", "", ruleForged, only403, sig(func(l *testLog, r *request) []byte {
			return l.signers[0].mldsaAt(r, 0)[8:]
		})),
		mldsaRefusal("time-2-to-63", "the ML-DSA-44 signature of a log has timestamp 2^63", "", ruleMaxTime, only403, sig(func(l *testLog, r *request) []byte {
			return l.signers[0].mldsaAt(r, 1<<63)
		})),
		mldsaRefusal("extension", "an extension line that only an ML-DSA-44 signature of the log could cover, and does not", Ours, ruleExtMLDSA, refused(400),
			func(_ *testLog, r *request) { r.extra = []string{"anyone could have written this"} }),
	}
	for _, c := range mldsaMessages {
		rows = append(rows, mldsaRefusal(c.id, "the ML-DSA-44 signature of a log is over "+c.about, "", ruleForged, only403, sig(func(l *testLog, r *request) []byte {
			m := newMLDSAMessage(l.signers[0].name, logTime, r.note())
			c.edit(&m)
			return append(binary.BigEndian.AppendUint64(nil, logTime), l.signers[0].signMLDSA(m)...)
		})))
	}
	return table(rows...)
}

// mldsaAt returns what follows the key ID in an ML-DSA-44 signature with another time.
func (s signer) mldsaAt(r *request, timestamp uint64) []byte {
	return append(binary.BigEndian.AppendUint64(nil, timestamp), s.signMLDSA(newMLDSAMessage(s.name, timestamp, r.note()))...)
}
