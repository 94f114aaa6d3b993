package driver_test

import (
	"context"
	"fmt"
	"iter"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/transparency-dev/tessera"
	"golang.org/x/mod/sumdb/note"

	"tallywood/internal/bubble"
	"tallywood/storage"
	"tallywood/storage/driver"
	"tallywood/storage/mem"
)

// TestAZombieWakesBelowTheFloor stops the leader of three replicas at a random moment, even between
// the parts of an operation, for so long that another leads and has collected the slots that the
// stopped one would read and write next. Awake it leads no more, and has changed nothing.
func TestAZombieWakesBelowTheFloor(t *testing.T) {
	for seed := range uint64(zombieSeeds) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) { zombies(t, seed) })
		})
	}
}

func zombies(t *testing.T, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 1))
	b, n, signed := mem.New(), newNetwork(), &signedTrees{roots: map[string]string{}}
	stops := map[*member]*stopped{}
	var members []*member
	for _, url := range []string{"a", "b", "c"} {
		s := &stopped{bucket: b}
		o := gcOptions(t, s)
		o.Signers = []note.Signer{&stoppedSigner{o.Signers[0], s, signed}}
		m := n.joinWith(t, o, url)
		members, stops[m] = append(members, m), s
	}
	var adders sync.WaitGroup
	ctx, cancel := context.WithCancel(t.Context())
	acked := map[int64]string{}
	var mu sync.Mutex // guards acked
	for adder := range 4 {
		adders.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				text := fmt.Sprintf("entry %d of adder %d", i, adder)
				if index, err := addToAny(ctx, members, text); err == nil {
					mu.Lock()
					if other, ok := acked[index]; ok {
						t.Errorf("index %d was given to %q and %q", index, other, text)
					}
					acked[index] = text
					mu.Unlock()
				}
				time.Sleep(50 * time.Millisecond)
			}
		})
	}
	defer func() { // an early end too
		cancel()
		for _, s := range stops {
			s.set(false, r)
		}
		adders.Wait()
	}()
	for range 3 {
		m := leading(t, members...)
		time.Sleep(time.Duration(r.Float64() * float64(3*time.Second)))
		if !driver.Takes(m.Replica) {
			t.Fatalf("%s stopped leading by itself", m.url)
		}
		was := m.Alive(false)
		stops[m].set(true, r)
		n.setDown(m.url, true)
		for end := time.Now().Add(time.Minute); readFloor(t, b).Swept <= was.Slot+3; time.Sleep(100 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("nobody has collected slot %d after a minute: %+v", was.Slot, readFloor(t, b))
			}
		}
		stops[m].set(false, r)
		n.setDown(m.url, false)
		time.Sleep(5 * time.Second)
		if now := m.Alive(false); now.Writer == was.Writer {
			t.Errorf("%s leads on below the floor: %+v", m.url, now)
		}
	}
	cancel()
	adders.Wait()
	time.Sleep(2 * time.Second)
	leader := leading(t, members...)
	for _, m := range members {
		if m != leader && driver.Takes(m.Replica) {
			t.Errorf("%s and %s lead", leader.url, m.url)
		}
	}
	for index, text := range acked {
		if entry, err := leader.Entry(t.Context(), index); err != nil || string(entry[2:]) != text {
			t.Errorf("index %d holds %q (%v), not %q", index, entry, err, text)
		}
	}
	size, _ := leader.Head()
	for _, m := range members {
		if err := m.stop(); err != nil {
			t.Errorf("%s ended with %v", m.url, err)
		}
	}
	checkLog(t, options(t, b), size)
	if len(acked) < 300 {
		t.Errorf("only %d entries were acknowledged", len(acked))
	}
}

// addToAny adds an entry to whoever leads and returns its index.
func addToAny(ctx context.Context, members []*member, text string) (int64, error) {
	err := driver.ErrNotLeading
	for _, m := range members {
		if !driver.Takes(m.Replica) {
			continue
		}
		future := m.Add(ctx, tessera.NewEntry([]byte(text)))
		done := make(chan struct{})
		var index tessera.Index
		var ferr error
		go func() {
			defer close(done)
			index, ferr = future()
		}()
		select {
		case <-done:
			if err = ferr; err == nil {
				return int64(index.Index), nil
			}
		case <-time.After(time.Second): // it is stopped
		}
	}
	return 0, err
}

// signedTrees are all trees that any replica signed.
type signedTrees struct {
	mu    sync.Mutex
	roots map[string]string // by size
}

func (s *signedTrees) see(text string) error {
	lines := strings.Split(text, "\n")
	s.mu.Lock()
	defer s.mu.Unlock()
	if other, ok := s.roots[lines[1]]; ok && other != lines[2] {
		return fmt.Errorf("signing root %s at size %s after %s", lines[2], lines[1], other)
	}
	s.roots[lines[1]] = lines[2]
	return nil
}

// stopped is the bucket of a process that can be stopped: calls neither begin nor return meanwhile,
// and go on afterwards as if no time had passed, even those whose caller has given up.
type stopped struct {
	bucket *mem.Bucket

	mu   sync.Mutex
	wait chan struct{} // closed when it goes on; nil: it is not stopped
	late int           // calls that are to be done before the next one stops
}

func (s *stopped) set(yes bool, r *rand.Rand) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.wait != nil {
		close(s.wait)
		s.wait = nil
	}
	if yes {
		s.wait, s.late = make(chan struct{}), r.IntN(6)
	}
}

// pass waits while the process is stopped.
func (s *stopped) pass() {
	s.mu.Lock()
	wait := s.wait
	if wait != nil && s.late > 0 {
		s.late--
		wait = nil
	}
	s.mu.Unlock()
	if wait != nil {
		<-wait
	}
}

func (s *stopped) Get(ctx context.Context, key string, r storage.Range) ([]byte, storage.Version, error) {
	s.pass()
	defer s.pass()
	return s.bucket.Get(context.WithoutCancel(ctx), key, r)
}

func (s *stopped) Put(ctx context.Context, key string, data []byte, o storage.PutOptions) (storage.Version, error) {
	s.pass()
	defer s.pass()
	return s.bucket.Put(context.WithoutCancel(ctx), key, data, o)
}

func (s *stopped) Delete(ctx context.Context, keys ...string) error {
	s.pass()
	defer s.pass()
	return s.bucket.Delete(context.WithoutCancel(ctx), keys...)
}

func (s *stopped) List(ctx context.Context, prefix string) iter.Seq2[string, error] {
	s.pass()
	return s.bucket.List(context.WithoutCancel(ctx), prefix)
}

// stoppedSigner signs unless the process is stopped, one root for each size.
type stoppedSigner struct {
	note.Signer
	s      *stopped
	signed *signedTrees
}

func (s *stoppedSigner) Sign(msg []byte) ([]byte, error) {
	s.s.pass()
	if err := s.signed.see(string(msg)); err != nil {
		panic(err)
	}
	return s.Signer.Sign(msg)
}
