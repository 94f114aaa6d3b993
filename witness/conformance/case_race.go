package conformance

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// parallel is how many requests of one log are under way at once.
const parallel = 16

// An attempt is one of several requests that are sent at once.
type attempt struct {
	request *request
	size    int64
	answer  answer
	err     error
}

// volley sends requests at once, each one time.
func (t *trial) volley(ctx context.Context, attempts []attempt) {
	start := make(chan struct{})
	var all sync.WaitGroup
	for i := range attempts {
		a := &attempts[i]
		all.Go(func() {
			body := a.request.body()
			<-start
			a.answer, a.err = t.once(ctx, body)
		})
	}
	close(start)
	all.Wait()
}

// once posts a checkpoint without patience: what it is about is what comes back first.
func (t *trial) once(ctx context.Context, body string) (answer, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, t.url+"/add-checkpoint", strings.NewReader(body))
	if err != nil {
		return answer{}, fmt.Errorf("making request: %w", err)
	}
	return t.send(r)
}

// raceCases are requests that meet.
func raceCases() []testCase {
	repeat := func(n int, make func(l *testLog, i int) (*request, int64)) func(l *testLog) []attempt {
		return func(l *testLog) []attempt {
			all := []attempt{}
			for i := range n {
				r, size := make(l, i)
				all = append(all, attempt{request: r, size: size})
			}
			return all
		}
	}
	fork := newTree("other entry", defaultAt) // it has the first five leaves in common
	onFork := func(l *testLog, old, size int64) *request {
		forked := *l
		forked.tree = fork
		return newRequest(&forked, old, size)
	}
	return []testCase{
		oneWins("same", "16 times the same larger checkpoint", defaultAt, repeat(parallel, func(l *testLog, _ int) (*request, int64) {
			return newRequest(l, defaultAt, defaultTo), defaultTo
		})),
		oneWins("sizes", "16 larger checkpoints of different sizes", defaultAt, repeat(parallel, func(l *testLog, i int) (*request, int64) {
			return newRequest(l, defaultAt, int64(defaultTo+i)), int64(defaultTo + i)
		})),
		oneWins("fork", "16 checkpoints of one size, half of another history", defaultAt, repeat(parallel, func(l *testLog, i int) (*request, int64) {
			if i%2 == 0 {
				return onFork(l, defaultAt, defaultTo), defaultTo
			}
			return newRequest(l, defaultAt, defaultTo), defaultTo
		})),
		oneWins("first", "16 first checkpoints of different sizes", never, repeat(parallel, func(l *testLog, i int) (*request, int64) {
			return newRequest(l, 0, int64(i)+1), int64(i) + 1
		})),
		oneWins("first-fork", "16 first checkpoints of one size, half of another history", never, repeat(parallel, func(l *testLog, i int) (*request, int64) {
			if i%2 == 0 {
				return onFork(l, 0, defaultTo), defaultTo
			}
			return newRequest(l, 0, defaultTo), defaultTo
		})),
		{id: "again-while-it-grows", about: "15 times the recorded checkpoint, and a larger one, at once", rule: ruleAtomic, run: againWhileItGrows},
		{id: "one-history", about: "eight writers of one log, each of which goes on from what it is told", rule: ruleAtomic, run: oneHistory},
		{id: "strangers", about: "an honest log grows while others send requests in vain about it", rule: rule200, run: amongStrangers},
		{id: "readers", about: "an honest log grows while others read the monitoring prefix", rule: ruleServed, run: amongReaders},
		{id: "many-logs", about: "16 logs grow in parallel: none is asked to wait for the others", level: Ours, rule: ruleSilent, run: manyLogs},
	}
}

// oneWins sends requests of one log at once, all of which would do alone, and wants exactly one of
// them cosigned, and the others told its size.
func oneWins(id, about string, at int64, makeAll func(l *testLog) []attempt) testCase {
	return testCase{id: id, about: about + ", at once", rule: ruleAtomic, run: func(ctx context.Context, t *trial) error {
		for range 3 {
			l, err := t.freshAt(ctx, Plain, at)
			if err != nil {
				return err
			}
			attempts := makeAll(l)
			t.volley(ctx, attempts)
			if err := t.settle(ctx, l, attempts); err != nil {
				return err
			}
		}
		return nil
	}}
}

