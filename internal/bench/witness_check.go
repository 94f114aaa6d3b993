package bench

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"tallywood/witness/policy"
)

// clockSlack is how far the clock of a witness may be off.
const clockSlack = 5 * time.Minute

// check verifies all replies.
func (l *witnessLoad) check(ctx context.Context, replies []witnessReply) error {
	errs := make([]error, len(replies))
	if err := parallel(ctx, len(replies), func(i int) { errs[i] = checkCosignatures(replies[i], l.t.Keys) }); err != nil {
		return err
	}
	var wrong WrongError
	for i, err := range errs {
		if err == nil {
			continue
		}
		wrong.Answers++
		if wrong.Err == nil {
			wrong.Err = fmt.Errorf("%s, size %d: %w", replies[i].log.origin, replies[i].size, err)
		}
	}
	if wrong.Answers > 0 {
		return &wrong
	}
	return nil
}

// checkCosignatures verifies that an answer has a cosignature by each of the keys, of a right time, and
// no line that only pretends to be one.
func checkCosignatures(r witnessReply, keys []policy.Key) error {
	text := r.log.text(r.size)
	n, err := policy.ParseNote([]byte(text + "\n" + string(r.body)))
	if err != nil {
		return fmt.Errorf("parsing answer: %w", err)
	}
	if n.Text != text { // lines of the answer's own before its signatures
		return errors.New("the answer is not signature lines alone")
	}
	for _, k := range keys {
		found := false
		for _, sig := range n.Signatures {
			if !k.Matches(sig) {
				continue
			}
			t, err := k.Verify(text, sig.Sig)
			switch {
			case err != nil:
				return fmt.Errorf("line of %s: %w", k, err)
			case t.Sub(r.at).Abs() > clockSlack:
				return fmt.Errorf("line of %s: it was signed at %s, and came at %s", k, t, r.at)
			}
			found = true
		}
		if !found {
			return fmt.Errorf("there is no line of %s", k)
		}
	}
	return nil
}

// parallel calls do with 0 to n-1 on all processors, until ctx ends.
func parallel(ctx context.Context, n int, do func(i int)) error {
	var next atomic.Int64
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < n && ctx.Err() == nil; i = int(next.Add(1)) - 1 {
				do(i)
			}
		})
	}
	wg.Wait()
	return context.Cause(ctx)
}
