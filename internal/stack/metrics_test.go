package stack_test

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"tallywood/internal/stack"
)

// families reads all metrics of l.
func (l *live) families(t *testing.T) map[string]*dto.MetricFamily {
	t.Helper()
	status, text := fetch(t, l.metrics)
	if status != http.StatusOK {
		t.Fatalf("%d %s", status, text)
	}
	parser := expfmt.NewTextParser(model.LegacyValidation)
	out, err := parser.TextToMetricFamilies(strings.NewReader(text))
	if err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	return out
}

// value returns the value of the series of a metric that has the given labels, as name=value, and
// whether there is one.
func value(t *testing.T, f map[string]*dto.MetricFamily, name string, labels ...string) (float64, bool) {
	t.Helper()
	for _, m := range f[name].GetMetric() {
		have := map[string]bool{}
		for _, l := range m.GetLabel() {
			have[l.GetName()+"="+l.GetValue()] = true
		}
		all := true
		for _, l := range labels {
			all = all && have[l]
		}
		if all {
			return m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount()), true
		}
	}
	return 0, false
}

func wantValue(t *testing.T, f map[string]*dto.MetricFamily, want float64, name string, labels ...string) {
	t.Helper()
	if got, ok := value(t, f, name, labels...); !ok || got != want {
		t.Errorf("%s%v is %v (%v); want %v", name, labels, got, ok, want)
	}
}

func wantMore(t *testing.T, f map[string]*dto.MetricFamily, least float64, name string, labels ...string) {
	t.Helper()
	if got, ok := value(t, f, name, labels...); !ok || got < least {
		t.Errorf("%s%v is %v (%v); want at least %v", name, labels, got, ok, least)
	}
}

func TestMetricsTellWhatHappens(t *testing.T) {
	l := serve(t, stack.Options{Build: stack.Build{Version: "1.2.3", Revision: "abc", Go: "go1"}}, nil)
	l.ready(t)
	request := newRequest(t)
	for _, want := range []int{201, 201} {
		if status, body := l.post(t, request); status != want {
			t.Fatalf("%d %s", status, body)
		}
	}
	if status, _ := l.post(t, "{}"); status != 400 {
		t.Errorf("%d", status)
	}
	if status, _ := l.post(t, `{"x":"`+strings.Repeat("x", 5<<20)+`"}`); status != 413 {
		t.Errorf("%d", status)
	}
	if status, body := l.certificate(t); status != 200 {
		t.Fatalf("%d %s", status, body)
	}
	eventually(t, "the checkpoints to be in the bucket", func() bool {
		f := l.families(t)
		a, _ := value(t, f, "tallywood_log_stored_size", "log=signatures")
		b, _ := value(t, f, "tallywood_log_stored_size", "log=certificates")
		return a == 1 && b == 1
	})
	f := l.families(t)
	const s, c = "log=signatures", "log=certificates"
	for outcome, want := range map[string]float64{"created": 1, "duplicate": 1, "invalid": 1, "too_large": 1, "no_quorum": 0, "failed": 0} {
		wantValue(t, f, want, "tallywood_log_adds_total", s, "outcome="+outcome)
	}
	wantValue(t, f, 1, "tallywood_log_adds_total", c, "outcome=created")
	wantValue(t, f, 2, "tallywood_log_add_seconds", s)
	for _, stage := range []string{"commit", "publish", "cosign", "swap"} {
		wantMore(t, f, 1, "tallywood_log_stage_seconds", s, "stage="+stage)
		wantValue(t, f, 0, "tallywood_log_stage_failures_total", s, "stage="+stage)
	}
	for _, name := range []string{"committed_size", "integrated_size", "published_size", "stored_size", "leading", "ready"} {
		wantValue(t, f, 1, "tallywood_log_"+name, s)
	}
	for _, name := range []string{"queue_entries", "queue_bytes", "oldest_unpublished_seconds", "index_lacks"} {
		wantValue(t, f, 0, "tallywood_log_"+name, s)
	}
	wantMore(t, f, 1, "tallywood_log_uncollected_records", s)
	wantMore(t, f, 1e9, "tallywood_log_published_timestamp_seconds", s)
	wantMore(t, f, 1, "tallywood_log_index_lookups_total", s, "result=new")
	for i := range stack.DevWitnesses {
		w := fmt.Sprintf("witness=witness-%d.localhost", i+1)
		eventually(t, w+" to have cosigned", func() bool {
			got, _ := value(t, l.families(t), "tallywood_log_witness_requests_total", s, w, "answer=cosigned")
			return got > 0
		})
	}
	eventually(t, "one witness to be spare", func() bool { got, _ := value(t, l.families(t), "tallywood_log_quorum_margin", s); return got == 1 })
	wantMore(t, f, 1, "tallywood_storage_operations_total", "operation=put", "object=record", "outcome=done")
	wantMore(t, f, 1, "tallywood_storage_operations_total", "operation=put", "object=checkpoint", "outcome=done")
	wantMore(t, f, 1, "tallywood_storage_operation_seconds", "operation=put", "object=tile")
	wantMore(t, f, 1e9, "tallywood_certificate_expiry_timestamp_seconds", "part=ca")
	wantMore(t, f, 1e9, "tallywood_certificate_expiry_timestamp_seconds", "part=tsa")
	wantValue(t, f, 1, "tallywood_build_info", "version=1.2.3", "revision=abc", "goversion=go1")
	wantValue(t, f, 0, "tallywood_reloads_total", "outcome=refused")
	write(t, filepath.Join(l.dir, "config.yaml"), "x: y\n")
	if err := l.Reload(t.Context()); err == nil {
		t.Error("it was taken")
	}
	wantValue(t, l.families(t), 1, "tallywood_reloads_total", "outcome=refused")
}

