package log_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"tallywood/internal/bubble"
	"tallywood/log"
	"tallywood/storage"
)

// TestSetRulesRefuses rules that the log could not live by.
func TestSetRulesRefuses(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		f, c := newFixture(t), newCosigner(t)
		f.witnessed(c)
		l, _ := f.run()
		key := f.options.VKeys[0]
		other := newFixture(t)
		for what, r := range map[string]struct {
			rules log.Rules
			want  string
		}{
			"no policy":      {log.Rules{Cosigner: c}, "no policy"},
			"another log's":  {log.Rules{Policy: other.options.Policy}, "does not list"},
			"no cosigner":    {log.Rules{Policy: f.options.Policy}, "nothing to collect"},
			"without quorum": {log.Rules{Policy: parsePolicy(t, "log "+key+"\nquorum none\n")}, "cannot get one while it runs"},
		} {
			if err := l.SetRules(r.rules); err == nil || !strings.Contains(err.Error(), r.want) {
				t.Errorf("%s: %v; want %q in it", what, err, r.want)
			}
		}
		mustAdd(t, l, "under the old rules")
	})
}

// TestSetRulesHoldsForWhatIsPublished has a checkpoint of before refused at once, and cosigned anew.
func TestSetRulesHoldsForWhatIsPublished(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		f, first, second := newFixture(t), newCosigner(t), newCosigner(t)
		f.witnessed(first)
		l, _ := f.run()
		old := mustAdd(t, l, "an entry")

		second.silent.Store(true)
		next := *f
		next.witnessed(second)
		rules := log.Rules{Policy: next.options.Policy, Cosigner: second}
		if err := l.SetRules(rules); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := contextWithin(t, 10*time.Second)
		defer cancel()
		if r, err := l.Add(ctx, tlogEntry("an entry")); !errors.Is(err, log.ErrNoQuorum) {
			t.Errorf("a duplicate under the checkpoint of before: %v, %v", r, err)
		}
		if err := l.Ready(); err == nil {
			t.Error("the log is ready without a checkpoint that satisfies the rules")
		}
		if _, ok := l.Published(); ok {
			t.Error("a checkpoint is shown that does not satisfy the rules")
		}
		second.silent.Store(false)
		// The attempt that was under way has to end before there is another.
		eventually(t, "the checkpoint to be cosigned anew", func() bool { return l.Ready() == nil })
		r := mustAdd(t, l, "an entry")
		if r.Index != old.Index || r.Checkpoint.Size() != old.Checkpoint.Size() {
			t.Errorf("index %d in size %d; want %d in %d", r.Index, r.Checkpoint.Size(), old.Index, old.Checkpoint.Size())
		}
		if _, err := next.options.Policy.Open(r.Checkpoint.Note()); err != nil {
			t.Error(err)
		}
		mustAdd(t, l, "another entry")
	})
}

// TestFullCheckpointIsKept writes what the rules give beside the checkpoint, if it satisfies them.
func TestFullCheckpointIsKept(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		f, c := newFixture(t), newCosigner(t)
		f.witnessed(c)
		notes := make(chan []byte, 1)
		var now []byte
		f.options.FullInterval = 5 * time.Millisecond
		f.options.Full = func() []byte {
			select {
			case now = <-notes:
			default:
			}
			return now
		}
		l, _ := f.run()
		full := func() string {
			data, _, err := f.bucket.Get(t.Context(), "logs/signatures/checkpoint.full", storage.Range{})
			if err != nil {
				return ""
			}
			return string(data)
		}
		one := mustAdd(t, l, "one").Checkpoint.Note()
		notes <- one
		eventually(t, "the first", func() bool { return full() == string(one) })

		two := mustAdd(t, l, "two").Checkpoint.Note()
		text, _, _ := strings.Cut(string(two), "\n\n")
		bare, _, _ := strings.Cut(string(two), "\n— witness")
		for _, bad := range []string{bare + "\n", text, "x"} { // under-cosigned, or no note
			notes <- []byte(bad)
			time.Sleep(50 * time.Millisecond)
			if full() != string(one) {
				t.Fatalf("%q is stored", full())
			}
		}
		notes <- two
		eventually(t, "the second", func() bool { return full() == string(two) })
		notes <- one // a predecessor's
		mustAdd(t, l, "three")
		time.Sleep(50 * time.Millisecond)
		if full() != string(two) {
			t.Errorf("it went back to %q", full())
		}
	})
}
