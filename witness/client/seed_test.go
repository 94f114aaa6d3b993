package client_test

import (
	"bytes"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"tallywood/internal/bubble"
)

// A diary remembers the first lines of the requests for cosignatures to a witness.
type diary struct {
	mu    sync.Mutex
	lines []string
}

// keep has the diary of w kept.
func (d *diary) keep(w *witnessServer) {
	w.replace(func(rw http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			rw.WriteHeader(http.StatusBadRequest)
			return
		}
		first, _, _ := strings.Cut(string(body), "\n")
		d.mu.Lock()
		d.lines = append(d.lines, first)
		d.mu.Unlock()
		r.Body = io.NopCloser(bytes.NewReader(body))
		w.witness.ServeHTTP(rw, r)
	})
}

// TestCosignBeginsWithTheMonitoringPrefix has a new process ask a witness that knows the log.
func TestCosignBeginsWithTheMonitoringPrefix(t *testing.T) {
	h, fork := newHistory(t, 20, "entry"), newHistory(t, 20, "forged entry")
	text := func(note []byte) http.HandlerFunc {
		return func(rw http.ResponseWriter, _ *http.Request) { _, _ = rw.Write(note) }
	}
	for name, c := range map[string]struct {
		monitor http.HandlerFunc // nil: the true one
		want    []string
	}{
		"honest":                {nil, []string{"old 7"}},
		"none":                  {http.NotFound, []string{"old 0", "old 7"}},
		"garbage":               {text([]byte("garbage")), []string{"old 0", "old 7"}},
		"without cosignature":   {text(h.checkpoint(t, 7)), []string{"old 0", "old 7"}},
		"of another tree":       {text(fork.checkpoint(t, 9)), []string{"old 0", "old 7"}},
		"never ends":            {silent, []string{"old 0", "old 7"}},
		"larger than any of it": {text(bytes.Repeat([]byte("x\n"), 1<<17)), []string{"old 0", "old 7"}},
	} {
		t.Run(name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) { // an answer that is overdue would be asked for again
				w := newWitness(t, "w1")
				p := newPolicy(t, 1, w)
				rounds(t, newMemoryClient(t, p, w), h, 7)
				var d diary
				d.keep(w)
				store(&w.monitor, c.monitor)
				cl := newMemoryClient(t, p, w)
				if rounds(t, cl, h, 12); !slices.Equal(d.lines, c.want) {
					t.Errorf("it was asked %q; want %q", d.lines, c.want)
				}
				d.lines = nil
				if rounds(t, cl, h, 20); !slices.Equal(d.lines, []string{"old 12"}) {
					t.Errorf("then it was asked %q", d.lines)
				}
			})
		})
	}
}

// TestStaleMonitoringPrefixCostsOneConflict shows an old checkpoint that the witness did cosign.
func TestStaleMonitoringPrefixCostsOneConflict(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		h := newHistory(t, 20, "entry")
		w := newWitness(t, "w1")
		p := newPolicy(t, 1, w)
		c := newMemoryClient(t, p, w)
		old, err := c.Cosign(within(t, time.Minute), h.checkpoint(t, 3), h.prove)
		if err != nil {
			t.Fatal(err)
		}
		rounds(t, c, h, 7)
		store(&w.monitor, func(rw http.ResponseWriter, _ *http.Request) { _, _ = rw.Write(old) })
		var d diary
		d.keep(w)
		if rounds(t, newMemoryClient(t, p, w), h, 12); !slices.Equal(d.lines, []string{"old 3", "old 7"}) {
			t.Errorf("it was asked %q", d.lines)
		}
	})
}
