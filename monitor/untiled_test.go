package monitor_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"tallywood/internal/keys"
	"tallywood/monitor"
	"tallywood/monitor/rule"
)

// An oldLog is a certificate log of RFC 6962: it has an API, and no checkpoint.
type oldLog struct {
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
	l := &oldLog{key: key}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.asked++
		switch {
		case l.answers != nil && l.answers(w, r):
		case r.URL.Path == "/2022/ct/v1/get-sth":
			w.Write(l.treeHead(t, l.key))
		default:
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(server.Close)
	l.url = server.URL + "/2022"
	return l
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
