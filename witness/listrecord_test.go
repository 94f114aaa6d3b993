package witness_test

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"tallywood/storage"
	"tallywood/storage/mem"
	"tallywood/witness"
	"tallywood/witness/policy"
)

// A listServer serves a list that a test changes, or nothing at all while it is down.
type listServer struct {
	*httptest.Server
	text     string
	down     bool
	asked    atomic.Int64
	modified atomic.Int64 // answers that were not 304
}

func newListServer(t *testing.T, text string) *listServer {
	t.Helper()
	s := &listServer{text: text}
	s.Server = httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		s.asked.Add(1)
		if s.down {
			http.Error(rw, "down", http.StatusBadGateway)
			return
		}
		etag := fmt.Sprintf(`"%x"`, len(s.text))
		rw.Header().Set("Etag", etag)
		if r.Header.Get("If-None-Match") == etag {
			rw.WriteHeader(http.StatusNotModified)
			return
		}
		s.modified.Add(1)
		fmt.Fprint(rw, s.text)
	}))
	t.Cleanup(s.Close)
	return s
}

// follow makes the lists of a witness that has restored what it remembers of them.
func follow(t *testing.T, w *server, urls ...string) *witness.Lists {
	t.Helper()
	lists, err := witness.NewLists(witness.ListsOptions{Witness: w.Witness, URLs: urls})
	if err != nil {
		t.Fatal(err)
	}
	if err := lists.Restore(t.Context()); err != nil {
		t.Fatal(err)
	}
	return lists
}

func TestListsAreRememberedWhileTheyAreDown(t *testing.T) {
	a, b := newTestLog(t, "a.example.org"), newTestLog(t, "b.example.org")
	a.grow(t, 9, "entry")
	b.grow(t, 9, "entry")
	list, bucket := newListServer(t, "logs/v0\n"+listed(a)+listed(b)), mem.New()
	w := serve(t, bucket, newClock())
	if err := follow(t, w, list.URL).ReadAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.mustAdd(t, a.request(t, 0, 5))

	list.down = true
	w = serve(t, bucket, newClock()) // a restart
	if err := follow(t, w, list.URL).ReadAll(t.Context()); err == nil {
		t.Error("a list that is down was read")
	}
	w.mustAdd(t, a.request(t, 5, 9))
	w.mustAdd(t, b.request(t, 0, 9))

	// It drops a log, and that is known for ever: after a restart too.
	list.down, list.text = false, "logs/v0\n"+listed(b)+"# a is gone\n"
	if err := follow(t, w, list.URL).ReadAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	w = serve(t, bucket, newClock())
	if err := follow(t, w, list.URL).ReadAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.mustAdd(t, a.request(t, 9, 9))
	// Without the list, it is not: that is the operator's word.
	w = serve(t, bucket, newClock())
	if got := w.add(t, a.request(t, 9, 9)); got.status != 404 {
		t.Errorf("a log of a list that is not configured: %d", got.status)
	}
}

func TestListsRememberTheKeyThatWasFirst(t *testing.T) {
	a, thief := newTestLog(t, "a.example.org"), newTestLog(t, "thief.example.org")
	a.grow(t, 9, "entry")
	list, bucket := newListServer(t, "logs/v0\n"+listed(a)), mem.New()
	w := serve(t, bucket, newClock())
	if err := follow(t, w, list.URL).ReadAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	list.text = "logs/v0\nvkey " + thief.key.String() + "\norigin a.example.org\nqpd 1\ncontact x\n"
	for range 3 { // the list is read again, by new processes
		if err := follow(t, w, list.URL).ReadAll(t.Context()); err != nil {
			t.Fatal(err)
		}
		w = serve(t, bucket, newClock())
	}
	follow(t, w, list.URL)
	w.mustAdd(t, a.request(t, 0, 5))
	if got := w.add(t, "old 5\n\n"+thief.sign(t, a.tree(t, 5).Text())); got.status != 403 {
		t.Errorf("the thief's key: %d", got.status)
	}
	alarms, err := w.KeyAlarms(t.Context())
	if err != nil || len(alarms) != 1 || alarms[0].Origin != "a.example.org" || alarms[0].Key != thief.key.String() ||
		alarms[0].Source != list.URL || alarms[0].Acknowledged != nil {
		t.Fatalf("alarms %+v, %v", alarms, err)
	}
	wantMetric(t, w, "tallywood_witness_key_alarms 1")

	// Acknowledged, it is raised no more, though the list still says so.
	if n, err := w.AcknowledgeKeys(t.Context(), "a.example.org"); n != 1 || err != nil {
		t.Fatalf("acknowledged %d, %v", n, err)
	}
	if n, err := w.AcknowledgeKeys(t.Context(), "a.example.org"); n != 0 || err != nil {
		t.Errorf("acknowledged again: %d, %v", n, err)
	}
	list.text += "# more\n"
	if err := follow(t, w, list.URL).ReadAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantMetric(t, w, "tallywood_witness_key_alarms 0")
	// A third key is another alarm.
	list.text = strings.Replace(list.text, thief.key.String(), newTestLog(t, "third.example.org").key.String(), 1)
	if err := follow(t, w, list.URL).ReadAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantMetric(t, w, "tallywood_witness_key_alarms 1")
}

