package web

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"tallywood/internal/disk"
	"tallywood/monitor"
	"tallywood/monitor/rule"
)

const (
	// maxAlerts is how many alerts have pages unless Options say otherwise.
	maxAlerts = 500
	// refreshEvery is how often what shows the time is written when nothing else has changed.
	refreshEvery = time.Minute
	// recent is for how long a warning that nobody has dealt with needs somebody to.
	recent = 30 * 24 * time.Hour
)

// An Identity is a watched identity as its page shows it.
type Identity struct {
	Name    string
	Watches string   // what it is recognised by, such as "github: example/tool"
	Expects []Expect // what explains an entry; empty: nothing is expected
	Rules   []string // rules that are named for it
	// Manifest is where its owner lists what is meant to be signed; empty: nowhere.
	Manifest string
}

// An Expect is one line of what explains an entry of an identity.
type Expect struct {
	Field  string // such as "issuers"
	Values []string
}

// Options configure Pages.
type Options struct {
	Dir        string     // created when needed; for pages alone
	Identities []Identity // in the order in which they are shown
	Handled    string     // file with the IDs of alerts that somebody has dealt with; empty: none
	MaxAlerts  int        // how many alerts have pages; 0: 500
	// Feed keeps feed.xml in Dir: it is sent each event after its page is written. Nil: there is none.
	Feed monitor.Sink
}

// Pages writes pages. It is safe for concurrent use.
type Pages struct {
	o Options

	mu      sync.Mutex
	tree    tree
	loaded  bool
	alerts  []*alert // by time, the oldest first
	dropped int64    // alerts whose pages were removed to make room
	views   []monitor.View
	rest    monitor.Overview // its Logs are views

	written time.Time // when all pages were last written
	shape   string    // of what they say
}

var (
	_ monitor.Sink    = (*Pages)(nil)
	_ monitor.Display = (*Pages)(nil)
)

// New checks o. It does no I/O.
func New(o Options) (*Pages, error) {
	if o.Dir == "" {
		return nil, errors.New("configuring pages: no directory")
	}
	if o.MaxAlerts < 0 {
		return nil, errors.New("configuring pages: negative number of alerts")
	}
	if o.MaxAlerts == 0 {
		o.MaxAlerts = maxAlerts
	}
	return &Pages{o: o, tree: tree{dir: o.Dir, written: map[string][32]byte{}}}, nil
}

// idFormat is that of the ID of events: it becomes the name of files.
var idFormat = regexp.MustCompile(`^[0-9a-f]{32}$`)

// Send writes the page of an event, with a copy of its evidence beside it, and returns once they
// are on the disk.
func (p *Pages) Send(ctx context.Context, e monitor.Event) error {
	if !idFormat.MatchString(e.ID) {
		return fmt.Errorf("writing page of alert: ID %q is not of 32 hex digits", e.ID)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.load(); err != nil {
		return err
	}
	if slices.ContainsFunc(p.alerts, func(a *alert) bool { return a.ID == e.ID }) {
		return p.feed(ctx, e) // it knows what it has
	}
	dir := "alerts/" + e.ID
	if e.Evidence != "" {
		if err := p.tree.copyEvidence(e.Evidence, dir); err != nil {
			return err
		}
		e.Evidence = dir // what is known to readers of the pages
	}
	text, err := json.MarshalIndent(e, "", "  ")
	if err != nil {
		return fmt.Errorf("writing page of alert: %w", err)
	}
	if err := p.tree.put(dir+".json", append(text, '\n'), true); err != nil {
		return err
	}
	p.insert(newAlert(e))
	if err := p.makeRoom(); err != nil {
		return err
	}
	if err := p.render(time.Now(), true); err != nil {
		return err
	}
	return p.feed(ctx, e)
}

func (p *Pages) feed(ctx context.Context, e monitor.Event) error {
	if p.o.Feed == nil {
		return nil
	}
	return p.o.Feed.Send(ctx, e)
}

// Show writes all pages that show how logs and identities stand.
func (p *Pages) Show(_ context.Context, o monitor.Overview) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.load(); err != nil {
		return err
	}
	p.views, p.rest = slices.Clone(o.Logs), o
	return p.render(time.Now(), false)
}

// load reads what earlier processes left, once.
func (p *Pages) load() error {
	if p.loaded {
		return nil
	}
	if err := p.tree.ours(); err != nil {
		return err
	}
	if err := disk.MakeDir(filepath.Join(p.o.Dir, "alerts"), dirPerm); err != nil {
		return fmt.Errorf("making directory of pages: %w", err)
	}
	p.tree.sweep()
	paths, err := filepath.Glob(filepath.Join(p.o.Dir, "alerts", "*.json"))
	if err != nil {
		return fmt.Errorf("reading alerts: %w", err)
	}
	p.alerts = nil
	for _, path := range paths {
		e, err := p.event(strings.TrimSuffix(filepath.Base(path), ".json"))
		if err != nil {
			return err
		}
		p.insert(newAlert(e))
	}
	if p.dropped, err = p.readDropped(); err != nil {
		return err
	}
	p.loaded = true
	return nil
}

