package stack

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"strings"
	"sync"
	"time"

	"tallywood/storage"
)

const (
	// storageInterval is for how long an answer of the storage is believed, so that probes cost nothing.
	storageInterval = 5 * time.Second
	// storageTimeout is how long a probe waits for it.
	storageTimeout = 2 * time.Second
	// staleAfter is the age of a checkpoint's newest cosignature from which on it is stale: three
	// times the interval in which an idle log has it cosigned anew.
	staleAfter = 30 * time.Minute
	// pendingSlack and pendingCT are how long entries may wait for a quorum, the first in addition to
	// what the log's own timeout and intervals allow. Then the log takes no more of them.
	pendingSlack = 5 * time.Second
	pendingCT    = 60 * time.Second
	// maxReason bounds what a probe is told, in bytes.
	maxReason = 400
)

// readiness is what /readyz answers.
type readiness struct {
	Ready bool       `json:"ready"`
	Logs  []logState `json:"logs"`
}

// logState is the readiness of one log.
type logState struct {
	Log     string `json:"log"`
	Ready   bool   `json:"ready"`
	Reason  string `json:"reason,omitempty"` // why it is not
	Role    string `json:"role"`             // leader or standby
	Size    int64  `json:"size"`             // of the newest published checkpoint
	Pending int64  `json:"pending"`          // entries that are durable and not published
	// CosignedAge is the age of the newest cosignature, in seconds; nil without one.
	CosignedAge *float64 `json:"cosigned_age_seconds,omitempty"`
}

// serveReady answers whether this process can do all that it is for, and if not, why.
func (s *Stack) serveReady(w http.ResponseWriter, r *http.Request) {
	state := s.readiness(r.Context())
	status := http.StatusOK
	if !state.Ready {
		status = http.StatusServiceUnavailable
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	// The prober may be gone; there is no one left to tell.
	_ = json.NewEncoder(w).Encode(state)
}

func (s *Stack) readiness(ctx context.Context) readiness {
	all := readiness{Ready: true, Logs: []logState{}}
	set := s.current()
	for _, l := range set.logs {
		if set.succeeds(l) {
			continue // the log whose place it is to take serves
		}
		state := l.state(now())
		err := l.fault(now())
		if err == nil {
			err = l.storage.ask(ctx, s.bucket, "logs/"+l.cfg.Name+"/checkpoint")
		}
		if err != nil {
			state.Ready, all.Ready, state.Reason = false, false, bounded(err.Error(), maxReason)
		}
		all.Logs = append(all.Logs, state)
	}
	return all
}

// bounded returns text, or a beginning of about n bytes.
func bounded(text string, n int) string {
	if len(text) <= n {
		return text
	}
	return strings.ToValidUTF8(text[:n], "") + "…"
}

// state describes a log that is ready.
func (l *logPart) state(at time.Time) logState {
	s := l.log.Stats()
	out := logState{Log: l.cfg.Name, Ready: true, Role: "standby", Size: s.Published, Pending: max(s.Committed-s.Published, 0)}
	if s.Leading {
		out.Role = "leader"
	}
	if cosigned, ok := l.cosigned(); ok {
		age := max(at.Sub(cosigned), 0).Seconds()
		out.CosignedAge = &age
	}
	return out
}

// cosigned returns the time of the newest cosignature of the published checkpoint.
func (l *logPart) cosigned() (newest time.Time, ok bool) {
	cp, ok := l.log.Published()
	if !ok {
		return newest, false
	}
	for _, c := range cp.Cosignatures() {
		if c.Time.After(newest) {
			newest = c.Time
		}
	}
	return newest, !newest.IsZero()
}

// fault returns why the log is not ready as far as this process knows by itself.
func (l *logPart) fault(at time.Time) error {
	if err := l.log.Ready(); err != nil || l.frozen() {
		return err
	}
	s := l.log.Stats()
	bound := pendingCT
	if l.cfg.Kind != "ct" {
		bound = time.Duration(l.cfg.QuorumTimeout+l.cfg.CommitInterval+l.cfg.PublishInterval) + pendingSlack
	}
	if wait := at.Sub(s.OldestUnpublished); !s.OldestUnpublished.IsZero() && wait > bound {
		return fmt.Errorf("entries have waited %s for a checkpoint that satisfies the policy; at most %s is expected",
			wait.Round(time.Second), bound)
	}
	if cosigned, ok := l.cosigned(); ok && at.Sub(cosigned) > staleAfter {
		return fmt.Errorf("the newest cosignature is of %s, more than %s ago", cosigned.UTC().Format(time.RFC3339), staleAfter)
	}
	return nil
}

// frozen reports whether the log takes no entries any more: its last checkpoint is as fresh as it
// will ever be.
func (l *logPart) frozen() bool { return l.log.Frozen() != nil }

// A storageProbe asks the storage of a log, now and then, whether it answers.
type storageProbe struct {
	mu    sync.Mutex // held while it is asked: those who come meanwhile share the answer
	asked time.Time
	err   error
}

func (p *storageProbe) ask(ctx context.Context, b storage.Bucket, key string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if time.Since(p.asked) < storageInterval {
		return p.err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storageTimeout)
	defer cancel()
	_, _, err := b.Get(ctx, key, storage.Range{})
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if err != nil {
		err = fmt.Errorf("the storage does not answer: %w", err)
	}
	p.asked, p.err = time.Now(), err
	return err
}
