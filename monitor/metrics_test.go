package monitor_test

import (
	"errors"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"tallywood/monitor"
)

// figures gathers the metrics of a monitor: values by name and labels, as "name{a=b,c=d}".
func figures(t *testing.T, m *monitor.Monitor) map[string]float64 {
	t.Helper()
	registry := prometheus.NewPedanticRegistry()
	if err := registry.Register(m); err != nil {
		t.Fatal(err)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]float64{}
	for _, f := range families {
		for _, one := range f.GetMetric() {
			var labels []string
			for _, l := range one.GetLabel() {
				labels = append(labels, l.GetName()+"="+l.GetValue())
			}
			key := f.GetName() + "{" + strings.Join(labels, ",") + "}"
			switch {
			case one.GetCounter() != nil:
				out[key] = one.GetCounter().GetValue()
			case one.GetHistogram() != nil:
				out[key] = float64(one.GetHistogram().GetSampleCount())
			default:
				out[key] = one.GetGauge().GetValue()
			}
		}
	}
	return out
}

func TestMetricsSayWhatHappened(t *testing.T) {
	ca, l, s := settled(t, 3)
	down := newMemorySink()
	down.setRefuse(errors.New("down"))
	s.options.Routes["down"] = monitor.Route{Sink: down}
	l.add(append(filler(ca, 300), ca.entry(alice, evilIssuer), []byte("nonsense"))...)
	m, err := monitor.New(s.options)
	if err != nil {
		t.Fatal(err)
	}
	check := func() map[string]float64 {
		t.Helper()
		if _, err := m.Check(t.Context()); err != nil {
			t.Fatal(err)
		}
		return figures(t, m)
	}
	got := check()
	for key, want := range map[string]float64{
		"monitor_checkpoint_size{origin=log.localhost}":                     305,
		"monitor_scanned_size{origin=log.localhost}":                        305,
		"monitor_lag_entries{origin=log.localhost}":                         0,
		"monitor_entries_scanned_total{origin=log.localhost}":               302,
		"monitor_malformed_total{origin=log.localhost}":                     1,
		"monitor_matches_total{identity=me}":                                1,
		"monitor_alerts_total{rule=id.unexpected-issuer,severity=critical}": 1,
		"monitor_alerts_total{rule=log.malformed-entry,severity=info}":      1,
		"monitor_notify_total{result=ok,sink=all}":                          2,
		"monitor_notify_total{result=failed,sink=down}":                     2,
		"monitor_notify_queue{sink=all}":                                    0,
		"monitor_notify_queue{sink=down}":                                   2,
		"monitor_consistency_checks_total{origin=log.localhost,result=ok}":  1,
		"monitor_quorum{origin=log.localhost,state=met}":                    1,
		"monitor_quorum{origin=log.localhost,state=lost}":                   0,
	} {
		if value, ok := got[key]; !ok || value != want {
			t.Errorf("%s is %v (%v), want %v", key, value, ok, want)
		}
	}
	if age := got["monitor_cosignature_age_seconds{origin=log.localhost,witness=w0.example.org}"]; age < 0 || age > 60 {
		t.Errorf("a cosignature is %v seconds old", age)
	}
	if at := got["monitor_last_success_timestamp{origin=log.localhost}"]; time.Since(time.Unix(int64(at), 0)) > time.Minute {
		t.Errorf("last success at %v", at)
	}
	if n := got["monitor_fetch_seconds{origin=log.localhost,result=ok}"]; n < 4 {
		t.Errorf("%v requests", n)
	}

	l.cosigners = l.cosigners[:1]
	l.publish()
	if got := check(); got["monitor_quorum{origin=log.localhost,state=lost}"] != 1 || got["monitor_quorum{origin=log.localhost,state=met}"] != 0 {
		t.Error("the quorum is not lost")
	}
	f := l.fork(200)
	f.add(filler(ca, 200)...)
	l.become(f)
	if got := check(); got["monitor_consistency_checks_total{origin=log.localhost,result=failed}"] != 1 {
		t.Error("the fork is not counted")
	}
}

// TestEveryMetricIsExplained compares the metrics with the page for operators.
func TestEveryMetricIsExplained(t *testing.T) {
	page, err := os.ReadFile("../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	s := newStation(t, newTestLog(t, "log.localhost").config(monitor.KindRekor))
	m, err := monitor.New(s.options)
	if err != nil {
		t.Fatal(err)
	}
	ch := make(chan *prometheus.Desc, 100)
	m.Describe(ch)
	close(ch)
	name := regexp.MustCompile(`fqName: "([a-z_]+)"`)
	n := 0
	for d := range ch {
		n++
		if found := name.FindStringSubmatch(d.String()); found == nil || !strings.Contains(string(page), "`"+found[1]+"`") {
			t.Errorf("docs/metrics.md does not explain %s", d)
		}
	}
	if n < 18 {
		t.Errorf("%d metrics", n)
	}
}
