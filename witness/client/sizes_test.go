package client_test

import (
	"net/http"
	"testing"
	"time"

	"tallywood/witness/policy"
)

func TestSizes(t *testing.T) {
	h, fork := newHistory(t, 20, "entry"), newHistory(t, 20, "forged entry")
	at, behind, ahead, forked, fresh, silentOne := startWitness(t, "at"), startWitness(t, "behind"), startWitness(t, "ahead"),
		startWitness(t, "forked"), startWitness(t, "fresh"), startWitness(t, "silent")
	for w, size := range map[*witnessServer]int64{at: 9, behind: 5, ahead: 12} {
		if _, err := newClient(t, newPolicy(t, 1, w)).Cosign(within(t, time.Second), h.checkpoint(t, size), h.prove); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := newClient(t, newPolicy(t, 1, forked)).Cosign(within(t, time.Second), fork.checkpoint(t, 9), fork.prove); err != nil {
		t.Fatal(err)
	}
	silentOne.replace(silent)
	noURL := startWitness(t, "no-url")
	text := "log " + logVKey() + "\nwitness no-url " + noURL.vkeys[0] + "\n"
	for _, w := range []*witnessServer{at, behind, ahead, forked, fresh, silentOne} {
		text += "witness " + w.name + " " + w.vkeys[0] + " " + w.url + "\n"
	}
	c := newClient(t, parsePolicy(t, text+"quorum at\n"))
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
}

func TestSizesWithoutMonitoringPrefix(t *testing.T) {
	h, fork := newHistory(t, 20, "entry"), newHistory(t, 20, "forged entry")
	w := startWitness(t, "w")
	c := newClient(t, newPolicy(t, 1, w))
	if _, err := c.Cosign(within(t, time.Second), fork.checkpoint(t, 9), fork.prove); err != nil {
		t.Fatal(err)
	}
	w.replace(func(rw http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet {
			http.NotFound(rw, r)
			return
		}
		w.witness.ServeHTTP(rw, r)
	})
	s, err := c.Sizes(within(t, time.Second), h.checkpoint(t, 9))
	if err != nil || s[0].Err != nil || s[0].Size != 9 || s[0].Root == nil || *s[0].Root == h.root(t, 9) {
		t.Errorf("Sizes = %+v, %v; want size 9 with a root that is not ours", s, err)
	}
}

func TestSizesOfUnknownLog(t *testing.T) {
	h := newHistory(t, 20, "entry")
	w := startWitness(t, "w")
	w.replace(func(rw http.ResponseWriter, _ *http.Request) { http.Error(rw, "unknown log", http.StatusNotFound) })
	s, err := newClient(t, newPolicy(t, 1, w)).Sizes(within(t, time.Second), h.checkpoint(t, 0))
	if err != nil || s[0].Err != nil || s[0].Size != 0 {
		t.Errorf("Sizes = %+v, %v; want never seen", s, err)
	}
}
