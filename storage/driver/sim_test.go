package driver_test

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"runtime"
	"runtime/debug"
	"testing"
	"time"

	"github.com/transparency-dev/tessera"
	"golang.org/x/mod/sumdb/tlog"
	"k8s.io/klog/v2"

	"tallywood/internal/bubble"
	"tallywood/storage/driver"
)

var (
	simSeeds = flag.Int("sim.seeds", simDefault, "number of worlds TestSimulator runs")
	simFirst = flag.Uint64("sim.first", 1, "seed of the first of them")
	simSteps = flag.Int("sim.steps", 400, "records committed in each of them before its faults end")
)

const (
	simLimit = 10 * time.Minute // virtual time until the faults end in any case
	simLate  = 65 * time.Second // virtual time after which no late request is on its way any more
	simHeal  = 2 * time.Minute  // virtual time within which a log without faults must take entries
)

// TestSimulator runs the real driver, several replicas of it, in worlds where everything goes wrong
// that may: a virtual store answers late, twice or never, processes are killed, stop for longer than
// a takeover and a garbage collection and go on, or take each other for dead, witnesses are silent.
// A seed determines a world, so that a failure can be repeated by the command it prints. The long
// run is a million committed records, in about half an hour:
//
//	go test ./storage/driver -run '^TestSimulator$' -timeout 4h -v -sim.seeds 2500 -sim.first 1000
func TestSimulator(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1)) // goroutines take turns, the same ones each time
	defer debug.SetGCPercent(debug.SetGCPercent(400))
	klog.SetSlogLogger(slog.New(slog.DiscardHandler))
	defer driver.SetJitter(func(d time.Duration) time.Duration {
		return time.Duration(rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 0)).Int64N(int64(d)))
	})()
	var sum simResult
	for seed := *simFirst; seed < *simFirst+uint64(*simSeeds); seed++ {
		r := simulate(t, seed)
		if t.Failed() {
			t.Fatalf("repeat this by: go test ./storage/driver -run '^TestSimulator$' -sim.first %d -sim.seeds 1 -sim.steps %d", seed, *simSteps)
		}
		sum.records += r.records
		sum.leaderships += r.leaderships
		sum.ghosts += r.ghosts
		sum.acks += r.acks
		sum.rolledBack += r.rolledBack
	}
	t.Logf("%d seeds: %+v", *simSeeds, sum)
}

// A simResult counts what happened.
type simResult struct{ records, leaderships, ghosts, acks, rolledBack int }

// simulate runs the world of one seed.
func simulate(t *testing.T, seed uint64) (result simResult) {
	bubble.Test(t, func(t *testing.T) {
		w := newWorld(t, seed)
		began := time.Now()
		w.live()
		if v := w.violation.Load(); v != nil {
			// Now, since a world that was broken off may not end well.
			fmt.Printf("--- seed %d: violation: %s\n%s", seed, *v, w.report(began))
			t.Fail()
		}
		for _, p := range w.up() {
			p.kill()
		}
		w.adding.Wait()
		w.running.Wait()
		f := w.referee
		result.records, result.leaderships, result.ghosts = len(f.Slots), len(f.Writers), f.Ghosts
		result.acks = w.acks
		if f.RolledBack {
			result.rolledBack = 1
		}
	})
	return result
}

// live is the history of a world: trouble, peace, rest, and for some the resurrection of an older
// store.
func (w *world) live() {
	r := rand.New(rand.NewPCG(w.seed, 1))
	for _, h := range w.hosts {
		w.start(h)
	}
	ctx, cancel := context.WithTimeout(context.Background(), simLimit)
	for i := range 3 {
		w.adding.Go(func() { w.client(ctx, rand.New(rand.NewPCG(w.seed, uint64(10+i)))) })
	}
	w.adding.Go(func() { w.trouble(ctx, rand.New(rand.NewPCG(w.seed, 2))) })
	older := w.watch(ctx, *simSteps/10+r.IntN(*simSteps))
	w.calm.Store(true)
	cancel()
	w.heal()
	w.peace()
	w.rest()
	if older != nil && len(w.witnesses) > 0 && r.IntN(3) == 0 && w.violation.Load() == nil {
		w.resurrect(older, r.IntN(2) == 0)
	}
}

