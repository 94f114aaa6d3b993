package deploy

import (
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"go.yaml.in/yaml/v4"

	"tallywood/internal/keys"
	"tallywood/monitor"
	"tallywood/storage/mem"
	"tallywood/witness"
	"tallywood/witness/bastion"
)

// The files of rules, and of what they are tried with.
const (
	rulesFile        = "prometheus/tallywood-witness.rules.yml"
	rulesTest        = "prometheus/tallywood-witness.test.yml"
	monitorRulesFile = "prometheus/tallywood-monitor.rules.yml"
	monitorRulesTest = "prometheus/tallywood-monitor.test.yml"
)

// promtool returns Prometheus's tool, of Debian's package; it is taken out of that, not installed.
func promtool(t *testing.T) string {
	t.Helper()
	if path, err := exec.LookPath("promtool"); err == nil {
		return path
	}
	dir := newDir(t)
	// The lists of packages may be older than the package, or missing.
	fetch := exec.Command("sh", "-ec", "apt-get download -qq prometheus || { apt-get update -qq; apt-get download -qq prometheus; }; dpkg -x prometheus_*.deb .")
	fetch.Dir = dir
	output(t, fetch)
	return filepath.Join(dir, "usr/bin/promtool")
}

// TestAlertRules has promtool check the rules, and try that they are silent where nothing is wrong, and
// each of them raised where it is.
func TestAlertRules(t *testing.T) {
	tool := promtool(t)
	for rules, tests := range map[string]string{rulesFile: rulesTest, monitorRulesFile: monitorRulesTest} {
		output(t, exec.Command(tool, "check", "rules", "--lint=all", "--lint-fatal", rules))
		output(t, exec.Command(tool, "test", "rules", tests))
		text, err := os.ReadFile(tests)
		must(t, err)
		all := alertRules(t, rules)
		if want := fmt.Sprintf("value: %d}]", len(all)); !strings.Contains(string(text), want) {
			t.Errorf("%s does not demand that all %d fire", tests, len(all))
		}
	}
}

// A rule is an alert of the file.
type rule struct{ Alert, Expr, For string }

func alertRules(t *testing.T, name string) []rule {
	t.Helper()
	text, err := os.ReadFile(name)
	must(t, err)
	var file struct{ Groups []struct{ Rules []rule } }
	must(t, yaml.Load(text, &file))
	if len(file.Groups) != 1 || len(file.Groups[0].Rules) < 7 {
		t.Fatalf("the rules are %+v", file)
	}
	return file.Groups[0].Rules
}

var metricName = regexp.MustCompile(`tallywood_witness_[a-z_]+`)

// TestAlertRulesNameMetricsThatExist asks a witness with an export and a bastion which metrics it has.
func TestAlertRulesNameMetricsThatExist(t *testing.T) {
	k, err := keys.WitnessFromSeed("witness.example.org", sha256.Sum256([]byte("witness")))
	must(t, err)
	w, err := witness.New(witness.Options{Keys: k, Bucket: mem.New(), Export: mem.New()})
	must(t, err)
	seed := sha256.Sum256([]byte("bastion"))
	b, err := bastion.New(bastion.Options{Handler: w.Handler(), Bastions: []bastion.Bastion{{Address: "bastion.example.org:443", Key: ed25519.NewKeyFromSeed(seed[:])}}})
	must(t, err)
	rec := httptest.NewRecorder()
	w.Metrics().ServeHTTP(rec, httptest.NewRequest("GET", "/metrics", nil))
	b.WriteMetrics(rec.Body)
	there := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^# TYPE (\S+) (\S+)$`).FindAllStringSubmatch(rec.Body.String(), -1) {
		there[m[1]] = true
		if m[2] == "histogram" {
			there[m[1]+"_bucket"] = true
		}
	}
	if len(there) < 15 {
		t.Fatalf("the witness has the metrics %v", there)
	}
	for _, r := range alertRules(t, rulesFile) {
		names := metricName.FindAllString(r.Expr, -1)
		if len(names) == 0 && r.Alert != "TallywoodWitnessDown" {
			t.Errorf("%s names no metric", r.Alert)
		}
		for _, name := range names {
			if !there[name] {
				t.Errorf("%s names %s, which no witness has", r.Alert, name)
			}
		}
	}
	// Every metric is in the page for operators.
	text, err := os.ReadFile(filepath.Join(repository, "docs/witness-runbook.md"))
	must(t, err)
	for name := range there {
		if !strings.HasSuffix(name, "_bucket") && !strings.Contains(string(text), "`"+name+"`") {
			t.Errorf("docs/witness-runbook.md does not explain %s", name)
		}
	}
}

// TestEveryAlertIsInTheRunbook compares the runbook's headings with the alerts.
func TestEveryAlertIsInTheRunbook(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(repository, "docs/witness-runbook.md"))
	must(t, err)
	var headings, alerts []string
	for _, m := range regexp.MustCompile(`(?m)^### (\S+)$`).FindAllStringSubmatch(string(text), -1) {
		headings = append(headings, m[1])
	}
	for _, r := range alertRules(t, rulesFile) {
		alerts = append(alerts, r.Alert)
	}
	if !slices.Equal(headings, alerts) {
		t.Errorf("docs/witness-runbook.md has\n%v\nthe rules\n%v", headings, alerts)
	}
}

// TestMonitorAlertRulesNameMetricsThatExist asks a monitor which metrics it has.
func TestMonitorAlertRulesNameMetricsThatExist(t *testing.T) {
	m := &monitor.Monitor{}
	ch := make(chan *prometheus.Desc, 100)
	m.Describe(ch)
	close(ch)
	there := ""
	for d := range ch {
		there += d.String()
	}
	name := regexp.MustCompile(`monitor_[a-z_]+`)
	for _, r := range alertRules(t, monitorRulesFile) {
		names := name.FindAllString(r.Expr, -1)
		if len(names) == 0 && r.Alert != "TallywoodMonitorDown" {
			t.Errorf("%s names no metric", r.Alert)
		}
		for _, n := range names {
			if !strings.Contains(there, fmt.Sprintf("fqName: %q", n)) {
				t.Errorf("%s names %s, which no monitor has", r.Alert, n)
			}
		}
	}
}
