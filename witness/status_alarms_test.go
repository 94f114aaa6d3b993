package witness_test

import (
	"context"
	"encoding/json"
	"errors"
	"iter"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"tallywood/storage"
	"tallywood/storage/mem"
	"tallywood/witness"
)

// pageStatus is what a test reads of status.json.
type pageStatus struct {
	Alarms []struct{ Kind, Origin, Text string }
	Lists  []struct {
		Source     string
		Logs, Gone int
		Read       *time.Time
		Failing    bool
	}
	Logs []struct {
		Origin, Source        string
		QPD                   int64
		QuotaLeft             int64 `json:"quota_left"`
		Lag                   int64 `json:"lag_seconds"`
		Evidence              int
		Disabled, Frozen, Any bool
	}
}

func readStatus(t testing.TB, w *server) pageStatus {
	t.Helper()
	var s pageStatus
	if err := json.Unmarshal([]byte(do(t, http.MethodGet, w.url+"/status.json", "").body), &s); err != nil {
		t.Fatal(err)
	}
	return s
}

// kinds returns the kinds of the alarms, in order.
func (s pageStatus) kinds() string {
	var out []string
	for _, a := range s.Alarms {
		out = append(out, a.Kind)
	}
	return strings.Join(out, " ")
}

// TestThePageRaisesAlarms has each thing happen that an operator must see.
func TestThePageRaisesAlarms(t *testing.T) {
	l, fork, thief := newTestLog(t, origin), newTestLog(t, origin), newTestLog(t, "thief.example.org")
	l.grow(t, 9, "entry")
	fork.grow(t, 9, "forged entry")
	c, bucket := newClock(), mem.New()
	w := serveQuota(t, bucket, c, 24, l)
	w.mustAdd(t, l.request(t, 0, 5))
	list := newListServer(t, "logs/v0\nvkey "+thief.key.String()+"\norigin "+origin+"\nqpd 5\ncontact x\n"+listed(thief))
	lists := follow(t, w, list.URL)
	page := do(t, http.MethodGet, w.url+"/", "")
	if s := readStatus(t, w); s.kinds() != "" || !strings.Contains(page.body, "Nothing is wrong.") {
		t.Errorf("alarms %+v\n%s", s.Alarms, page.body)
	}

	if err := lists.ReadAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	if a := w.add(t, fork.request(t, 0, 5)); a.status != http.StatusConflict {
		t.Fatalf("a fork: %d %s", a.status, a.body)
	}
	c.add(25 * time.Hour)
	eventually(t, func() bool { return readStatus(t, w).kinds() == "evidence key list" })
	s := readStatus(t, w)
	if s.Logs[0].Evidence != 1 || s.Logs[0].QPD != 24 || s.Logs[0].QuotaLeft != 24 || s.Logs[0].Lag != 25*3600 {
		t.Errorf("log %+v", s.Logs[0])
	}
	if s.Logs[1].Source != list.URL || len(s.Lists) != 1 || s.Lists[0].Logs != 1 || s.Lists[0].Read == nil {
		t.Errorf("logs %+v, lists %+v", s.Logs, s.Lists)
	}
	page = do(t, http.MethodGet, w.url+"/", "")
	for _, want := range []string{"Something needs its operator", "A list names another key for this log: " + thief.key.String()[:20], "evidence/" + hashOf(origin) + "/",
		"could not be read lately", "24 of 24", "25 h ago"} {
		if !strings.Contains(page.body, strings.ReplaceAll(want, "+", "&#43;")) {
			t.Errorf("the page does not say %q:\n%s", want, page.body)
		}
	}
	wantMetric(t, w, "tallywood_witness_evidence 1")
	if _, err := w.AcknowledgeKeys(t.Context(), origin); err != nil {
		t.Fatal(err)
	}
	if err := lists.ReadAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s := readStatus(t, w); s.kinds() != "evidence" {
		t.Errorf("in the end: %+v", s.Alarms)
	}
}

// TestThePageTellsOfABastionThatIsDown loses one of two bastions, and gets it back.
func TestThePageTellsOfABastionThatIsDown(t *testing.T) {
	t.Parallel()
	var down atomic.Bool
	since := time.Date(2026, 11, 28, 12, 34, 56, 789, time.FixedZone("", 3600))
	w := serveOptions(t, witness.Options{Keys: testKeys(t), Bucket: mem.New(), Via: func() []witness.Reach {
		return []witness.Reach{
			{Bastion: "one.example.org:443", URL: "https://one.example.org/hash", Up: !down.Load(), Since: since},
			{Bastion: "two.example.org:8443", URL: "https://two.example.org:8443/hash", Up: true, Since: since},
		}
	}})
	for _, lost := range []bool{false, true, false} {
		down.Store(lost)
		s, page := readStatus(t, w), do(t, http.MethodGet, w.url+"/", "")
		switch {
		case !lost && (s.kinds() != "" || !strings.Contains(page.body, "Nothing is wrong.")):
			t.Errorf("with both: alarms %+v\n%s", s.Alarms, page.body)
		case lost && (s.kinds() != "bastion" || !strings.Contains(s.Alarms[0].Text, "the bastion one.example.org:443 now")):
			t.Errorf("without one: alarms %+v", s.Alarms)
		case lost && (!strings.Contains(page.body, "Something needs its operator.") || !strings.Contains(page.body, "Since 2026-11-28 11:34:56.")):
			t.Errorf("the page does not say so:\n%s", page.body)
		}
	}
}

