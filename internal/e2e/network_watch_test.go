package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"tallywood/witness/policy"
)

// A watcher reads what is published, all the time, and verifies all it sees.
type watcher struct {
	policy *policy.Policy
	mu     sync.Mutex
	size   int64
	seen   map[string]bool
	errs   []error
}

func (w *watcher) note(what string, note []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.seen == nil {
		w.seen = map[string]bool{}
	}
	if w.seen[string(note)] {
		return
	}
	w.seen[string(note)] = true
	c, err := w.policy.Open(note)
	if err != nil {
		w.errs = append(w.errs, fmt.Errorf("%s: %w\n%s", what, err, note))
		return
	}
	if what == "checkpoint in the bucket" {
		if c.Size() < w.size {
			w.errs = append(w.errs, fmt.Errorf("size %d was published after size %d", c.Size(), w.size))
		}
		w.size = c.Size()
	}
}

// published returns the size of the checkpoint in the bucket. The watcher may be late to see it.
func (n *witnessNetwork) published(t *testing.T) int64 {
	t.Helper()
	note, err := os.ReadFile(filepath.Join(n.dir, "objects/logs/net/checkpoint"))
	if err != nil {
		t.Fatal(err)
	}
	c, err := n.policy.Open(note)
	if err != nil {
		t.Fatal(err)
	}
	return c.Size()
}

// run watches until ctx ends.
func (n *witnessNetwork) run(ctx context.Context, t *testing.T) {
	for ctx.Err() == nil {
		for name, what := range map[string]string{"checkpoint": "checkpoint in the bucket", "checkpoint.full": "full checkpoint"} {
			note, err := os.ReadFile(filepath.Join(n.dir, "objects/logs/net", name))
			if err == nil {
				n.watch.note(what, note)
			} else if !errors.Is(err, fs.ErrNotExist) {
				t.Error(err)
			}
		}
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, n.url+"/checkpoint", nil)
		if err != nil {
			t.Error(err)
			return
		}
		if resp, err := n.client.Do(r); err == nil {
			if note, err := io.ReadAll(resp.Body); err == nil && resp.StatusCode == http.StatusOK {
				n.watch.note("checkpoint served", note)
			}
			resp.Body.Close()
		}
		time.Sleep(3 * time.Millisecond)
	}
}

// verdict says what the watcher has seen, after it has seen that it can tell.
func (n *witnessNetwork) verdict(t *testing.T) {
	t.Helper()
	w := &n.watch
	if len(w.seen) < 50 {
		t.Errorf("only %d checkpoints were seen", len(w.seen))
	}
	for _, err := range w.errs {
		t.Error(err)
	}
	blind := &watcher{policy: n.policy}
	for note := range w.seen {
		text, signatures, _ := strings.Cut(note, "\n\n")
		first, _, _ := strings.Cut(signatures, "\n")
		blind.note("log's line alone", []byte(text+"\n\n"+first+"\n"))
		for _, group := range []string{"w1 w2 w3", "w4 w5"} {
			blind.note("without "+group, []byte(text+"\n\n"+without(signatures, group)))
		}
	}
	if want := len(blind.seen); len(blind.errs) < want {
		t.Errorf("of %d under-cosigned checkpoints %d were found", want, len(blind.errs))
	}
	t.Logf("%d checkpoints were seen, up to size %d", len(w.seen), w.size)
}

// without drops the lines of witnesses.
func without(signatures, group string) string {
	out := ""
	for line := range strings.Lines(signatures) {
		drop := false
		for _, name := range strings.Fields(group) {
			drop = drop || strings.HasPrefix(line, "— "+name+".example.org ")
		}
		if !drop {
			out += line
		}
	}
	return out
}
