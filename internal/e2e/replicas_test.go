package e2e_test

import (
	"flag"
	"math/rand/v2"
	"testing"
	"time"
)

var eventCount = flag.Int("events", 10, "how many events befall the leader in the test with replicas")

// TestWhateverBefallsTheLeaderReplicasGoOn runs three replicas on one S3 bucket under load, and
// kills, stops and cuts off whichever of them leads. Adds succeed again soon, and what any of them
// ever answered holds for ever.
func TestWhateverBefallsTheLeaderReplicasGoOn(t *testing.T) {
	seed := pickSeed()
	t.Logf("to repeat the events: -seed %d -events %d", seed, *eventCount)
	r := rand.New(rand.NewPCG(seed, 0))
	c := newCluster(t, seed)
	stops := []func(){
		c.load(replicaAdders, c.addSomewhere), c.certs.load(certificateAdders, c.certifySomewhere),
		c.watch(c.places("/checkpoint", clusterOrigin)...), c.certs.watch(c.places("/ct/checkpoint", certificateOrigin)...),
		c.watchBucket(c.bucket, "signatures", func(int64, string) error { return nil }),
		c.certs.watchBucket(c.bucket, "certificates", c.certs.sawHead),
	}
	f := figures{}
	var turn []int // kinds in the order in which they come, each as often as the others
	for n := range *eventCount {
		if len(turn) == 0 {
			turn = r.Perm(len(mishaps))
		}
		c.calm(t)
		time.Sleep(time.Duration(r.Float64() * float64(time.Second)))
		leader := c.calm(t)
		if t.Failed() {
			break
		}
		e := mishaps[turn[0]]
		turn = turn[1:]
		m := e.run(t, c, leader)
		f[e.name] = append(f[e.name], m)
		t.Logf("%d: %s (%s): adds again after %.2f s, by all live ones after %.2f s, back after %.2f s; %d receipts by now",
			n+1, e.name, leader.name, m.first.Seconds(), m.all.Seconds(), m.back.Seconds(), c.count())
		c.reportWrong(t)
		if c.certs.reportWrong(t); t.Failed() {
			break
		}
	}
	c.calm(t)
	for _, stop := range stops {
		stop()
	}
	size := c.verify(t, c.replicas[0].url)
	c.certs.verify(t, c.replicas[1].url+"/ct")
	t.Logf("what was promised in %d receipts holds in a tree of size %d\n%s", c.count(), size, f)
	if c.count() < 5**eventCount {
		t.Errorf("only %d receipts were given", c.count())
	}
}