// metrics returns what a scraper reads.
func metrics(t testing.TB, w *server) string {
	t.Helper()
	rec := httptest.NewRecorder()
	w.Metrics().ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	return rec.Body.String()
}

func wantMetric(t testing.TB, w *server, line string) {
	t.Helper()
	if text := metrics(t, w); !strings.Contains(text, "\n"+line+"\n") {
		t.Errorf("no line %s in\n%s", line, text)
	}
}

// TestConfirmLogIsTheOperatorsWord gives a log another key beside its first, as rotation wants it.
func TestConfirmLogIsTheOperatorsWord(t *testing.T) {
	l, next := newTestLog(t, origin), newTestLog(t, "next."+origin)
	l.grow(t, 9, "entry")
	w := serveQuota(t, mem.New(), newClock(), 2, l)
	w.mustAdd(t, l.request(t, 0, 5))
	signed := "old 5\n" + l.proof(t, 5, 7) + "\n" + next.sign(t, l.tree(t, 7).Text())
	if got := w.add(t, signed); got.status != 403 {
		t.Fatalf("before: %d", got.status)
	}
	for i, want := range []bool{true, false} {
		changed, err := w.ConfirmLog(witness.Log{Origin: origin, Keys: logKeys(next), QPD: 3})
		if changed != want || err != nil {
			t.Errorf("time %d: %t, %v", i, changed, err)
		}
	}
	if got := w.add(t, signed); got.status != 200 {
		t.Errorf("with the new key: %d %s", got.status, got.body)
	}
	w.mustAdd(t, l.request(t, 7, 8)) // the third of three
	if got := w.add(t, l.request(t, 8, 9)); got.status != http.StatusTooManyRequests {
		t.Errorf("beyond the new quota: %d", got.status)
	}
}

func TestListsSayWhatTheyChange(t *testing.T) {
	a, b, c := newTestLog(t, "a.example.org"), newTestLog(t, "b.example.org"), newTestLog(t, "c.example.org")
	list := newListServer(t, "logs/v0\n"+listed(a)+listed(b))
	var logged bytes.Buffer
	w := serveOptions(t, witness.Options{Keys: testKeys(t), Bucket: mem.New(), Log: slog.New(slog.NewTextHandler(&logged, nil))})
	lists := follow(t, w, list.URL)
	if err := lists.ReadAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	list.text = "logs/v0\n" + strings.Replace(listed(a), "86400", "10", 1) + "vkey " + c.key.String() + "\norigin b.example.org\nqpd 86400\ncontact x\n" + listed(c)
	logs, err := lists.Fetch(t.Context(), list.URL)
	if err != nil {
		t.Fatal(err)
	}
	changes, err := lists.Diff(t.Context(), list.URL, logs)
	if err != nil {
		t.Fatal(err)
	}
	want := []witness.Change{
		{Kind: witness.ChangeQuota, Origin: "a.example.org", QPD: 10, Known: 86400},
		{Kind: witness.ChangeKey, Origin: "b.example.org", Key: c.key.String(), QPD: 86400, Contact: "x"},
		{Kind: witness.ChangeNew, Origin: "c.example.org", Key: c.key.String(), QPD: 86400, Contact: "ops@c.example.org"},
	}
	if fmt.Sprint(changes) != fmt.Sprint(want) {
		t.Errorf("changes\n%+v\nwant\n%+v", changes, want)
	}
	if got := len(w.Logs()); got != 2 {
		t.Errorf("the difference made %d logs known", got)
	}
	logged.Reset()
	list.text = "logs/v0\n" + listed(c)
	if err := lists.ReadAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`msg="log added from list" origin=c.example.org`, `msg="log list names a log no more; it stays" origin=a.example.org`,
		"new=1 keys=0 quotas=0 dropped=2"} {
		if !strings.Contains(logged.String(), want) {
			t.Errorf("the log lacks %q:\n%s", want, &logged)
		}
	}
	logged.Reset()
	if err := lists.ReadAll(t.Context()); err != nil || logged.Len() > 0 {
		t.Errorf("the same list once more: %v\n%s", err, &logged)
	}
}

