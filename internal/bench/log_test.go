package bench_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"math"
	"net/http"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	rekor "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"
	"google.golang.org/protobuf/encoding/protojson"

	"tallywood/internal/bench"
	"tallywood/log/entry"
)

func TestLogMeasuresOurs(t *testing.T) {
	url, p := serve(t, nil)
	o := short(url + "/")
	o.Policy = p
	r, err := bench.Log(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if r.Entries == 0 || r.PerSecond <= 0 || len(r.Errors) != 0 || r.Seed == 0 || r.Concurrency != 4 {
		t.Errorf("got %+v", r)
	}
	if l := r.Latency; l.P50 <= 0 || l.P50 > l.P95 || l.P95 > l.P99 || l.P99 > l.Max {
		t.Errorf("latencies are out of order: %+v", l)
	}
	if r.Checked < r.Entries {
		t.Errorf("%d of %d entries checked, want every one", r.Checked, r.Entries)
	}
	if text := r.String(); !strings.Contains(text, "entries/s over") && !strings.Contains(text, "entries/s") {
		t.Errorf("report %q", text)
	}
	var back bench.Result
	if data, err := json.Marshal(r); err != nil || json.Unmarshal(data, &back) != nil || back.Seed != r.Seed {
		t.Errorf("JSON %s does not give back the result", data)
	}
}

func TestLogStopsAtCount(t *testing.T) {
	url, _ := serve(t, nil)
	o := short(url)
	o.Count = 9
	r, err := bench.Log(t.Context(), o)
	if err != nil || r.Entries != 9 {
		t.Errorf("got %d entries, %v, want 9", r.Entries, err)
	}
}

func TestLogReadsTheServersProcess(t *testing.T) {
	url, _ := serve(t, nil)
	o := short(url)
	o.PID = os.Getpid()
	r, err := bench.Log(t.Context(), o)
	if runtime.GOOS != "linux" {
		if err == nil {
			t.Error("there is no /proc here, and no error either")
		}
		return
	}
	if err != nil || r.Server == nil || r.Server.RSS < 1<<20 || r.Server.Begin < 1<<20 || r.Server.End < 1<<20 {
		t.Fatalf("got %+v, %v", r.Server, err)
	}
	if o.PID = 1 << 30; o.PID != os.Getpid() {
		if _, err := bench.Log(t.Context(), o); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("of a process that does not exist: %v", err)
		}
	}
}

func TestWrongAnswersFailTheRun(t *testing.T) {
	for name, c := range map[string]struct {
		change func(body []byte) []byte
		want   string
	}{
		"inclusion proof of something else": {func(b []byte) []byte {
			tle := new(rekor.TransparencyLogEntry)
			protojson.Unmarshal(b, tle)
			tle.InclusionProof.Hashes = append(tle.InclusionProof.Hashes, make([]byte, 32))
			b, _ = protojson.Marshal(tle)
			return b
		}, "verifying inclusion"},
		"another entry": {func(b []byte) []byte {
			return bytes.Replace(b, []byte(`"canonicalizedBody":"`), []byte(`"canonicalizedBody":"AAAA`), 1)
		}, "canonicalizedBody"},
		"surplus field": {func(b []byte) []byte { return append([]byte(`{"surplus":1,`), b[1:]...) }, "decoding reply"},
	} {
		t.Run(name, func(t *testing.T) {
			url, _ := serve(t, bend(3, func(w http.ResponseWriter, body []byte) { created(w, c.change(body)) }))
			wantWrong(t, short(url), c.want)
		})
	}
}

// What a sample may miss is looked for in every reply. The sample, the reply to the first entry, stays as it is.
func TestIndexGivenTwiceFailsTheRun(t *testing.T) {
	const seed = 7
	bodies, err := bench.CorpusBodies(seed, bench.Keys, 1)
	if err != nil {
		t.Fatal(err)
	}
	twice := bend(3, func(w http.ResponseWriter, body []byte) {
		i, _ := bench.ReplyIndex(body)
		created(w, bytes.ReplaceAll(body, jsonIndex(i), jsonIndex(0)))
	})
	url, _ := serve(t, func(h http.Handler) http.Handler {
		bent := twice(h)
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body) // one that is not all of it is refused
			r.Body = io.NopCloser(bytes.NewReader(body))
			if bytes.Equal(body, bodies[0]) {
				h.ServeHTTP(w, r)
				return
			}
			bent.ServeHTTP(w, r)
		})
	})
	o := short(url)
	o.Seed, o.Sample = seed, math.MaxInt
	wantWrong(t, o, "index 0 was given to the entries")
}

func wantWrong(t *testing.T, o bench.LogOptions, want string) {
	t.Helper()
	_, err := bench.Log(t.Context(), o)
	var wrong *bench.WrongError
	if !errors.As(err, &wrong) || wrong.Answers == 0 || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want wrong answers: %q", err, want)
	}
}

func jsonIndex(i int64) []byte {
	data, _ := json.Marshal(i)
	return append(append([]byte(`"logIndex":"`), data...), '"')
}

