package e2e_test

import (
	"context"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"tallywood/log/verify"
	"tallywood/witness/policy"
)

var networkFigures = flag.Bool("network-figures", false, "print how long adds take by the number of witnesses alive")

const (
	networkOrigin  = "log.example.org"
	networkToken   = "s3cret-token"
	networkTimeout = 4 * time.Second // quorum_timeout
	networkExcused = 2               // adds that may be refused all the same: a machine may stand still for longer
	witnessPort    = ":7380"
)

// A networkWitness is a witness on a host of its own, behind a proxy there.
type networkWitness struct {
	*process
	name string
	host *testHost
	link roughProxy
	args []string

	dead, unplugged, mute bool
}

func (w *networkWitness) start(t *testing.T) {
	t.Helper()
	w.process, w.dead = startIn(t, w.host.name, w.args...), false
}

// reachable reports whether the log gets answers of it.
func (w *networkWitness) reachable() bool { return !w.dead && !w.unplugged && !w.mute }

// A witnessNetwork is a log in the hub of a test network and five witnesses on hosts. Two of the first
// three and any of the others must cosign.
type witnessNetwork struct {
	*process
	dir       string
	client    *http.Client
	url       string
	policy    *policy.Policy
	witnesses []*networkWitness
	watch     watcher
	entries   int
	refused   int // although the policy could be met
}

