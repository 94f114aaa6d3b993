package storage

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

const (
	probeCreators = 32              // parallel creates of one key
	probeSwappers = 8               // parallel writers of one counter
	probeSwaps    = 8               // swaps each of them tries
	probeCounting = 3 * time.Second // how long they try: some stores take one write a second
	probeAttempts = 3               // at a check that ends without a verdict
	probeWait     = 1100 * time.Millisecond
	probeTimeout  = 2 * time.Minute
)

// equalVersions is how most stores are; writers keep counters in what they compare and swap.
const equalVersions = "equal contents have equal versions"

// ErrUnguarded reports that a store on this machine asks nobody for credentials: an emulator. Who
// can reach it can read and write everything.
var ErrUnguarded = errors.New("the store asks nobody for credentials")

// ErrExposed reports that an object can be read without credentials.
var ErrExposed = errors.New("the object can be read without credentials")

// An Exposer is a Bucket that can find out whether strangers can read its objects.
type Exposer interface {
	// Exposed returns nil if the object at key cannot be read by strangers, ErrExposed (wrapped) if
	// it can, ErrUnguarded (wrapped) if everything can because the store is an emulator on this
	// machine, and any other error if that could not be found out.
	Exposed(ctx context.Context, key string) error
}

// A BrokenError reports that a store does not give a guarantee. An error of Probe without one says
// only that the store could not be asked.
type BrokenError struct {
	Guarantee string // of Check
	err       error
}

func (e *BrokenError) Error() string {
	return "the store does not guarantee that " + e.Guarantee + ": " + e.err.Error()
}

func (e *BrokenError) Unwrap() error { return e.err }

// A verdict is how a store broke a guarantee.
type verdict struct{ text string }

func (v verdict) Error() string { return v.text }

func brokenf(format string, args ...any) error { return verdict{fmt.Sprintf(format, args...)} }

// A Check is what Probe found out about one guarantee.
type Check struct {
	Guarantee string // what the protocols above a Bucket rest on
	Err       error  // why the store does not give it, or nil
	Warning   string // what is doubtful though the store passes; mostly ""
	Note      string // what is worth knowing and no reason for doubt; often ""
}

// A probe is one run of Probe.
type probe struct {
	b   Bucket
	dir string // of the keys of this run
}

// A guarantee is one thing Probe tries, in a directory of its own.
type guarantee struct {
	text string
	try  func(p probe, ctx context.Context, dir string) (warning string, err error)
}

var guarantees = []guarantee{
	{"a missing key reads as absent", probe.absent},
	{"a write is read back at once, in whole and in part", probe.readBack},
	{"an overwrite is seen at once", probe.overwrite},
	{"create-only writes (If-None-Match) never overwrite", probe.create},
	{"of parallel create-only writes exactly one is applied", probe.race},
	{"compare-and-swap (If-Match) replaces only the version it names", probe.swap},
	{"compare-and-swap by parallel writers loses no update", probe.count},
	{"a deleted key is absent and can be created again", probe.delete},
	{"strangers cannot read state/", probe.private},
}

// Probe tries on b, below the key prefix dir, which must lie in state/, every guarantee the
// protocols above a Bucket rest on (storage-protocol section 8), and removes what it wrote. Some
// servers take conditional writes and ignore the condition: each guarantee that is not given is a
// *BrokenError in the error. All checks are returned, in a fixed order.
func Probe(ctx context.Context, b Bucket, dir string) ([]Check, error) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	p := probe{b: b, dir: dir + "/" + rand.Text()}
	checks := make([]Check, len(guarantees))
	var wg sync.WaitGroup
	for i, g := range guarantees {
		wg.Go(func() {
			checks[i] = p.check(ctx, g, p.dir+"/"+strconv.Itoa(i))
		})
	}
	wg.Wait()
	errs := []error{p.clean(context.WithoutCancel(ctx))}
	for _, c := range checks {
		if c.Err != nil {
			errs = append(errs, c.Err)
		}
	}
	return checks, errors.Join(errs...)
}

// check tries one guarantee, again if the store could not be asked.
func (p probe) check(ctx context.Context, g guarantee, dir string) Check {
	for attempt := 1; ; attempt++ {
		warning, err := g.try(p, ctx, dir+"-"+strconv.Itoa(attempt))
		var broken verdict
		switch {
		case err == nil:
			c := Check{Guarantee: g.text, Warning: warning}
			if warning == equalVersions {
				c.Warning, c.Note = "", warning
			}
			return c
		case errors.As(err, &broken):
			return Check{Guarantee: g.text, Err: &BrokenError{Guarantee: g.text, err: err}}
		case attempt == probeAttempts || ctx.Err() != nil:
			return Check{Guarantee: g.text, Err: fmt.Errorf("finding out whether %s: %w", g.text, err)}
		}
		select {
		case <-time.After(probeWait):
		case <-ctx.Done():
		}
	}
}

