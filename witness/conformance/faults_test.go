package conformance_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tallywood/witness/conformance"
	"tallywood/witness/policy"
)

// rewriting changes the bodies of requests on their way to h: it is how lenient parsers behave.
func rewriting(h http.Handler, f func(body string) string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		text := f(string(body))
		r.Body, r.ContentLength = io.NopCloser(strings.NewReader(text)), int64(len(text))
		h.ServeHTTP(w, r)
	})
}

// answering changes the answers of h.
func answering(h http.Handler, f func(r *http.Request, a *httptest.ResponseRecorder)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a := httptest.NewRecorder()
		a.Body = &bytes.Buffer{}
		h.ServeHTTP(a, r)
		a.Header().Del("Content-Length")
		f(r, a)
		for name, values := range a.Header() {
			w.Header()[name] = values
		}
		w.WriteHeader(a.Code)
		_, _ = w.Write(a.Body.Bytes())
	})
}

// firstOfEachKey drops what x/mod's note.Open drops: a further line of a key, unverified.
func firstOfEachKey(body string) string {
	head, note, ok := strings.Cut(body, "\n\n")
	split := strings.LastIndex(note, "\n\n")
	if !ok || split < 0 {
		return body
	}
	seen := map[string]bool{}
	var kept strings.Builder
	for line := range strings.Lines(note[split+2:]) {
		key, _, _ := strings.Cut(line, "=")
		key = key[:min(len(key), strings.LastIndex(key, " ")+6)] // the first five characters are the key ID
		if !seen[key] {
			kept.WriteString(line)
		}
		seen[key] = true
	}
	return head + "\n\n" + note[:split+2] + kept.String()
}

// TestSuiteNoticesFaults spoils our witness in ways that others have been seen to be, and wants
// just the cases to fail that are about that.
func TestSuiteNoticesFaults(t *testing.T) {
	for _, c := range []struct {
		name  string
		only  []string
		spoil func(h http.Handler) http.Handler
		want  []string
	}{
		{"drops CR", []string{"request/old-", "request/crlf"},
			func(h http.Handler) http.Handler {
				return rewriting(h, func(b string) string { return strings.ReplaceAll(b, "\r\n", "\n") })
			}, []string{"request/crlf", "request/crlf-header", "request/old-cr"}},
		{"trims zeroes", []string{"request/old-", "size/first-old"},
			func(h http.Handler) http.Handler {
				return rewriting(h, func(b string) string {
					if rest, ok := strings.CutPrefix(b, "old 0"); ok && rest[:1] != "\n" {
						return "old " + strings.TrimLeft(rest, "0")
					}
					return b
				})
			}, []string{"request/old-leading-zero", "request/old-leading-zeros"}},
		{"ignores further lines of a key", []string{"signature/"},
			func(h http.Handler) http.Handler { return rewriting(h, firstOfEachKey) },
			[]string{"signature/first-good-then-forged", "signature/forged-16th", "signature/good-good-forged", "signature/good-other-forged",
				"signature/good-then-forged", "signature/good-then-short", "signature/ml-dsa-good-then-forged"}},
		{"charset in a conflict", []string{"size/"},
			func(h http.Handler) http.Handler {
				return answering(h, func(_ *http.Request, a *httptest.ResponseRecorder) {
					if a.Code == http.StatusConflict {
						a.Header().Set("Content-Type", "text/x.tlog.size; charset=utf-8")
					}
				})
			}, []string{"size/conflict-type"}},
		{"conflict without newline", []string{"size/conflict", "size/first-after"},
			func(h http.Handler) http.Handler {
				return answering(h, func(_ *http.Request, a *httptest.ResponseRecorder) {
					if a.Code == http.StatusConflict {
						a.Body = bytes.NewBuffer(bytes.TrimSpace(a.Body.Bytes()))
					}
				})
			}, []string{"size/conflict-body-first", "size/conflict-large", "size/first-after-conflict"}},
		{"only Ed25519", []string{"cosignature/"},
			func(h http.Handler) http.Handler {
				return answering(h, func(r *http.Request, a *httptest.ResponseRecorder) {
					if a.Code == http.StatusOK && r.Method == http.MethodPost {
						line, _, _ := strings.Cut(a.Body.String(), "\n")
						a.Body = bytes.NewBufferString(line + "\n")
					}
				})
			}, []string{"cosignature/ml-dsa"}},
		{"serves nothing", []string{"monitoring/"},
			func(h http.Handler) http.Handler {
				return answering(h, func(r *http.Request, a *httptest.ResponseRecorder) {
					if r.Method == http.MethodGet {
						a.Code = http.StatusNotFound
					}
				})
			}, []string{"monitoring/served"}},
		{"compares ETags as text", []string{"monitoring/"},
			func(h http.Handler) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if strings.ContainsAny(r.Header.Get("If-None-Match"), "W,") {
						r.Header.Del("If-None-Match")
					}
					h.ServeHTTP(w, r)
				})
			}, []string{"monitoring/not-modified-list", "monitoring/not-modified-weak"}},
		{"wants the whole log's cosignature of a reference", []string{"subtree/"},
			func(h http.Handler) http.Handler {
				return rewriting(h, func(b string) string {
					if strings.HasPrefix(b, "subtree 4 8\n") {
						return b[:strings.LastIndexByte(b, 0xe2)] // without the line
					}
					return b
				})
			}, []string{"subtree/all-of-14", "subtree/all-of-8", "subtree/prefix-as-reference", "subtree/subtree-as-reference"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			logs := throwAway(t)
			report := run(t, c.spoil(ours(t, logs)), conformance.Options{Logs: logs, Kinds: all, Only: c.only})
			failed := report.With(conformance.Failed)
			if got := ids(failed); !slices.Equal(got, c.want) {
				t.Errorf("these failed: %q\nwant %q", got, c.want)
			}
			demanded := slices.ContainsFunc(failed, func(r conformance.Result) bool { return r.Level != conformance.Should })
			if report.OK() == demanded {
				t.Errorf("OK is %t", report.OK())
			}
		})
	}
}

