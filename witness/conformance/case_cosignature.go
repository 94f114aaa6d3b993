package conformance

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// clockSkew is how far the clocks of the suite and of the witness may be apart.
const clockSkew = 5 * time.Minute

// cosignatureCases are about the body of a 200. That it verifies is checked wherever one is.
func cosignatureCases() []testCase {
	return []testCase{
		answerCase("lines", "the body has signature lines and nothing else", Must, ruleLines, nothingMore),
		answerCase("verifies", "every line is of a key of the witness and verifies", Must, ruleOwnKeys, nothingMore),
		answerCase("extension", "an Ed25519 cosignature covers the extension line", Must, ruleCoverExt, unlessMissing(algCosignature)),
		answerCase("whole-tree", "an ML-DSA-44 cosignature is of [0, size)", Must, ruleWholeTree, unlessMissing(algMLDSA)),
		answerCase("ml-dsa", "there is an ML-DSA-44 cosignature", Should, ruleUseMLDSA, has(algMLDSA)),
		answerCase("ed25519", "there is an Ed25519 cosignature, which all clients know", Ours, ruleSilent, has(algCosignature)),
		answerCase("timestamp", "no timestamp is zero", Must, ruleTimestamp, nothingMore),
		answerCase("time", "the timestamp is now", Must, ruleGenerated, timeIsNow),
		answerCase("one-time", "all lines have the same timestamp", Ours, ruleSilent, oneTime),
		answerCase("once-per-key", "no key signs twice", Ours, ruleSilent, oncePerKey),
		answerCase("names", "no line has the log's key name", Must, ruleOwnKeys, func(l *testLog, a answer) error {
			if strings.Contains(a.body, emDash+l.signers[0].name+" ") {
				return errors.New("the body has a line of the log's key")
			}
			return nil
		}),
		answerCase("text-plain", "the body is text/plain in UTF-8", Ours, ruleSilent, func(_ *testLog, a answer) error {
			if got := a.header.Get("Content-Type"); got != "text/plain; charset=utf-8" {
				return fmt.Errorf("Content-Type is %q", got)
			}
			return nil
		}),
	}
}

// answerCase looks at the answer to an honest request with an extension line.
func answerCase(id, about string, level Level, rule Rule, check func(l *testLog, a answer) error) testCase {
	return testCase{id: id, about: "a cosigned checkpoint: " + about, level: level, rule: rule, run: func(ctx context.Context, t *trial) error {
		l, err := t.at(ctx, defaultAt)
		if err != nil {
			return err
		}
		r := newRequest(l, defaultAt, defaultAt)
		r.extra = []string{"extension"}
		a, err := t.post(ctx, "add-checkpoint", r.body())
		if err != nil {
			return err
		}
		t.got = a.short()
		if err := t.accepted(ctx, l, r, defaultAt, a); err != nil {
			return err
		}
		return check(l, a)
	}}
}

// nothingMore is for what is checked of every answer.
func nothingMore(*testLog, answer) error { return nil }

// algNames are the types of a witness's keys.
var algNames = map[byte]string{algCosignature: "Ed25519", algMLDSA: "ML-DSA-44"}

// has returns a check that one of the lines is of a type of key.
func has(alg byte) func(*testLog, answer) error {
	return func(l *testLog, _ answer) error {
		if len(cosignaturesOf(l, alg)) == 0 {
			return fmt.Errorf("none of the %d lines is of %s", len(l.last.lines), algNames[alg])
		}
		return nil
	}
}

// unlessMissing returns a check that is skipped if no line is of a type of key; that those there
// are verify was checked already.
func unlessMissing(alg byte) func(*testLog, answer) error {
	return func(l *testLog, a answer) error {
		if has(alg)(l, a) != nil {
			return &skipError{"the witness has no " + algNames[alg] + " cosignature"}
		}
		return nil
	}
}

func timeIsNow(l *testLog, _ answer) error {
	for _, c := range l.last.lines {
		if off := time.Since(time.Unix(int64(c.timestamp), 0)).Abs(); off > clockSkew {
			return fmt.Errorf("the timestamp of %s is %v from this machine's clock", c.key.name, off.Round(time.Second))
		}
	}
	return nil
}

func oneTime(l *testLog, _ answer) error {
	for _, c := range l.last.lines {
		if first := l.last.lines[0]; c.timestamp != first.timestamp {
			return fmt.Errorf("one line has timestamp %d, another one %d", first.timestamp, c.timestamp)
		}
	}
	return nil
}

func oncePerKey(l *testLog, _ answer) error {
	for i, c := range l.last.lines {
		if slices.ContainsFunc(l.last.lines[:i], func(o cosignature) bool { return o.key.id() == c.key.id() && o.key.name == c.key.name }) {
			return fmt.Errorf("%s has two lines of one key", c.key.name)
		}
	}
	return nil
}
