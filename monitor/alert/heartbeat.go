package alert

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"tallywood/monitor"
)

// HeartbeatOptions configure a Heartbeat.
type HeartbeatOptions struct {
	// URL is asked. It is https, or http to a loopback address; with AllowPrivate any http. The file is
	// read once.
	URL Secret
	// Method is GET or POST; empty: GET.
	Method string
	// AllowPrivate lets the URL's host have an address that is not public.
	AllowPrivate bool
}

// A Heartbeat asks a URL each time there is a sign of life to give.
type Heartbeat struct {
	target *target
	method string
}

var _ monitor.Pulse = (*Heartbeat)(nil)

// OpenHeartbeat checks o and reads what it names.
func OpenHeartbeat(o HeartbeatOptions) (*Heartbeat, error) {
	h := &Heartbeat{method: o.Method}
	if h.method == "" {
		h.method = http.MethodGet
	}
	var errs []error
	if h.method != http.MethodGet && h.method != http.MethodPost {
		errs = append(errs, fmt.Errorf("method %q is neither GET nor POST", o.Method))
	}
	address, err := o.URL.read()
	if err == nil {
		h.target, err = newTarget("heartbeat", address, o.AllowPrivate)
	}
	if err := errors.Join(append(errs, err)...); err != nil {
		return nil, err
	}
	return h, nil
}

// Beat implements monitor.Pulse: a 2xx answer within ten seconds has heard it.
func (h *Heartbeat) Beat(ctx context.Context) error {
	a, err := h.target.ask(ctx, h.method, h.target.url, nil, nil, maxReason)
	if err == nil && !a.ok() {
		err = a.refused(time.Now(), string(a.body))
	}
	if err != nil {
		return hide(fmt.Errorf("giving heartbeat: %w", err), h.target.secrets...)
	}
	return nil
}
