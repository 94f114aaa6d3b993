package stack_test

import (
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"testing"
	"time"

	"tallywood/internal/stack"
	"tallywood/monitor"
	"tallywood/monitor/rule"
)

func TestPageShowsCriticalAndNewestAlerts(t *testing.T) {
	alert := func(id string, severity rule.Severity, minute int) monitor.Event {
		return monitor.Event{ID: id, Severity: severity, Time: time.Date(2026, 1, 1, 0, minute, 0, 0, time.UTC)}
	}
	// Each log has its newest first. The first one alone would fill the page with what is old.
	busy, quiet := monitor.LogStatus{}, monitor.LogStatus{}
	for i := range 20 {
		busy.Alerts = append(busy.Alerts, alert(fmt.Sprintf("old-%d", i), rule.Info, 30-i))
	}
	quiet.Alerts = []monitor.Event{alert("newest", rule.Warning, 50), alert("second", rule.Critical, 40), alert("first", rule.Critical, 1)}
	got := stack.LastAlerts([]monitor.LogStatus{busy, quiet})
	if len(got) != stack.MaxAlerts {
		t.Fatalf("got %d alerts", len(got))
	}
	for i, want := range []string{"second", "first", "newest", "old-0", "old-1"} {
		if got[i].ID != want {
			t.Errorf("alert %d is %q; want %q", i, got[i].ID, want)
		}
	}
}

func TestHealthzAnswersAsFulcioDoes(t *testing.T) {
	w := httptest.NewRecorder()
	stack.Routes().ServeHTTP(w, httptest.NewRequest("GET", "/healthz", nil))
	var body struct{ Status string }
	if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil || w.Code != 200 || body.Status != "SERVING" || w.Header().Get("Content-Type") != "application/json" {
		t.Errorf("got %d %q %v: %v", w.Code, w.Body, w.Header(), err)
	}
}
