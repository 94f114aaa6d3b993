package stack_test

import (
	"crypto/rand"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tallywood/internal/keys"
	"tallywood/internal/stack"
)

// TestReloadOfAPolicy asks for more witnesses, and for one that cannot be had.
func TestReloadOfAPolicy(t *testing.T) {
	l := serve(t, stack.Options{}, func(dir string) { losesPatience(t, dir, time.Second) })
	l.ready(t)
	request := newRequest(t)
	if status, body := l.add(t, request); status != 201 {
		t.Fatalf("%d %s", status, body)
	}
	path := filepath.Join(l.dir, "client", "policy.txt")
	two := read(t, path)

	// All three must cosign: what is published is cosigned anew, without anything being added.
	edit(t, path, "group quorum-of-three 2", "group quorum-of-three all")
	l.logged.take()
	if err := l.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	if text := l.logged.take(); strings.Count(text, "3 of 3 must cosign") != 2 {
		t.Errorf("logged %q; want a line for each log", text)
	}
	eventually(t, "three cosignatures", func() bool { return l.cosigned(t, "/checkpoint") == 3 && l.cosigned(t, "/ct/checkpoint") == 3 })
	if status, body := l.add(t, request); status != 201 || strings.Count(body, "— witness-") != 3 {
		t.Errorf("a duplicate: %d %s", status, body)
	}

	// What is no policy of this log changes nothing.
	all := read(t, path)
	for name, text := range map[string]string{
		"no policy":      "quorum\n",
		"another log's":  strings.ReplaceAll(all, "log.localhost+", "other.localhost+"),
		"without quorum": strings.ReplaceAll(all, "quorum quorum-of-three", "quorum none"),
		"no address":     strings.ReplaceAll(all, l.url+"/witness/3", ""),
		"nothing at all": "",
	} {
		write(t, path, text)
		if err := l.Reload(t.Context()); err == nil || !strings.Contains(err.Error(), "reloading policy of log signatures: ") {
			t.Errorf("%s: %v", name, err)
		}
		if status, body := l.add(t, request); status != 201 || strings.Count(body, "— witness-") != 3 {
			t.Errorf("%s: after it was refused: %d %s", name, status, body)
		}
	}

	// A witness that does not answer is needed now: no receipt leaves that it did not cosign.
	write(t, path, strings.ReplaceAll(all, l.url+"/witness/3", "http://127.0.0.1:1"))
	if err := l.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	if status, body := l.post(t, newRequest(t)); status != 503 {
		t.Errorf("an add that too few cosign: %d %s", status, body)
	}
	write(t, path, two)
	if err := l.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "adds to be taken again", func() bool { status, _ := l.post(t, newRequest(t)); return status == 201 })
}

// TestReloadFailsClosed has a duplicate refused whose checkpoint satisfied the policy before: one of
// the witnesses is another now.
func TestReloadFailsClosed(t *testing.T) {
	l := serve(t, stack.Options{}, func(dir string) { losesPatience(t, dir, time.Second) })
	l.ready(t)
	request := newRequest(t)
	if status, body := l.add(t, request); status != 201 {
		t.Fatalf("%d %s", status, body)
	}
	path := filepath.Join(l.dir, "client", "policy.txt")
	old := read(t, path)
	_, seed := newSeed(t, "witness-3.localhost")
	var lines []string
	for line := range strings.Lines(strings.ReplaceAll(old, "group quorum-of-three 2", "group quorum-of-three all")) {
		if strings.HasPrefix(line, "witness witness-3.localhost ") {
			line = "witness witness-3.localhost " + seed + " http://127.0.0.1:1\n"
		}
		lines = append(lines, line)
	}
	write(t, path, strings.Join(lines, ""))
	if err := l.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	if status, body := l.post(t, request); status != 503 {
		t.Errorf("a duplicate under the checkpoint of before: %d %s", status, body)
	}
	if err := l.Ready(); err == nil {
		t.Error("the log is ready although its checkpoint does not satisfy the policy")
	}
	write(t, path, old)
	if err := l.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	if status, body := l.add(t, request); status != 201 {
		t.Errorf("under the policy of before: %d %s", status, body)
	}
}

// newSeed returns a witness's seed and the vkey that it makes under a name.
func newSeed(t *testing.T, name string) (seed [32]byte, vkey string) {
	t.Helper()
	if _, err := rand.Read(seed[:]); err != nil {
		t.Fatal(err)
	}
	w, err := keys.WitnessFromSeed(name, seed)
	if err != nil {
		t.Fatal(err)
	}
	return seed, w.VKeys()[0]
}
