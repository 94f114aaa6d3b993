package stack

import (
	"cmp"
	"crypto"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"time"

	"tallywood/internal/config"
	"tallywood/internal/keys"
	"tallywood/monitor"
	"tallywood/monitor/alert"
	"tallywood/monitor/rule"
)

// monitorRoutes returns the sinks of m, by name. It reads secrets and templates, and connects to
// nothing. Without the monitor's key nothing may be sent through them.
func monitorRoutes(m *config.Monitor, key crypto.Signer, logger *slog.Logger) (map[string]monitor.Route, error) {
	routes := map[string]monitor.Route{}
	marker, err := markerKey(key)
	errs := []error{err}
	for _, name := range slices.Sorted(maps.Keys(m.Notify)) {
		n := m.Notify[name]
		sink, err := openSink(n, marker, logger)
		if err != nil {
			errs = append(errs, fmt.Errorf("notify %q: %w", name, err))
		} else if p, ok := sink.(interface{ Probe() error }); ok && logger != nil {
			// No reason not to watch, and to tell the other sinks: it may be mended meanwhile.
			if err := p.Probe(); err != nil {
				logger.Warn("a sink could take no event as things are; \"tallywood monitor test-alert\" tries it", "key", name, "err", err)
			}
		}
		r := monitor.Route{Sink: linked(sink, m), Digest: time.Duration(n.Digest), Limit: limit(n)}
		switch n.MinSeverity {
		case "warning":
			r.MinSeverity = rule.Warning
		case "critical":
			r.MinSeverity = rule.Critical
		}
		routes[name] = r
	}
	return routes, errors.Join(errs...)
}

// monitorPulse returns the heartbeat of m, nil if it has none.
func monitorPulse(m *config.Monitor) (monitor.Pulse, time.Duration, error) {
	h := m.Heartbeat
	if h == nil {
		return nil, 0, nil
	}
	pulse, err := alert.OpenHeartbeat(alert.HeartbeatOptions{URL: alert.Secret{File: h.URLFile, Value: h.URL},
		Method: h.Method, AllowPrivate: h.AllowPrivate})
	if err != nil {
		return nil, 0, fmt.Errorf("heartbeat: %w", err)
	}
	return pulse, time.Duration(h.Every), nil
}

// limit returns how many events of an identity n is sent one by one. What people read has a limit
// unless it is off; files, hooks and programs have one if it is set.
func limit(n config.Notify) monitor.Limit {
	switch l := n.Limit; {
	case l != nil && l.Off:
		return monitor.Limit{}
	case l != nil:
		return monitor.Limit{Max: l.Max, Window: cmp.Or(time.Duration(l.Window), time.Hour)}
	case n.SMTP != nil || n.GitHub != nil || n.Webhook != nil && n.Webhook.Template != "":
		return monitor.Limit{Max: 10, Window: time.Hour}
	}
	return monitor.Limit{}
}

func openSink(n config.Notify, marker []byte, logger *slog.Logger) (monitor.Sink, error) {
	switch {
	case n.Webhook != nil:
		w := n.Webhook
		return alert.OpenWebhook(alert.WebhookOptions{URL: alert.Secret{File: w.URLFile, Value: w.URL},
			Secret: alert.Secret{File: w.SecretFile, Value: w.Secret}, Template: w.Template, TemplateFile: w.TemplateFile,
			AllowPrivate: w.AllowPrivate})
	case n.SMTP != nil:
		s := n.SMTP
		return alert.OpenSMTP(alert.SMTPOptions{Server: s.Server, TLS: s.TLS, CAFile: s.CAFile, User: s.User,
			Password: alert.Secret{File: s.PasswordFile, Value: s.Password}, From: s.From, To: s.To, Log: logger})
	case n.GitHub != nil:
		g := n.GitHub
		return alert.OpenGitHub(alert.GitHubOptions{Repository: g.Repository, Token: alert.Secret{File: g.TokenFile, Value: g.Token},
			API: g.API, Label: g.Label, MarkerKey: marker, AllowPrivate: g.AllowPrivate})
	case n.Exec != nil:
		x := n.Exec
		return alert.OpenExec(alert.ExecOptions{Command: x.Command, Timeout: time.Duration(x.Timeout), Env: x.Env})
	case n.Atom != nil:
		a := n.Atom
		return alert.NewAtom(alert.AtomOptions{Path: a.Path, URL: a.URL, Entries: a.Entries})
	}
	return alert.NewJSONL(n.JSONL)
}

// markerKey derives a key for the marks of issues from the monitor's own, zeros from none.
func markerKey(key crypto.Signer) ([]byte, error) {
	if key == nil {
		return make([]byte, 32), nil
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("deriving a key for the marks of issues: %w", err)
	}
	return hkdf.Key(sha256.New, der, nil, "tallywood: marks of issues", 32)
}

// OpenSinks returns the sinks of a monitor configuration, to try them. It needs no state and makes
// none.
func OpenSinks(m *config.Monitor, logger *slog.Logger) (map[string]monitor.Route, error) {
	signer, err := keys.ReadSigner(filepath.Join(m.State, monitorKeyFile))
	if errors.Is(err, fs.ErrNotExist) { // not begun yet: marks need to be known again by nobody
		signer, err = newNoteKey()
	}
	if err != nil {
		return nil, fmt.Errorf("the monitor's key: %w", err)
	}
	return monitorRoutes(m, signer, logger)
}
