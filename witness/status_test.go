package witness_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"tallywood/internal/keys"
	"tallywood/storage/mem"
	"tallywood/witness"
	"tallywood/witness/policy"
)

func TestStatusTellsWhatIsKnown(t *testing.T) {
	l, b := newTestLog(t, origin), mem.New()
	l.grow(t, 5, "entry")
	serve(t, b, newClock(), l).mustAdd(t, l.request(t, 0, 5))
	w := serve(t, b, newClock(), l, newTestLog(t, "never.example.org")) // after a restart
	var s struct {
		Name  string
		VKeys []string
		Logs  []struct {
			Origin, Hash string
			Size         int64
			Cosigned     *string
		}
	}
	a := do(t, http.MethodGet, w.url+"/status.json", "")
	if err := json.Unmarshal([]byte(a.body), &s); err != nil {
		t.Fatal(err)
	}
	if s.Name != name || len(s.VKeys) != 2 || s.VKeys[1] != testKeys(t).VKeys()[1] || len(s.Logs) != 2 {
		t.Fatalf("status %s", a.body)
	}
	if s.Logs[0].Origin != origin || s.Logs[0].Size != 5 || s.Logs[0].Cosigned == nil || s.Logs[1].Cosigned != nil {
		t.Errorf("logs %+v", s.Logs)
	}
	page := do(t, http.MethodGet, w.url+"/", "")
	for _, want := range []string{name, origin, hashOf(origin) + "/checkpoint", "run by a test"} {
		if !strings.Contains(page.body, want) {
			t.Errorf("the page lacks %q:\n%s", want, page.body)
		}
	}
	if strings.Contains(page.body, "<script") {
		t.Error("the page has a script")
	}
}

func TestPageEscapesWhatOthersWrote(t *testing.T) {
	evil := newTestLog(t, "evil")
	w := serveOptions(t, witness.Options{Keys: testKeys(t), Bucket: mem.New(), Logs: []witness.Log{
		{Origin: "<script>alert(1)</script>", Keys: logKeys(evil)},
	}})
	if page := do(t, http.MethodGet, w.url+"/", ""); strings.Contains(page.body, "<script") {
		t.Errorf("an origin is markup:\n%s", page.body)
	}
}

func TestCheckpointIsCacheableByAnyone(t *testing.T) {
	l := newTestLog(t, origin)
	l.grow(t, 5, "entry")
	w := serve(t, mem.New(), newClock(), l)
	w.mustAdd(t, l.request(t, 0, 5))
	url := w.url + "/" + hashOf(origin) + "/checkpoint"
	a := do(t, http.MethodGet, url, "")
	if a.header.Get("Content-Type") != "text/plain; charset=utf-8" || a.header.Get("Access-Control-Allow-Origin") != "*" ||
		a.header.Get("Etag") == "" || a.header.Get("Cache-Control") == "" {
		t.Errorf("header %v", a.header)
	}
	etag := a.header.Get("Etag")
	for has, want := range map[string]int{
		etag: 304, "W/" + etag: 304, `"other", ` + etag: 304, etag + `,"other"`: 304, "*": 304,
		`"other"`: 200, strings.Trim(etag, `"`): 200, "": 200,
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("If-None-Match", has)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("If-None-Match: %s: %d, want %d", has, resp.StatusCode, want)
		}
	}
}

func TestMetrics(t *testing.T) {
	l := newTestLog(t, origin)
	l.grow(t, 5, "entry")
	w := serve(t, mem.New(), newClock(), l)
	w.mustAdd(t, l.request(t, 0, 5))
	w.add(t, "nonsense")
	rec := httptest.NewRecorder()
	w.Metrics().ServeHTTP(rec, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	for _, want := range []string{
		`tallywood_witness_requests_total{endpoint="add-checkpoint",code="200"} 1`,
		`tallywood_witness_requests_total{endpoint="add-checkpoint",code="400"} 1`,
		`tallywood_witness_log_size{origin="log.example.org"} 5`,
		`tallywood_witness_log_frozen{origin="log.example.org"} 0`,
		`tallywood_witness_state_swap_seconds_count 1`,
		`tallywood_witness_logs 1`,
	} {
		if !strings.Contains(rec.Body.String(), want+"\n") {
			t.Errorf("no line %s in\n%s", want, rec.Body)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	l := newTestLog(t, origin)
	good := testKeys(t)
	other, err := keys.WitnessFromSeed(name, seed("other"))
	if err != nil {
		t.Fatal(err)
	}
	mixed, badName := good, good
	mixed.MLDSAPublic = other.MLDSAPublic
	badName.Name = "two words"
	upward, err := keys.WitnessFromSeed("../escape", seed("witness"))
	if err != nil {
		t.Fatal(err)
	}
	cosigner, err := policy.ParseVKey(good.VKeys()[0])
	if err != nil {
		t.Fatal(err)
	}
	b := mem.New()
	for what, o := range map[string]witness.Options{
		"no bucket":               {Keys: good},
		"no keys":                 {Bucket: b},
		"another seed's ML-DSA":   {Keys: mixed, Bucket: b},
		"name with a space":       {Keys: badName, Bucket: b},
		"name that leaves its":    {Keys: upward, Bucket: b},
		"log without key":         {Keys: good, Bucket: b, Logs: []witness.Log{{Origin: origin}}},
		"log without origin":      {Keys: good, Bucket: b, Logs: []witness.Log{{Keys: logKeys(l)}}},
		"origin with line feed":   {Keys: good, Bucket: b, Logs: []witness.Log{{Origin: "a\nb", Keys: logKeys(l)}}},
		"origin of 256 bytes":     {Keys: good, Bucket: b, Logs: []witness.Log{{Origin: strings.Repeat("o", 256), Keys: logKeys(l)}}},
		"log with witness's key":  {Keys: good, Bucket: b, Logs: []witness.Log{{Origin: origin, Keys: []policy.Key{cosigner}}}},
		"negative quota":          {Keys: good, Bucket: b, Logs: []witness.Log{{Origin: origin, Keys: logKeys(l), QPD: -1}}},
		"quota that is too large": {Keys: good, Bucket: b, Logs: []witness.Log{{Origin: origin, Keys: logKeys(l), QPD: 1 << 31}}},
	} {
		if _, err := witness.New(o); err == nil {
			t.Errorf("%s is taken", what)
		}
	}
}
