package client_test

import (
	"errors"
	"net/http"
	"testing"
	"time"

	"tallywood/internal/bubble"
	"tallywood/witness/client"
	"tallywood/witness/policy"
)

func TestSizes(t *testing.T) {
	bubble.Test(t, func(t *testing.T) { // it waits to the end for who is silent
		h, fork := newHistory(t, 20, "entry"), newHistory(t, 20, "forged entry")
		at, behind, ahead, forked, fresh, silentOne := newWitness(t, "at"), newWitness(t, "behind"), newWitness(t, "ahead"),
			newWitness(t, "forked"), newWitness(t, "fresh"), newWitness(t, "silent")
		for w, size := range map[*witnessServer]int64{at: 9, behind: 5, ahead: 12} {
			if _, err := newMemoryClient(t, newPolicy(t, 1, w), w).Cosign(within(t, time.Second), h.checkpoint(t, size), h.prove); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := newMemoryClient(t, newPolicy(t, 1, forked), forked).Cosign(within(t, time.Second), fork.checkpoint(t, 9), fork.prove); err != nil {
			t.Fatal(err)
		}
		silentOne.replace(silent)
		noURL := newWitness(t, "no-url")
		text := "log " + logVKey() + "\nwitness no-url " + noURL.vkeys[0] + "\n"
		all := []*witnessServer{at, behind, ahead, forked, fresh, silentOne}
		for _, w := range all {
			text += "witness " + w.name + " " + w.vkeys[0] + " " + w.url + "\n"
		}
		c := newMemoryClient(t, parsePolicy(t, text+"quorum at\n"), all...)
		sizes, err := c.Sizes(within(t, time.Second), h.checkpoint(t, 9))
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]policy.WitnessSize{}
		for _, s := range sizes {
			got[s.Name] = s
		}
		if len(sizes) != 7 || sizes[0].Name != "no-url" || sizes[1].Name != "at" {
			t.Errorf("Sizes = %+v, want all seven in the policy's order", sizes)
		}
		for name, want := range map[string]int64{"at": 9, "behind": 5, "ahead": 12, "forked": 9, "fresh": 0} {
			if s := got[name]; s.Err != nil || s.Size != want {
				t.Errorf("%s: %+v, want size %d", name, s, want)
			}
		}
		if root := got["at"].Root; root == nil || *root != h.root(t, 9) {
			t.Error("at: another root")
		}
		if root := got["ahead"].Root; root == nil || *root != h.root(t, 12) {
			t.Error("ahead: the monitoring prefix was not read")
		}
		if root := got["forked"].Root; root == nil || *root != fork.root(t, 9) {
			t.Error("forked: the fork's root is not told")
		}
		if got["silent"].Err == nil || got["no-url"].Err == nil {
			t.Error("silence is not told")
		}
		// None but the one at this size was moved, and that one only in time.
		if s, err := c.Sizes(within(t, time.Second), h.checkpoint(t, 9)); err != nil || s[2].Size != 5 {
			t.Errorf("Sizes again = %+v, %v", s, err)
		}
	})
}

// TestSizesBelievesNoClaim asks witnesses that say they are at odds with the checkpoint, and show no
// signature of the log for it.
func TestSizesBelievesNoClaim(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		h, fork := newHistory(t, 20, "entry"), newHistory(t, 20, "forged entry")
		conflict := func(size string) http.HandlerFunc {
			return func(rw http.ResponseWriter, _ *http.Request) {
				rw.Header()["Content-Type"] = []string{"text/x.tlog.size"}
				rw.WriteHeader(http.StatusConflict)
				_, _ = rw.Write([]byte(size + "\n"))
			}
		}
		var claim *client.ClaimError
		for name, c := range map[string]struct {
			submit http.HandlerFunc
			size   int64
			claim  bool
		}{
			"another tree of this size": {nil, 0, true}, // it has cosigned one, but does not show it
			"409 with this size":        {conflict("9"), 0, true},
			"422":                       {func(rw http.ResponseWriter, _ *http.Request) { rw.WriteHeader(http.StatusUnprocessableEntity) }, 0, true},
			"a larger size":             {conflict("4611686018427387904"), 1 << 62, false},
			"a smaller size":            {conflict("4"), 4, false},
		} {
			w := newWitness(t, "w")
			cl := newMemoryClient(t, newPolicy(t, 1, w), w)
			if _, err := cl.Cosign(within(t, time.Minute), fork.checkpoint(t, 9), fork.prove); err != nil {
				t.Fatal(err)
			}
			w.replace(c.submit)
			w.hideMonitor()
			s, err := cl.Sizes(within(t, time.Minute), h.checkpoint(t, 9))
			if err != nil || s[0].Size != c.size || s[0].Root != nil || errors.As(s[0].Err, &claim) != c.claim {
				t.Errorf("%s: Sizes = %+v, %v; want size %d without root, or a ClaimError: %v", name, s, err, c.size, c.claim)
			}
		}
	})
}

func TestSizesOfUnknownLog(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		h := newHistory(t, 20, "entry")
		w := newWitness(t, "w")
		w.replace(func(rw http.ResponseWriter, _ *http.Request) { http.Error(rw, "unknown log", http.StatusNotFound) })
		s, err := newMemoryClient(t, newPolicy(t, 1, w), w).Sizes(within(t, time.Minute), h.checkpoint(t, 0))
		if err != nil || s[0].Err != nil || s[0].Size != 0 {
			t.Errorf("Sizes = %+v, %v; want never seen", s, err)
		}
	})
}