// clean removes what the run wrote.
func (p probe) clean(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	var keys []string
	for key, err := range p.b.List(ctx, p.dir+"/") {
		if err != nil {
			return fmt.Errorf("cleaning up: %w", err)
		}
		keys = append(keys, key)
	}
	return p.b.Delete(ctx, keys...)
}

func (p probe) absent(ctx context.Context, dir string) (string, error) {
	_, _, err := p.b.Get(ctx, dir+"/missing", Range{})
	switch {
	case err == nil:
		return "", brokenf("a key that was never written has an object")
	case errors.Is(err, fs.ErrNotExist):
		return "", nil
	}
	return "", err
}

func (p probe) readBack(ctx context.Context, dir string) (string, error) {
	want := []byte("0123456789")
	v, err := p.b.Put(ctx, dir+"/key", want, PutOptions{CacheControl: "private, no-store"})
	if err != nil {
		return "", err
	}
	if err := p.holds(ctx, dir+"/key", want, v); err != nil {
		return "", err
	}
	part, pv, err := p.b.Get(ctx, dir+"/key", Range{Offset: 3, Length: 4})
	if err != nil {
		return "", err
	}
	if !bytes.Equal(part, want[3:7]) || pv != v {
		return "", brokenf("bytes 3 to 6 of %q read as %q, version %q as %q", want, part, v, pv)
	}
	return "", nil
}

func (p probe) overwrite(ctx context.Context, dir string) (string, error) {
	versions := map[Version]string{}
	for _, content := range []string{"a", "b", "c", "a"} {
		v, err := p.b.Put(ctx, dir+"/key", []byte(content), PutOptions{})
		if err != nil {
			return "", err
		}
		if err := p.holds(ctx, dir+"/key", []byte(content), v); err != nil {
			return "", err
		}
		if old, ok := versions[v]; ok && old != content {
			return "", brokenf("contents %q and %q have the same version %q", old, content, v)
		} else if ok {
			return equalVersions, nil
		}
		versions[v] = content
	}
	return "", nil
}

func (p probe) create(ctx context.Context, dir string) (string, error) {
	v, err := p.b.Put(ctx, dir+"/key", []byte("first"), PutOptions{If: Absent()})
	if err != nil {
		return "", err
	}
	for _, content := range []string{"second", "first"} {
		if _, err := p.b.Put(ctx, dir+"/key", []byte(content), PutOptions{If: Absent()}); err == nil {
			return "", brokenf("a second create-only write of a key was accepted: the condition is ignored")
		} else if !errors.Is(err, ErrPrecondition) {
			return "", err
		}
	}
	return "", p.holds(ctx, dir+"/key", []byte("first"), v)
}

