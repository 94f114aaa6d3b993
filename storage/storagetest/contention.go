package storagetest

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"

	"tallywood/storage"
)

// testParallelCreates lets 32 writers, each with its own content, create one key at the same time.
func testParallelCreates(t *testing.T, b storage.Bucket) {
	const writers = 32
	for round := range 4 {
		key := fmt.Sprintf("race/%d/slot", round)
		content := func(i int) []byte { return bytes.Repeat([]byte{byte('A' + i)}, 100+i) }
		errs := make([]error, writers)
		versions := make([]storage.Version, writers)
		atOnce(writers, func(i int) {
			versions[i], errs[i] = b.Put(t.Context(), key, content(i), storage.PutOptions{If: storage.Absent()})
		})
		winner := -1
		for i, err := range errs {
			switch {
			case errors.Is(err, storage.ErrPrecondition):
			case err != nil:
				t.Errorf("writer %d: %v", i, err)
			case winner >= 0:
				t.Errorf("writers %d and %d both created %s", winner, i, key)
			default:
				winner = i
			}
		}
		if winner < 0 {
			t.Fatalf("nobody created %s", key)
		}
		wantContent(t, b, key, string(content(winner)), versions[winner])
	}
}

// testCompareAndSwap lets 8 writers increment one counter, each until it has succeeded 10 times.
// The object carries padding that shows a read of half-written content.
func testCompareAndSwap(t *testing.T, b storage.Bucket) {
	const writers, each = 8, 10
	const key = "cas/counter"
	encode := func(n int) []byte { return []byte(fmt.Sprint(n) + "\n" + strings.Repeat(fmt.Sprint(n)+" ", 500+n)) }
	read := func() (int, storage.Version, error) {
		data, v, err := b.Get(t.Context(), key, storage.Range{})
		if err != nil {
			return 0, "", err
		}
		line, _, _ := bytes.Cut(data, []byte("\n"))
		n, err := strconv.Atoi(string(line))
		if err != nil || !bytes.Equal(data, encode(n)) {
			return 0, "", fmt.Errorf("read torn content %.40q of %d bytes: %w", data, len(data), err)
		}
		return n, v, nil
	}
	if _, err := b.Put(t.Context(), key, encode(0), storage.PutOptions{If: storage.Absent()}); err != nil {
		t.Fatal(err)
	}
	atOnce(writers, func(int) {
		// An attempt fails only because another one has succeeded since its read.
		for attempts, wins, last := 0, 0, 0; wins < each; attempts++ {
			if attempts == writers*each {
				t.Errorf("after %d attempts %d swaps succeeded: some failed although nobody else swapped", attempts, wins)
				return
			}
			n, v, err := read()
			if err != nil {
				t.Error(err)
				return
			}
			if n < last {
				t.Errorf("the counter went from %d back to %d", last, n)
			}
			last = n
			_, err = b.Put(t.Context(), key, encode(n+1), storage.PutOptions{If: storage.Match(v)})
			switch {
			case err == nil:
				wins++
				last = n + 1
			case !errors.Is(err, storage.ErrPrecondition):
				t.Error(err)
				return
			}
		}
	})
	if n, _, err := read(); err != nil || n != writers*each {
		t.Errorf("the counter ends at %d, %v; want %d", n, err, writers*each)
	}
}

// testManyKeys puts many keys of one new directory, and of new directories below it, at once.
func testManyKeys(t *testing.T, b storage.Bucket) {
	const n = 100
	key := func(i int) string { return fmt.Sprintf("many/%03d", i) }
	versions := make([]storage.Version, 2*n)
	atOnce(2*n, func(i int) {
		k := key(i % n)
		if i >= n {
			k = fmt.Sprintf("many/%03d.p/%d", i%n/8, i)
		}
		v, err := b.Put(t.Context(), k, []byte(k), storage.PutOptions{If: storage.Absent()})
		if err != nil {
			t.Error(err)
		}
		versions[i] = v
	})
	for i := range n {
		wantContent(t, b, key(i), key(i), versions[i])
		below := fmt.Sprintf("many/%03d.p/%d", i/8, i+n)
		wantContent(t, b, below, below, versions[i+n])
	}
}

// atOnce calls f with 0 to n-1 in n goroutines that start together, and waits for them.
func atOnce(n int, f func(i int)) {
	var wg sync.WaitGroup
	start := make(chan struct{})
	for i := range n {
		wg.Go(func() {
			<-start
			f(i)
		})
	}
	close(start)
	wg.Wait()
}
