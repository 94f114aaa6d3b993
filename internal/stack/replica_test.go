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
