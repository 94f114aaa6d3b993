package stack

import (
	"context"
	"crypto/subtle"
	"fmt"
	"net/http"
	"sync/atomic"

	"tallywood/internal/config"
	"tallywood/internal/keys"
	"tallywood/log/tlog"
)

// A guard is the handler of a log of kind tlog, under the token in force.
type guard struct{ current atomic.Pointer[guarded] }

type guarded struct {
	token string // "": none is wanted
	http.Handler
}

// ServeHTTP implements http.Handler.
func (g *guard) ServeHTTP(w http.ResponseWriter, r *http.Request) { g.current.Load().ServeHTTP(w, r) }

// guardLog puts a token in force.
func (s *Stack) guardLog(l *logPart, token string) error {
	h, err := tlog.New(tlog.Options{Log: l.log, Bucket: s.bucket, Token: token,
		Successor: s.successor(l.cfg.Name), Logger: s.log.With("origin", l.cfg.Origin)})
	if err == nil {
		l.guard.current.Store(&guarded{token, h})
	}
	return err
}

// rereadToken reads the token of a log again, perhaps from another file.
func (s *Stack) rereadToken(l *logPart) func(context.Context, *config.Config) (change, error) {
	return func(_ context.Context, next *config.Config) (change, error) {
		c, ok := next.LogNamed(l.cfg.Name)
		if !ok {
			c = l.cfg
		}
		token, what := "", "none is wanted any more"
		if c.AddToken != "" {
			var err error
			if token, err = keys.ReadToken(c.AddToken); err != nil {
				return change{}, fmt.Errorf("reading add_token: %w", err)
			}
			what = "another is wanted"
		}
		if subtle.ConstantTimeCompare([]byte(token), []byte(l.guard.current.Load().token)) == 1 {
			return change{}, nil
		}
		return change{what: []string{what}, apply: func() error { return s.guardLog(l, token) }}, nil
	}
}