// TestMetricsOfALostQuorum takes the witnesses away.
func TestMetricsOfALostQuorum(t *testing.T) {
	l := serve(t, stack.Options{}, func(dir string) {
		losesPatience(t, dir, 100*time.Millisecond)
	})
	l.ready(t)
	path := filepath.Join(l.dir, "client", "policy.txt")
	text := read(t, path)
	text = strings.ReplaceAll(text, l.url+"/witness/2", "http://127.0.0.1:1")
	write(t, path, strings.ReplaceAll(text, l.url+"/witness/3", "http://127.0.0.1:1"))
	if err := l.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "an add without quorum", func() bool {
		status, _ := l.post(t, newRequest(t))
		got, _ := value(t, l.families(t), "tallywood_log_adds_total", "log=signatures", "outcome=no_quorum")
		return status == 503 && got > 0
	})
	eventually(t, "the metrics to tell", func() bool {
		f := l.families(t)
		failed, _ := value(t, f, "tallywood_log_witness_requests_total", "log=signatures", "witness=witness-2.localhost", "answer=failed")
		rounds, _ := value(t, f, "tallywood_log_stage_failures_total", "log=signatures", "stage=publish")
		margin, _ := value(t, f, "tallywood_log_quorum_margin", "log=signatures")
		age, _ := value(t, f, "tallywood_log_oldest_unpublished_seconds", "log=signatures")
		return failed > 0 && rounds > 0 && margin == -1 && age > 0
	})
	var ready struct {
		Ready bool
		Logs  []struct {
			Log, Reason string
			Ready       bool
		}
	}
	eventually(t, "readiness to tell", func() bool {
		status, body := l.get(t, "/readyz")
		decode(t, body, &ready)
		return status == http.StatusServiceUnavailable && !ready.Ready && len(ready.Logs) == 2 && !ready.Logs[0].Ready && ready.Logs[0].Reason != ""
	})
	if status, body := l.get(t, "/healthz"); status != http.StatusOK || body != "{\"status\":\"SERVING\"}\n" {
		t.Errorf("/healthz: %d %s", status, body)
	}
}

// TestMetricsOfLimits has one client send more than it may.
func TestMetricsOfLimits(t *testing.T) {
	l := serve(t, stack.Options{}, func(dir string) {
		path := filepath.Join(dir, "config.yaml")
		write(t, path, read(t, path)+"limits: {requests_per_second: 0.001, burst: 2, exempt: []}\n")
	})
	l.ready(t)
	for _, want := range []int{201, 201, 429} {
		if status, body := l.post(t, newRequest(t)); status != want {
			t.Fatalf("%d %s; want %d", status, body, want)
		}
	}
	f := l.families(t)
	wantValue(t, f, 2, "tallywood_log_adds_total", "log=signatures", "outcome=created")
	wantValue(t, f, 1, "tallywood_log_adds_total", "log=signatures", "outcome=limited")
}

