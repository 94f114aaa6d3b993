package web_test

import (
	"context"
	"encoding/json"
	"fmt"
	"html"
	"io/fs"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"tallywood/internal/mint"
	"tallywood/monitor"
	"tallywood/monitor/rule"
	"tallywood/monitor/web"
	"tallywood/storage/mem"
	"tallywood/witness/policy"
)

const (
	alice  = "alice@example.org"
	wanted = "https://accounts.example.org"
	other  = "https://login.example.net"
)

// A scene is a log, a monitor on it and the pages that it writes.
type scene struct {
	t       testing.TB
	world   *mint.World
	files   mint.Memory
	log     *mint.Log
	options monitor.Options
	pages   web.Options
}

func newScene(t testing.TB) *scene {
	t.Helper()
	s := &scene{t: t}
	var err error
	if s.world, err = mint.New(1); err != nil {
		t.Fatal(err)
	}
	if s.log, err = s.world.Log("log2026.example.org", mint.Rekor, &s.files); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(&s.files)
	t.Cleanup(server.Close)
	p, err := policy.Parse([]byte(s.log.Policy()))
	if err != nil {
		t.Fatal(err)
	}
	rules, err := rule.New(rule.Options{Identities: []rule.Identity{
		{Name: "tool releases", GitHub: "example/tool", Expect: rule.Expect{Issuers: []string{mint.GitHubIssuer}}},
		{Name: "Alice <at work>", Email: alice, Expect: rule.Expect{Issuers: []string{wanted}}, Notify: []string{"alice"}},
		{Name: "anybody", Domain: "nobody.example"},
	}})
	if err != nil {
		t.Fatal(err)
	}
	s.options = monitor.Options{State: mem.New(), EvidenceDir: filepath.Join(t.TempDir(), "evidence"), Rules: rules,
		Logs:   []monitor.Log{{Origin: s.log.Origin, URL: server.URL, Kind: monitor.KindRekor, VKey: s.log.VKey, Policy: p}},
		Routes: map[string]monitor.Route{"alice": {Sink: deaf{}}}}
	dir := t.TempDir()
	s.pages = web.Options{Dir: filepath.Join(dir, "pages"), Handled: filepath.Join(dir, "handled.txt"), Identities: []web.Identity{
		{Name: "tool releases", Watches: "github: example/tool", Expects: []web.Expect{{Field: "issuers", Values: []string{mint.GitHubIssuer}}}},
		{Name: "Alice <at work>", Watches: "email: " + alice, Expects: []web.Expect{{Field: "issuers", Values: []string{wanted}}}, Rules: []string{"id.seen"}},
		{Name: "anybody", Watches: "domain: nobody.example"},
	}}
	return s
}

// deaf is a sink that takes everything.
type deaf struct{}

func (deaf) Send(context.Context, monitor.Event) error { return nil }

// add logs entries.
func (s *scene) add(entries ...mint.Entry) {
	s.t.Helper()
	for _, e := range entries {
		made, err := s.world.Make(e, s.log.Size())
		if err == nil {
			err = s.log.Append(made.Bytes)
		}
		if err != nil {
			s.t.Fatal(err)
		}
	}
}

