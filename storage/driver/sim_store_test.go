package driver_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"iter"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"tallywood/storage"
	"tallywood/storage/driver"
)

// A simStore is the object store of a simulated world. Each change happens at one moment, in which
// the referee sees it. Its fields are under the world's mutex.
type simStore struct {
	objects   map[string]simObject
	writes    uint64
	haunt     map[string]time.Time // until when a slot is kept from LEADER records
	byContent bool                 // versions are hashes of contents, as on S3 and in directories
}

type simObject struct {
	data    []byte // never changed
	version storage.Version
}

func (s *simStore) version(data []byte) storage.Version {
	s.writes++
	if s.byContent {
		return storage.Version(fmt.Sprintf("%x", sha256.Sum256(data)))
	}
	return storage.Version(strconv.FormatUint(s.writes, 10))
}

// put applies a Put that has arrived.
func (w *world) put(who, key string, data []byte, c storage.Condition) (simObject, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	old, exists := w.store.objects[key]
	want, conditional := c.Version()
	if c.IsAbsent() && exists || conditional && old.version != want {
		w.note(who, "put", key, "refused")
		return simObject{}, storage.ErrPrecondition
	}
	o := simObject{data, w.store.version(data)}
	w.store.objects[key] = o
	w.note(who, "put", key, "applied")
	w.referee.Put(who, key, data)
	return o, nil
}

// get answers a Get that has arrived.
func (w *world) get(who, key string) (simObject, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	o, ok := w.store.objects[key]
	if !ok {
		w.note(who, "get", key, "absent")
		return simObject{}, fs.ErrNotExist
	}
	w.note(who, "get", key, "found")
	return o, nil
}

// remove applies the deletion of one key.
func (w *world) remove(who, key string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	_, exists := w.store.objects[key]
	delete(w.store.objects, key)
	w.note(who, "delete", key, strconv.FormatBool(exists))
	w.referee.Removed(who, key)
}

// Errors of requests that got no proper answer.
var (
	errLost   = errors.New("connection reset")
	errNoPath = errors.New("no route to host")
	errKilled = fmt.Errorf("the process was killed: %w", unusable{})
)

// A simBucket is one process's way to the store.
type simBucket struct {
	p      *process
	counts map[string]uint64 // requests so far, by operation and key
}

var _ storage.Bucket = (*simBucket)(nil)

// A fate is what becomes of one request, drawn from the seed, the process and how often it has made
// this request. So the interleaving depends on the seed, not on how the goroutines are scheduled.
type fate struct {
	*rand.Rand
	lands  time.Duration // when it arrives; negative: never
	again  time.Duration // when a copy of it arrives; 0: none does
	back   time.Duration // how long the answer takes
	lost   bool          // there is no answer, and an error when it should have come
	early  time.Duration // when the error comes instead; 0: not before
	mortal bool          // it does not land if its process is killed meanwhile
	held   func() bool   // it does not land yet; nil: it does
}

// begin waits until the process can send a request, and draws its fate.
func (b *simBucket) begin(ctx context.Context, op, key string) (fate, error) {
	w := b.p.w
	if err := b.p.held(); err != nil {
		return fate{}, err
	}
	w.mu.Lock()
	count := b.counts[op+key]
	b.counts[op+key]++
	cut := time.Now().Before(b.p.cut)
	w.mu.Unlock()
	h := fnv.New64a()
	fmt.Fprint(h, b.p.name, op, key, count)
	r := rand.New(rand.NewPCG(w.seed, h.Sum64()))
	f := fate{Rand: r, lands: w.travel(r), back: w.travel(r), mortal: r.IntN(2) == 0}
	if cut {
		if err := b.p.wait(ctx, f.lands); err != nil {
			return f, err
		}
		return f, errNoPath
	}
	return f, nil
}

// travel draws how long a message takes.
func (w *world) travel(r *rand.Rand) time.Duration {
	return time.Duration(float64(w.pace) * (0.3 + r.ExpFloat64()))
}

// between draws a duration whose logarithm is even.
func between(r *rand.Rand, low, high time.Duration) time.Duration {
	return time.Duration(float64(low) * math.Exp(r.Float64()*math.Log(float64(high)/float64(low))))
}

