package stack_test

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"
	"time"

	"tallywood/internal/stack"
)

// TestStrangersTakeNoLeadership: a leader without quorum hands over to a replica that could do better,
// and not because anybody asks for it.
func TestStrangersTakeNoLeadership(t *testing.T) {
	t.Parallel()
	key, other := newPassingKey(t), newPassingKey(t)
	now := time.Now()
	for name, c := range map[string]struct {
		query, note string
		want        bool
	}{
		"a replica that could":     {"?ready", stack.Note(key, netip.Prefix{}, now), true},
		"a replica that could not": {"", stack.Note(key, netip.Prefix{}, now), false},
		"no note":                  {"?ready", "", false},
		"a note of another log":    {"?ready", stack.Note(other, netip.Prefix{}, now), false},
		"an old note":              {"?ready", stack.Note(key, netip.Prefix{}, now.Add(-2*stack.PassingTime)), false},
	} {
		r := httptest.NewRequest(http.MethodGet, "/logs/signatures/leader"+c.query, nil)
		if c.note != "" {
			r.Header.Set(stack.ForwardedHeader, c.note)
		}
		if got := stack.CouldLead(key, r); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// TestRefusalWhileLeadershipBegins: who refuses what was passed on is asked again, unless it is the leader's word.
func TestRefusalWhileLeadershipBegins(t *testing.T) {
	for name, c := range map[string]struct {
		before, after bool // whether it takes adds
		status        int
		again         bool
	}{
		"no leader":        {false, false, 503, true},
		"a leader's end":   {true, false, 503, true},
		"a leader's begin": {false, true, 503, true},
		"the leader":       {true, true, 503, false},
		"another refusal":  {false, false, 400, false},
		"an answer":        {false, true, 201, false},
	} {
		takes := c.before
		w := httptest.NewRecorder()
		stack.ServePassed(w, httptest.NewRequest("POST", "/", nil), http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			takes = c.after
			w.WriteHeader(c.status)
		}), func() bool { return takes })
		if again := w.Header().Get(stack.LeadingHeader) != ""; again != c.again || w.Code != c.status {
			t.Errorf("%s: %d, to be asked again: %v; want %v", name, w.Code, again, c.again)
		}
	}
}