// look publishes the log and runs a monitor with pages once.
func (s *scene) look() monitor.Result {
	s.t.Helper()
	if err := s.log.Publish(time.Now()); err != nil {
		s.t.Fatal(err)
	}
	pages, err := web.New(s.pages)
	if err != nil {
		s.t.Fatal(err)
	}
	o := s.options
	o.Display = pages
	o.Routes = map[string]monitor.Route{"alice": s.options.Routes["alice"], "pages": {Sink: pages, Always: true}}
	m, err := monitor.New(o)
	if err != nil {
		s.t.Fatal(err)
	}
	r, err := m.Check(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	return r
}

func (s *scene) read(name string) string {
	s.t.Helper()
	data, err := os.ReadFile(filepath.Join(s.pages.Dir, filepath.FromSlash(name)))
	if err != nil {
		s.t.Fatal(err)
	}
	return string(data)
}

// text returns what a page says, without its tags and its head.
func (s *scene) text(name string) string {
	s.t.Helper()
	_, body, ok := strings.Cut(s.read(name), "<main id=\"main\">")
	if !ok {
		s.t.Fatalf("%s has no main part", name)
	}
	return html.UnescapeString(strings.Join(strings.Fields(regexp.MustCompile(`<[^>]*>`).ReplaceAllString(body, " ")), " "))
}

func (s *scene) says(name string, texts ...string) {
	s.t.Helper()
	page := s.text(name)
	for _, want := range texts {
		if !strings.Contains(page, want) {
			s.t.Errorf("%s does not say %q:\n%s", name, want, page)
		}
	}
}

func release(tag string) mint.Entry {
	c := mint.Run{Repository: "example/tool", Ref: "refs/tags/" + tag}.GitHub()
	c.NotBefore = time.Now()
	return mint.Entry{Certificate: c}
}

func login(issuer string) mint.Entry {
	c := mint.ForEmail(alice, issuer)
	c.NotBefore = time.Now()
	return mint.Entry{Certificate: c}
}

// TestPagesSayThatAllIsWell lets a log be used as expected.
func TestPagesSayThatAllIsWell(t *testing.T) {
	s := newScene(t)
	old := release("v1.4.0")
	old.Lifetime = 48 * time.Hour // so that it does not say when it was used
	s.add(s.world.Anybody(0), old)
	s.look()
	s.says("index.html", "All is well", "The log is in order, and nothing unexplained was found for the 3 identities.",
		"Not used in 30 days; last v1.4.0 before this monitor began to watch.", "Not used in 30 days; never seen.")
	s.add(release("v1.4.1"), release("v1.4.2"), s.world.Anybody(4))
	s.look()
	s.says("index.html", "All is well", "2 signatures in 30 days, all explained; last v1.4.2,", "s ago.", "log2026.example.org", "In order", "Last alerts None.")
	s.says("identities/"+web.FileName("tool releases"), "github: example/tool", "issuers "+mint.GitHubIssuer, "v1.4.2", "2 entries a day")
	s.says("logs/"+web.FileName("log2026.example.org"), "In order", "5 entries, 5 of them verified", "are on the newest checkpoint", "are a quorum", s.log.VKey)
	if note := s.read("checkpoints/" + fmt.Sprintf("%x", sha(s.log.Origin))); !strings.HasPrefix(note, "log2026.example.org\n5\n") || note != string(s.files.Get("checkpoint")) {
		t.Errorf("the checkpoint for other monitors is\n%s", note)
	}
	status := s.status()
	if status.State != "fine" || len(status.Needs) > 0 || len(status.Alerts) > 0 || status.Logs[0].Size != 5 || status.Identities[0].Signatures != 2 || status.Identities[0].Ref != "refs/tags/v1.4.2" {
		t.Errorf("status.json says %+v", status)
	}
}

func (s *scene) status() web.Status {
	s.t.Helper()
	var status web.Status
	if err := json.Unmarshal([]byte(s.read("status.json")), &status); err != nil {
		s.t.Fatal(err)
	}
	return status
}

// TestPageOfAnAlertShowsWhatToDo misuses an identity of which another sink alone is told.
func TestPageOfAnAlertShowsWhatToDo(t *testing.T) {
	s := newScene(t)
	s.add(s.world.Anybody(0))
	s.look()
	s.add(login(wanted), login(other))
	r := s.look()
	if len(r.Events) != 1 || r.Undelivered != 0 {
		t.Fatalf("check found %+v", r)
	}
	e := r.Events[0]
	page := "alerts/" + e.ID + ".html"
	s.says(page, "An issuer that you do not expect vouched for the identity.", "critical", "Alice <at work>", "Expected Seen", wanted, other,
		"This was me", "This was not me", "Have verifiers pin the issuer", "echo "+e.ID+" >>", "Entry 2 of a tree of 3", "between ", e.Digest,
		"Mail address subject alternative name "+alice, "Issuer 1.8 "+other, "tallywood show "+e.LogURL+" 2 --vkey "+s.log.VKey, "evidence.json", "entry.bin", "certificate.pem", "checkpoint.txt", "inclusion.tlog-proof.txt")
	for _, name := range []string{"evidence.json", "entry.bin", "certificate.pem", "checkpoint.txt", "inclusion.tlog-proof.txt"} {
		if !strings.Contains(s.read(page), `href="`+e.ID+"/"+name+`"`) || s.read("alerts/"+e.ID+"/"+name) == "" {
			t.Errorf("%s is not there, or not linked", name)
		}
	}
	var event monitor.Event
	if err := json.Unmarshal([]byte(s.read("alerts/"+e.ID+".json")), &event); err != nil || event.ID != e.ID || event.Evidence != "alerts/"+e.ID {
		t.Errorf("the alert as JSON is %+v, %v", event, err)
	}
	s.says("index.html", "One thing needs you", "An issuer that you do not expect", "2 signatures in 30 days, 1 unexplained")
	if status := s.status(); status.State != "action" || len(status.Needs) != 1 || status.Alerts[0].ID != e.ID || status.Alerts[0].Handled {
		t.Errorf("status.json says %+v", status)
	}

	// Said to be dealt with, it does not need anybody any more.
	if err := os.WriteFile(s.pages.Handled, []byte("# by Bob\n\n"+e.ID+" it was me, on a train\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.look()
	s.says("index.html", "All is well", "dealt with")
	s.says(page, "dealt with")
	if status := s.status(); status.State != "fine" || !status.Alerts[0].Handled {
		t.Errorf("status.json says %+v", status)
	}
	if err := os.WriteFile(s.pages.Handled, []byte("all of them\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.look()
	s.says("index.html", "line 1 of "+s.pages.Handled+" begins with no alert", "One thing needs you")
}

// TestPagesShowWhatALogDoes has the log go wrong.
func TestPagesShowWhatALogDoes(t *testing.T) {
	s := newScene(t)
	s.add(s.world.Anybody(0), s.world.Anybody(1))
	s.look()
	good := s.files.Get("checkpoint")
	if err := s.files.Put("checkpoint", []byte("<script>alert(1)</script>\n")); err != nil {
		t.Fatal(err)
	}
	pages, err := web.New(s.pages)
	if err != nil {
		t.Fatal(err)
	}
	o := s.options
	o.Display, o.Routes = pages, map[string]monitor.Route{"pages": {Sink: pages, Always: true}, "alice": {Sink: deaf{}}}
	m, err := monitor.New(o)
	if err != nil {
		t.Fatal(err)
	}
	r, err := m.Check(t.Context())
	if err != nil || len(r.Events) != 1 || r.Events[0].Rule != rule.LogBadSignature {
		t.Fatalf("check found %+v, %v", r, err)
	}
	s.says("index.html", "2 things need you", "A checkpoint does not verify under the log's key", "log2026.example.org was not found in order the last time.", "Not in order")
	s.says("alerts/"+r.Events[0].ID+".html", "What may explain it", "What to do", "checkpoint.seen.txt", "checkpoint.verified.txt")
	if note := s.read("checkpoints/" + fmt.Sprintf("%x", sha(s.log.Origin))); note != string(good) {
		t.Errorf("the checkpoint for other monitors is\n%s", note)
	}
	s.says("logs/"+web.FileName("log2026.example.org"), "Not in order", "Alerts about this log critical")
}

// TestPagesAreBounded floods the pages with what matters little.
func TestPagesAreBounded(t *testing.T) {
	s := newScene(t)
	s.pages.MaxAlerts = 5
	pages, err := web.New(s.pages)
	if err != nil {
		t.Fatal(err)
	}
	send := func(n int, severity rule.Severity) string {
		e := monitor.Event{ID: fmt.Sprintf("%032x", n), Time: time.Now().Add(time.Duration(n) * time.Second), Rule: rule.IDSeen, Severity: severity, Origin: "log.example.org", Index: int64(n), Size: 100, Summary: fmt.Sprint("number ", n)}
		if err := pages.Send(t.Context(), e); err != nil {
			t.Fatal(err)
		}
		if err := pages.Send(t.Context(), e); err != nil { // a resend is no second one
			t.Fatal(err)
		}
		return e.ID
	}
	critical, warning := send(1, rule.Critical), send(2, rule.Warning)
	for n := 3; n < 20; n++ {
		send(n, rule.Info)
	}
	if err := pages.Show(t.Context(), monitor.Overview{}); err != nil {
		t.Fatal(err)
	}
	var status web.Status
	for range 2 { // a new process counts on
		status = s.status()
		if pages, err = web.New(s.pages); err != nil {
			t.Fatal(err)
		}
		if err := pages.Show(t.Context(), monitor.Overview{Logs: []monitor.View{}}); err != nil {
			t.Fatal(err)
		}
	}
	var ids []string
	for _, a := range status.Alerts {
		ids = append(ids, a.ID)
	}
	if want := []string{fmt.Sprintf("%032x", 19), fmt.Sprintf("%032x", 18), fmt.Sprintf("%032x", 17), warning, critical}; !slices.Equal(ids, want) || status.Dropped != 14 {
		t.Errorf("there are pages of %q, %d were dropped; want %q and 14", ids, status.Dropped, want)
	}
	s.says("alerts.html", "Pages of 14 older alerts were removed")
	if left, err := filepath.Glob(filepath.Join(s.pages.Dir, "alerts", "0*")); err != nil || len(left) != 10 {
		t.Errorf("there are the files %q, %v", left, err)
	}
}

// TestTroubleOfNoLogIsShown has deliveries given up of a digest, which has no page, and of an alert that
// has one, a sink that fails, and trust material that cannot be read: the first page is not fine, and says so.
func TestTroubleOfNoLogIsShown(t *testing.T) {
	t.Parallel()
	s := newScene(t)
	pages, err := web.New(s.pages)
	if err != nil {
		t.Fatal(err)
	}
	e := monitor.Event{ID: strings.Repeat("a", 32), Time: time.Now(), Rule: rule.TUFLogAdded, Severity: rule.Info, Origin: "tuf.example.org", Index: monitor.NoIndex, Summary: "a log was added"}
	if err := pages.Send(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	show := func(o monitor.Overview) {
		t.Helper()
		o.Logs = []monitor.View{}
		if err := pages.Show(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
	show(monitor.Overview{})
	if got := s.status(); got.State != "fine" {
		t.Fatalf("status %+v", got)
	}
	digest := monitor.Event{ID: strings.Repeat("b", 32), Summary: "3 events", Count: 3}
	show(monitor.Overview{GivenUp: 2, Failures: []monitor.Failure{{Event: digest, Sink: "chat", Error: "gone"}, {Event: e, Sink: "mail", Error: "refused"}},
		Trust: []monitor.TrustStatus{{Name: "https://tuf.example.org", Err: "no route"}},
		Late:  []monitor.Late{{Sink: "pager", Since: time.Now().Add(-2 * time.Hour), Events: 4, Error: "no answer"}}})
	if got := s.status(); got.State != "action" || len(got.Needs) != 3 || got.GivenUp != 2 {
		t.Errorf("status %+v", got)
	}
	s.says("index.html", "3 things need you", "4 alerts have not reached the sink pager since", "The last time: no answer", "https://tuf.example.org was not read", "no route", "2 deliveries were given up",
		"3 events", "to chat: gone", "to mail: refused")
	page := s.read("index.html")
	_, below, _ := strings.Cut(page, `id="given-up"`)
	if !strings.Contains(page, `href="#given-up"`) || !strings.Contains(below, `href="alerts/`+e.ID+`.html">a log was added</a><p`) || strings.Contains(page, digest.ID) {
		t.Errorf("a link is missing, or leads to the page of a digest, which there is not: %s", page)
	}
	show(monitor.Overview{})
	if got := s.status(); got.State != "fine" || strings.Contains(s.read("index.html"), "given up") {
		t.Errorf("afterwards: %+v", got)
	}
}

// TestHostileTextIsShownAsText has everything that a log or a certificate may say be hostile.
func TestHostileTextIsShownAsText(t *testing.T) {
	s := newScene(t)
	const attack = "<script>alert('x')</script>\u202egnp.exe\x00\"' onload=alert(1) \u2066javascript:alert(1)\xff e\u0301\u0301\u0301\u0301\u0301 {{.}} <!--"
	s.options.Rules = nil
	evidence := t.TempDir()
	for _, name := range []string{"entry", "tile-0-000", "index.html.txt"} {
		if err := os.WriteFile(filepath.Join(evidence, name), []byte("<html><script>alert(1)</script>"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	pages, err := web.New(s.pages)
	if err != nil {
		t.Fatal(err)
	}
	e := monitor.Event{ID: strings.Repeat("a", 32), Time: time.Now(), Rule: "no.such-rule" + attack, Severity: rule.Critical, Identity: attack, Origin: attack,
		Index: 1, Size: 2, Summary: attack, Subject: attack, Issuer: attack, Digest: attack, Certificate: attack, RunURL: "javascript:alert(1)", LogURL: "javascript:alert(1)", Evidence: evidence,
		Reasons: []rule.Reason{{Rule: rule.IDUnexpected, Text: attack, Field: attack, Expected: []string{attack}, Seen: attack}, {Rule: "x", Text: attack}}}
	if err := pages.Send(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	view := monitor.View{LogStatus: monitor.LogStatus{Origin: attack, URL: "javascript:alert(1)", Err: attack, GivenUp: 1,
		Failures: []monitor.Failure{{Event: e, Sink: attack, Error: attack}}}, VKey: attack,
		Usage: monitor.Usage{Last: map[string]monitor.Use{"anybody": {Ref: attack}}}, Waiting: []monitor.Waiting{{Event: monitor.Event{Identity: "anybody", Summary: attack}}}}
	if err := pages.Show(t.Context(), monitor.Overview{Logs: []monitor.View{view}, GivenUp: 1, Failures: view.Failures,
		Trust: []monitor.TrustStatus{{Name: attack, Err: attack}}}); err != nil {
		t.Fatal(err)
	}
	looked := 0
	err = fs.WalkDir(os.DirFS(s.pages.Dir), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(name, ".html") {
			return err
		}
		looked++
		page := s.read(name)
		for _, bad := range []string{"<script>alert", "\u202e", "\u2066", "\x00", `href="javascript`, "href=\"../logs/javascript", " onload=alert(1) \">", "\ufffd", "\u0301\u0301\u0301"} {
			if strings.Contains(page, bad) {
				t.Errorf("%s contains %q", name, bad)
			}
		}
		if strings.Count(page, "<script>") > 1 {
			t.Errorf("%s has more than one script", name)
		}
		if !strings.Contains(html.UnescapeString(page), `content="`+web.Security+`"`) {
			t.Errorf("%s has no content security policy, or another one", name)
		}
		return nil
	})
	if err != nil || looked < 8 {
		t.Fatalf("looked at %d pages, %v", looked, err)
	}
	s.says("alerts/"+e.ID+".html", `\u202egnp.exe\x00`, `\ufffd`, "A rule that this program does not know")
	copies, err := filepath.Glob(filepath.Join(s.pages.Dir, "alerts", e.ID, "*"))
	if err != nil || len(copies) != 3 {
		t.Fatalf("the copies are %q, %v", copies, err)
	}
	for _, c := range copies {
		if ext := filepath.Ext(c); ext != ".bin" && ext != ".txt" {
			t.Errorf("%s may be taken for a page", c)
		}
	}
}

// TestPagesRefuseIDsThatAreNoFileNames has an event name a file elsewhere.
func TestPagesRefuseIDsThatAreNoFileNames(t *testing.T) {
	s := newScene(t)
	pages, err := web.New(s.pages)
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"", "../../etc/passwd", strings.Repeat("A", 32), strings.Repeat("a", 33)} {
		if err := pages.Send(t.Context(), monitor.Event{ID: id}); err == nil {
			t.Errorf("an event with ID %q was taken", id)
		}
	}
}

// TestPageOfAnEventAboutNoLog has the event of a test, which is about nothing.
func TestPageOfAnEventAboutNoLog(t *testing.T) {
	dir := t.TempDir()
	p, err := web.New(web.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	_, e := monitor.Try(t.Context(), nil, nil)
	if err := p.Send(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile(filepath.Join(dir, "alerts", e.ID+".html"))
	if err != nil || !strings.Contains(string(page), "nothing has happened") || strings.Contains(string(page), "../logs/") {
		t.Errorf("%v\n%s", err, page)
	}
}