// An unlistedBucket cannot list a prefix, and counts how often it was to.
type unlistedBucket struct {
	storage.Bucket
	prefix string
	asked  atomic.Int64
}

func (b *unlistedBucket) List(ctx context.Context, prefix string) iter.Seq2[string, error] {
	if !strings.HasPrefix(prefix, b.prefix) {
		return b.Bucket.List(ctx, prefix)
	}
	b.asked.Add(1)
	return func(yield func(string, error) bool) { yield("", errors.New("refused by the test")) }
}

// TestPageOfManyLogsAsksOnce has a bucket that cannot say what evidence there is.
func TestPageOfManyLogsAsksOnce(t *testing.T) {
	t.Parallel()
	bucket := &unlistedBucket{Bucket: mem.New(), prefix: "evidence/"}
	w := serve(t, bucket, newClock(), newTestLog(t, "a.example.org"), newTestLog(t, "b.example.org"), newTestLog(t, "c.example.org"))
	if s := readStatus(t, w); len(s.Logs) != 3 {
		t.Errorf("logs %+v", s.Logs)
	}
	if n := bucket.asked.Load(); n != 1 {
		t.Errorf("the evidence was listed %d times for one page", n)
	}
}

// TestThePageTellsOfStateThatCannotBeRead damages the state of one log.
func TestThePageTellsOfStateThatCannotBeRead(t *testing.T) {
	l, other := newTestLog(t, origin), newTestLog(t, "other.example.org")
	l.grow(t, 5, "entry")
	bucket := mem.New()
	serve(t, bucket, newClock(), l).mustAdd(t, l.request(t, 0, 5))
	good, _, err := bucket.Get(t.Context(), stateKey(), storage.Range{})
	if err != nil {
		t.Fatal(err)
	}
	put := func(data []byte) {
		if _, err := bucket.Put(t.Context(), stateKey(), data, storage.PutOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	put([]byte("{"))
	w := serve(t, bucket, newClock(), l, other)
	if a := w.add(t, l.request(t, 5, 5)); a.status != http.StatusServiceUnavailable {
		t.Errorf("its log is answered %d %s", a.status, a.body)
	}
	if s := readStatus(t, w); s.kinds() != "state" || s.Alarms[0].Origin != origin {
		t.Errorf("alarms %+v", s.Alarms)
	}
	if page := do(t, http.MethodGet, w.url+"/", ""); !strings.Contains(page.body, "Something needs its operator") || !strings.Contains(page.body, "state cannot be read") {
		t.Errorf("the page does not say so:\n%s", page.body)
	}
	put(good)
	if s := readStatus(t, w); s.kinds() != "" {
		t.Errorf("when it can be read again: %+v", s.Alarms)
	}
	if a := w.add(t, l.request(t, 5, 5)); a.status != http.StatusOK {
		t.Errorf("then its log is answered %d %s", a.status, a.body)
	}
}

func TestThePageKeepsPathsToItself(t *testing.T) {
	w := serve(t, mem.New(), newClock())
	lists := follow(t, w)
	if _, err := lists.Take(t.Context(), "/home/operator/secret/logs.txt", []byte("logs/v0\n"+listed(newTestLog(t, origin)))); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/", "/status.json"} {
		if a := do(t, http.MethodGet, w.url+path, ""); strings.Contains(a.body, "secret") || !strings.Contains(a.body, "file logs.txt") {
			t.Errorf("%s:\n%s", path, a.body)
		}
	}
	if got := w.Logs()[0].Source; got != "/home/operator/secret/logs.txt" {
		t.Errorf("the operator is told %q", got)
	}
}

// TestManyLogsHaveBoundedSeries has more logs than have series of their own.
func TestManyLogsHaveBoundedSeries(t *testing.T) {
	key := newTestLog(t, origin).key
	var logs []witness.Log
	for i := range 6000 {
		logs = append(logs, witness.Log{Origin: origin + strings.Repeat("x", i%97) + string(rune('a'+i%26)) + time.Duration(i).String(), Keys: logKeys(&testLog{key: key}), QPD: 5})
	}
	w := serveOptions(t, witness.Options{Keys: testKeys(t), Bucket: mem.New(), Logs: logs})
	text := metrics(t, w)
	if n := strings.Count(text, "tallywood_witness_log_quota_left{"); n != 5000 {
		t.Errorf("%d logs have series", n)
	}
	wantMetric(t, w, "tallywood_witness_logs 6000")
}

// eventually waits for what is cached for a moment.
func eventually(t testing.TB, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !done(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it has not happened")
		}
	}
}
