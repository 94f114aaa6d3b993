package scenario_test

import (
	"bytes"
	"cmp"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"tallywood/internal/bubble"
	"tallywood/internal/config"
	"tallywood/internal/mint"
	"tallywood/internal/stack"
	"tallywood/log/entry"
	"tallywood/monitor"
	"tallywood/monitor/rule"
)

// begin is when stories begin: a Monday, at nine.
var begin = time.Date(2026, 6, 1, 9, 0, 0, 0, time.UTC)

const (
	origin   = "log.example.org" // of the signature log
	ctOrigin = "ct.example.org"  // of the certificate log
	p256     = entry.ECDSAP256
)

// A site serves the files of one log. Its connections are not kept: the clock of a story stands still
// while a goroutine of it waits for the network.
type site struct {
	files mint.Memory
	url   string

	mu     sync.Mutex
	answer func(w http.ResponseWriter, r *http.Request) bool // asked first; false: not answered
}

func (s *site) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Connection", "close")
	s.mu.Lock()
	answer := s.answer
	s.mu.Unlock()
	if answer == nil || !answer(w, r) {
		s.files.ServeHTTP(w, r)
	}
}

// intercept has f answer requests before the files do; nil ends that.
func (s *site) intercept(f func(w http.ResponseWriter, r *http.Request) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer = f
}

// A stage is where a story plays: two logs, one of signatures and one of the certificates that made
// them, what is beside them, and a monitor that follows both. Its clock is that of a synctest bubble.
type stage struct {
	t     *testing.T
	dir   string
	world *mint.World

	log, ct         *mint.Log
	logSite, ctSite *site
	extra           *site       // for whatever else a story serves
	settings        string      // of the configuration, beside state, logs, trust and notify
	onLog           string      // further keys of the signature log in the configuration
	moreLogs        string      // further logs in it
	listed          []*mint.Log // by trust material
	begins          int64       // first entry that the monitor reads
	issued          int64       // certificates
	told            []monitor.Event
	classes         []rule.Class // of the checks so far
	read            int          // bytes of the file of events
	events          string       // name of that file; empty: events.jsonl
}

// play runs a story on a stage of its own, with further settings of the configuration.
func play(t *testing.T, settings string, story func(*stage)) *stage {
	t.Helper()
	s := &stage{logSite: newSite(t), ctSite: newSite(t), extra: newSite(t), settings: settings}
	bubble.Test(t, func(t *testing.T) {
		time.Sleep(time.Until(begin))
		s.t, s.dir = t, t.TempDir()
		s.build()
		story(s)
	})
	return s
}

func newSite(t *testing.T) *site {
	s := &site{}
	server := httptest.NewUnstartedServer(s)
	// A connection that was made for a request which is not sent any more, as another one has failed, would
	// be kept, and the clock would stand still for ever.
	server.Config.ReadHeaderTimeout = 30 * time.Second
	server.Start()
	t.Cleanup(server.Close)
	s.url = server.URL
	return s
}

// build makes the logs, empty and published, and the files that the configuration names.
func (s *stage) build() {
	s.t.Helper()
	s.world = must(mint.New(1))(s.t)
	s.log = must(s.world.Log(origin, mint.Rekor, &s.logSite.files))(s.t)
	s.ct = must(s.world.Log(ctOrigin, mint.CT, &s.ctSite.files))(s.t)
	s.write("log.policy", []byte(s.log.Policy()))
	s.write("ct.policy", []byte(s.ct.Policy()))
	s.write("authority.pem", s.world.CA.PEM())
	key := must(x509.MarshalPKIXPublicKey(s.world.CT.Public()))(s.t)
	s.write("ct-keys.pem", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: key}))
	s.publish()
}