// settle finds the one attempt that was cosigned, and checks all answers against it.
func (t *trial) settle(ctx context.Context, l *testLog, attempts []attempt) error {
	won := slices.IndexFunc(attempts, func(a attempt) bool { return a.err == nil && a.answer.status == http.StatusOK })
	if won < 0 {
		return fmt.Errorf("none of %d requests was cosigned; the first was answered %s", len(attempts), attempts[0].answer.short())
	}
	winner := attempts[won]
	for i, a := range attempts {
		switch {
		case a.err != nil:
			return a.err
		case i == won:
		case a.answer.status == http.StatusOK:
			return fmt.Errorf("two of %d requests with one old size were cosigned, of sizes %d and %d", len(attempts), winner.size, a.size)
		case a.answer.status == http.StatusTooManyRequests || a.answer.status == http.StatusServiceUnavailable:
			t.differs = fmt.Sprintf("some were answered %s; ours answers 409", a.answer.short())
		case a.answer.status != http.StatusConflict || a.answer.body != fmt.Sprintf("%d\n", winner.size):
			return fmt.Errorf("after size %d was cosigned, another request was answered %s", winner.size, a.answer.short())
		}
	}
	if err := t.accepted(ctx, l, winner.request, winner.size, winner.answer); err != nil {
		return err
	}
	// The recorded root is the winner's: it is cosigned once more, and no other one is.
	for _, a := range attempts {
		again := *a.request
		again.first, again.proof = oldLine(winner.size), nil
		if a.size != winner.size {
			continue
		}
		if a.request.root == winner.request.root {
			if err := t.accept(ctx, l, &again, winner.size); err != nil {
				return fmt.Errorf("the winner once more: %w", err)
			}
		} else if err := t.refuse(ctx, l, again.body(), only(422)); err != nil {
			return fmt.Errorf("the loser once more: %w", err)
		}
	}
	return nil
}

// againWhileItGrows has the recorded checkpoint signed again by many while the log grows: none of them
// may take the growth back.
func againWhileItGrows(ctx context.Context, t *trial) error {
	for range 3 {
		l, err := t.freshAt(ctx, Plain, defaultAt)
		if err != nil {
			return err
		}
		attempts := []attempt{{request: newRequest(l, defaultAt, defaultTo), size: defaultTo}}
		for range parallel - 1 {
			attempts = append(attempts, attempt{request: newRequest(l, defaultAt, defaultAt), size: defaultAt})
		}
		grown := attempts[0].request
		slices.Reverse(attempts)
		t.volley(ctx, attempts)
		last := attempts[len(attempts)-1]
		if s := last.answer.status; last.err == nil && (s == http.StatusTooManyRequests || s == http.StatusServiceUnavailable) {
			t.differs = fmt.Sprintf("the larger one was answered %s; ours answers 200", last.answer.short())
			return nil
		}
		for _, a := range attempts[:len(attempts)-1] {
			switch {
			case a.err != nil:
				return a.err
			case a.answer.status == http.StatusOK:
				if _, err := t.verify(a.answer.body, a.request.statement(defaultAt)); err != nil {
					return fmt.Errorf("the recorded checkpoint once more: answered 200, but %w", err)
				}
			case a.answer.status == http.StatusTooManyRequests || a.answer.status == http.StatusServiceUnavailable:
				t.differs = fmt.Sprintf("some were answered %s; ours answers 200 or 409", a.answer.short())
			case a.answer.status != http.StatusConflict || a.answer.body != fmt.Sprintf("%d\n", defaultTo):
				return fmt.Errorf("the recorded checkpoint once more: answered %s", a.answer.short())
			}
		}
		if err := errors.Join(last.err, t.accepted(ctx, l, grown, defaultTo, last.answer)); err != nil {
			return fmt.Errorf("the larger checkpoint: %w", err)
		}
		if err := t.probe(ctx, l); err != nil {
			return fmt.Errorf("afterwards: %w", err)
		}
	}
	return nil
}