// watch looks on until enough records are committed, or time is up. It returns a copy of the store
// as it was once, when it was keep records old.
func (w *world) watch(ctx context.Context, keep int) (older map[string]simObject) {
	for ctx.Err() == nil && w.violation.Load() == nil {
		time.Sleep(50 * time.Millisecond)
		for _, p := range w.up() {
			p.lookAt()
		}
		w.mu.Lock()
		slots := len(w.referee.Slots)
		if slots >= keep && older == nil && w.referee.Published.N > 0 {
			older = maps.Clone(w.store.objects)
		}
		w.mu.Unlock()
		if slots >= *simSteps {
			break
		}
	}
	return older
}

// lookAt checks that what the process shows does not shrink.
func (p *process) lookAt() {
	p.w.mu.Lock()
	replica := p.replica
	p.w.mu.Unlock()
	if replica == nil {
		return
	}
	if shown, ok := replica.Published(); ok {
		if shown.Size < p.shown {
			p.w.fail("%s showed size %d after size %d", p.name, shown.Size, p.shown)
		}
		p.shown = shown.Size
	}
}

// up returns the processes that run.
func (w *world) up() []*process {
	w.mu.Lock()
	defer w.mu.Unlock()
	var up []*process
	for _, h := range w.hosts {
		if h.p != nil {
			up = append(up, h.p)
		}
	}
	return up
}

// taker returns a process that takes entries, as one that stopped may do beside another.
func (w *world) taker(r *rand.Rand) *process {
	var takers []*process
	for _, p := range w.up() {
		w.mu.Lock()
		replica := p.replica
		w.mu.Unlock()
		if replica != nil && driver.Takes(replica) {
			takers = append(takers, p)
		}
	}
	if len(takers) == 0 {
		return nil
	}
	return takers[r.IntN(len(takers))]
}

// client adds entries until ctx ends, some at a time, and never waits for long.
func (w *world) client(ctx context.Context, r *rand.Rand) {
	room := make(chan struct{}, 8)
	for ctx.Err() == nil && w.violation.Load() == nil {
		time.Sleep(w.travel(r))
		p := w.taker(r)
		if p == nil || time.Now().Before(w.busy()) {
			time.Sleep(50 * time.Millisecond)
			continue
		}
		select {
		case room <- struct{}{}:
		case <-time.After(time.Second):
			continue
		}
		n, id := 1+r.IntN(w.burst), r.Uint64()
		prove := r.IntN(20) == 0
		w.adding.Go(func() {
			w.add(p, n, id, prove)
			<-room
		})
	}
}

// busy returns when clients have something to add again.
func (w *world) busy() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.lull
}

// add adds n entries to p, and reports whether all were acknowledged, and published with a quorum.
// What is acknowledged the referee judges.
func (w *world) add(p *process, n int, id uint64, prove bool) bool {
	ctx := context.Background()
	futures := make([]tessera.IndexFuture, n)
	for i := range futures {
		futures[i] = p.replica.Add(ctx, tessera.NewEntry(fmt.Appendf(nil, "%x %d", id, i)))
	}
	last := int64(-1)
	all := true
	for i, f := range futures {
		index, err := f()
		if err != nil {
			all = false
			continue
		}
		last = int64(index.Index)
		w.mu.Lock()
		w.acks++
		w.referee.Acked(p.name, last, fmt.Sprintf("%x %d", id, i))
		w.mu.Unlock()
	}
	if last < 0 || w.violation.Load() != nil {
		return false
	}
	pub, err := p.replica.Await(ctx, last+1)
	if err != nil {
		return false
	}
	w.mu.Lock()
	w.referee.Cosigned(p.name, pub.Note)
	leaf := tlog.RecordHash([]byte(w.referee.Entries[last]))
	w.mu.Unlock()
	if pub.Size <= last {
		w.fail("%s acknowledged index %d by a checkpoint of size %d", p.name, last, pub.Size)
	}
	if prove {
		hashes, err := p.replica.InclusionProof(ctx, last, pub.Size)
		if err != nil {
			p.judge(err)
		} else if err := tlog.CheckRecord(proofOf(hashes), pub.Size, pub.Root, last, leaf); err != nil {
			w.fail("%s proved entry %d of %d: %v", p.name, last, pub.Size, err)
		}
	}
	return all
}