// must returns what turns a result and its error into the result, or the end of the test.
func must[T any](v T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// write makes a file in the stage's directory and returns its path.
func (s *stage) write(name string, data []byte) string {
	s.t.Helper()
	path := filepath.Join(s.dir, name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		s.t.Fatal(err)
	}
	return path
}

// replace has a word in the settings stand for a value, as it is printed with %x, or a text.
func (s *stage) replace(word string, value any) {
	text, ok := value.(string)
	if !ok {
		text = fmt.Sprintf("%x", value)
	}
	s.settings = strings.ReplaceAll(s.settings, word, text)
}

// configuration returns the monitor's configuration.
func (s *stage) configuration() string {
	var b strings.Builder
	fmt.Fprintf(&b, "state: ./state\nlogs:\n")
	fmt.Fprintf(&b, "  - {origin: %s, url: %q, vkey: %q, policy: log.policy, start: %d%s}\n", origin, s.logSite.url, s.log.VKey, s.begins, s.onLog)
	fmt.Fprintf(&b, "  - {origin: %s, url: %q, vkey: %q, policy: ct.policy, kind: ct, start: %d}\n", ctOrigin, s.ctSite.url, s.ct.VKey, s.begins)
	b.WriteString(s.moreLogs)
	b.WriteString("cas: authority.pem\nct_keys: [ct-keys.pem]\nnotify: {all: {jsonl: events.jsonl}}\n")
	b.WriteString(strings.NewReplacer("EXTRA", s.extra.url, "DIR", s.dir).Replace(s.settings))
	return b.String()
}

// issue makes an entry with a certificate that is valid from now on, unless it says otherwise, and
// that is the next of the certificate log.
func (s *stage) issue(e mint.Entry) mint.Made {
	s.t.Helper()
	if e.NotBefore.IsZero() {
		e.NotBefore = time.Now()
	}
	made := must(s.world.Make(e, s.issued))(s.t)
	s.issued++
	return made
}

// logCertificate logs a certificate in the certificate log.
func (s *stage) logCertificate(m mint.Made) {
	s.t.Helper()
	leaf := must(m.TileLeaf())(s.t)
	if err := s.ct.Append(leaf); err != nil {
		s.t.Fatal(err)
	}
}

// sign logs entries in the signature log, and their certificates in the other.
func (s *stage) sign(entries ...mint.Entry) []mint.Made {
	s.t.Helper()
	var all []mint.Made
	for _, e := range entries {
		m := s.issue(e)
		s.logCertificate(m)
		s.logEntry(m.Bytes)
		all = append(all, m)
	}
	return all
}

// logEntry logs an entry in the signature log alone.
func (s *stage) logEntry(e []byte) {
	s.t.Helper()
	if err := s.log.Append(e); err != nil {
		s.t.Fatal(err)
	}
}

// publish publishes both logs, now.
func (s *stage) publish() {
	s.t.Helper()
	for _, l := range []*mint.Log{s.log, s.ct} {
		if err := l.Publish(time.Now()); err != nil {
			s.t.Fatal(err)
		}
	}
}

// after lets time go by, in which the logs are fresh and looked at every five minutes.
func (s *stage) after(d time.Duration) { s.steps(d, 5*time.Minute) }

// steps lets time go by, in which the logs are looked at that often.
func (s *stage) steps(d, every time.Duration) {
	s.t.Helper()
	for d > 0 {
		step := min(d, every)
		time.Sleep(step)
		d -= step
		s.look()
	}
}

// look publishes and has the monitor read what there is.
func (s *stage) look() {
	s.t.Helper()
	s.publish()
	s.check()
}

// check has the monitor of the configuration read the logs once, as they are served, and notes what it
// told.
func (s *stage) check() {
	s.t.Helper()
	cfg, err := config.LoadMonitor(s.write("monitor.yaml", []byte(s.configuration())))
	if err != nil {
		s.t.Fatal(err)
	}
	m, err := stack.OpenMonitor(cfg, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	r, err := m.Check(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	s.classes = append(s.classes, r.Class)
	if r.Undelivered > 0 || r.GivenUp > 0 {
		s.t.Errorf("%d events are not delivered, %d were given up", r.Undelivered, r.GivenUp)
	}
	s.readEvents()
}

// readEvents reads what was delivered since it last did.
func (s *stage) readEvents() {
	s.t.Helper()
	data, err := os.ReadFile(filepath.Join(s.dir, cmp.Or(s.events, "events.jsonl")))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.t.Fatal(err)
	}
	dec := json.NewDecoder(bytes.NewReader(data[s.read:]))
	for {
		var e monitor.Event
		if err := dec.Decode(&e); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			s.t.Fatal(err)
		}
		s.told = append(s.told, e)
	}
	s.read = len(data)
}

// fired returns the events for which a rule is a reason.
func (s *stage) fired(id rule.ID) []monitor.Event {
	var out []monitor.Event
	for _, e := range s.told {
		if e.Rule == id || slices.ContainsFunc(e.Reasons, func(r rule.Reason) bool { return r.Rule == id }) {
			out = append(out, e)
		}
	}
	return out
}

// alerts returns the events that are more than information.
func (s *stage) alerts() []monitor.Event {
	return slices.DeleteFunc(slices.Clone(s.told), func(e monitor.Event) bool { return e.Severity == rule.Info })
}

// summary lists events, a line each.
func summary(events []monitor.Event) string {
	var b strings.Builder
	for _, e := range events {
		fmt.Fprintf(&b, "\n    %s %s: %s (%q, index %d)", e.Severity, e.Rule, e.Summary, e.Identity, e.Index)
		for _, r := range e.Reasons {
			fmt.Fprintf(&b, "\n        %s %s", r.Severity, r.Rule)
		}
	}
	if len(events) == 0 {
		return " nothing"
	}
	return b.String()
}