// troubled makes a fate of trouble for a share of the requests, more of it where it matters.
func (w *world) troubled(f *fate, op, key string, data []byte) (stop time.Duration) {
	if w.calm.Load() {
		return 0
	}
	record := op == "put" && strings.HasPrefix(key, "state/test/log/")
	leader := record && bytes.Contains(data[:min(len(data), 200)], []byte(`"type":"LEADER"`))
	slow := 0.01
	switch {
	case leader:
		slow = 0.6
	case op == "delete" || strings.HasSuffix(key, "/checkpoint") || strings.HasSuffix(key, "/floor"):
		slow = 0.04
	}
	if leader && w.lively() && w.haunted(key) {
		f.held = func() bool { return w.holds(key) }
		if f.IntN(2) == 0 {
			return between(f.Rand, 2*time.Second, 12*time.Second) // and its process learns nothing meanwhile
		}
	} else if f.Float64() < slow {
		f.lands = between(f.Rand, 300*time.Millisecond, 10*time.Second)
	}
	// A process that stops while its record is on the way, or its answer, and goes on when others
	// have led and collected: the hardest case.
	if record && !leader && f.Float64() < w.naps {
		stop = between(f.Rand, 3*time.Second, 40*time.Second)
		if f.IntN(2) == 0 {
			f.lost = true
		} else {
			f.lands, f.mortal = stop+f.lands, false
		}
		return stop
	}
	if x := f.Float64() / w.doubt; x < 1 {
		f.perturb(x)
	}
	return 0
}

// lively reports whether a process leads and could go on.
func (w *world) lively() bool {
	now := time.Now()
	for _, p := range w.up() {
		w.mu.Lock()
		replica, well := p.replica, now.After(p.until) && now.After(p.cut)
		w.mu.Unlock()
		if well && replica != nil && driver.Takes(replica) {
			return true
		}
	}
	return false
}

// haunted reports whether LEADER records are kept from the slot at key until it was collected, or for
// some seconds if that does not happen: to land there as ghosts. It ends the lull of the clients.
func (w *world) haunted(key string) bool {
	h := fnv.New64a()
	fmt.Fprint(h, w.seed, key)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.store.objects[key].data != nil || w.referee.Floor.N == 0 || h.Sum64()%4 == 0 {
		return false
	}
	if w.store.haunt[key].IsZero() {
		w.store.haunt[key] = time.Now().Add(10 * time.Second)
	}
	w.lull = time.Now()
	return true
}

// holds reports whether a LEADER record is still kept from the slot at key.
func (w *world) holds(key string) bool {
	var n int64
	fmt.Sscanf(key, "state/test/log/%d", &n)
	w.mu.Lock()
	defer w.mu.Unlock()
	collected := n < int64(len(w.referee.Slots)) && w.referee.Slots[n].Removed
	return !w.calm.Load() && !collected && time.Now().Before(w.store.haunt[key])
}

// perturb makes of a request one whose outcome is not known, or that arrives twice; 0 ≤ x < 1.
func (f *fate) perturb(x float64) {
	switch {
	case x < 0.35:
		f.lost = true
	case x < 0.55:
		f.lost, f.lands = true, -1
	case x < 0.8:
		f.early, f.lost = f.lands, true
		f.lands = between(f.Rand, 100*time.Millisecond, 60*time.Second)
	default:
		f.again = f.lands + between(f.Rand, 10*time.Millisecond, 60*time.Second)
	}
}

