package witness_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"tallywood/storage"
	"tallywood/storage/mem"
	"tallywood/witness"
)

// alarmsKey is where the alarms of the witness under test are.
const alarmsKey = "alarms/" + name

// otherKeys is a list that names another key for each of the logs.
func otherKeys(t testing.TB, origins ...string) string {
	t.Helper()
	key := newTestLog(t, "thief.example.org").key.String()
	list := "logs/v0\n"
	for _, o := range origins {
		list += "vkey " + key + "\norigin " + o + "\nqpd 5\ncontact x\n"
	}
	return list
}

// takeList has a witness take a list.
func takeList(t testing.TB, w *server, source, text string) {
	t.Helper()
	lists, err := witness.NewLists(witness.ListsOptions{Witness: w.Witness})
	if err == nil {
		_, err = lists.Take(t.Context(), source, []byte(text))
	}
	if err != nil {
		t.Fatal(err)
	}
}

// A refusingBucket takes no writes below a prefix.
type refusingBucket struct {
	storage.Bucket
	prefix string
}

func (b *refusingBucket) Put(ctx context.Context, key string, data []byte, o storage.PutOptions) (storage.Version, error) {
	if b.prefix != "" && strings.HasPrefix(key, b.prefix) {
		return "", errors.New("refused by the test")
	}
	return b.Bucket.Put(ctx, key, data, o)
}

// TestAlarmsAreRaisedUntilTheirEndIsStored acknowledges an alarm in vain, and changes what it was given.
func TestAlarmsAreRaisedUntilTheirEndIsStored(t *testing.T) {
	t.Parallel()
	bucket := &refusingBucket{Bucket: mem.New()}
	w := serve(t, bucket, newClock(), newTestLog(t, origin))
	takeList(t, w, "/list", otherKeys(t, origin))
	alarms, err := w.KeyAlarms(t.Context())
	if err != nil || len(alarms) != 1 {
		t.Fatalf("alarms %+v, %v", alarms, err)
	}
	alarms[0].Acknowledged = &alarms[0].Time // which is nobody's business but ours
	bucket.prefix = "alarms/"
	if n, err := w.AcknowledgeKeys(t.Context(), origin); err == nil {
		t.Errorf("%d acknowledged without a record of it", n)
	}
	if s := readStatus(t, w); s.kinds() != "key" {
		t.Errorf("alarms %q on the page", s.kinds())
	}
	wantMetric(t, w, "tallywood_witness_key_alarms 1")
}

// TestAlarmsAreReadWhileTheyChange is for the race detector.
func TestAlarmsAreReadWhileTheyChange(t *testing.T) {
	t.Parallel()
	w := serve(t, mem.New(), newClock(), newTestLog(t, origin))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for range 20 {
			do(t, http.MethodGet, w.url+"/status.json", "")
		}
	}()
	for i := range 20 {
		takeList(t, w, fmt.Sprintf("/list%d", i), otherKeys(t, origin))
		if n, err := w.AcknowledgeKeys(t.Context(), origin); n != 1 || err != nil {
			t.Errorf("%d acknowledged, %v", n, err)
		}
	}
	<-ended
}

