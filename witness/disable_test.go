package witness_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"tallywood/storage/mem"
	"tallywood/witness"
)

// TestDisabledLogKeepsItsState disables a log and a list's that is not known yet, and enables both.
func TestDisabledLogKeepsItsState(t *testing.T) {
	l, later := newTestLog(t, origin), newTestLog(t, "later.example.org")
	l.grow(t, 20, "entry")
	later.grow(t, 20, "entry")
	c, b := newClock(), mem.New()
	w := serve(t, b, c, l)
	note := l.checkpoint(t, 5) + w.mustAdd(t, l.request(t, 0, 5))

	disabled := []string{origin, later.origin}
	w.SetDisabled(disabled)
	restarted := serveOptions(t, witness.Options{Keys: testKeys(t), Bucket: b, Now: c.now, Disabled: disabled,
		Logs: []witness.Log{{Origin: origin, Keys: logKeys(l)}}})
	for _, w := range []*server{w, restarted} {
		if added, err := w.AddLog(witness.Log{Origin: later.origin, Keys: logKeys(later)}); !added || err != nil {
			t.Errorf("AddLog of a disabled origin = %t, %v", added, err)
		}
		c.add(time.Second)
		for _, l := range []*testLog{l, later} {
			for _, request := range []string{l.request(t, 0, 5), l.request(t, 5, 9), l.request(t, 5, 5)} {
				if a := w.add(t, request); a.status != http.StatusNotFound || !strings.Contains(a.body, "disabled") || strings.Contains(a.body, "— ") {
					t.Errorf("%s: %d %s", l.origin, a.status, a.body)
				}
			}
		}
		body, _ := l.subtreeRequest(t, 0, 4, 5, note)
		if a := do(t, http.MethodPost, w.url+"/sign-subtree", body); a.status != http.StatusNotFound {
			t.Errorf("sign-subtree: %d %s", a.status, a.body)
		}
		if got := w.stored(t, l); got != note {
			t.Errorf("served is\n%s", got)
		}
		if a := do(t, http.MethodGet, w.url+"/status.json", ""); strings.Count(a.body, `"disabled": true`) != 2 {
			t.Errorf("status:\n%s", a.body)
		}
		if got := w.Disabled(); !slices.Equal(got, []string{later.origin, origin}) {
			t.Errorf("Disabled = %q", got)
		}
	}
	restarted.SetDisabled(nil)
	if a := restarted.add(t, l.request(t, 0, 9)); a.status != http.StatusConflict || a.body != "5\n" {
		t.Errorf("enabled again, from 0: %d %s", a.status, a.body)
	}
	restarted.mustAdd(t, l.request(t, 5, 9))
	restarted.mustAdd(t, later.request(t, 0, 5))
}
