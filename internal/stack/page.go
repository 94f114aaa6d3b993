package stack

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	_ "embed"
	"fmt"
	"html/template"
	"net/http"
	"slices"
	"strings"
	"time"

	"tallywood/internal/config"
	"tallywood/internal/httpx"
	"tallywood/log/ctentry"
	"tallywood/log/entry"
	"tallywood/monitor"
	"tallywood/monitor/rule"
	"tallywood/storage"
	"tallywood/storage/driver"
	"tallywood/witness/policy"
)

//go:embed templates/page.html
var pageHTML string

var pageTemplate = template.Must(template.New("page").Funcs(template.FuncMap{"ago": ago, "clock": clock}).Parse(pageHTML))

// lastEntries is how many entries of each log the page shows.
const lastEntries = 5

// followed is how many entries a standby's duplicate index may lack because the log grows.
const followed = 4096

// maxAlerts is how many alerts the page shows.
const maxAlerts = 10

// pageData is what the page shows.
type pageData struct {
	URL       string
	Dev       bool
	Ready     error
	Now       time.Time
	Logs      []pageLog
	Witnesses []pageWitness
	Quorum    string
	Services  []pageService
	Monitor   *pageMonitor
}

type pageLog struct {
	Name, Origin, Takes, VKey, Path string
	Published                       bool
	Size                            int64
	Time                            time.Time // newest cosignature; zero: none
	Cosigned                        int
	Err                             error
	Rebuild                         string // of the duplicate index; "": it is complete
	Shard                           string // what is special about its state
	Entries                         []pageEntry
}

type pageEntry struct {
	Index int64
	What  string
}

type pageWitness struct {
	Name, URL string
	Cosigned  time.Time // zero: not on the newest checkpoint
}

type pageService struct{ Name, Path, What string }

type pageMonitor struct {
	Pages  string // where the monitor's own pages are; empty: nowhere
	Logs   []monitor.LogStatus
	Alerts []monitor.Event
}

// routePeople serves the page, the probes, and an answer to every other path.
func (s *Stack) routePeople(mux *http.ServeMux) {
	mux.Handle("/{$}", httpx.Methods(http.HandlerFunc(s.page), http.MethodGet))
	mux.HandleFunc("/healthz", alive)
	mux.HandleFunc("/readyz", s.serveReady)
	mux.Handle(pagesPath, httpx.Methods(http.HandlerFunc(s.servePages), http.MethodGet))
	mux.Handle(peerPath, httpx.Methods(http.HandlerFunc(s.servePeer), http.MethodGet))
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		httpx.Error(w, http.StatusNotFound, fmt.Sprintf("nothing is served at %.200q; %s/ lists what is", r.URL.Path, s.cfg.URL))
	})
}

// alive answers that the process lives, in the form that Fulcio's clients know.
func alive(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	fmt.Fprintln(w, `{"status":"SERVING"}`)
}

func (s *Stack) page(w http.ResponseWriter, r *http.Request) {
	var out bytes.Buffer
	if err := pageTemplate.Execute(&out, s.pageData(r.Context())); err != nil {
		s.log.Error("rendering page", "err", err)
		httpx.Error(w, http.StatusInternalServerError, "the page could not be rendered")
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	// The client may be gone; there is no one left to tell.
	_, _ = w.Write(out.Bytes())
}

func (s *Stack) pageData(ctx context.Context) pageData {
	d := pageData{URL: s.cfg.URL, Dev: s.dev, Ready: s.Ready(), Now: now()}
	for _, l := range s.parts() {
		d.Logs = append(d.Logs, s.pageLog(ctx, l))
	}
	d.Witnesses, d.Quorum = s.pageWitnesses()
	add := func(on bool, name, path, what string) {
		if on {
			d.Services = append(d.Services, pageService{name, path, what})
		}
	}
	add(s.cfg.CA != nil, "Certificate authority", "/api/v2/trustBundle", "turns a login into a certificate of ten minutes")
	add(s.cfg.TSA != nil, "Timestamp authority", "/api/v1/timestamp/certchain", "proves when a signature was made")
	if s.cfg.DevOIDC != nil {
		add(true, "Development login", s.cfg.DevOIDC.Path+"/.well-known/openid-configuration", "is anyone you say you are; on this machine only")
	}
	if m := s.monitor.Load(); m != nil {
		d.Monitor = &pageMonitor{Logs: m.Status()}
		d.Monitor.Alerts = lastAlerts(d.Monitor.Logs)
		if s.pages.Load() != nil {
			d.Monitor.Pages = pagesPath
		}
	}
	return d
}

// lastAlerts returns the alerts of all logs that the page has room for: critical ones before
// others, and the newest first.
func lastAlerts(logs []monitor.LogStatus) []monitor.Event {
	var out []monitor.Event
	for _, l := range logs {
		out = append(out, l.Alerts...)
	}
	rank := func(e monitor.Event) int {
		if e.Severity == rule.Critical {
			return 0
		}
		return 1
	}
	slices.SortStableFunc(out, func(a, b monitor.Event) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), b.Time.Compare(a.Time))
	})
	return out[:min(len(out), maxAlerts)]
}