func newWitnessNetwork(t *testing.T) *witnessNetwork {
	t.Helper()
	n := &witnessNetwork{dir: t.TempDir()}
	network := newTestNetwork(t, 5)
	vkey := generateKey(t, n.dir, "log.pem", networkOrigin)
	logs := writeFile(t, n.dir, "logs.txt", "logs/v0\n\nvkey "+vkey+"\nqpd 2147483647\ncontact ops@example.org\n")
	text := "log " + vkey + "\n"
	for i, h := range network.hosts {
		w := &networkWitness{name: fmt.Sprintf("w%d", i+1), host: h}
		home := filepath.Join(n.dir, w.name)
		vkey, _, _ := strings.Cut(must(t, n.dir, "tallywood-witness", "init", "--dir", home, "--name", w.name+".example.org"), "\n")
		text += fmt.Sprintf("witness %s %s http://%s%s\n", w.name, vkey, h.address, witnessPort)
		w.args = []string{"tallywood-witness", "serve", "--dir", home, "--listen", "127.0.0.1" + witnessPort, "--logs", logs}
		w.start(t)
		w.link.start(t, listenIn(t, h.name, h.address+witnessPort), "127.0.0.1"+witnessPort, dialIn(h.name))
		n.witnesses = append(n.witnesses, w)
	}
	text += "group north 2 w1 w2 w3\ngroup south any w4 w5\ngroup both all north south\nquorum both\n"
	var err error
	if n.policy, err = policy.Parse([]byte(text)); err != nil {
		t.Fatal(err)
	}
	writeFile(t, n.dir, "policy.txt", text)
	if err := os.WriteFile(filepath.Join(n.dir, "add.token"), []byte(networkToken+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	config := writeFile(t, n.dir, "config.yaml", "address: 127.0.0.1:0\nstorage: file:./objects\nlogs:\n"+
		"  - {name: net, kind: tlog, origin: "+networkOrigin+", key: file:log.pem, policy: policy.txt, add_token: file:add.token, quorum_timeout: "+networkTimeout.String()+"}\n")
	n.process = startIn(t, network.hub, "tallywood", "serve", "--config", config)
	n.url = strings.TrimPrefix(n.lines[0], "ready ") + "/logs/net"
	transport := &http.Transport{DialContext: dialIn(network.hub), MaxIdleConnsPerHost: 8}
	n.client = &http.Client{Transport: transport, Timeout: time.Minute}
	t.Cleanup(transport.CloseIdleConnections)
	n.watch.policy = n.policy
	return n
}

// canMeet reports whether the witnesses that answer meet the policy.
func (n *witnessNetwork) canMeet() bool {
	return n.policy.Satisfied(func(name string) bool {
		return slices.ContainsFunc(n.witnesses, func(w *networkWitness) bool { return w.name == name && w.reachable() })
	})
}

// state describes the network.
func (n *witnessNetwork) state() string {
	var down []string
	for _, w := range n.witnesses {
		for what, is := range map[string]bool{"dead": w.dead, "unplugged": w.unplugged, "mute": w.mute} {
			if is {
				down = append(down, w.name+" "+what)
			}
		}
	}
	if down == nil {
		return "all witnesses answer"
	}
	slices.Sort(down)
	return strings.Join(down, ", ")
}

// add posts an entry, and verifies a receipt.
func (n *witnessNetwork) add(entry string) (status int, text string, err error) {
	r, err := http.NewRequest(http.MethodPost, n.url+"/add", strings.NewReader(entry))
	if err != nil {
		return 0, "", err
	}
	r.Header.Set("Authorization", "Bearer "+networkToken)
	resp, err := n.client.Do(r)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, "", err
	}
	switch resp.StatusCode {
	case http.StatusCreated:
		if _, err := verify.Proof(body, strings.NewReader(entry), n.policy); err != nil {
			return 0, "", fmt.Errorf("a receipt that does not verify: %w\n%s", err, body)
		}
	case http.StatusServiceUnavailable:
		if resp.Header.Get("Retry-After") == "" {
			return 0, "", fmt.Errorf("503 without Retry-After: %s", body)
		}
	default:
		return 0, "", fmt.Errorf("status %d: %s", resp.StatusCode, body)
	}
	return resp.StatusCode, string(body), nil
}

// addNew is add of an entry that was not added before.
func (n *witnessNetwork) addNew(t *testing.T) (status int, text string) {
	t.Helper()
	n.entries++
	status, text, err := n.add(fmt.Sprint("entry ", n.entries))
	if err != nil {
		t.Fatalf("%s: %v", n.state(), err)
	}
	return status, text
}

// goesOn wants adds to be answered, each of them if the policy could be met before, too; otherwise
// after a while in which the log notices. What is refused all the same is sent again, and counted.
func (n *witnessNetwork) goesOn(t *testing.T, before bool) {
	t.Helper()
	if !before {
		began := time.Now()
		eventually(t, "add with "+n.state(), func() bool { status, _ := n.addNew(t); return status == http.StatusCreated })
		t.Logf("%s: an add was answered %v after that", n.state(), time.Since(began).Round(time.Millisecond))
	}
	for range 10 {
		status, text := n.addNew(t)
		if status == http.StatusCreated {
			continue
		}
		n.refused++
		t.Logf("%s: status %d, although the policy can be met\n%s", n.state(), status, text)
		eventually(t, "answer to an add that is sent again with "+n.state(), func() bool {
			status, _, err := n.add(fmt.Sprint("entry ", n.entries))
			if err != nil {
				t.Fatalf("%s: %v", n.state(), err)
			}
			return status == http.StatusCreated
		})
	}
	if n.refused > networkExcused {
		t.Errorf("%d adds were refused, although the policy could be met", n.refused)
	}
}

// stops wants adds to be refused in time, and nothing published any more.
func (n *witnessNetwork) stops(t *testing.T) {
	t.Helper()
	began := time.Now()
	status, text := n.addNew(t)
	if took := time.Since(began); status != http.StatusServiceUnavailable || took > networkTimeout+30*time.Second {
		t.Errorf("%s: status %d after %v; want 503, for the policy cannot be met\n%s", n.state(), status, took, text)
	}
	// What was under way when the last witness went may still be published, with cosignatures of before: a
	// log that is behind refuses at once. What comes after that never is, however much is added.
	size := n.published(t)
	eventually(t, "end of what is published with "+n.state(), func() bool {
		time.Sleep(500 * time.Millisecond)
		before := size
		size = n.published(t)
		return size == before
	})
}

// check does what the state of the network calls for.
func (n *witnessNetwork) check(t *testing.T, before bool) {
	t.Helper()
	if n.canMeet() {
		n.goesOn(t, before)
	} else {
		n.stops(t)
	}
}

// load adds entries until ctx ends, whatever becomes of them, and verifies the receipts.
func (n *witnessNetwork) load(ctx context.Context, t *testing.T) {
	for i := 0; ctx.Err() == nil; i++ {
		if status, _, err := n.add(fmt.Sprint("load ", i)); err != nil {
			t.Error(err)
			return
		} else if status != http.StatusCreated {
			time.Sleep(50 * time.Millisecond)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// TestWitnessNetwork takes a log and five witnesses, each in a network namespace, through partitions,
// restarts, loss and delay.
func TestWitnessNetwork(t *testing.T) {
	n := newWitnessNetwork(t)
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { n.run(ctx, t) })
	running.Go(func() { n.load(ctx, t) })
	defer running.Wait()
	defer cancel()
	n.goesOn(t, false)
	for _, step := range networkSteps {
		before := n.canMeet()
		step(t, n.witnesses)
		n.check(t, before)
	}
	n.wander(t)
	n.rough(t)
	cancel()
	running.Wait()
	n.verdict(t)
	if *networkFigures {
		n.figures(t)
	}
}

// networkSteps are changes of the network. w[0] is w1.
var networkSteps = []func(t *testing.T, w []*networkWitness){
	func(t *testing.T, w []*networkWitness) { w[0].setPlugged(t, false) },
	func(t *testing.T, w []*networkWitness) { w[3].setPlugged(t, false) },
	func(t *testing.T, w []*networkWitness) { w[1].setPlugged(t, false) }, // two of the first three are away
	func(t *testing.T, w []*networkWitness) { w[1].setPlugged(t, true) },
	func(t *testing.T, w []*networkWitness) { w[4].setMute(t, true) }, // both of the others are
	func(t *testing.T, w []*networkWitness) { w[3].setPlugged(t, true) },
	func(t *testing.T, w []*networkWitness) { w[2].setDead(t, true) }, // two of the first three again
	func(t *testing.T, w []*networkWitness) { w[2].setDead(t, false) },
	func(t *testing.T, w []*networkWitness) {
		w[0].setPlugged(t, true)
		w[4].setMute(t, false)
	},
}

func (w *networkWitness) setPlugged(t *testing.T, plugged bool) {
	t.Helper()
	if w.unplugged = !plugged; plugged {
		w.host.plug(t)
	} else {
		w.host.unplug(t)
	}
}

func (w *networkWitness) setMute(t *testing.T, mute bool) {
	t.Helper()
	if w.mute = mute; mute {
		w.host.mute(t)
	} else {
		w.host.unmute(t)
	}
}

func (w *networkWitness) setDead(t *testing.T, dead bool) {
	t.Helper()
	if dead {
		w.kill()
		w.dead = true
		return
	}
	w.start(t)
}

// wander takes the network through states that chance chooses, and heals it.
func (n *witnessNetwork) wander(t *testing.T) {
	t.Helper()
	seed := rand.Uint64()
	t.Logf("the seed of the states is %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	for range 4 {
		before := n.canMeet()
		for _, i := range r.Perm(len(n.witnesses))[:2] {
			w := n.witnesses[i]
			switch {
			case w.dead:
				w.setDead(t, false)
			case w.unplugged:
				w.setPlugged(t, true)
			case w.mute:
				w.setMute(t, false)
			default:
				[]func(*testing.T, bool){w.setDead, w.setMute, func(t *testing.T, off bool) { w.setPlugged(t, !off) }}[r.IntN(3)](t, true)
			}
		}
		n.check(t, before)
	}
	n.heal(t)
}

func (n *witnessNetwork) heal(t *testing.T) {
	t.Helper()
	before := n.canMeet()
	for _, w := range n.witnesses {
		if w.dead {
			w.setDead(t, false)
		}
		if w.unplugged {
			w.setPlugged(t, true)
		}
		if w.mute {
			w.setMute(t, false)
		}
	}
	n.check(t, before)
}

// rough loses a tenth of what goes to witnesses, and delays the rest.
func (n *witnessNetwork) rough(t *testing.T) {
	t.Helper()
	for _, w := range n.witnesses {
		w.link.delay.Store(int64(30 * time.Millisecond))
		w.link.loss.Store(100)
	}
	const adds = 80
	slowest := time.Duration(0)
	for range adds / 10 {
		began := time.Now()
		n.goesOn(t, true)
		slowest = max(slowest, time.Since(began))
	}
	lost := int64(0)
	for _, w := range n.witnesses {
		lost += w.link.lost.Load()
		w.link.delay.Store(0)
		w.link.loss.Store(0)
	}
	if lost == 0 {
		t.Error("nothing was lost")
	}
	t.Logf("%d adds, with %d requests to witnesses lost; the slowest ten took %v", adds, lost, slowest.Round(time.Millisecond))
}