func TestWrongAnswerOfAnotherLog(t *testing.T) {
	url, _ := serve(t, nil)
	_, other := serve(t, nil)
	o := short(url)
	o.Policy = other
	wantWrong(t, o, "verifying checkpoint")
}

func TestRefusalsAreCountedByClass(t *testing.T) {
	for class, change := range map[string]func(w http.ResponseWriter, body []byte){
		"status 503": func(w http.ResponseWriter, _ []byte) { http.Error(w, "later", http.StatusServiceUnavailable) },
		"status 200": func(w http.ResponseWriter, body []byte) { w.Write(body) },
		"connection closed": func(w http.ResponseWriter, _ []byte) {
			conn, _, err := w.(http.Hijacker).Hijack()
			if err == nil {
				conn.Close()
			}
		},
		"malformed reply": func(w http.ResponseWriter, _ []byte) { created(w, []byte(`{}`)) },
	} {
		t.Run(class, func(t *testing.T) {
			url, _ := serve(t, bend(5, change))
			o := short(url)
			o.Concurrency, o.Count = 1, 20
			r, err := bench.Log(t.Context(), o)
			if err != nil || r.Errors[class] == 0 || len(r.Errors) != 1 || r.Entries == 0 {
				t.Errorf("got %+v, %v", r, err)
			}
		})
	}
}

func TestServerThatHangsTimesOut(t *testing.T) {
	url, _ := serve(t, func(http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			io.Copy(io.Discard, r.Body) // only then does a server see that its client has gone
			<-r.Context().Done()
		})
	})
	o := short(url)
	o.Timeout, o.Count = 20*time.Millisecond, 4
	_, err := bench.Log(t.Context(), o)
	if err == nil || !strings.Contains(err.Error(), "timeout") {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	o.Timeout = time.Minute
	began := time.Now()
	if _, err := bench.Log(ctx, o); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) > 50*time.Second {
		t.Errorf("got %v after %s", err, time.Since(began))
	}
}

func TestOptionsAreChecked(t *testing.T) {
	for _, o := range []bench.LogOptions{
		{}, {URL: "http://h", Corpus: "x"}, {URL: "http://h", Rate: -1}, {URL: "log.example.com"}, {URL: "ftp://log.example.com"}, {URL: "http://h", Concurrency: -1}, {URL: "http://h", Duration: -1},
	} {
		if _, err := bench.Log(t.Context(), o); err == nil || !strings.Contains(err.Error(), "checking options") {
			t.Errorf("%+v: got %v", o, err)
		}
	}
}

// The bodies are valid, all different, and the same for the same seed.
func TestCorpusIsWhatItsSeedSays(t *testing.T) {
	const n = 200
	for kind, size := range map[string][2]int{bench.Keys: {412, 412}, bench.Certificates: {1860, 1900}} {
		corpus := func(seed uint64) [][]byte {
			bodies, err := bench.CorpusBodies(seed, kind, n)
			if err != nil {
				t.Fatal(err)
			}
			return bodies
		}
		bodies, again, other := corpus(7), corpus(7), corpus(8)
		entries, keys := make(map[[32]byte]bool), make(map[string]bool)
		for i, body := range bodies {
			e, err := entry.ParseRequest(body)
			if err != nil {
				t.Fatalf("%s: entry %d: %v", kind, i, err)
			}
			if entries[e.Key] {
				t.Errorf("%s: entry %d is there twice", kind, i)
			}
			s := e.Body.Signatures[0]
			entries[e.Key], keys[string(s.Certificate)+string(s.PublicKey)] = true, true
			if !bytes.Equal(body, again[i]) || bytes.Equal(body, other[i]) {
				t.Errorf("%s: entry %d does not depend on the seed alone", kind, i)
			}
			if len(body) < size[0] || len(body) > size[1] {
				t.Errorf("%s: entry %d has %d bytes, want %v as other measurements used", kind, i, len(body), size)
			}
		}
		if want := map[string]int{bench.Keys: 64, bench.Certificates: n}[kind]; len(keys) != want {
			t.Errorf("%s: %d verifiers, want %d", kind, len(keys), want)
		}
	}
	if _, err := bench.CorpusBodies(1, "keys", 1); err == nil {
		t.Error("a corpus of no known kind was made")
	}
}

func TestReplyIndex(t *testing.T) {
	for body, want := range map[string]int64{
		`{"logIndex":"12","logId":{}}`: 12, `{"logIndex": "12"}`: 12, `{"logIndex":12}`: 12,
		`{"logIndex":"x"}`: -1, `{}`: -1, ``: -1, `{"logIndex":"99999999999999999999"}`: -1,
	} {
		got, err := bench.ReplyIndex([]byte(body))
		if want < 0 && err == nil || want >= 0 && (got != want || err != nil) {
			t.Errorf("%s: got %d, %v", body, got, err)
		}
	}
}

func FuzzReplyIndex(f *testing.F) {
	f.Add([]byte(`{"logIndex":"12"}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		if i, err := bench.ReplyIndex(body); err == nil && i < 0 {
			t.Errorf("index %d", i)
		}
	})
}
