package web_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tallywood/monitor"
	"tallywood/monitor/web"
)

// kept is a sink that keeps what it gets.
type kept struct{ events []monitor.Event }

func (k *kept) Send(_ context.Context, e monitor.Event) error {
	k.events = append(k.events, e)
	return nil
}

// TestAlertsLinkToTheirPages follows the links that another sink is given.
func TestAlertsLinkToTheirPages(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	sink := &kept{}
	s.options.Routes["alice"] = monitor.Route{Sink: web.Link(sink, "https://alerts.example.org/monitor/")}
	s.add(release("v1.0.0"), login(other))
	s.look()
	if len(sink.events) == 0 {
		t.Fatal("nobody was told anything")
	}
	for _, e := range sink.events {
		name, ok := strings.CutPrefix(e.Page, "https://alerts.example.org/monitor/")
		if _, err := os.Stat(filepath.Join(s.pages.Dir, filepath.FromSlash(name))); !ok || err != nil || name != "alerts/"+e.ID+".html" {
			t.Errorf("event %s links to %q: %v", e.ID, e.Page, err)
		}
	}
	first := sink.events[0]
	for _, c := range []struct {
		is   monitor.Event
		want string
	}{
		{monitor.Event{ID: first.ID, Test: true}, "https://alerts.example.org/monitor/index.html"},
		{monitor.Event{ID: strings.Repeat("0", 32), Count: 2, Group: []monitor.Member{{ID: first.ID}, {ID: "../x"}}}, "https://alerts.example.org/monitor/alerts.html"},
		{monitor.Event{ID: "../../x"}, ""},
	} {
		given := c.is
		given.Group = append([]monitor.Member(nil), c.is.Group...)
		if err := web.Link(sink, "https://alerts.example.org/monitor").Send(t.Context(), given); err != nil {
			t.Fatal(err)
		}
		got := sink.events[len(sink.events)-1]
		if got.Page != c.want {
			t.Errorf("%+v links to %q; want %q", c.is, got.Page, c.want)
		}
		if len(got.Group) > 0 && (got.Group[0].Page != first.Page || got.Group[1].Page != "" || given.Group[0].Page != "") {
			t.Errorf("members %+v, of which were given %+v", got.Group, given.Group)
		}
	}
}