// TestMetricNames holds names and help texts against what Prometheus advises.
func TestMetricNames(t *testing.T) {
	l := serve(t, stack.Options{}, nil)
	l.ready(t)
	status, text := fetch(t, l.metrics)
	if status != http.StatusOK {
		t.Fatal(status)
	}
	problems, err := promlint.New(strings.NewReader(text)).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

// labelled are the labels there are, with a pattern that all of their values have: nothing that a
// client sends.
var labelled = map[string]string{
	"log": `signatures|certificates`, "witness": `witness-[123]\.localhost`,
	"outcome": `[a-z_]+`, "stage": `commit|publish|cosign|swap`, "answer": `cosigned|conflict|refused|later|timeout|failed`,
	"operation": `get|put|delete|list|sync`, "object": `record|tile|bundle|checkpoint|issuer|witness|state|other`,
	"result": `duplicate|new`, "part": `[a-z_]+`, "code": `[1-5][0-9][0-9]`,
	"version": `.*`, "revision": `.*`, "goversion": `.*`,
}

// TestMetricLabelsAreClosed sends what nobody expects, a lot of it, and wants no series of it.
func TestMetricLabelsAreClosed(t *testing.T) {
	l := serve(t, stack.Options{}, nil)
	l.ready(t)
	visit := func(n int) {
		for range n {
			word := fmt.Sprintf("x%x", rand.Uint64())
			for _, path := range []string{"/", "/logs/", "/witness/", "/tile/", "/api/v2/", "/dev/", "/logs/signatures/", "/logs/signatures/tile/0/"} {
				r, err := http.NewRequestWithContext(t.Context(), strings.ToUpper(word), l.url+path+word, nil)
				if err != nil {
					t.Fatal(err)
				}
				resp, err := http.DefaultClient.Do(r)
				if err != nil {
					t.Fatal(err)
				}
				resp.Body.Close()
				fetch(t, l.url+path+word)
			}
			send(t, l.url+"/logs/signatures/"+word, word)
			l.post(t, word, "Content-Encoding", word)
		}
	}
	count := func() (n int) {
		for _, f := range l.families(t) {
			if strings.HasPrefix(f.GetName(), "tallywood_") {
				n += len(f.GetMetric())
			}
		}
		return n
	}
	visit(3)
	before := count()
	visit(50)
	if after := count(); after >= before+50 { // what else the stack does makes some for the first time
		t.Errorf("%d series, and %d after fifty times more of the same", before, after)
	}
	for name, f := range l.families(t) {
		if !strings.HasPrefix(name, "tallywood_") {
			continue
		}
		for _, m := range f.GetMetric() {
			for _, label := range m.GetLabel() {
				want, known := labelled[label.GetName()]
				if !known || !regexp.MustCompile(`^(`+want+`)$`).MatchString(label.GetValue()) {
					t.Errorf("%s has the label %s=%q", name, label.GetName(), label.GetValue())
				}
			}
		}
	}
}

// TestMetricsAreDocumented compares docs/metrics.md with what there is.
func TestMetricsAreDocumented(t *testing.T) {
	l := serve(t, stack.Options{}, nil)
	l.ready(t)
	page, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	told := map[string]bool{}
	for _, m := range regexp.MustCompile("(?m)^\\| `(tallywood_[a-z_]+)`").FindAllStringSubmatch(string(page), -1) {
		told[m[1]] = true
	}
	there := map[string]bool{}
	for _, name := range stack.MetricNames(l.Stack) {
		there[name] = true
		if !told[name] {
			t.Errorf("docs/metrics.md has no line for %s", name)
		}
	}
	for name := range told {
		if !there[name] {
			t.Errorf("docs/metrics.md has a line for %s, which does not exist", name)
		}
	}
	// What the alerts ask for exists, too.
	for _, name := range regexp.MustCompile(`tallywood_[a-z_]+`).FindAllString(string(page), -1) {
		base := regexp.MustCompile(`_(bucket|count|sum)$`).ReplaceAllString(name, "")
		if !there[name] && !there[base] {
			t.Errorf("docs/metrics.md speaks of %s, which does not exist", name)
		}
	}
}
