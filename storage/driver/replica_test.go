package driver_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/transparency-dev/tessera"

	"tallywood/internal/bubble"
	"tallywood/storage"
	"tallywood/storage/driver"
	"tallywood/storage/mem"
)

// A network joins replicas by their URLs.
type network struct {
	mu       sync.Mutex
	replicas map[string]*driver.Replica
	down     map[string]bool
}

func (n *network) probe(ctx context.Context, url string, ready bool) (driver.Alive, error) {
	n.mu.Lock()
	r, down := n.replicas[url], n.down[url]
	n.mu.Unlock()
	if r == nil || down {
		return driver.Alive{}, errors.New("connection refused")
	}
	return r.Alive(ready), nil
}

func (n *network) setDown(url string, down bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.down[url] = down
}

// A member is a replica that runs.
type member struct {
	*driver.Replica
	url  string
	stop func() error
}

// join starts a replica on b.
func (n *network) join(t *testing.T, b storage.Bucket, url string) *member {
	t.Helper()
	return n.joinWith(t, options(t, b), url)
}

// joinWith is join with other options.
func (n *network) joinWith(t *testing.T, o driver.Options, url string) *member {
	t.Helper()
	o.URL, o.Probe = url, n.probe
	r, err := driver.OpenReplica(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	n.mu.Lock()
	n.replicas[url] = r
	n.mu.Unlock()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	m := &member{Replica: r, url: url, stop: sync.OnceValue(func() error {
		cancel()
		return <-done
	})}
	t.Cleanup(func() { m.stop() })
	return m
}

func newNetwork() *network {
	return &network{replicas: map[string]*driver.Replica{}, down: map[string]bool{}}
}

// leading waits until one of the members leads and returns it.
func leading(t *testing.T, members ...*member) *member {
	t.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		for _, m := range members {
			if driver.Takes(m.Replica) {
				return m
			}
		}
	}
	t.Fatal("nobody leads after a minute")
	return nil
}

// addTo adds entries i with from ≤ i < to to the replica that leads.
func addTo(t *testing.T, m *member, from, to int64) {
	t.Helper()
	var futures []tessera.IndexFuture
	for i := from; i < to; i++ {
		futures = append(futures, m.Add(t.Context(), tessera.NewEntry(data(i))))
	}
	for i, f := range futures {
		if index, err := f(); err != nil || int64(index.Index) != from+int64(i) {
			t.Fatalf("adding entry %d to %s: index %d, %v", from+int64(i), m.url, index.Index, err)
		}
	}
	if _, err := m.Await(t.Context(), to); err != nil {
		t.Fatal(err)
	}
}

// TestReplicasLeadOneAfterTheOther hands the log over until no replica is left. However many see the
// same reason to lead, one does: nobody takes the log from one that has just taken it.
func TestReplicasLeadOneAfterTheOther(t *testing.T) {
	for range 10 {
		bubble.Test(t, handovers)
	}
}

func handovers(t *testing.T) {
	b, n := mem.New(), newNetwork()
	members := []*member{n.join(t, b, "a"), n.join(t, b, "b"), n.join(t, b, "c")}
	size := int64(0)
	for len(members) > 0 {
		m := leading(t, members...)
		addTo(t, m, size, size+100)
		size += 100
		time.Sleep(5 * time.Second)
		for _, o := range members {
			if o != m && driver.Takes(o.Replica) {
				t.Errorf("%s and %s lead", m.url, o.url)
			}
			if leader, err := o.Leader(); err != nil || leader.URL != m.url {
				t.Errorf("%s takes %q for the leader (%v), not %s", o.url, leader.URL, err, m.url)
			}
			if p, ok := o.Published(); !ok || p.Size != size {
				t.Errorf("%s shows size %d, not %d", o.url, p.Size, size)
			}
		}
		begun := time.Now()
		if err := m.stop(); err != nil {
			t.Errorf("stopping %s: %v", m.url, err)
		}
		for i, o := range members {
			if o == m {
				members = append(members[:i:i], members[i+1:]...)
				break
			}
		}
		if len(members) > 0 {
			leading(t, members...)
			if d := time.Since(begun); d > time.Second {
				t.Errorf("the handover took %v", d)
			}
		}
	}
	checkLog(t, options(t, b), size)
	leaders := 0
	for key, data := range dump(t, b) {
		if strings.HasPrefix(key, "state/test/log/") && parseRecord(t, data).Type == "LEADER" {
			leaders++
		}
	}
	if leaders != 3 {
		t.Errorf("%d leaderships of three replicas", leaders)
	}
}

