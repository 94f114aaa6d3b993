package bench_test

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"tallywood/internal/bench"
)

// TestAbuseMeasuresBesideEachAttack runs all attacks, briefly, and looks at what they did.
func TestAbuseMeasuresBesideEachAttack(t *testing.T) {
	url, _ := serve(t, nil)
	a, err := bench.MeasureAbuse(t.Context(), bench.AbuseOptions{
		URL: url, Clients: 2, Rate: 40, Duration: 250 * time.Millisecond, Settle: 50 * time.Millisecond, Attackers: []string{"127.0.0.2"},
	})
	if err != nil {
		t.Fatal(err)
	}
	names := append(bench.AttackNames(), "all at once")
	if len(a.Phases) != len(names) {
		t.Fatalf("%d phases", len(a.Phases))
	}
	for i, p := range a.Phases {
		if p.Attack != names[i] || p.Quiet.P50 <= 0 || p.Beside.P50 <= 0 || p.Beside.P99 < p.Beside.P50 || p.Ratio <= 0 {
			t.Errorf("phase %d is %+v", i, p)
		}
	}
	text := a.String()
	for _, want := range append(names, "40 entries/s", "p99 ratio") {
		if !strings.Contains(text, want) {
			t.Errorf("the report lacks %q:\n%s", want, text)
		}
	}
	if data, err := json.Marshal(a); err != nil || !strings.Contains(string(data), `"p99_ratio"`) {
		t.Errorf("%s, %v", data, err)
	}
}

// TestAttacksAreWhatTheyAreCalled looks at what a log answers to each.
func TestAttacksAreWhatTheyAreCalled(t *testing.T) {
	for name, want := range map[string]int{"garbage": 400, "wrong signatures": 400, "oversize bodies": 413} {
		answers := make(chan int, 1000)
		url, _ := serve(t, func(h http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				rec := httptest.NewRecorder()
				h.ServeHTTP(rec, r)
				w.WriteHeader(rec.Code)
				select {
				case answers <- rec.Code:
				default: // enough were seen
				}
			})
		})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() {
			_, err := bench.Attack(ctx, bench.AbuseOptions{URL: url, Attacks: []string{name}, Attackers: []string{"127.0.0.2"}})
			done <- err
		}()
		for range 20 {
			if got := <-answers; got != want && got != http.StatusServiceUnavailable { // of too many at a time
				t.Errorf("%s: answered %d; want %d", name, got, want)
			}
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// TestAbuseCountsRefusals of the well-behaved, whose latencies then say nothing.
func TestAbuseCountsRefusals(t *testing.T) {
	var n atomic.Int64
	url, _ := serve(t, func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if n.Add(1)%3 == 0 {
				w.WriteHeader(http.StatusServiceUnavailable)
				return
			}
			h.ServeHTTP(w, r)
		})
	})
	a, err := bench.MeasureAbuse(t.Context(), bench.AbuseOptions{
		URL: url, Clients: 1, Rate: 50, Duration: 200 * time.Millisecond, Settle: time.Millisecond, Attacks: []string{"slow headers"}, Attackers: []string{"127.0.0.2"},
	})
	if err != nil || a.Phases[0].Refused["status 503"] == 0 {
		t.Errorf("%+v, %v", a, err)
	}
}

func TestAbuseRefusesOptions(t *testing.T) {
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	for want, o := range map[string]bench.AbuseOptions{
		"is not an http or https address": {URL: "log.example.com"},
		"is negative":                     {URL: gone.URL, Rate: -1},
		"is not an IP address":            {URL: gone.URL, Attackers: []string{"there"}},
		`there is no attack "tickling"`:   {URL: gone.URL, Attacks: []string{"tickling"}},
		"no entry was accepted":           {URL: gone.URL, Rate: 100, Duration: 20 * time.Millisecond, Settle: time.Millisecond},
	} {
		if _, err := bench.MeasureAbuse(t.Context(), o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v; want %q", err, want)
		}
	}
}
