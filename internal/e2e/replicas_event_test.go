package e2e_test

import (
	"fmt"
	"maps"
	"slices"
	"syscall"
	"testing"
	"time"
)

// A mishap is something that happens to the leader.
type mishap struct {
	name string
	// run makes it happen to r, and ends when all is whole again.
	run func(t *testing.T, c *cluster, r *replica) measured
}

// A measured event: how long after it the first and the last of the live replicas took an add, and
// how long after its end the replica it happened to did; 0: not measured.
type measured struct{ first, all, back time.Duration }

var mishaps = []mishap{
	{"kill -9", killed},
	{"kill -9, restarted at once", restarted},
	{"stopped and continued", stopped},
	{"cut off from the store, refusing", func(t *testing.T, c *cluster, r *replica) measured { return cutOff(t, c, r, r.cutStore, refusing) }},
	{"cut off from the store, silent", func(t *testing.T, c *cluster, r *replica) measured { return cutOff(t, c, r, r.cutStore, silent) }},
	{"cut off from the witnesses, refusing", func(t *testing.T, c *cluster, r *replica) measured {
		return cutOff(t, c, r, r.cutWitnesses, refusing)
	}},
	{"cut off from the witnesses, silent", func(t *testing.T, c *cluster, r *replica) measured { return cutOff(t, c, r, r.cutWitnesses, silent) }},
	{"SIGTERM", handedOver},
}

func killed(t *testing.T, c *cluster, r *replica) (m measured) {
	event := time.Now()
	r.process.kill()
	m.first, m.all = c.recover(t, event, c.others(r))
	r.start(t)
	return m
}

func restarted(t *testing.T, c *cluster, r *replica) (m measured) {
	event := time.Now()
	r.process.kill()
	again := make(chan error, 1)
	var p *process
	go func() {
		var err error
		p, err = tryStart(0, "tallywood", "serve", "--config", r.config)
		again <- err
	}()
	m.first, m.all = c.recover(t, event, c.others(r))
	if err := <-again; err != nil {
		t.Fatal(err)
	}
	r.process = p
	t.Cleanup(func() { p.stop(t) })
	_, m.back = c.recover(t, event, []*replica{r})
	return m
}

func stopped(t *testing.T, c *cluster, r *replica) (m measured) {
	was := r.led
	event := time.Now()
	r.signal(t, syscall.SIGSTOP)
	m.first, m.all = c.recover(t, event, c.others(r))
	time.Sleep(2 * time.Second) // others have gone on when it wakes
	event = time.Now()
	r.signal(t, syscall.SIGCONT)
	m.back = c.steppedDown(t, r, was, event)
	return m
}

// cutOff turns valves of r off for a while.
func cutOff(t *testing.T, c *cluster, r *replica, valves func(flow), f flow) (m measured) {
	was := r.led
	event := time.Now()
	valves(f)
	m.first, m.all = c.recover(t, event, c.others(r))
	time.Sleep(2 * time.Second)
	event = time.Now()
	valves(passing)
	m.back = c.steppedDown(t, r, was, event)
	return m
}

// steppedDown waits until r does not lead as it did, and then for an add by it.
func (c *cluster) steppedDown(t *testing.T, r *replica, was leadership, since time.Time) time.Duration {
	t.Helper()
	eventually(t, "end of the leadership of "+r.name, func() bool {
		r.running(t)
		l, err := c.probe(r)
		return err == nil && l.Writer != was.Writer
	})
	_, back := c.recover(t, since, []*replica{r})
	return back
}

func handedOver(t *testing.T, c *cluster, r *replica) (m measured) {
	for _, o := range c.others(r) {
		o.strict.Store(true)
	}
	event := time.Now()
	r.leaving.Store(true)
	r.signal(t, syscall.SIGTERM)
	m.first, m.all = c.recover(t, event, c.others(r))
	select {
	case <-r.process.exited:
		if r.process.err != nil {
			t.Fatalf("%s ended with %v after SIGTERM\n%s", r.name, r.process.err, last(r.process.stderr.String(), 30))
		}
	case <-time.After(patience):
		t.Fatalf("%s did not end after SIGTERM", r.name)
	}
	m.back = time.Since(event) // here: until it had ended
	time.Sleep(time.Second)
	for _, o := range c.others(r) {
		o.strict.Store(false)
	}
	r.start(t)
	return m
}

// figures are what was measured of the mishaps of each name.
type figures map[string][]measured

func (f figures) String() string {
	b := fmt.Sprintf("%-38s %3s  %13s  %13s  %13s\n", "seconds: median, most", "n", "first add", "by all live", "back")
	var every []measured
	for _, name := range slices.Sorted(maps.Keys(f)) {
		b += line(name, f[name])
		every = append(every, f[name]...)
	}
	return b + line("all", every)
}

func line(name string, ms []measured) string {
	return fmt.Sprintf("%-38s %3d  %s  %s  %s\n", name, len(ms),
		spread(ms, func(m measured) time.Duration { return m.first }),
		spread(ms, func(m measured) time.Duration { return m.all }),
		spread(ms, func(m measured) time.Duration { return m.back }))
}

func spread(ms []measured, of func(measured) time.Duration) string {
	var ds []time.Duration
	for _, m := range ms {
		if d := of(m); d > 0 {
			ds = append(ds, d)
		}
	}
	if len(ds) == 0 {
		return fmt.Sprintf("%13s", "-")
	}
	slices.Sort(ds)
	return fmt.Sprintf("%6.2f %6.2f", ds[len(ds)/2].Seconds(), ds[len(ds)-1].Seconds())
}
