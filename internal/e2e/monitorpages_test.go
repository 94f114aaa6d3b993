package e2e_test

import (
	"context"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"tallywood/internal/mint"
	"tallywood/monitor"
	"tallywood/monitor/rule"
	"tallywood/monitor/web"
	"tallywood/witness/policy"
)

// A monitorScene is pages of a monitor that has seen a good deal, with a month behind it.
type monitorScene struct {
	dir   string
	pages *web.Pages
	views []monitor.View
}

func newMonitorScene(t *testing.T) *monitorScene {
	t.Helper()
	s := &monitorScene{dir: t.TempDir()}
	var err error
	s.pages, err = web.New(web.Options{Dir: s.dir, Handled: "/var/lib/monitor/handled.txt", Identities: []web.Identity{
		{Name: "tool releases", Watches: "github: example/tool", Rules: []string{"id.burst", "id.lookalike"}, Expects: []web.Expect{
			{Field: "issuers", Values: []string{mint.GitHubIssuer}}, {Field: "workflows", Values: []string{".github/workflows/release.yml"}},
			{Field: "refs", Values: []string{"refs/tags/v*"}}, {Field: "triggers", Values: []string{"push"}}}},
		{Name: "Alice", Watches: "email: alice@example.org", Expects: []web.Expect{{Field: "issuers", Values: []string{"https://accounts.example.org"}}}},
		{Name: "everything below example.org", Watches: "domain: example.org"},
	}})
	if err != nil {
		t.Fatal(err)
	}
	w, err := mint.New(1)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now().UTC()
	for i, kind := range []mint.Kind{mint.Rekor, mint.CT} {
		origin := []string{"log2026-1.rekor.example.org", "ct2026.example.org"}[i]
		var files mint.Memory
		l, err := w.Log(origin, kind, &files)
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Fill(t.Context(), logOf(l, kind, 40)); err != nil {
			t.Fatal(err)
		}
		if err := l.Publish(now.Add(-20 * time.Second)); err != nil {
			t.Fatal(err)
		}
		p, err := policy.Parse([]byte(l.Policy()))
		if err != nil {
			t.Fatal(err)
		}
		cp, err := p.Open(files.Get("checkpoint"))
		if err != nil {
			t.Fatal(err)
		}
		v := monitor.View{LogStatus: monitor.LogStatus{Origin: origin, URL: "https://" + origin, Kind: monitor.Kind(kind), Size: 1_283_904, Scanned: 1_283_904,
			Cosigned: now.Add(-20 * time.Second), Checked: now}, VKey: l.VKey, Policy: p, Checkpoint: cp, Usage: monthOf(now)}
		s.views = append(s.views, v)
	}
	return s
}

func logOf(l *mint.Log, kind mint.Kind, n int64) mint.FillOptions {
	if kind == mint.CT {
		return mint.FillOptions{Entries: n, Certificates: l}
	}
	return mint.FillOptions{Entries: n, Signatures: l}
}

// monthOf makes a month of use.
func monthOf(now time.Time) monitor.Usage {
	var u monitor.Usage
	size := int64(1_100_000)
	for i := range 30 {
		size += int64(3000 + 2500*(i%7))
		d := monitor.Day{Date: now.AddDate(0, 0, i-29).Format(time.DateOnly), Size: size, Used: map[string]int64{}, Alerted: map[string]int64{}}
		if i%5 == 4 {
			d.Used["tool releases"] = int64(1 + i%3)
		}
		if i == 29 {
			d.Used["Alice"], d.Alerted["Alice"] = 1, 1
		}
		u.Days = append(u.Days, d)
	}
	u.Last = map[string]monitor.Use{"tool releases": {Time: now.Add(-3 * time.Hour), Index: 1_283_001, Ref: "refs/tags/v1.4.2"}, "Alice": {Time: now.Add(-20 * time.Minute), Index: 1_283_803}}
	return u
}