// send lets do happen when f says, whatever becomes of the sender, and waits for its answer.
func (b *simBucket) send(ctx context.Context, f fate, do func() (simObject, error)) (simObject, error) {
	type answer struct {
		o   simObject
		err error
	}
	answers := make(chan answer, 2)
	w := b.p.w
	era := w.era.Load()
	var land func()
	land = func() {
		if f.held != nil && f.held() {
			time.AfterFunc(20*time.Millisecond, land)
			return
		}
		if f.mortal && b.p.isDead() || w.era.Load() != era {
			return
		}
		o, err := do()
		answers <- answer{o, err}
	}
	if f.lands >= 0 {
		time.AfterFunc(f.lands, land)
	}
	if f.again > 0 {
		time.AfterFunc(f.again, land)
	}
	var a answer
	if f.early > 0 || f.lands < 0 {
		if a.err = b.p.wait(ctx, f.early+f.back); a.err == nil {
			a.err = errLost
		}
	} else {
		select {
		case a = <-answers:
			if err := b.p.wait(ctx, f.back); err != nil {
				a.err = err
			} else if f.lost {
				a.err = errLost
			}
		case <-ctx.Done():
			a.err = ctx.Err()
		case <-b.p.killed:
			a.err = errKilled
		}
	}
	if err := b.p.held(); err != nil {
		a.err = err
	}
	return a.o, a.err
}

func (b *simBucket) Put(ctx context.Context, key string, data []byte, o storage.PutOptions) (storage.Version, error) {
	f, err := b.begin(ctx, "put", key)
	if err != nil {
		return "", fmt.Errorf("putting %q: %w", key, err)
	}
	data = bytes.Clone(data)
	if stop := b.p.w.troubled(&f, "put", key, data); stop > 0 {
		b.p.stop(stop)
	}
	stored, err := b.send(ctx, f, func() (simObject, error) { return b.p.w.put(b.p.name, key, data, o.If) })
	if err != nil {
		return "", fmt.Errorf("putting %q: %w", key, err)
	}
	return stored.version, nil
}

func (b *simBucket) Get(ctx context.Context, key string, r storage.Range) ([]byte, storage.Version, error) {
	f, err := b.begin(ctx, "get", key)
	if err != nil {
		return nil, "", fmt.Errorf("getting %q: %w", key, err)
	}
	if !b.p.w.calm.Load() {
		switch x := f.Float64(); {
		case x < 0.03:
			f.lost = true
		case x < 0.04:
			f.back = between(f.Rand, 500*time.Millisecond, 10*time.Second)
		}
	}
	o, err := b.send(ctx, f, func() (simObject, error) { return b.p.w.get(b.p.name, key) })
	if err != nil {
		return nil, "", fmt.Errorf("getting %q: %w", key, err)
	}
	data := o.data[min(r.Offset, int64(len(o.data))):]
	if r.Length > 0 {
		data = data[:min(r.Length, int64(len(data)))]
	}
	return bytes.Clone(data), o.version, nil
}

// Delete is one request, but each key goes at a moment of its own.
func (b *simBucket) Delete(ctx context.Context, keys ...string) error {
	if len(keys) == 0 {
		return nil
	}
	f, err := b.begin(ctx, "delete", keys[0])
	if err != nil {
		return fmt.Errorf("deleting %q and others: %w", keys[0], err)
	}
	b.p.w.troubled(&f, "delete", keys[0], nil)
	g, gctx := errgroup.WithContext(ctx)
	for _, key := range keys {
		own := f
		if own.lands >= 0 {
			own.lands += time.Duration(f.Float64() * float64(b.p.w.pace))
		}
		g.Go(func() error {
			_, err := b.send(gctx, own, func() (simObject, error) {
				b.p.w.remove(b.p.name, key)
				return simObject{}, nil
			})
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return fmt.Errorf("deleting %q and others: %w", keys[0], err)
	}
	return nil
}

// List shows what was there a moment ago, less some keys at times.
func (b *simBucket) List(ctx context.Context, prefix string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		f, err := b.begin(ctx, "list", prefix)
		var keys []string
		if err == nil {
			_, err = b.send(ctx, f, func() (simObject, error) {
				b.p.w.mu.Lock()
				defer b.p.w.mu.Unlock()
				keys = slices.Sorted(maps.Keys(b.p.w.store.objects))
				return simObject{}, nil
			})
		}
		if err != nil {
			yield("", fmt.Errorf("listing %q: %w", prefix, err))
			return
		}
		lag := f.IntN(10) == 0
		for _, key := range keys {
			if strings.HasPrefix(key, prefix) && !(lag && f.IntN(2) == 0) && !yield(key, nil) {
				return
			}
		}
	}
}