func (p probe) race(ctx context.Context, dir string) (string, error) {
	var wg sync.WaitGroup
	var won, failed atomic.Int32
	var winner atomic.Value
	var mu sync.Mutex
	var errs []error
	for i := range probeCreators {
		wg.Go(func() {
			content := "writer " + strconv.Itoa(i)
			_, err := p.b.Put(ctx, dir+"/key", []byte(content), PutOptions{If: Absent()})
			switch {
			case err == nil:
				won.Add(1)
				winner.Store(content)
			case errors.Is(err, ErrPrecondition):
			default:
				failed.Add(1)
				mu.Lock()
				errs = append(errs, err)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	data, _, err := p.b.Get(ctx, dir+"/key", Range{})
	switch n := won.Load(); {
	case n > 1:
		return "", brokenf("%d of %d parallel create-only writes were accepted", n, probeCreators)
	case err != nil && len(errs) > 0:
		return "", errs[0] // the others say the same
	case err != nil:
		return "", err
	case n == 1 && string(data) != winner.Load():
		return "", brokenf("%v was accepted, but the object is of %q", winner.Load(), data)
	case n == 0 && failed.Load() == 0:
		return "", brokenf("all parallel create-only writes of a new key were refused")
	}
	return "", nil // one that failed may have been applied: its answer says nothing
}

func (p probe) swap(ctx context.Context, dir string) (string, error) {
	stale, err := p.b.Put(ctx, dir+"/key", []byte("a"), PutOptions{})
	if err != nil {
		return "", err
	}
	v, err := p.b.Put(ctx, dir+"/key", []byte("b"), PutOptions{If: Match(stale)})
	if errors.Is(err, ErrPrecondition) {
		return "", brokenf("a swap of the current version was refused")
	}
	if err != nil {
		return "", err
	}
	if err := p.holds(ctx, dir+"/key", []byte("b"), v); err != nil {
		return "", err
	}
	for key, what := range map[string]string{"/key": "a version that is no longer current", "/missing": "a version of a missing key"} {
		if _, err := p.b.Put(ctx, dir+key, []byte("c"), PutOptions{If: Match(stale)}); err == nil {
			return "", brokenf("a swap of %s was accepted: the condition is ignored", what)
		} else if !errors.Is(err, ErrPrecondition) {
			return "", fmt.Errorf("a swap of %s: %w", what, err)
		}
	}
	return "", p.holds(ctx, dir+"/key", []byte("b"), v)
}

// count has several writers increment one counter. A swap whose answer says nothing may have been
// applied or not.
func (p probe) count(ctx context.Context, dir string) (string, error) {
	key := dir + "/counter"
	if _, err := p.b.Put(ctx, key, []byte("0"), PutOptions{If: Absent()}); err != nil {
		return "", err
	}
	counting, cancel := context.WithTimeout(ctx, probeCounting)
	defer cancel()
	var accepted, unknown atomic.Int64
	errs := make([]error, probeSwappers)
	var wg sync.WaitGroup
	for i := range errs {
		wg.Go(func() { errs[i] = p.increment(counting, key, &accepted, &unknown) })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return "", err
	}
	data, _, err := p.b.Get(ctx, key, Range{})
	if err != nil {
		return "", err
	}
	n, err := strconv.ParseInt(string(data), 10, 64)
	least, most := accepted.Load(), accepted.Load()+unknown.Load()
	switch {
	case err != nil || n < least || n > most:
		return "", brokenf("after %d to %d accepted swaps the counter is %q: updates were lost", least, most, data)
	case least == 0:
		return "", fmt.Errorf("no swap was accepted in %v", probeCounting)
	}
	return "", nil
}

// increment tries to swap the counter at key forward until it has done its share, whether the swaps
// were accepted or refused, or its time is over.
func (p probe) increment(ctx context.Context, key string, accepted, unknown *atomic.Int64) error {
	for swaps := 0; swaps < probeSwaps && ctx.Err() == nil; {
		data, v, err := p.b.Get(ctx, key, Range{})
		if err != nil {
			return ignoreEnd(ctx, err)
		}
		n, err := strconv.Atoi(string(data))
		if err != nil {
			return brokenf("the counter reads as %q", data)
		}
		_, err = p.b.Put(ctx, key, []byte(strconv.Itoa(n+1)), PutOptions{If: Match(v)})
		switch {
		case err == nil:
			accepted.Add(1)
			swaps++
		case errors.Is(err, ErrPrecondition):
			swaps++
		default:
			unknown.Add(1)
			select {
			case <-time.After(probeWait):
			case <-ctx.Done():
			}
		}
	}
	return nil
}

// ignoreEnd drops an error that only says that ctx has ended.
func ignoreEnd(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

func (p probe) delete(ctx context.Context, dir string) (string, error) {
	for range 2 {
		if _, err := p.b.Put(ctx, dir+"/key", []byte("x"), PutOptions{If: Absent()}); err != nil {
			return "", err
		}
		if err := p.b.Delete(ctx, dir+"/key", dir+"/missing"); err != nil {
			return "", err
		}
		if _, _, err := p.b.Get(ctx, dir+"/key", Range{}); err == nil {
			return "", brokenf("a deleted object is still read")
		} else if !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
	}
	return "", nil
}

func (p probe) private(ctx context.Context, dir string) (string, error) {
	e, ok := p.b.(Exposer)
	if !ok {
		return "", nil // nobody but this process gets at it
	}
	if _, err := p.b.Put(ctx, dir+"/key", []byte("private"), PutOptions{CacheControl: "private, no-store"}); err != nil {
		return "", err
	}
	err := e.Exposed(ctx, dir+"/key")
	switch {
	case errors.Is(err, ErrUnguarded):
		return err.Error(), nil
	case errors.Is(err, ErrExposed):
		return "", brokenf("%v", err)
	}
	return "", err
}

// holds checks that the object at key is data in version v.
func (p probe) holds(ctx context.Context, key string, data []byte, v Version) error {
	got, gv, err := p.b.Get(ctx, key, Range{})
	switch {
	case err != nil:
		return err
	case !bytes.Equal(got, data):
		return brokenf("%q was written, but %q is read", data, got)
	case gv != v:
		return brokenf("the version written is %q, the one read %q", v, gv)
	}
	return nil
}
