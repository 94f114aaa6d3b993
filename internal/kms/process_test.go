package kms_test

import (
	"bytes"
	"crypto"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"golang.org/x/mod/sumdb/tlog"

	"tallywood/internal/kms"
	"tallywood/witness/policy"
)

// TestServeWithAllKeysInKMS signs and verifies through a server that has no private key.
func TestServeWithAllKeysInKMS(t *testing.T) {
	d := newDeployment(t)
	out := d.must(t, "config", "check", "config.yaml")
	for _, want := range []string{"valid configuration", "not asked for: log signatures: key gcpkms://", "log certificates: key awskms://",
		"log certificates: note_key awskms://", "ca: key awskms://", "tsa: key awskms://"} {
		if !strings.Contains(out, want) {
			t.Errorf("config check does not say %q:\n%s", want, out)
		}
	}
	d.serve(t)
	d.write(t, "hello.txt", "hello\n")
	sign := []string{"sign", "hello.txt", "--yes", "--trust", "client", "--identity-token"}
	verify := []string{"verify", "hello.txt", "--bundle", "hello.txt.sigstore.json", "--trust", "client",
		"--certificate-identity", "a@example.org", "--certificate-oidc-issuer", d.url + "/dev/oidc"}
	d.must(t, append(sign, d.token(t))...)
	d.must(t, verify...)
	for _, pem := range []string{"*.pem", "*/*.pem"} {
		found, err := filepath.Glob(filepath.Join(d.dir, pem))
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range found {
			if text, err := os.ReadFile(path); err != nil || bytes.Contains(text, []byte("PRIVATE")) {
				t.Errorf("%s holds a private key, %v", path, err)
			}
		}
	}
	d.stop(t)
	d.serve(t) // the same keys again
	d.must(t, verify...)
	d.must(t, append(sign, d.token(t), "--bundle", "again.json")...)
}

// token gets a development token.
func (d *deployment) token(t *testing.T) string {
	t.Helper()
	return strings.TrimSpace(d.get(t, "/dev/oidc/token?email=a@example.org"))
}

func (d *deployment) get(t *testing.T, path string) string {
	t.Helper()
	res, err := http.Get(d.url + path)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("GET %s: %s, %v\n%s", path, res.Status, err, body)
	}
	return string(body)
}

// A load is what asks a server all the time, and what it was answered.
type load struct {
	d    *deployment
	log  crypto.PublicKey // of the SCTs
	stop chan struct{}
	wait sync.WaitGroup

	mu          sync.Mutex
	answers     map[string]map[int]int // by kind and status, since the last count
	faults      []string
	checkpoints map[string]map[string]bool // by log
}

// start asks for entries, certificates and timestamps until the load is stopped.
func (d *deployment) start(t *testing.T) *load {
	t.Helper()
	log, err := kms.Public(t.Context(), d.emulator.uri("alias/ct"))
	if err != nil {
		t.Fatal(err)
	}
	token := d.token(t)
	l := &load{d: d, log: log, stop: make(chan struct{}), answers: map[string]map[int]int{},
		checkpoints: map[string]map[string]bool{"signatures": {}, "certificates": {}}}
	for kind, ask := range map[string]func() (int, []byte, error){
		"entry": d.addEntry, "chain": func() (int, []byte, error) { return d.addChain(log) }, "stamp": d.stamp,
		"certificate": func() (int, []byte, error) { return d.certificate(token) },
	} {
		for range 2 {
			l.wait.Go(func() { l.ask(kind, ask) })
		}
	}
	l.wait.Go(l.watch)
	return l
}

// pause lets d pass and reports whether the load goes on.
func (l *load) pause(d time.Duration) bool {
	select {
	case <-l.stop:
		return false
	case <-time.After(d):
		return true
	}
}

func (l *load) ask(kind string, ask func() (int, []byte, error)) {
	for l.pause(20 * time.Millisecond) {
		status, body, err := ask()
		l.mu.Lock()
		if l.answers[kind] == nil {
			l.answers[kind] = map[int]int{}
		}
		l.answers[kind][status]++
		if good := status == http.StatusOK || status == http.StatusCreated || status == http.StatusServiceUnavailable; err != nil || !good {
			l.faults = append(l.faults, fmt.Sprintf("%s: %d, %v: %.300s", kind, status, err, body))
		}
		l.mu.Unlock()
	}
}

