package driver_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"sync"
	"testing"
	"time"

	"tallywood/internal/bubble"
	"tallywood/storage/driver"
	"tallywood/storage/mem"
)

// TestStandbyShowsACheckpointCosignedAnew leaves a log idle: that its leader has it cosigned anew shows
// on a standby too, by which it knows that the log lives.
func TestStandbyShowsACheckpointCosignedAnew(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		stages := map[driver.Stage]int{}
		o := options(t, mem.New())
		o.Republish = time.Minute
		o.Cosign = func(_ context.Context, checkpoint []byte, _ driver.ProofFunc) ([]byte, error) {
			stamp := base64.StdEncoding.EncodeToString(fmt.Appendf(nil, "key %s", time.Now()))
			return append(bytes.Clone(checkpoint), "— witness "+stamp+"\n"...), nil
		}
		o.Observe = func(s driver.Stage, d time.Duration, err error) {
			mu.Lock()
			defer mu.Unlock()
			if d < 0 || err != nil {
				t.Errorf("%s: %v, %v", s, d, err)
			}
			stages[s]++
		}
		n := newNetwork()
		a := n.joinWith(t, o, "a")
		leading(t, a)
		addTo(t, a, 0, 3)
		b := n.joinWith(t, o, "b")
		time.Sleep(3 * time.Second)
		first, ok := b.Published()
		if !ok || first.Size != 3 {
			t.Fatalf("the standby shows size %d", first.Size)
		}
		time.Sleep(90 * time.Second)
		want, _ := a.Published()
		if got, _ := b.Published(); bytes.Equal(got.Note, first.Note) || !bytes.Equal(got.Note, want.Note) || got.Size != 3 || !got.Time.After(first.Time) {
			t.Errorf("the standby shows, since %s,\n%s\nwant, since after %s,\n%s", got.Time, got.Note, first.Time, want.Note)
		}

		lead, stands := a.Stats(), b.Stats()
		if !lead.Leading || lead.Committed != 3 || lead.Integrated != 3 || lead.Published != 3 || lead.Stored != 3 ||
			lead.Queued != 0 || !lead.OldestUnpublished.IsZero() || lead.Records < 2 || lead.Partials == 0 {
			t.Errorf("the leader's figures: %+v", lead)
		}
		if stands.Leading || stands.Committed != 3 || stands.Integrated != 3 || stands.Published != 3 || stands.Stored != 3 || stands.Queued != 0 {
			t.Errorf("the standby's figures: %+v", stands)
		}
		for _, m := range []*member{b, a} {
			if err := m.stop(); err != nil {
				t.Error(err)
			}
		}
		mu.Lock()
		defer mu.Unlock()
		for _, s := range driver.Stages() {
			if stages[s] == 0 {
				t.Errorf("nobody was told of a %s: %v", s, stages)
			}
		}
	})
}