// TestReplicaTakesOverFromASilentLeader cuts the leader off from the other replica and from the
// store, and lets it come back.
func TestReplicaTakesOverFromASilentLeader(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		b, n := mem.New(), newNetwork()
		cut := &cutBucket{Bucket: b}
		first := n.join(t, cut, "a")
		leading(t, first)
		addTo(t, first, 0, 10)
		second := n.join(t, b, "b")
		time.Sleep(10 * time.Second)
		if driver.Takes(second.Replica) {
			t.Fatal("a standby leads beside a leader that lives")
		}
		cut.set(true)
		pending := first.Add(t.Context(), tessera.NewEntry(data(10)))
		begun := time.Now()
		leading(t, second)
		if d := time.Since(begun); d > 5*time.Second {
			t.Errorf("taking over from a leader without store took %v", d)
		}
		addTo(t, second, 10, 20)
		cut.set(false)
		if _, err := pending(); !errors.Is(err, driver.ErrNotLeading) {
			t.Errorf("the add that was under way: %v", err)
		}
		time.Sleep(20 * time.Second)
		if driver.Takes(first.Replica) {
			t.Error("the old leader leads again beside the new one")
		}
		n.setDown("b", true)
		second.stop()
		addTo(t, leading(t, first), 20, 30)
		first.stop()
		checkLog(t, options(t, b), 30)
	})
}

// TestWhoIsToldToEndEndsWell has a process learn that another leads only when it has been told to end.
func TestWhoIsToldToEndEndsWell(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		b, n := mem.New(), newNetwork()
		cut := &cutBucket{Bucket: b}
		first := n.join(t, cut, "a")
		addTo(t, leading(t, first), 0, 5)
		second := n.join(t, b, "b")
		time.Sleep(5 * time.Second)
		cut.set(true)
		pending := first.Add(t.Context(), tessera.NewEntry(data(5)))
		addTo(t, leading(t, second), 5, 10)
		ended := make(chan error, 1)
		go func() { ended <- first.stop() }()
		time.Sleep(100 * time.Millisecond)
		cut.set(false)
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
		if _, err := pending(); !errors.Is(err, driver.ErrNotLeading) {
			t.Errorf("the add that was under way: %v", err)
		}
	})
}

// TestStandbyShowsNoFork puts another tree of the same size, signed with the log's key, before a standby.
func TestStandbyShowsNoFork(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		const size = 5
		other, forks := mem.New(), newNetwork()
		fork := forks.join(t, other, "f")
		leading(t, fork)
		for i := range int64(size) {
			if index, err := fork.Add(t.Context(), tessera.NewEntry(data(size+i)))(); err != nil || int64(index.Index) != i {
				t.Fatalf("adding entry %d to the fork: index %d, %v", i, index.Index, err)
			}
		}
		if _, err := fork.Await(t.Context(), size); err != nil {
			t.Fatal(err)
		}
		fork.stop()

		b, n := mem.New(), newNetwork()
		first := n.join(t, b, "a")
		addTo(t, leading(t, first), 0, size)
		second := n.join(t, b, "b")
		time.Sleep(10 * time.Second)
		before, ok := second.Published()
		if !ok || before.Size != size {
			t.Fatalf("the standby shows size %d, %v", before.Size, ok)
		}
		for key, err := range other.List(t.Context(), "logs/") {
			if err != nil {
				t.Fatal(err)
			}
			put(t, b, key, get(t, other, key))
		}
		time.Sleep(3 * time.Second)
		if p, _ := second.Published(); p.Size != size || p.Root != before.Root {
			t.Errorf("the standby shows size %d, root %x, after size %d, root %x", p.Size, p.Root, size, before.Root)
		}
		second.stop()
		first.stop()
	})
}

// TestFindLeaderForWhoWaits has a client leave while a replica that has ended looks for the leader: those
// that come after it are told who leads.
func TestFindLeaderForWhoWaits(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		b, n := mem.New(), newNetwork()
		first := n.join(t, b, "a")
		leading(t, first)
		first.stop()
		second := n.join(t, b, "b")
		leading(t, second)
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		if leader, err := first.FindLeader(gone); !errors.Is(err, context.Canceled) {
			t.Errorf("who has left is told of %+v, %v", leader, err)
		}
		for range 2 { // looked for, and remembered
			if leader, err := first.FindLeader(t.Context()); err != nil || leader.URL != "b" {
				t.Errorf("found %+v, %v; want that b leads", leader, err)
			}
		}
		second.stop()
		time.Sleep(time.Second)
		if leader, err := first.FindLeader(t.Context()); err == nil {
			t.Errorf("found %+v when all have left", leader)
		}
	})
}

// cutBucket is a bucket that can be out of reach.
type cutBucket struct {
	storage.Bucket
	mu  sync.Mutex
	cut bool
}

func (c *cutBucket) set(cut bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cut = cut
}

func (c *cutBucket) err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cut {
		return fmt.Errorf("no route to host")
	}
	return nil
}

func (c *cutBucket) Get(ctx context.Context, key string, r storage.Range) ([]byte, storage.Version, error) {
	if err := c.err(); err != nil {
		return nil, "", err
	}
	return c.Bucket.Get(ctx, key, r)
}

func (c *cutBucket) Put(ctx context.Context, key string, data []byte, o storage.PutOptions) (storage.Version, error) {
	if err := c.err(); err != nil {
		return "", err
	}
	return c.Bucket.Put(ctx, key, data, o)
}
