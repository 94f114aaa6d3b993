package scenario_test

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"tallywood/internal/bubble"
	"tallywood/internal/config"
	"tallywood/internal/mint"
	"tallywood/internal/stack"
	"tallywood/monitor"
	"tallywood/monitor/rule"
)

// When keys are replaced in the month.
const (
	newAuthority = 14 // the day from which another authority certifies
	newShards    = 19 // the day from which other logs take entries
)

// A shard is one of the month's logs.
type shard struct {
	site *site
	log  *mint.Log
	end  time.Time // when it was frozen; zero: not
}

// A calendar is the stage of the month: two logs of signatures and two of certificates, of which the
// second ones take over, and two monitors, of which one has the rules switched on that are off by
// default.
type calendar struct {
	t        *testing.T
	dir      string
	world    *mint.World
	ca       *mint.CA // from newAuthority on
	promiser *mint.Promiser
	shards   map[string]*shard
	watchers map[string]*watcher
	issued   []mint.Made // the authorities' record
}

// A watcher is a monitor and what it told.
type watcher struct {
	stage   *stage // for its directory and its events alone
	monitor *monitor.Monitor
}

// quietPage says how many events each rule that is off by default makes of the month.
const quietPage = "../../docs/monitor-quiet.md"

var quietRow = regexp.MustCompile("(?m)^\\| `([a-z.-]+)` \\| ([0-9]+) \\|")

// documented returns the numbers on that page.
func documented(t *testing.T) map[rule.ID]int {
	t.Helper()
	page, err := os.ReadFile(quietPage)
	if err != nil {
		t.Fatal(err)
	}
	out := map[rule.ID]int{}
	for _, row := range quietRow.FindAllSubmatch(page, -1) {
		n, err := strconv.Atoi(string(row[2]))
		if err != nil {
			t.Fatal(err)
		}
		out[rule.ID(row[1])] = n
	}
	return out
}

// optIn are the rules that are switched on to count them, with their parameters.
const optIn = `
rules:
  id.visibility-change: {}
  id.reusable-caller: {}
  id.lookalike: {}
  id.ref-drift: {}
  id.new-key: {}
  id.key-reuse: {}
  id.burst: {}
  id.fan-out: {}
  id.first-use: {}
  id.fingerprint-used: {keys: ["0000000000000000000000000000000000000000000000000000000000000000"]}
  entry.time-outside-validity: {}
  entry.weak-key: {}
  entry.duplicate: {}
  cert.long-lived: {}
  cert.bad-eku: {}
  cert.no-sct: {}
  cert.bad-sct: {}
  cert.sct-unknown-log: {}
`

// crossing are the rules that compare logs. They are on for some identities alone: what they look at has
// its evidence written before it is known whether anything is missing.
const (
	crossing = "rules: {x.cert-without-entry: {}, x.entry-without-cert: {}, x.ca-issued-not-in-ca-audit: {file: issued.jsonl}}"
	crossed  = "acme/cli packs/workspace startup/server"
)

// TestAMonthOfReleasesIsQuiet has twenty projects do for a month what they always do, while authorities
// and logs are replaced, as those are now and then. The default rules say nothing.
func TestAMonthOfReleasesIsQuiet(t *testing.T) {
	if n := len(projects); n != 20 {
		t.Fatalf("there are %d projects", n)
	}
	c := &calendar{shards: map[string]*shard{}, watchers: map[string]*watcher{}}
	for _, name := range []string{"log1", "log2", "ct1", "ct2"} {
		c.shards[name] = &shard{site: newSite(t)}
	}
	bubble.Test(t, func(t *testing.T) {
		time.Sleep(time.Until(day(0, 0, 0)))
		c.t, c.dir = t, t.TempDir()
		c.build()
		c.play()
	})
	quiet, counted := c.watchers["default"], c.watchers["everything"]
	if told := quiet.stage.alerts(); len(told) > 0 {
		t.Errorf("the default rules told of %d entries:%s", len(told), summary(told[:min(len(told), 20)]))
	}
	got := map[rule.ID]int{}
	for _, r := range rule.All() {
		if r.Mode == rule.OptIn && !r.PerLog && r.ID != rule.IDSeen && r.ID != rule.IDMissing {
			got[r.ID] = 0
		}
	}
	for _, e := range counted.stage.told {
		for _, r := range e.Reasons {
			if r.Rule != rule.IDSeen {
				got[r.Rule]++
			}
		}
	}
	if want := documented(t); !maps.Equal(got, want) {
		for _, id := range slices.Sorted(maps.Keys(got)) {
			if n, ok := want[id]; !ok || n != got[id] {
				t.Errorf("| `%s` | %d |: not what %s says", id, got[id], quietPage)
			}
			delete(want, id)
		}
		for id := range want {
			t.Errorf("%s says something of %s, which is no such rule", quietPage, id)
		}
	}
}

