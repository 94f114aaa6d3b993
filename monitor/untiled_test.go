package monitor_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"tallywood/internal/bubble"
	"tallywood/internal/keys"
	"tallywood/monitor"
	"tallywood/monitor/rule"
)

// An oldLog is a certificate log of RFC 6962: it has an API, and no checkpoint.
type oldLog struct {
	t   *testing.T
	key *ecdsa.PrivateKey
	url string

	mu      sync.Mutex
	asked   int
	answers func(w http.ResponseWriter, r *http.Request) bool // before it; nil: no
}

func newOldLog(t *testing.T) *oldLog {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	l := &oldLog{t: t, key: key}
	server := httptest.NewServer(l)
	t.Cleanup(server.Close)
	l.url = server.URL + "/2022"
	return l
}

func (l *oldLog) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.asked++
	switch {
	case l.answers != nil && l.answers(w, r):
	case r.URL.Path == "/2022/ct/v1/get-sth":
		w.Write(l.treeHead(l.t, l.key))
	default:
		http.NotFound(w, r)
	}
}

// treeHead answers get-sth (RFC 6962, sections 3.5 and 4.3).
func (l *oldLog) treeHead(t *testing.T, key *ecdsa.PrivateKey) []byte {
	root := sha256.Sum256([]byte("tree"))
	at := uint64(time.Now().UnixMilli())
	signed := append([]byte{0, 1}, binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, at), 77)...)
	digest := sha256.Sum256(append(signed, root[:]...))
	sig, err := ecdsa.SignASN1(rand.Reader, key, digest[:])
	if err != nil {
		t.Error(err)
	}
	text, err := json.Marshal(map[string]any{"tree_size": 77, "timestamp": at, "sha256_root_hash": root[:],
		"tree_head_signature": append([]byte{4, 3, byte(len(sig) >> 8), byte(len(sig))}, sig...)})
	if err != nil {
		t.Error(err)
	}
	return text
}

// set has f answer before the log does, unless it is nil.
func (l *oldLog) set(f func(w http.ResponseWriter, r *http.Request) bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.answers = f
}

func (l *oldLog) config(t *testing.T) monitor.Log {
	spki, err := x509.MarshalPKIXPublicKey(l.key.Public())
	if err != nil {
		t.Fatal(err)
	}
	const origin = "ct.localhost/2022"
	return monitor.Log{Origin: origin, URL: l.url, Kind: monitor.KindCT, VKey: keys.TreeHeadVKey(origin, sha256.Sum256(spki), spki), NoPolicy: true}
}

// TestCertificateLogWithoutTiles is named by trust material beside one that can be followed: it is left
// out, and that is said, also by init and by a later process that does not ask again.
func TestCertificateLogWithoutTiles(t *testing.T) {
	t.Parallel()
	l, old := newTestLog(t, "log.localhost"), newOldLog(t)
	r := newTestRoster(t, l)
	r.logs["ct.localhost/2022"] = old.config(t)
	s := enrolled(t, r)
	r.list(1, listed{Origin: l.origin}, listed{Origin: "ct.localhost/2022"})
	left := func(res monitor.Result) string {
		if len(res.Logs) != 1 || len(res.Trust[0].LeftOut) != 1 {
			t.Fatalf("logs %+v, trust %+v", res.Logs, res.Trust)
		}
		return res.Trust[0].LeftOut[0].Log + " " + res.Trust[0].LeftOut[0].Why
	}
	if b := s.begin(); len(b) != 1 || b[0].Origin != l.origin {
		t.Fatalf("begun %+v", b)
	}
	for range 2 {
		if got := left(s.expect(rule.Clean)); !strings.HasPrefix(got, "ct.localhost/2022 ") || !strings.Contains(got, "RFC 6962") {
			t.Errorf("left out: %q", got)
		}
	}
	if old.asked != 2 {
		t.Errorf("it was asked %d times", old.asked)
	}
}

