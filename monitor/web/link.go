package web

import (
	"context"
	"strings"

	"tallywood/monitor"
)

// Link returns a sink that passes events on to another one, each with the URL of its page. base is the
// URL at which readers get the directory of the pages.
func Link(to monitor.Sink, base string) monitor.Sink {
	return linker{to, strings.TrimRight(base, "/") + "/"}
}

type linker struct {
	to   monitor.Sink
	base string // ends in a slash
}

// Send implements monitor.Sink.
func (l linker) Send(ctx context.Context, e monitor.Event) error {
	switch {
	case e.Test: // nothing has happened that there would be a page of
		e.Page = l.base + "index.html"
	case e.Count > 0:
		e.Page = l.base + "alerts.html"
		e.Group = append([]monitor.Member(nil), e.Group...) // it is in the monitor's state
		for i := range e.Group {
			e.Group[i].Page = l.page(e.Group[i].ID)
		}
	default:
		e.Page = l.page(e.ID)
	}
	return l.to.Send(ctx, e)
}

// page returns the URL of an alert's page, empty if it can have none.
func (l linker) page(id string) string {
	if !idFormat.MatchString(id) {
		return ""
	}
	return l.base + "alerts/" + id + ".html"
}