// watch remembers every checkpoint that the logs have published.
func (l *load) watch() {
	for l.pause(10 * time.Millisecond) {
		for name := range l.checkpoints {
			res, err := http.Get(l.d.url + "/logs/" + name + "/checkpoint")
			if err != nil {
				continue
			}
			body, err := io.ReadAll(res.Body)
			_ = res.Body.Close() // what was read counts
			if err == nil && res.StatusCode == http.StatusOK {
				l.checkpoints[name][string(body)] = true
			}
		}
	}
}

// await forgets what was answered so far, and waits until each of the kinds was answered with status
// n times.
func (l *load) await(t *testing.T, phase string, status map[string]int, n int) {
	t.Helper()
	l.mu.Lock()
	clear(l.answers)
	l.mu.Unlock()
	began := time.Now()
	for ; ; time.Sleep(20 * time.Millisecond) {
		l.mu.Lock()
		missing := ""
		for kind, want := range status {
			if l.answers[kind][want] < n {
				missing = fmt.Sprintf("%s: %d answers with %d, want %d", kind, l.answers[kind][want], want, n)
			}
		}
		text := fmt.Sprint(l.answers)
		l.mu.Unlock()
		switch {
		case missing == "":
			t.Logf("%s, after %v: %s", phase, time.Since(began).Round(100*time.Millisecond), text)
			return
		case time.Since(began) > 2*time.Minute:
			t.Fatalf("%s: %s; in all %s", phase, missing, text)
		}
	}
}

// end stops the load, and wants every checkpoint there ever was to be of a tree that the last one
// goes on with.
func (l *load) end(t *testing.T) {
	t.Helper()
	close(l.stop)
	l.wait.Wait()
	for _, f := range l.faults {
		t.Errorf("under load: %s", f)
	}
	for name, seen := range l.checkpoints {
		last := l.d.checkpoint(t, name)
		for text := range maps.Keys(seen) {
			c := parseCheckpoint(t, text)
			if c.Size > last.Size {
				t.Errorf("%s: there was a checkpoint of %d, and the last is of %d", name, c.Size, last.Size)
				continue
			}
			root, err := tlog.TreeHash(c.Size, l.d.hashes(name, last))
			if err != nil || root != tlog.Hash(c.Root) {
				t.Errorf("%s: the checkpoint of size %d is of another tree than the last, of %d: %v", name, c.Size, last.Size, err)
			}
		}
		t.Logf("%s: %d checkpoints of one tree of %d entries", name, len(seen), last.Size)
	}
}

func parseCheckpoint(t *testing.T, text string) policy.Tree {
	t.Helper()
	body, _, ok := strings.Cut(text, "\n\n")
	tree, err := policy.ParseTree(body + "\n")
	if !ok || err != nil {
		t.Fatalf("checkpoint: %v\n%s", err, text)
	}
	return tree
}

func (d *deployment) checkpoint(t *testing.T, name string) policy.Tree {
	t.Helper()
	return parseCheckpoint(t, d.get(t, "/logs/"+name+"/checkpoint"))
}

// hashes reads a log's hashes from its tiles, which are checked against its last checkpoint.
func (d *deployment) hashes(name string, last policy.Tree) tlog.HashReader {
	return tlog.TileHashReader(tlog.Tree{N: last.Size, Hash: tlog.Hash(last.Root)}, tiles{d.url + "/logs/" + name + "/"})
}

// tiles are a log's.
type tiles struct{ base string }

func (tiles) Height() int                         { return 8 }
func (tiles) SaveTiles(_ []tlog.Tile, _ [][]byte) {}
func (r tiles) ReadTiles(want []tlog.Tile) ([][]byte, error) {
	var out [][]byte
	for _, tile := range want {
		// The path of package tlog has the height too.
		path := "tile/" + strings.TrimPrefix(tile.Path(), "tile/8/")
		res, err := http.Get(r.base + path)
		if err != nil {
			return nil, err
		}
		data, err := io.ReadAll(res.Body)
		_ = res.Body.Close() // what was read counts
		if err != nil || res.StatusCode != http.StatusOK {
			return nil, fmt.Errorf("GET %s: %s, %w", path, res.Status, err)
		}
		out = append(out, data)
	}
	return out, nil
}