// event reads the event of an alert.
func (p *Pages) event(id string) (monitor.Event, error) {
	var e monitor.Event
	data, err := os.ReadFile(filepath.Join(p.o.Dir, "alerts", id+".json"))
	if err == nil {
		err = json.Unmarshal(data, &e)
	}
	if err == nil && (e.ID != id || !idFormat.MatchString(id)) {
		err = fmt.Errorf("it has the ID %q", e.ID)
	}
	if err != nil {
		return e, fmt.Errorf("reading alert %s: %w", id, err)
	}
	return e, nil
}

// insert adds an alert in its place.
func (p *Pages) insert(a *alert) {
	i, _ := slices.BinarySearchFunc(p.alerts, a, func(b, a *alert) int {
		if c := b.Time.Compare(a.Time); c != 0 {
			return c
		}
		return strings.Compare(b.ID, a.ID)
	})
	p.alerts = slices.Insert(p.alerts, i, a)
}

// makeRoom removes the pages of alerts that are too many: of those of the least severity the oldest.
// A flood of what matters little does not push out what matters.
func (p *Pages) makeRoom() error {
	for len(p.alerts) > p.o.MaxAlerts {
		least := 0
		for i, a := range p.alerts {
			if a.Severity < p.alerts[least].Severity {
				least = i
			}
		}
		id := p.alerts[least].ID
		p.dropped++
		// Counted before it is gone: the number may be too large after a crash, never too small.
		if err := p.tree.put(droppedName, fmt.Appendf(nil, "%d\n", p.dropped), true); err != nil {
			return err
		}
		for _, name := range []string{".html", "", ".json"} {
			if err := p.tree.remove("alerts/" + id + name); err != nil {
				return err
			}
		}
		p.alerts = slices.Delete(p.alerts, least, least+1)
	}
	return nil
}

// droppedName is the file with the number of alerts whose pages were removed.
const droppedName = "alerts/dropped.txt"

func (p *Pages) readDropped() (int64, error) {
	data, err := os.ReadFile(filepath.Join(p.o.Dir, filepath.FromSlash(droppedName)))
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	var n int64
	if err == nil {
		_, err = fmt.Sscanf(string(data), "%d\n", &n)
	}
	if err != nil {
		return 0, fmt.Errorf("reading number of dropped alerts: %w", err)
	}
	return n, nil
}

// handled returns the IDs of the alerts that somebody has dealt with: one a line, with anything
// after it, and lines that begin with #.
func (p *Pages) handled() (map[string]bool, error) {
	ids := map[string]bool{}
	if p.o.Handled == "" {
		return ids, nil
	}
	data, err := os.ReadFile(p.o.Handled)
	if errors.Is(err, os.ErrNotExist) { // nothing has been dealt with yet
		return ids, nil
	}
	if err != nil {
		return ids, fmt.Errorf("reading handled alerts: %w", err)
	}
	n := 0
	for line := range strings.Lines(string(data)) {
		n++
		fields := strings.Fields(line)
		if len(fields) == 0 || strings.HasPrefix(fields[0], "#") {
			continue
		}
		if !idFormat.MatchString(fields[0]) {
			return ids, fmt.Errorf("reading handled alerts: line %d of %s begins with no alert's ID of 32 hex digits", n, p.o.Handled)
		}
		ids[fields[0]] = true
	}
	return ids, nil
}

// An alert is what lists show of an event.
type alert struct {
	ID       string
	Time     time.Time
	Rule     rule.ID
	Severity rule.Severity
	Identity string
	Origin   string
	Index    int64
	Summary  string
	Handled  bool
	vkey     string // of its log, as its page has it
	rendered bool   // its page is there, as it has to be
}

func newAlert(e monitor.Event) *alert {
	return &alert{ID: e.ID, Time: e.Time, Rule: e.Rule, Severity: e.Severity, Identity: e.Identity, Origin: e.Origin,
		Index: e.Index, Summary: rule.Clip(e.Summary)}
}

// needs reports whether an alert needs somebody: nobody has dealt with it, and it is critical, or a
// warning of late.
func (a *alert) needs(now time.Time) bool {
	return !a.Handled && (a.Severity == rule.Critical || a.Severity == rule.Warning && now.Sub(a.Time) < recent)
}
