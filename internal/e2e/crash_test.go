package e2e_test

import (
	"cmp"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"tallywood/internal/loopback"
	"tallywood/witness/policy"
)

var (
	kills = flag.Int("kills", 8, "how often the crash test kills the stack")
	seed  = flag.Uint64("seed", 0, "seed of the random moments of the tests that kill; 0 takes one from the clock")
)

// The adders of the crash test, all at once.
const crashAdders = 200

// TestKilledAtRandomMomentsTheLogKeepsItsWord kills the whole stack again and again while it
// starts and while it is loaded. What it ever answered must hold for ever.
func TestKilledAtRandomMomentsTheLogKeepsItsWord(t *testing.T) {
	seed := pickSeed()
	t.Logf("to repeat the random moments: -seed %d -kills %d", seed, *kills)
	c := newCrash(t, seed)
	began := time.Now()
	s := c.start(t, 0)
	startup := time.Since(began)
	stopLoad := c.load(crashAdders, c.addOne)
	stopWatch := c.watch(c.places()...)
	for n := range *kills {
		time.Sleep(50*time.Millisecond + time.Duration(c.rand.Float64()*float64(time.Second)))
		s.kill()
		early := ""
		if n%3 == 1 { // one in three dies again while it starts
			c.killStarting(t, n, time.Duration(c.rand.Float64()*1.2*float64(startup)))
			early = "; once more while it started"
		}
		s = c.start(t, n+1)
		size := c.verify(t, c.base)
		t.Logf("kill %d%s: what was promised holds in a tree of size %d; %d receipts by now", n+1, early, size, c.count())
		if t.Failed() {
			break
		}
	}
	if !t.Failed() { // on a slow machine there are few while it lives
		eventually(t, "200 receipts", func() bool { return c.count() >= 200 })
	}
	stopLoad()
	stopWatch()
	c.verify(t, c.base)
	c.settled(t, s)
}

func pickSeed() uint64 {
	return cmp.Or(*seed, uint64(time.Now().UnixNano()))
}

// A crash is a stack that is killed, and what the world remembers of it.
type crash struct {
	*memory
	data, address, base string
	rand                *rand.Rand
	pace                time.Duration // between two adds of an adder: bounds the tree of a long run
}

func newCrash(t *testing.T, seed uint64) *crash {
	t.Helper()
	address := loopback.Address(t)
	return &crash{memory: newMemory(t, seed), data: filepath.Join(t.TempDir(), "data"), address: address, base: "http://" + address,
		rand: rand.New(rand.NewPCG(seed, 0)), pace: time.Duration(*kills) * 10 * time.Millisecond}
}

// args are those of the n-th start: by turns the two commands that run the same stack.
func (c *crash) args(n int) []string {
	if n%2 == 1 {
		return []string{"tallywood", "serve", "--config", filepath.Join(c.data, "config.yaml")}
	}
	return []string{"tallywood", "up", "--data", c.data, "--address", c.address}
}

// places are where checkpoints of the stack can be seen: the log and its witnesses.
func (c *crash) places() []string {
	origin := fmt.Sprintf("%x", sha256.Sum256([]byte("log.localhost")))
	places := []string{c.base + "/checkpoint", c.base + "/logs/signatures/checkpoint"}
	for n := 1; n <= 3; n++ {
		places = append(places, fmt.Sprintf("%s/witness/%d/%s/checkpoint", c.base, n, origin))
	}
	return places
}

// start starts the stack and waits until clients may begin.
func (c *crash) start(t *testing.T, n int) *stack {
	t.Helper()
	p := start(t, 0, c.args(n)...)
	s := readStack(t, &process{cmd: p.cmd, stderr: p.stderr, lines: append(p.lines, "", ""), exited: p.exited, err: p.err}, c.data)
	s.process = p
	if c.policy == nil {
		var err error
		if c.policy, err = policy.Parse([]byte(readFile(t, s.client, "policy.txt"))); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// killStarting starts the stack and kills it after a while.
func (c *crash) killStarting(t *testing.T, n int, after time.Duration) {
	t.Helper()
	args := c.args(n)
	cmd := exec.Command(filepath.Join(bin, args[0]), args[1:]...)
	out := &lockedBuffer{}
	cmd.Stderr = out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(after)
	_ = cmd.Process.Kill() // if it has ended by itself, that is found here:
	var exit *exec.ExitError
	if err := cmd.Wait(); !errors.As(err, &exit) || exit.Exited() {
		t.Fatalf("a start after a kill ended by itself: %v\n%s", err, out)
	}
}