func ids(results []conformance.Result) []string {
	var all []string
	for _, r := range results {
		all = append(all, r.ID)
	}
	return all
}

// yesMan cosigns whatever has the shape of a request, with our keys, and remembers nothing.
func yesMan(t testing.TB) http.Handler {
	k := witnessKeys(t)
	key, err := policy.ParseVKey(k.VKeys()[0])
	if err != nil {
		t.Fatal(err)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body) // a short body has no shape either
		_, note, ok := strings.Cut(string(body), "\n\n")
		text, _, ok2 := strings.Cut(note, "\n\n")
		if !ok || !ok2 {
			http.Error(w, "no", http.StatusBadRequest)
			return
		}
		const now = 1_800_000_000
		sig, err := k.Ed25519.Sign(rand.Reader, policy.CosignatureMessage(now, text+"\n"), crypto.Hash(0))
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		fmt.Fprint(w, policy.FormatSignature(k.Name, key.ID(), append(binary.BigEndian.AppendUint64(nil, now), sig...)))
	})
}

// TestSuiteNoticesAYesMan wants no refusal to pass that should have been one.
func TestSuiteNoticesAYesMan(t *testing.T) {
	report := run(t, yesMan(t), conformance.Options{Logs: throwAway(t)})
	passed := ids(report.With(conformance.Passed))
	for _, id := range []string{"size/first-1", "size/again", "checkpoint/extension-one", "note/16-signatures", "cosignature/verifies"} {
		if !slices.Contains(passed, id) {
			t.Errorf("%s did not pass", id)
		}
	}
	for _, id := range []string{
		"size/old-4-size-8-of-5", "size/rollback", "size/again-other-root", "size/again-later", "request/old-leading-zero", "checkpoint/first-root-31-bytes",
		"note/line-hyphen", "signature/good-then-forged", "order/unknown-origin", "proof/5-to-8", "proof/fork", "cosignature/time",
		"signature/forged-s-not-reduced", "race/same", "race/fork", "race/again-while-it-grows", "race/one-history", "monitoring/served",
	} {
		if slices.Contains(passed, id) {
			t.Errorf("%s passed", id)
		}
	}
	if failed := report.Count(conformance.Failed); failed < 300 {
		t.Errorf("only %d cases failed", failed)
	}
}

// TestSuiteNoticesAStandingClock has a witness that signs the same time for ever.
func TestSuiteNoticesAStandingClock(t *testing.T) {
	logs, now := throwAway(t), time.Now()
	report := run(t, oursAt(t, logs, func() time.Time { return now }), conformance.Options{Logs: logs, Kinds: all, Only: []string{"size/", "cosignature/"}})
	if got := ids(report.With(conformance.Failed)); !slices.Equal(got, []string{"size/again-later"}) {
		t.Errorf("these failed: %q", got)
	}
}

// TestSuiteNoticesLostState restarts a witness with its state and without.
func TestSuiteNoticesLostState(t *testing.T) {
	for _, kept := range []bool{true, false} {
		logs := throwAway(t)
		var current atomic.Pointer[http.Handler]
		store := func() { h := ours(t, logs); current.Store(&h) }
		store()
		var alive sync.RWMutex // held by requests: what is restarted answers none of them afterwards
		report := run(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			alive.RLock()
			defer alive.RUnlock()
			(*current.Load()).ServeHTTP(w, r)
		}), conformance.Options{
			Logs: logs, Only: []string{"restart/"}, Restart: func(context.Context) error {
				alive.Lock()
				defer alive.Unlock()
				if !kept {
					store()
				}
				return nil
			},
		})
		want := conformance.Failed
		if kept {
			want = conformance.Passed
		}
		for _, r := range report.Results {
			if r.Outcome != want {
				t.Errorf("kept %t: %s: %s %s; want %s", kept, r.ID, r.Outcome, r.Detail, want)
			}
		}
	}
}