// oneHistory has several writers and checks that what was cosigned is one chain.
func oneHistory(ctx context.Context, t *trial) error {
	l, err := t.freshAt(ctx, Plain, 1)
	if err != nil {
		return err
	}
	const writers, rounds = 8, 20
	var (
		mu    sync.Mutex
		steps [][2]int64
		errs  = make([]error, writers)
		all   sync.WaitGroup
	)
	for w := range writers {
		all.Go(func() {
			known := int64(1)
			for round := range rounds {
				size := known + 1 + int64((w+round)%3)
				a, err := t.post(ctx, "add-checkpoint", newRequest(l, known, size).body())
				if err != nil {
					errs[w] = err
					return
				}
				switch told, err := strconv.ParseInt(strings.TrimSuffix(a.body, "\n"), 10, 64); {
				case a.status == http.StatusOK:
					mu.Lock()
					steps = append(steps, [2]int64{known, size})
					mu.Unlock()
					known = size
				case a.status == http.StatusConflict && err == nil && told >= known:
					known = told
				default:
					errs[w] = fmt.Errorf("from %d to %d: answered %s", known, size, a.short())
					return
				}
			}
		})
	}
	all.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	slices.SortFunc(steps, func(a, b [2]int64) int { return cmp.Compare(a[0], b[0]) })
	last := int64(1)
	for _, s := range steps {
		if s[0] != last {
			return fmt.Errorf("cosigned from %d to %d, where the history was at %d", s[0], s[1], last)
		}
		last = s[1]
	}
	l.size = last
	return t.probe(ctx, l)
}

// whileGrowing has an honest log grow from 1 to size while others do something over and over.
func (t *trial) whileGrowing(ctx context.Context, l *testLog, size int64, others ...func(ctx context.Context) error) error {
	inner, stop := context.WithCancel(ctx)
	defer stop()
	errs := make([]error, len(others))
	var all sync.WaitGroup
	for i, other := range others {
		all.Go(func() {
			for inner.Err() == nil && errs[i] == nil {
				if err := other(inner); inner.Err() == nil {
					errs[i] = err
				}
			}
		})
	}
	var err error
	for l.size < size && err == nil {
		err = t.advance(ctx, l, l.size+1)
	}
	stop()
	all.Wait()
	return errors.Join(append(errs, err)...)
}

func amongStrangers(ctx context.Context, t *trial) error {
	l, err := t.freshAt(ctx, Plain, 1)
	if err != nil {
		return err
	}
	spoil := func(edit func(r *request)) func(ctx context.Context) error {
		r := newRequest(l, 1, 8)
		edit(r)
		body := r.body()
		return func(ctx context.Context) error {
			a, err := t.post(ctx, "add-checkpoint", body)
			if err == nil && a.status == http.StatusOK {
				err = errors.New("a request in vain was cosigned")
			}
			return err
		}
	}
	return t.whileGrowing(ctx, l, 40,
		spoil(func(r *request) { r.lines = []string{l.signers[0].forged(r.note())} }),
		spoil(func(r *request) { r.first = "old 9" }),
		spoil(func(r *request) { r.proof = []string{"x"} }),
		spoil(func(r *request) { r.origin += "x" }),
	)
}

func amongReaders(ctx context.Context, t *trial) error {
	if err := t.needServed(); err != nil {
		return err
	}
	l, err := t.freshAt(ctx, Plain, 1)
	if err != nil {
		return err
	}
	reader := func() func(ctx context.Context) error {
		last := int64(0)
		return func(ctx context.Context) error {
			a, err := t.get(ctx, l)
			if err != nil {
				return err
			}
			text, block, _ := strings.Cut(a.body, "\n\n")
			lines := strings.Split(text, "\n")
			if a.status != http.StatusOK || len(lines) != 3 {
				return fmt.Errorf("a reader was answered %s", a.short())
			}
			size, err := strconv.ParseInt(lines[1], 10, 64)
			if err != nil || size < last || lines[2] != l.tree.root(0, size).String() {
				return fmt.Errorf("a reader that had seen size %d was served size %q, or another root hash", last, lines[1])
			}
			last = size
			_, cosignatures, _ := strings.Cut(block, "\n") // the log's line comes first
			_, err = t.verify(cosignatures, statement{text: text + "\n", origin: l.Origin, end: uint64(size), root: l.tree.root(0, size)})
			return err
		}
	}
	return t.whileGrowing(ctx, l, 40, reader(), reader(), reader())
}

func manyLogs(ctx context.Context, t *trial) error {
	logs := make([]*testLog, parallel)
	for i := range logs {
		var err error
		if logs[i], err = t.freshAt(ctx, Plain, 1); err != nil {
			return err
		}
	}
	errs := make([]error, parallel)
	var all sync.WaitGroup
	for i, l := range logs {
		all.Go(func() {
			for size := int64(2); size <= 20 && errs[i] == nil; size++ {
				a, err := t.once(ctx, newRequest(l, size-1, size).body())
				if err == nil && a.status != http.StatusOK {
					err = fmt.Errorf("%s from size %d to %d: answered %s", l.Origin, size-1, size, a.short())
				}
				errs[i] = err
			}
		})
	}
	all.Wait()
	return errors.Join(errs...)
}