// TestNewAlarmsTakeThePlaceOfOldOnes has more alarms than are kept.
func TestNewAlarmsTakeThePlaceOfOldOnes(t *testing.T) {
	t.Parallel()
	const most = 1000
	var logged bytes.Buffer
	o := witness.Options{Keys: testKeys(t), Bucket: mem.New(), Now: newClock().now, Log: slog.New(slog.NewTextHandler(&logged, nil))}
	var origins []string
	for i := range most + 1 {
		origins = append(origins, fmt.Sprintf("log%04d.example.org", i))
		o.Logs = append(o.Logs, witness.Log{Origin: origins[i], Keys: logKeys(newTestLog(t, origin))})
	}
	w := serveOptions(t, o)
	raised := func() map[string]bool {
		t.Helper()
		alarms, err := w.KeyAlarms(t.Context())
		if err != nil || len(alarms) > most {
			t.Fatalf("%d alarms, %v", len(alarms), err)
		}
		out := map[string]bool{}
		for _, a := range alarms {
			if a.Acknowledged == nil {
				out[a.Origin] = true
			}
		}
		return out
	}
	takeList(t, w, "/list", otherKeys(t, origins...))
	if r := raised(); len(r) != most || r[origins[most]] || !strings.Contains(logged.String(), "more alarms than are kept") {
		t.Errorf("%d raised, and the log says\n%.500s", len(r), &logged)
	}
	if n, err := w.AcknowledgeKeys(t.Context(), origins[7]); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	takeList(t, w, "/list2", otherKeys(t, origins[most]))
	if r := raised(); len(r) != most || !r[origins[most]] || r[origins[7]] {
		t.Errorf("%d raised, the new one %v", len(r), r[origins[most]])
	}
}

func TestDamagedAlarmsAreAnError(t *testing.T) {
	t.Parallel()
	bucket := mem.New()
	w := serve(t, bucket, newClock(), newTestLog(t, origin))
	takeList(t, w, "/list", otherKeys(t, origin))
	data, _, err := bucket.Get(t.Context(), alarmsKey, storage.Range{})
	if err != nil {
		t.Fatal(err)
	}
	for what, damage := range map[string]func(string) string{
		"cut off":           func(s string) string { return s[:len(s)/2] },
		"something follows": func(s string) string { return s + `{"keys": []}` },
		"unknown member":    func(s string) string { return strings.Replace(s, `"counter"`, `"count"`, 1) },
		"no origin":         func(s string) string { return strings.Replace(s, `"origin": "`+origin, `"origin": "`, 1) },
		"no time":           func(s string) string { return strings.Replace(s, `"time"`, `"acknowledged"`, 1) },
		"too many": func(s string) string {
			many, err := json.Marshal(struct {
				Keys []witness.KeyAlarm `json:"keys"`
			}{make([]witness.KeyAlarm, 1001)})
			if err != nil {
				t.Error(err)
			}
			return string(many)
		},
	} {
		damaged := damage(string(data))
		if damaged == string(data) {
			t.Fatalf("%s: the case changes nothing", what)
		}
		if _, err := bucket.Put(t.Context(), alarmsKey, []byte(damaged), storage.PutOptions{}); err != nil {
			t.Fatal(err)
		}
		if alarms, err := w.KeyAlarms(t.Context()); err == nil {
			t.Errorf("%s: read as %+v", what, alarms)
		}
		if n, err := w.AcknowledgeKeys(t.Context(), origin); err == nil {
			t.Errorf("%s: %d acknowledged", what, n)
		}
		if now, _, err := bucket.Get(t.Context(), alarmsKey, storage.Range{}); err != nil || string(now) != damaged {
			t.Errorf("%s: it was overwritten, or %v", what, err)
		}
	}
}

func FuzzDecodeAlarms(f *testing.F) {
	bucket := mem.New()
	w := serve(f, bucket, newClock(), newTestLog(f, origin), newTestLog(f, "b.example.org"))
	seed := func() {
		data, _, err := bucket.Get(f.Context(), alarmsKey, storage.Range{})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	takeList(f, w, "/list", otherKeys(f, origin, "b.example.org"))
	seed()
	if _, err := w.AcknowledgeKeys(f.Context(), origin); err != nil {
		f.Fatal(err)
	}
	seed()
	f.Add([]byte(`{"counter":1,"instance":"i","keys":null}`))
	f.Add([]byte(`{"keys":[{"origin":"o","vkey":"k","time":"2026-11-28T06:00:00.5+14:00"}]} x`))
	f.Fuzz(func(t *testing.T, data []byte) {
		once, err := witness.DecodeAlarms(data)
		if err != nil {
			return
		}
		if twice, err := witness.DecodeAlarms(once); err != nil || !bytes.Equal(once, twice) {
			t.Errorf("written and read again: %v\n%s\n%s", err, once, twice)
		}
	})
}