// trouble makes things go wrong until ctx ends: for as long as one host is spared.
func (w *world) trouble(ctx context.Context, r *rand.Rand) {
	for w.violation.Load() == nil {
		select {
		case <-time.After(between(r, 50*time.Millisecond, 3*time.Second)):
		case <-ctx.Done():
			return
		}
		h := w.hosts[r.IntN(len(w.hosts))]
		if p := w.taker(r); p != nil && r.IntN(2) == 0 {
			h = p.host
		}
		if len(w.witnesses) > 0 && r.IntN(6) == 0 {
			w.mu.Lock()
			w.witnesses[r.IntN(3)].silent = time.Now().Add(between(r, 500*time.Millisecond, 20*time.Second))
			w.mu.Unlock()
		}
		if w.spares(h) {
			w.hit(h, r)
		}
	}
}

// spares reports whether another host than h is well.
func (w *world) spares(h *host) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	for _, o := range w.hosts {
		if o != h && o.p != nil && now.After(o.p.until) && now.After(o.p.cut) {
			return true
		}
	}
	return false
}

// hit makes something go wrong on h.
func (w *world) hit(h *host, r *rand.Rand) {
	w.mu.Lock()
	p := h.p
	w.mu.Unlock()
	d := between(r, 200*time.Millisecond, 30*time.Second)
	until := time.Now().Add(d)
	if p == nil {
		w.start(h)
		return
	}
	set := func(at *time.Time) {
		w.mu.Lock()
		defer w.mu.Unlock()
		*at = until
	}
	switch r.IntN(9) {
	case 0, 1:
		p.kill()
		if r.IntN(2) == 0 {
			w.start(h) // at once, and on the same address
		}
	case 2, 3:
		p.stop(d)
	case 4, 5, 6:
		// Others will take it for dead, if nothing is added either until they do.
		if p := w.taker(r); p != nil {
			h = p.host
		}
		until = time.Now().Add(10 * time.Second)
		set(&h.deaf)
		until = time.Now().Add(time.Second + time.Duration((1+3*r.Float64())*float64(w.options.SuspectAfter)))
		set(&w.lull)
	case 7:
		set(&p.cut)
		set(&h.alone)
	case 8:
		w.adding.Go(p.leave)
	}
}

// heal ends all trouble, but for requests that are still on the way.
func (w *world) heal() {
	w.mu.Lock()
	now := time.Now()
	for _, h := range w.hosts {
		h.deaf, h.alone = now, now
		if h.p != nil {
			h.p.cut = now
		}
	}
	for _, v := range w.witnesses {
		v.silent = now
	}
	w.mu.Unlock()
	w.adding.Wait() // those who leave have left
	for _, h := range w.hosts {
		if h.p == nil {
			w.start(h)
		}
	}
}

// peace checks that entries are taken again, and goes on until the last late request has landed.
func (w *world) peace() {
	r := rand.New(rand.NewPCG(w.seed, 3))
	began, done := time.Now(), 0
	for w.violation.Load() == nil && (done < 3 || time.Since(began) < simLate) {
		if p := w.taker(r); p != nil && w.add(p, 1, r.Uint64(), true) {
			done++
		}
		if done < 3 && time.Since(began) > simHeal {
			w.fail("%d adds were acknowledged in %v without trouble", done, simHeal)
		}
		time.Sleep(2 * time.Second)
	}
	leading := 0
	for _, p := range w.up() {
		if p.replica != nil {
			if _, leads, _ := p.replica.Term(); leads {
				leading++
			}
		}
	}
	if leading != 1 {
		w.fail("%d processes lead after %v without trouble", leading, simLate)
	}
}

// rest stops all processes in good order and looks at what they leave.
func (w *world) rest() {
	if w.violation.Load() != nil {
		return
	}
	for _, p := range w.up() {
		p.leave()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.referee.End()
}

// resurrect brings back an older copy of the store, or of its state alone, and starts the processes
// again: all must refuse, since the witnesses remember.
func (w *world) resurrect(older map[string]simObject, stateOnly bool) {
	w.mu.Lock()
	objects := maps.Clone(older)
	for key, o := range w.store.objects {
		if stateOnly && key[:5] == "logs/" {
			objects[key] = o
		}
	}
	w.store.objects = objects
	w.era.Add(1)
	w.referee.RolledBack = true
	w.refusals = 0
	w.note("", "rolled back", "", "")
	w.mu.Unlock()
	for _, h := range w.hosts {
		w.start(h)
	}
	time.Sleep(simHeal)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.refusals < len(w.hosts) {
		w.fail("only %d of %d processes refused a store that was rolled back", w.refusals, len(w.hosts))
	}
}