// misuse raises what a stolen workflow does, with its evidence.
func (s *monitorScene) misuse(t *testing.T) string {
	t.Helper()
	w, err := mint.New(1)
	if err != nil {
		t.Fatal(err)
	}
	c, err := w.Issue(mint.Run{Repository: "example/tool", Workflow: ".github/workflows/lint.yml", Ref: "refs/heads/fix-typo", Trigger: "pull_request_target"}.GitHub(), 7)
	if err != nil {
		t.Fatal(err)
	}
	evidence := t.TempDir()
	writeFile(t, evidence, "certificate.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.DER})))
	writeFile(t, evidence, "entry", `{"apiVersion":"0.0.2","kind":"hashedrekord"}`)
	writeFile(t, evidence, "checkpoint", s.views[0].Checkpoint.NoteString())
	writeFile(t, evidence, "inclusion.tlog-proof", "c2sp.org/tlog-proof@v1\n")
	writeFile(t, evidence, "evidence.json", "{}\n")
	now := time.Now().UTC()
	e := monitor.Event{ID: strings.Repeat("0a1b2c3d", 4), Time: now.Add(-18 * time.Minute), Rule: rule.IDUnexpectedWorkflow, Severity: rule.Critical, Identity: "tool releases",
		Origin: s.views[0].Origin, Index: 1_283_803, Size: 1_283_904, Evidence: evidence, LogURL: s.views[0].URL,
		Summary: `workflow ".github/workflows/lint.yml" of example/tool is not one that signs; signed from "refs/heads/fix-typo", started by "pull_request_target" (log2026-1.rekor.example.org, entry 1283803)`,
		Subject: "https://github.com/example/tool/.github/workflows/lint.yml@refs/heads/fix-typo", Issuer: mint.GitHubIssuer,
		Digest: "sha256:" + strings.Repeat("5f", 32), Certificate: "sha256:" + strings.Repeat("c4", 32), RunURL: "https://github.com/example/tool/actions/runs/9182736455/attempts/1",
		LoggedAfter: now.Add(-20 * time.Minute), LoggedBefore: now.Add(-19 * time.Minute),
		Reasons: []rule.Reason{
			{Rule: rule.IDUnexpectedWorkflow, Severity: rule.Critical, Field: "workflow", Expected: []string{".github/workflows/release.yml"}, Seen: ".github/workflows/lint.yml"},
			{Rule: rule.IDUnexpectedRef, Severity: rule.Critical, Field: "ref", Expected: []string{"refs/tags/v*"}, Seen: "refs/heads/fix-typo"},
			{Rule: rule.IDUnexpectedTrigger, Severity: rule.Critical, Field: "trigger", Expected: []string{"push"}, Seen: "pull_request_target"},
			{Rule: rule.EntryWeakKey, Severity: rule.Warning, Text: "key of 1024 bits"}}}
	s.send(t, e)
	s.send(t, monitor.Event{ID: strings.Repeat("1", 32), Time: now.AddDate(0, 0, -3), Rule: rule.LogStale, Severity: rule.Warning, Origin: s.views[1].Origin, Index: monitor.NoIndex, Size: 1_270_000,
		LogURL: s.views[1].URL, Summary: "ct2026.example.org: newest cosignature is 21 minutes old"})
	s.send(t, monitor.Event{ID: strings.Repeat("2", 32), Time: now.AddDate(0, 0, -4), Rule: rule.IDLookalike, Severity: rule.Warning, Identity: "tool releases", Origin: s.views[0].Origin, Index: 1_260_007, Size: 1_270_000,
		LogURL: s.views[0].URL, Summary: `"ex\u0430mple/tool" looks like example/tool`, Reasons: []rule.Reason{{Rule: rule.IDLookalike, Severity: rule.Warning, Field: "repository", Expected: []string{"example/tool"}, Seen: "ex\u0430mple/tool\u202e"}}})
	s.send(t, monitor.Event{ID: strings.Repeat("3", 32), Time: now.AddDate(0, 0, -5), Rule: rule.IDSeen, Severity: rule.Info, Identity: "everything below example.org", Origin: s.views[0].Origin, Index: 1_250_007, Size: 1_270_000,
		LogURL: s.views[0].URL, Summary: `certificate for "bob@example.org" from issuer "https://accounts.example.org"`})
	return e.ID
}

func (s *monitorScene) send(t *testing.T, e monitor.Event) {
	t.Helper()
	if err := s.pages.Send(t.Context(), e); err != nil {
		t.Fatal(err)
	}
}

func (s *monitorScene) show(t *testing.T) {
	t.Helper()
	if err := s.pages.Show(t.Context(), monitor.Overview{Logs: s.views}); err != nil {
		t.Fatal(err)
	}
}

// A reader reads pages in one browser, and notes what goes on behind them.
type reader struct {
	ctx  context.Context
	base string

	mu       sync.Mutex
	troubles []string
	requests []string
}

func newReader(t *testing.T, base string) *reader {
	t.Helper()
	opts := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.NoSandbox, chromedp.DisableGPU,
		chromedp.Flag("disable-background-networking", true), chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-dev-shm-usage", true), chromedp.UserDataDir(t.TempDir()),
		chromedp.WSURLReadTimeout(patience))
	ctx, cancel := chromedp.NewExecAllocator(t.Context(), opts...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	ctx, cancel = context.WithTimeout(ctx, 5*patience) // for all pages
	t.Cleanup(cancel)
	r := &reader{ctx: ctx, base: base}
	err := chromedp.Listen(ctx, func(ev any) {
		r.mu.Lock()
		defer r.mu.Unlock()
		switch ev := ev.(type) {
		case *log.EventEntryAdded:
			r.troubles = append(r.troubles, ev.Entry.Text)
		case *runtime.EventExceptionThrown:
			r.troubles = append(r.troubles, ev.ExceptionDetails.Text)
		case *runtime.EventConsoleAPICalled:
			r.troubles = append(r.troubles, fmt.Sprint("console: ", ev.Type))
		case *network.EventRequestWillBeSent:
			r.requests = append(r.requests, ev.Request.URL)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := chromedp.Call(ctx, network.Enable, network.EnableParams{}); err != nil {
		t.Fatal(err)
	}
	return r
}

// look sets how the reader looks at pages.
func (r *reader) look(t *testing.T, width int64, scheme string, scripts bool) {
	t.Helper()
	_, err := chromedp.Call(r.ctx, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: !scripts})
	if err == nil {
		_, err = chromedp.Call(r.ctx, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{Width: width, Height: 900, DeviceScaleFactor: 1, Mobile: width < 500})
	}
	if err == nil {
		_, err = chromedp.Call(r.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}})
	}
	if err != nil {
		t.Fatal(err)
	}
}

// read opens a page and returns what it says.
func (r *reader) read(t *testing.T, name string) string {
	t.Helper()
	if err := chromedp.Do(r.ctx, chromedp.Navigate(r.base+name), chromedp.WaitVisible(chromedp.CSS("main"))); err != nil {
		t.Fatalf("reading %s: %v", name, err)
	}
	text, err := chromedp.Run(r.ctx, chromedp.Text(chromedp.CSS("body")))
	if err != nil {
		t.Fatalf("reading %s: %v", name, err)
	}
	return text
}

// draw keeps a picture for people, if one is wanted.
func (r *reader) draw(t *testing.T, name string) {
	t.Helper()
	dir := os.Getenv("TALLYWOOD_SCREENSHOTS")
	if dir == "" {
		return
	}
	shot, err := chromedp.Run(r.ctx, chromedp.FullScreenshot(100))
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, name+".png"), shot, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// pale returns the texts of a page whose contrast is below 4.5 to 1 (WCAG 2.2, 1.4.3), and "wide" if
// the page is wider than the window.
const pale = `(() => {
  const rgb = s => { const m = s.match(/[\d.]+/g).map(Number); return m.length > 3 && m[3] === 0 ? null : m.slice(0, 3); };
  const lum = c => { const [r, g, b] = c.map(v => { v /= 255; return v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4; }); return .2126 * r + .7152 * g + .0722 * b; };
  const out = [];
  if (document.documentElement.scrollWidth > window.innerWidth) out.push("wide: " + document.documentElement.scrollWidth);
  for (const e of document.querySelectorAll("body *")) {
    if (![...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim()) || e.closest("svg, script, style") || !e.checkVisibility()) continue;
    let back = null;
    for (let p = e; p && !back; p = p.parentElement) back = rgb(getComputedStyle(p).backgroundColor);
    const a = lum(rgb(getComputedStyle(e).color)), b = lum(back || [255, 255, 255]);
    const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
    if (ratio < 4.5) out.push(ratio.toFixed(2) + ": " + e.textContent.trim().slice(0, 40));
  }
  return out.join("\n");
})()`

// wanted checks what a page says, that nothing goes wrong behind it, that it asks for nothing but
// itself, and that it can be read in both colour schemes and on a telephone.
func (r *reader) wanted(t *testing.T, shot, name string, texts ...string) {
	t.Helper()
	r.look(t, 1100, "light", true)
	r.mu.Lock()
	r.requests, r.troubles = nil, nil
	r.mu.Unlock()
	text := r.read(t, name)
	for _, want := range texts {
		if !strings.Contains(text, want) {
			t.Errorf("%s does not say %q:\n%s", name, want, text)
		}
	}
	for _, look := range []struct {
		width  int64
		scheme string
	}{{1100, "light"}, {360, "dark"}, {1100, "dark"}} {
		r.look(t, look.width, look.scheme, true)
		found, err := chromedp.Run(r.ctx, chromedp.Evaluate[string](pale))
		if err != nil || found != "" {
			t.Errorf("%s with %+v cannot be read by everybody: %v\n%s", name, look, err, found)
		}
		r.draw(t, fmt.Sprintf("%s-%d-%s", shot, look.width, look.scheme))
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.troubles) > 0 {
		t.Errorf("%s: the browser complains: %q", name, r.troubles)
	}
	if other := r.elsewhere(name); len(r.requests) == 0 || len(other) > 0 {
		t.Errorf("%s asks for %q", name, other)
	}
}

// elsewhere returns the requests that were not for the page, nor for what is written in it.
func (r *reader) elsewhere(name string) []string {
	var out []string
	for _, u := range r.requests {
		if u != r.base+name && !strings.HasPrefix(u, "data:") {
			out = append(out, u)
		}
	}
	return out
}

// TestTheMonitorPagesInABrowser reads the pages as people do.
func TestTheMonitorPagesInABrowser(t *testing.T) {
	s := newMonitorScene(t)
	files := http.FileServer(http.Dir(s.dir))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store") // pages are written twice within a second here, which their time does not tell
		files.ServeHTTP(w, r)
	}))
	defer server.Close()
	r := newReader(t, server.URL+"/")
	s.show(t)
	r.wanted(t, "fine", "", "All is well", "Both logs are in order", "12 signatures and 12 certificates", "all explained; last v1.4.2, 3 h ago", "never seen", "None.")
	id := s.misuse(t)
	s.views[1].Err = "get \"checkpoint\": 503 Service Unavailable"
	s.show(t)
	r.wanted(t, "index", "", "4 things need you", "A workflow that you do not expect signed for your repository.", "Last alerts", "was not found in order")
	r.wanted(t, "alert", "alerts/"+id+".html", "A workflow that you do not expect", "refs/tags/v*", "refs/heads/fix-typo", "pull_request_target", "This was me", "This was not me",
		"Runner", "github-hosted", "certificate.pem")
	r.wanted(t, "lookalike", "alerts/"+strings.Repeat("2", 32)+".html", `\u202e`, "not ASCII: U+0430")
	r.wanted(t, "stale", "alerts/"+strings.Repeat("1", 32)+".html", "The log's newest checkpoint is old.", "What may explain it")
	r.wanted(t, "alerts", "alerts.html", "All alerts", "looks like")
	r.wanted(t, "rules", "rules.html", "log.split-view", "For example")
	r.look(t, 360, "light", false)
	if text := r.read(t, "alerts/"+id+".html"); !strings.Contains(text, "This was me") {
		t.Errorf("without scripts the alert says:\n%s", text)
	}
	for name, want := range map[string]string{"identities": ".github/workflows/release.yml", "logs": "are a quorum"} {
		files, err := filepath.Glob(filepath.Join(s.dir, name, "*.html"))
		if err != nil || len(files) < 2 {
			t.Fatalf("found %q, %v", files, err)
		}
		r.wanted(t, name, name+"/"+filepath.Base(files[len(files)-1]), want)
	}
}