func (s *Stack) pageLog(ctx context.Context, l *logPart) pageLog {
	p := pageLog{Name: l.cfg.Name, Origin: l.cfg.Origin, VKey: l.vkey, Path: "/logs/" + l.cfg.Name,
		Takes: map[string]string{"rekor": "every signature", "ct": "every certificate", "tlog": "what is sent to it"}[l.cfg.Kind]}
	if !s.current().succeeds(l) { // what does not serve yet keeps nobody waiting
		p.Err = l.log.Ready()
	}
	p.Shard = s.shardText(l)
	if r, ok := l.log.Rebuilding(); ok && r.Total > followed {
		p.Rebuild = r.String()
	}
	cp, ok := l.log.Published()
	if !ok {
		return p
	}
	p.Published, p.Size = true, cp.Size()
	for _, c := range cp.Cosignatures() {
		p.Cosigned++
		if c.Time.After(p.Time) {
			p.Time = c.Time
		}
	}
	entries, err := s.lastBundle(ctx, l)
	if err != nil {
		s.log.Warn("reading last entries for the page", "origin", l.cfg.Origin, "err", err)
	}
	for i := len(entries) - 1; i >= max(0, len(entries)-lastEntries); i-- {
		p.Entries = append(p.Entries, pageEntry{entries[i].index, describe(l.cfg.Kind, entries[i].body)})
	}
	return p
}

type bundleEntry struct {
	index int64
	body  []byte
}

// lastBundle returns the entries of the newest bundle under the checkpoint in the bucket, which
// may be a moment behind the one in memory.
func (s *Stack) lastBundle(ctx context.Context, l *logPart) ([]bundleEntry, error) {
	note, _, err := s.bucket.Get(ctx, "logs/"+l.cfg.Name+"/checkpoint", storage.Range{})
	if err != nil {
		return nil, err
	}
	cp, err := l.policy().OpenLog(note)
	if err != nil || cp.Size() == 0 {
		return nil, err
	}
	layout := driver.TlogTiles()
	if l.cfg.Kind == "ct" {
		layout = driver.StaticCT()
	}
	n, width := uint64(cp.Size()-1)/256, uint8(cp.Size()%256)
	bundle, _, err := s.bucket.Get(ctx, "logs/"+l.cfg.Name+"/"+layout.EntriesPath(n, width), storage.Range{})
	if err != nil {
		return nil, err
	}
	bodies, err := layout.Split(bundle)
	if err != nil {
		return nil, err
	}
	var out []bundleEntry
	for i, b := range bodies {
		if l.cfg.Kind != "ct" {
			b = b[2:] // the length before each entry
		}
		out = append(out, bundleEntry{int64(n)*256 + int64(i), b})
	}
	return out, nil
}

// describe says in a few words what an entry is about.
func describe(kind string, body []byte) string {
	if kind == "tlog" { // what it means is its submitter's to know
		return fmt.Sprintf("%d bytes, SHA-256 %x", len(body), sha256.Sum256(body))
	}
	var der []byte
	verb := "signed by "
	if kind == "ct" {
		e, err := ctentry.Parse(body)
		if err != nil {
			return "an entry that does not parse"
		}
		der, verb = e.UnverifiedPrecertificate, "certificate for "
		if len(der) == 0 {
			der = e.Certificate
		}
	} else {
		e, err := entry.Parse(body)
		if err != nil {
			return "an entry that does not parse"
		}
		if der = e.Signatures[0].Certificate; len(der) == 0 {
			return "signed with a key that has no certificate"
		}
	}
	cert, err := rule.ParseCertificate(der)
	if err != nil && len(cert.Names) == 0 {
		return "a certificate that does not parse"
	}
	var names []string
	for _, n := range cert.Names {
		names = append(names, n.Value)
	}
	who := strings.ToValidUTF8(strings.Join(names, ", "), "?")
	if issuers := cert.Issuers(); len(issuers) > 0 {
		who += ", by the word of " + strings.Join(issuers, ", ")
	}
	return verb + who
}

// shardText says what is special about the state of a log; "" of one that takes entries.
func (s *Stack) shardText(l *logPart) string {
	set := s.current()
	text := ""
	switch f := l.log.Frozen(); {
	case f != nil:
		text = "Frozen since " + clock(f.Time)
	case l.want().State == config.StateFrozen && now().Before(l.want().End.Time):
		text = "To be frozen at " + clock(l.want().End.Time)
	case l.want().State == config.StateFrozen:
		text = "To be frozen"
	case set.succeeds(l):
		return "Takes the place of " + set.inCharge(l).cfg.Name + " when that is frozen."
	default:
		return ""
	}
	if next := set.named(l.want().Successor); next != nil {
		return text + "; its successor is " + next.cfg.Name + "."
	}
	return text + "."
}

// pageWitnesses lists the witnesses of the signature log's policy, or the first log's, with their newest cosignature.
func (s *Stack) pageWitnesses() ([]pageWitness, string) {
	l := s.current().signatures()
	if logs := s.parts(); l == nil && len(logs) > 0 {
		l = logs[0]
	}
	if l == nil {
		return nil, ""
	}
	if l.policy().None() {
		return nil, "none: this log is published without witnesses"
	}
	cosigned := map[string]time.Time{}
	if cp, ok := l.log.Published(); ok {
		for _, c := range cp.Cosignatures() {
			cosigned[c.Witness] = c.Time
		}
	}
	var out []pageWitness
	for _, w := range l.policy().Witnesses() {
		out = append(out, pageWitness{w.Name, w.URL, cosigned[w.Name]})
	}
	return out, quorumText(l.policy())
}

// quorumText says how many of the witnesses suffice, if any so many do.
func quorumText(p *policy.Policy) string {
	least, ok := p.Threshold()
	if !ok {
		return "as the policy says"
	}
	return fmt.Sprintf("%d of %d must cosign before a checkpoint is published", least, len(p.Witnesses()))
}

func clock(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }

func ago(now, t time.Time) string {
	d := max(0, now.Sub(t))
	switch {
	case d < 2*time.Minute:
		return fmt.Sprintf("%d s ago", int(d.Seconds()))
	case d < 2*time.Hour:
		return fmt.Sprintf("%d min ago", int(d.Minutes()))
	default:
		return fmt.Sprintf("%d h ago", int(d.Hours()))
	}
}