// build makes the logs and the files that the configurations name.
func (c *calendar) build() {
	c.world = must(mint.New(3))(c.t)
	c.ca = must(c.world.Authority("mint, second"))(c.t)
	c.promiser = must(c.world.Promiser("certificate log, second"))(c.t)
	write := (&stage{t: c.t, dir: c.dir}).write
	for name, s := range c.shards {
		kind := mint.Rekor
		if strings.HasPrefix(name, "ct") {
			kind = mint.CT
		}
		s.log = must(c.world.Log(name+".example.org", kind, &s.site.files))(c.t)
		write(name+".policy", []byte(s.log.Policy()))
		if strings.HasSuffix(name, "1") {
			s.end = day(newShards, 0, 0)
		}
	}
	write("authorities.pem", append(c.world.CA.PEM(), c.ca.PEM()...))
	var promisers []byte
	for _, p := range []*mint.Promiser{c.world.CT, c.promiser} {
		key := must(x509.MarshalPKIXPublicKey(p.Public()))(c.t)
		promisers = append(promisers, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: key})...)
	}
	write("ct-keys.pem", promisers)
	for name, more := range map[string]string{"default": "", "everything": optIn} {
		cfg := must(config.LoadMonitor(write(name+".yaml", []byte(c.configuration(name)+more))))(c.t)
		m := must(stack.OpenMonitor(cfg, nil))(c.t)
		c.watchers[name] = &watcher{monitor: m, stage: &stage{t: c.t, dir: c.dir, events: name + ".jsonl"}}
	}
}

// configuration is that of one of the monitors.
func (c *calendar) configuration(name string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "state: ./%s\nlogs:\n", name)
	for _, log := range slices.Sorted(maps.Keys(c.shards)) {
		s := c.shards[log]
		fmt.Fprintf(&b, "  - {origin: %s, url: %q, vkey: %q, policy: %s.policy, kind: %s", s.log.Origin, s.site.url, s.log.VKey, log, s.log.Kind)
		if !s.end.IsZero() {
			fmt.Fprintf(&b, ", end: %s", s.end.Format(time.RFC3339))
		}
		b.WriteString("}\n")
	}
	fmt.Fprintf(&b, "cas: authorities.pem\nct_keys: [ct-keys.pem]\nnotify: {all: {jsonl: %s.jsonl}}\nidentities:\n", name)
	for _, p := range projects {
		b.WriteString(p.identity)
	}
	text := b.String()
	if name == "everything" { // hours are for people
		for _, name := range strings.Fields(crossed) {
			text = strings.Replace(text, fmt.Sprintf("{name: %q,", name), fmt.Sprintf("{name: %q, %s,", name, crossing), 1)
		}
		text = strings.ReplaceAll(text, "people: true", `rules: {id.off-hours: {hours: "07:00-19:00", days: [mon, tue, wed, thu, fri]}}`)
	}
	text = strings.ReplaceAll(text, ", people: true", "")
	for word, key := range map[string]string{"OLDKEY": "old", "NEWKEY": "new"} {
		hash := must(c.world.KeyHash(p256, key))(c.t)
		text = strings.ReplaceAll(text, word, fmt.Sprintf("%q", fmt.Sprintf("%x", hash)))
	}
	return text
}

// play has all projects act, and the monitors look now and then.
func (c *calendar) play() {
	m := &month{r: rand.New(rand.NewPCG(1, 2))}
	for _, p := range projects {
		p.does(m)
	}
	c.t.Logf("%d signatures", len(m.acts))
	slices.SortStableFunc(m.acts, func(a, b act) int { return a.at.Compare(b.at) })
	acts := m.acts
	const hours = 6 // between two looks
	for end := day(0, hours, 0); !end.After(day(days, 0, 0)); end = end.Add(hours * time.Hour) {
		n := 0
		for n < len(acts) && acts[n].at.Before(end) {
			c.log(int64(len(m.acts)-len(acts)+n), acts[n])
			n++
		}
		acts = acts[n:]
		time.Sleep(time.Until(end))
		c.look("default")
		if end.Hour() == 0 {
			c.look("everything")
		}
	}
}

// log logs an entry, and its certificate.
func (c *calendar) log(n int64, a act) {
	signatures, certificates := c.shards["log1"], c.shards["ct1"]
	e := a.entry
	if !a.at.Before(day(newShards, 0, 0)) {
		signatures, certificates = c.shards["log2"], c.shards["ct2"]
		e.By = c.promiser
	}
	if !a.at.Before(day(newAuthority, 0, 0)) {
		e.CA = c.ca
	}
	e.NotBefore, e.Serial = a.at, fmt.Sprintf("act %d", n)
	if e.Content == nil {
		e.Content = fmt.Appendf(nil, "act %d", n)
	}
	made := must(c.world.Make(e, certificates.log.Size()))(c.t)
	if !e.Bare {
		c.issued = append(c.issued, made)
		if err := certificates.log.Append(must(made.TileLeaf())(c.t)); err != nil {
			c.t.Fatal(err)
		}
	}
	if err := signatures.log.Append(made.Bytes); err != nil {
		c.t.Fatal(err)
	}
}

// look publishes the logs that are not frozen, and has one of the monitors read all.
func (c *calendar) look(name string) {
	for _, s := range c.shards {
		if s.end.IsZero() || !time.Now().After(s.end) {
			if err := s.log.Publish(time.Now()); err != nil {
				c.t.Fatal(err)
			}
		}
	}
	w := c.watchers[name]
	if name == "everything" {
		w.stage.issuance(c.issued...)
	}
	r, err := w.monitor.Check(c.t.Context())
	if err != nil {
		c.t.Fatal(err)
	}
	for _, l := range r.Logs {
		if l.Err != "" {
			c.t.Fatalf("%s: %s", l.Origin, l.Err)
		}
	}
	w.stage.readEvents()
}