func TestListsAskWithTheETagTheyRemember(t *testing.T) {
	list, bucket, c := newListServer(t, "logs/v0\n"+listed(newTestLog(t, "a.example.org"))), mem.New(), newClock()
	for range 2 { // the second process asks with what the first was answered
		w := serve(t, bucket, c)
		lists, err := witness.NewLists(witness.ListsOptions{Witness: w.Witness, URLs: []string{list.URL}, Interval: time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		if err := lists.Restore(t.Context()); err != nil {
			t.Fatal(err)
		}
		runUntil(t, lists, func() bool { return list.asked.Load() >= 3 })
		list.asked.Store(0)
	}
	if n := list.modified.Load(); n != 1 {
		t.Errorf("the list was sent %d times", n)
	}
}

// TestFilesAreTheOperatorsWord has a file of logs correct a key, and then drop the log.
func TestFilesAreTheOperatorsWord(t *testing.T) {
	wrong, l := newTestLog(t, "wrong.example.org"), newTestLog(t, origin)
	l.grow(t, 5, "entry")
	const file = "/etc/logs.txt"
	bucket := mem.New()
	start := func(text string) *server { // as a process does with a file of --logs
		logs, err := witness.ParseLogs([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		w := serveOptions(t, witness.Options{Keys: testKeys(t), Bucket: bucket, Now: newClock().now, Logs: logs})
		lists, err := witness.NewLists(witness.ListsOptions{Witness: w.Witness})
		if err != nil {
			t.Fatal(err)
		}
		if err := lists.Restore(t.Context(), file); err != nil {
			t.Fatal(err)
		}
		if _, err := lists.Take(t.Context(), file, []byte(text)); err != nil {
			t.Fatal(err)
		}
		return w
	}
	start("logs/v0\nvkey " + wrong.key.String() + "\norigin " + origin + "\nqpd 5\ncontact x\n")
	start("logs/v0\n" + listed(l))
	w := start("logs/v0\n")
	w.mustAdd(t, l.request(t, 0, 5))
	if known := w.Logs()[0]; len(known.Keys) != 1 || known.QPD != 86400 {
		t.Errorf("known as %+v", known)
	}
	if alarms, err := w.KeyAlarms(t.Context()); err != nil || len(alarms) > 0 {
		t.Errorf("alarms %+v, %v", alarms, err)
	}
}

func TestDamagedRecordIsAnError(t *testing.T) {
	list, bucket := newListServer(t, "logs/v0\n"+listed(newTestLog(t, "a.example.org"))), mem.New()
	w := serve(t, bucket, newClock())
	lists := follow(t, w, list.URL)
	if err := lists.ReadAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	for key, err := range bucket.List(t.Context(), "lists/") {
		if err != nil {
			t.Fatal(err)
		}
		if _, err := bucket.Put(t.Context(), key, []byte(`{"source": "another"}`), storage.PutOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	lists, err := witness.NewLists(witness.ListsOptions{Witness: w.Witness, URLs: []string{list.URL}})
	if err != nil {
		t.Fatal(err)
	}
	if err := lists.Restore(t.Context()); err == nil || !strings.Contains(err.Error(), "object lists/"+name+"/") {
		t.Errorf("restored from a damaged record: %v", err)
	}
}

func TestParseLogsTakesEveryKeyOfLogs(t *testing.T) {
	pq, err := policy.ParseVKey(testKeys(t).VKeys()[1])
	if err != nil {
		t.Fatal(err)
	}
	text := witness.FormatList([]witness.Log{{Origin: "o", Keys: []policy.Key{pq, newTestLog(t, "b").key}, QPD: 7, Contact: "c"}})
	logs, err := witness.ParseLogs(text)
	if err != nil || len(logs) != 1 || len(logs[0].Keys) != 2 || logs[0].Origin != "o" || logs[0].QPD != 7 {
		t.Errorf("%+v, %v from\n%s", logs, err, text)
	}
	if _, err := witness.ParseLogs([]byte("logs/v0\nvkey " + testKeys(t).VKeys()[0] + "\nqpd 1\ncontact x\n")); err == nil {
		t.Error("the key of a witness is taken")
	}
}

func TestRecordedReadsWhatTheStateSays(t *testing.T) {
	l, bucket := newTestLog(t, origin), mem.New()
	l.grow(t, 5, "entry")
	w := serve(t, bucket, newClock(), l)
	if r, err := w.Recorded(t.Context(), origin); err != nil || r.Size != 0 || !r.Cosigned.IsZero() {
		t.Errorf("before: %+v, %v", r, err)
	}
	w.mustAdd(t, l.request(t, 0, 5))
	other := serve(t, bucket, newClock(), l)
	if r, err := other.Recorded(t.Context(), origin); err != nil || r.Size != 5 || r.Cosigned.Unix() != newClock().now().Unix() {
		t.Errorf("after: %+v, %v", r, err)
	}
	if _, err := w.Recorded(t.Context(), "unknown"); !errors.Is(err, witness.ErrUnknownLog) {
		t.Errorf("of an unknown log: %v", err)
	}
}

func FuzzDecodeRecord(f *testing.F) {
	const source = "https://lists.example.org/l"
	list := string(witness.FormatList([]witness.Log{{Origin: "o", Keys: logKeys(newTestLog(f, origin)), QPD: 7, Contact: "c"}}))
	f.Add(fmt.Appendf(nil, `{"source":%q,"etag":"e","hash":"%064x","read":"2026-11-28T06:00:00Z","changed":"2026-11-28T06:00:00Z","known":%q,"gone":["o"]}`, source, 1, list))
	f.Add([]byte(`{"source":"x"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		once, err := witness.DecodeRecord(data, source)
		if err != nil {
			return
		}
		if twice, err := witness.DecodeRecord(once, source); err != nil || !bytes.Equal(once, twice) {
			t.Errorf("written and read again: %v\n%s\n%s", err, once, twice)
		}
	})
}