// TestServeOutlivesItsKMS takes the services away under load and brings them back, and puts other
// keys into them: nothing is signed meanwhile, and everything goes on afterwards.
func TestServeOutlivesItsKMS(t *testing.T) {
	d := newDeployment(t)
	d.serve(t)
	good := map[string]int{"entry": http.StatusCreated, "chain": http.StatusOK, "stamp": http.StatusOK, "certificate": http.StatusOK}
	refused := map[string]int{"entry": 503, "chain": 503, "stamp": 503, "certificate": 503}
	l := d.start(t)
	l.await(t, "at first", good, 5)

	d.emulator.kill()
	d.gcp.setDown(true)
	l.await(t, "without a KMS", refused, 2)
	d.emulator.start(t)
	d.gcp.setDown(false)
	l.await(t, "with a KMS again", good, 5)

	// The names stay, the keys are others.
	other := d.emulator.signer(t, "other", types.KeySpecEccNistP256)
	own := d.gcp.keys[versionName(1)]
	d.emulator.point(t, "ct", other)
	d.gcp.set(versionName(1), own.kind, own.state, newEd25519(t))
	l.await(t, "with other keys", map[string]int{"entry": 503, "chain": 503, "certificate": 503}, 2)
	d.gcp.set(versionName(1), own.kind, own.state, own.key)
	d.emulator.point(t, "ct", d.ct)
	l.await(t, "with the right keys", good, 5)
	l.end(t)
	if logged := d.stderr.String(); strings.Count(logged, "is not by the key that was opened") < 2 || !strings.Contains(logged, "publishing") {
		t.Errorf("the log does not say that keys were others:\n%s", logged)
	}
	d.stop(t)
	d.must(t, "storage", "fsck", "file:objects")

	// It does not start with another key, nor without one.
	d.emulator.point(t, "ct", other)
	if out, code := d.run(t, "serve", "--config", "config.yaml"); code != 2 {
		t.Errorf("with another SCT key: exit code %d\n%s", code, out)
	} else {
		t.Logf("with another SCT key: %s", lastLines(out))
	}
	d.emulator.point(t, "ct", d.ct)
	d.emulator.kill()
	if out, code := d.run(t, "serve", "--config", "config.yaml"); code != 5 || !strings.Contains(out, "tallywood: hint: ") {
		t.Errorf("without a KMS: exit code %d\n%s", code, out)
	} else {
		t.Logf("without a KMS: %s", lastLines(out))
	}
}

// lastLines are what a command says on its way out.
func lastLines(out string) string {
	i := strings.Index(out, "tallywood: error:")
	return out[max(i, 0):]
}

// TestSCTsThroughAFarKMS has a server make SCTs with a key whose service is far away.
func TestSCTsThroughAFarKMS(t *testing.T) {
	d := newDeployment(t)
	d.serve(t)
	log, err := kms.Public(t.Context(), d.emulator.uri("alias/ct"))
	if err != nil {
		t.Fatal(err)
	}
	type load struct {
		delay            time.Duration
		concurrent, each int
	}
	loads := []load{{0, 1, 20}, {50 * time.Millisecond, 1, 10}, {50 * time.Millisecond, 32, 5}}
	for i := 0; i < len(loads); i++ {
		c := loads[i]
		d.far.set(c.delay)
		var mu sync.Mutex
		var took []time.Duration
		var wait sync.WaitGroup
		began := time.Now()
		for range c.concurrent {
			wait.Go(func() {
				for range c.each {
					began := time.Now()
					if status, body, err := d.addChain(log); status != http.StatusOK || err != nil {
						t.Errorf("adding a chain: %d, %v: %s", status, err, body)
					}
					mu.Lock()
					took = append(took, time.Since(began))
					mu.Unlock()
				}
			})
		}
		wait.Wait()
		all := time.Since(began)
		slices.Sort(took)
		most, signed := d.far.counted()
		t.Logf("SCTs at a distance of %v, %d at a time: median %v, 90 %% %v, %s/s; %d signatures, at most %d at a time", c.delay, c.concurrent,
			took[len(took)/2].Round(time.Millisecond), took[len(took)*9/10].Round(time.Millisecond),
			strconv.FormatFloat(float64(len(took))/all.Seconds(), 'f', 1, 64), signed, most)
		if most < c.concurrent/2 && i < 6 { // a slow machine makes few requests within so short a time
			loads = append(loads, load{min(10*c.delay, time.Second), c.concurrent, 1}) // after 2 s it is given up
		} else if most < c.concurrent/2 {
			t.Errorf("of %d submissions at a time, at most %d were being signed: they wait for each other", c.concurrent, most)
		}
	}
}
