package ctlog_test

import (
	"crypto/sha256"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/transparency-dev/tessera/ctonly"

	"tallywood/log"
)

// TestRebuildingLogSaysHowFarItIs: whoever submits meanwhile is told when to come again.
func TestRebuildingLogSaysHowFarItIs(t *testing.T) {
	f := newFixture(t)
	_, l, stop := f.run()
	const entries = 300
	eventually(t, "the log to be ready", func() bool { return l.Ready() == nil })
	var adding sync.WaitGroup
	for i := range entries {
		e := &ctonly.Entry{Timestamp: 1_700_000_000_000, Certificate: fmt.Append(nil, i), FingerprintsChain: [][32]byte{{1}}}
		adding.Go(func() {
			if _, err := l.Sequence(t.Context(), log.Entry{Key: sha256.Sum256(e.Certificate), CT: e}); err != nil {
				t.Error(err)
			}
		})
	}
	adding.Wait()
	stop()
	g := newGate(f.bucket, "logs/"+name+"/tile/data/000")
	f.bucket = g
	ct, l, _ := f.run()
	eventually(t, "the rebuild", func() bool {
		r, _ := l.Rebuilding()
		return l.Leading() && r.Read == entries-256
	})
	w := do(ct.Handler(), "POST", addPreChain, submission(t, f.ca.submission(t)))
	const want = "no SCT is issued: the log takes certificates when its duplicate index is rebuilt; so far 44 of 300 entries are read, 0 indexed"
	if w.Code != 503 || w.Header().Get("Retry-After") == "" || !strings.Contains(w.Body.String(), want) {
		t.Errorf("%d, Retry-After %q, %s; want %q", w.Code, w.Header().Get("Retry-After"), w.Body, want)
	}
	close(g.open)
	mustAdd(t, ct, f.ca.submission(t))
}