// TestCertificateLogThatIsDownAtFirst is followed, and told of, until it answers that it has no tiles and
// what was told of it is delivered: then it is left out, and nobody asks it again.
func TestCertificateLogThatIsDownAtFirst(t *testing.T) {
	t.Parallel()
	l, old := newTestLog(t, "log.localhost"), newOldLog(t)
	r := newTestRoster(t, l)
	r.logs["ct.localhost/2022"] = old.config(t)
	hosts := byHost{strings.TrimPrefix(l.server.URL, "http://"): l, strings.TrimSuffix(strings.TrimPrefix(old.url, "http://"), "/2022"): old}
	bubble.Test(t, func(t *testing.T) {
		sink := &timedSink{until: time.Now().Add(2 * time.Hour), fail: func(context.Context, *timedSink, monitor.Event) error { return errors.New("down") }}
		c := &clockwork{station: enrolled(t, r)}
		c.options.Poll, c.options.HTTP = 2*time.Minute, &http.Client{Transport: direct{hosts}}
		c.options.Routes = map[string]monitor.Route{"all": {Sink: sink}}
		l.publish()
		r.list(1, listed{Origin: "ct.localhost/2022"}, listed{Origin: l.origin, End: time.Now().Add(-time.Hour)})
		old.set(func(w http.ResponseWriter, _ *http.Request) bool {
			http.Error(w, "down", http.StatusBadGateway)
			return true
		})
		m, err := monitor.New(c.options)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		ended := make(chan error, 1)
		go func() { ended <- m.Run(ctx) }()
		pass := func(d time.Duration, logs, leftOut, told int) {
			t.Helper()
			time.Sleep(d)
			synctest.Wait()
			if s, left, got := m.Status(), m.Trust()[0].LeftOut, sink.events(); len(s) != logs || len(left) != leftOut || len(got) != told {
				t.Fatalf("logs %+v, left out %+v, told %+v", s, left, got)
			}
		}
		pass(time.Hour, 2, 0, 0)
		old.set(nil)
		pass(time.Hour-time.Second, 2, 0, 0) // nobody was told yet
		pass(3*time.Hour, 1, 1, 1)
		if e := sink.events()[0]; e.Rule != rule.LogUnreachable || e.Origin != "ct.localhost/2022" {
			t.Errorf("event %+v", e)
		}
		asked := old.asked
		pass(6*time.Hour, 1, 1, 1)
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		c.expect(rule.Clean)
		if old.asked != asked {
			t.Errorf("it was asked %d times more", old.asked-asked)
		}
	})
}

// TestCertificateLogThatOnlyLooksSo is followed, and told of, if anything but the log itself says that
// it has no tiles.
func TestCertificateLogThatOnlyLooksSo(t *testing.T) {
	t.Parallel()
	stranger, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, answers := range map[string]func(l *oldLog) func(w http.ResponseWriter, r *http.Request) bool{
		"another key": func(l *oldLog) func(http.ResponseWriter, *http.Request) bool {
			return func(w http.ResponseWriter, r *http.Request) bool {
				sth := strings.HasSuffix(r.URL.Path, "get-sth")
				if sth {
					w.Write(l.treeHead(t, stranger))
				}
				return sth
			}
		},
		"nothing there": func(*oldLog) func(http.ResponseWriter, *http.Request) bool {
			return func(w http.ResponseWriter, r *http.Request) bool { http.NotFound(w, r); return true }
		},
		"down": func(*oldLog) func(http.ResponseWriter, *http.Request) bool {
			return func(w http.ResponseWriter, r *http.Request) bool {
				down := strings.HasSuffix(r.URL.Path, "checkpoint")
				if down {
					http.Error(w, "down", http.StatusBadGateway)
				}
				return down
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, old := newTestLog(t, "log.localhost"), newOldLog(t)
			old.answers = answers(old)
			r := newTestRoster(t, l)
			r.logs["ct.localhost/2022"] = old.config(t)
			s := enrolled(t, r)
			r.list(1, listed{Origin: l.origin}, listed{Origin: "ct.localhost/2022"})
			if res := s.expect(rule.Operational, rule.LogUnreachable); len(res.Logs) != 2 || len(res.Trust[0].LeftOut) != 0 {
				t.Errorf("logs %+v, trust %+v", res.Logs, res.Trust)
			}
		})
	}
}

// TestTrustMaterialWithoutAnyLogToFollow is no peace: nothing at all is watched. It is told, and over as
// soon as there is a log.
func TestTrustMaterialWithoutAnyLogToFollow(t *testing.T) {
	l := newTestLog(t, "log.localhost")
	r := newTestRoster(t, l)
	s := enrolled(t, r)
	r.list(1, listed{Origin: "v1.localhost"})
	res := s.expect(rule.Operational, rule.LogUnreachable)
	if got := res.Trust[0]; !strings.Contains(got.Err, "no log that can be followed") || len(got.LeftOut) != 1 {
		t.Errorf("trust %+v", got)
	}
	s.expect(rule.Operational) // still so, told once
	if _, err := s.init(); monitor.ClassOf(err) != rule.Operational || !strings.Contains(err.Error(), "no log that can be followed") {
		t.Errorf("init: %v", err)
	}
	r.list(2, listed{Origin: "v1.localhost"}, listed{Origin: l.origin})
	s.options.LogRules = nil
	s.expect(rule.Clean)
	r.list(3) // the log stays, whoever no longer names it
	s.expect(rule.Clean)
}
