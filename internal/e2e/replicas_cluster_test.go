package e2e_test

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"tallywood/internal/loopback"
	"tallywood/storage/storagetest"
	"tallywood/witness/policy"
)

// A replica is one of the processes that serve the log, and what stands between it and the world.
type replica struct {
	name, url, config string
	store             *valve
	witnesses         []*valve
	process           *process
	led               leadership // as it said when it was last found to lead

	// A request to the replica holds posting for reading, and a start after an orderly end for
	// writing: whoever was refused can see that nobody listens.
	posting sync.RWMutex
	strict  atomic.Bool // no request to it may fail now
	leaving atomic.Bool // it has been told to end
}

// A cluster is three replicas on one bucket, with witnesses of whom two of three must cosign.
type cluster struct {
	*memory
	replicas  []*replica
	witnesses []*witnessProcess
	bucket    string // the directory of the bucket's objects
	asking    *http.Client
	certs     *certificates // the log beside that of signatures
}

const clusterOrigin = "log.example.org"

func newCluster(t *testing.T, seed uint64) *cluster {
	t.Helper()
	t.Setenv("AWS_ACCESS_KEY_ID", storagetest.AccessKey)
	t.Setenv("AWS_SECRET_ACCESS_KEY", storagetest.SecretKey)
	dir := t.TempDir()
	data := filepath.Join(dir, "server")
	c := &cluster{memory: newMemory(t, seed), bucket: filepath.Join(data, "bucket"),
		asking: &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{}}}
	if err := os.MkdirAll(c.bucket, 0o755); err != nil {
		t.Fatal(err)
	}
	endpoint := storagetest.Versitygw(t, data)
	vkey := generateKey(t, dir, "log.pem", clusterOrigin)
	c.certs = newCertificates(t, dir, c.client)
	list := "logs/v0\n"
	for _, vkey := range []string{vkey, c.certs.vkey} {
		list += "\nvkey " + vkey + "\nqpd 8640000\ncontact ops@example.org\n"
	}
	logs := writeFile(t, dir, "logs.txt", list)
	for n := range 3 {
		c.witnesses = append(c.witnesses, newWitness(t, dir, fmt.Sprintf("w%d.example.org", n+1), logs))
	}
	var err error
	if c.policy, err = policy.Parse([]byte(c.policyText(vkey, func(n int) string { return c.witnesses[n].url }))); err != nil {
		t.Fatal(err)
	}
	c.certs.policy = c.policy
	for n := range 3 {
		c.replicas = append(c.replicas, c.newReplica(t, dir, n, endpoint, vkey))
	}
	for _, r := range c.replicas {
		r.start(t)
	}
	return c
}

// policyText is the policy with witnesses at the given URLs.
func (c *cluster) policyText(vkey string, url func(n int) string) string {
	text, group := "log "+vkey+"\nlog "+c.certs.vkey+"\n", "group two-of-three 2"
	for n, w := range c.witnesses {
		text += fmt.Sprintf("witness %s %s %s\n", w.name, w.vkey, url(n))
		group += " " + w.name
	}
	return text + group + "\nquorum two-of-three\n"
}

func (c *cluster) newReplica(t *testing.T, dir string, n int, endpoint, vkey string) *replica {
	t.Helper()
	address := loopback.Address(t)
	r := &replica{name: string(rune('a' + n)), url: "http://" + address, store: newValve(t, strings.TrimPrefix(endpoint, "http://"))}
	for _, w := range c.witnesses {
		r.witnesses = append(r.witnesses, newValve(t, strings.TrimPrefix(w.url, "http://")))
	}
	writeFile(t, dir, "policy-"+r.name+".txt", c.policyText(vkey, func(n int) string { return "http://" + r.witnesses[n].address }))
	cache := ""
	if n > 0 { // one has its duplicate index in memory
		cache = "cache_dir: ./cache-" + r.name + "\n"
	}
	r.config = writeFile(t, dir, r.name+".yaml", "address: "+address+"\nurl: "+r.url+"\n"+cache+
		"storage: s3://bucket/log?endpoint="+url.QueryEscape("http://"+r.store.address)+"\nlogs:\n"+
		"  - {name: signatures, kind: rekor, origin: "+clusterOrigin+", key: file:log.pem, policy: policy-"+r.name+".txt}\n"+
		c.certs.config("policy-"+r.name+".txt"))
	t.Cleanup(func() {
		if t.Failed() && r.process != nil {
			t.Logf("%s said last:\n%s", r.name, last(r.process.stderr.String(), 40))
		}
	})
	return r
}

func last(text string, lines int) string {
	all := strings.Split(text, "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

// start starts the process of the replica and waits until it is ready.
func (r *replica) start(t *testing.T) {
	t.Helper()
	r.posting.Lock()
	defer r.posting.Unlock()
	r.process = start(t, 0, "tallywood", "serve", "--config", r.config)
	r.leaving.Store(false)
}

func (r *replica) signal(t *testing.T, s syscall.Signal) {
	t.Helper()
	if err := r.process.cmd.Process.Signal(s); err != nil {
		t.Fatalf("signal %v to %s: %v", s, r.name, err)
	}
}

// cut makes the valves between the replica and the store, or the witnesses, do f.
func (r *replica) cutStore(f flow) { r.store.set(f) }

func (r *replica) cutWitnesses(f flow) {
	for _, v := range r.witnesses {
		v.set(f)
	}
}

// running reports a process that has ended although nobody ended it.
func (r *replica) running(t *testing.T) {
	t.Helper()
	select {
	case <-r.process.exited:
		t.Fatalf("%s ended by itself: %v\n%s", r.name, r.process.err, last(r.process.stderr.String(), 30))
	default:
	}
}

// leadership is a replica's answer to a probe.
type leadership struct {
	Writer  string
	Leading bool
	Slot    int64
	Quorum  bool
}

func (c *cluster) probe(r *replica) (l leadership, err error) {
	body, err := fetch(c.asking, r.url+"/logs/signatures/leader")
	if err == nil {
		err = json.Unmarshal(body, &l)
	}
	return l, err
}

// calm waits until all replicas run and exactly one says that it leads, and returns that one.
func (c *cluster) calm(t *testing.T) *replica {
	t.Helper()
	var leader *replica
	eventually(t, "calm: all replicas answer and one leads", func() bool {
		leading := 0
		for _, r := range c.replicas {
			r.running(t)
			l, err := c.probe(r)
			if err != nil {
				return false
			}
			if l.Leading {
				leader, r.led = r, l
				leading++
			}
		}
		return leading == 1
	})
	return leader
}

// others are the replicas but r.
func (c *cluster) others(r *replica) []*replica {
	var others []*replica
	for _, o := range c.replicas {
		if o != r {
			others = append(others, o)
		}
	}
	return others
}

// places are where checkpoints of a log can be seen.
func (c *cluster) places(path, origin string) []string {
	hash := fmt.Sprintf("%x", sha256.Sum256([]byte(origin)))
	var places []string
	for _, r := range c.replicas {
		places = append(places, r.url+path)
	}
	for _, w := range c.witnesses {
		places = append(places, w.url+"/"+hash+"/checkpoint")
	}
	return places
}
