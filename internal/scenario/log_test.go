package scenario_test

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"
	"time"

	"tallywood/internal/mint"
	"tallywood/monitor/rule"
)

// nobody is a configuration that looks at the logs alone.
const nobody = "identities: []\n"

// grow logs n entries of nobody in particular, and publishes.
func (s *stage) grow(n int) {
	s.t.Helper()
	for range n {
		s.sign(s.world.Anybody(s.issued))
	}
	s.publish()
}

// seen is a story that begins with a log of n entries that the monitor has read.
func seen(n int, then func(*stage)) func(*stage) {
	return func(s *stage) {
		s.grow(n)
		s.check()
		time.Sleep(time.Minute)
		then(s)
		s.check()
	}
}

// fork is another log of the same keys, of the first n entries and so many of its own.
func (s *stage) fork(n, more int) *mint.Memory {
	s.t.Helper()
	var files mint.Memory
	l := must(s.world.Log(origin, mint.Rekor, &files))(s.t)
	for i := range n {
		if err := l.Append(s.entry(int64(i))); err != nil {
			s.t.Fatal(err)
		}
	}
	for i := range more {
		if err := l.Append(must(s.world.Make(s.world.Anybody(int64(i)), 1_000_000+int64(i)))(s.t).Bytes); err != nil {
			s.t.Fatal(err)
		}
	}
	if err := l.Publish(time.Now()); err != nil {
		s.t.Fatal(err)
	}
	return &files
}

// entry returns an entry of the signature log as it is in the newest partial bundle.
func (s *stage) entry(index int64) []byte {
	s.t.Helper()
	b := s.logSite.files.Get(fmt.Sprintf("tile/entries/000.p/%d", s.log.Size()))
	for i := int64(0); len(b) > 0; i++ {
		n := int(b[0])<<8 | int(b[1])
		if i == index {
			return b[2 : 2+n]
		}
		b = b[2+n:]
	}
	s.t.Fatalf("no entry %d in the log of %d", index, s.log.Size())
	return nil
}

// put serves other bytes at a path of the signature log.
func (s *stage) put(path string, data []byte) {
	s.t.Helper()
	if s.logSite.files.Get(path) == nil {
		s.t.Fatalf("the log has no %s, only %q", path, s.logSite.files.Paths())
	}
	if err := s.logSite.files.Put(path, data); err != nil {
		s.t.Fatal(err)
	}
}

// resign serves the current checkpoint with other signatures.
func (s *stage) resign(sign func(l *mint.Log, text string) ([]byte, error)) {
	s.t.Helper()
	s.put("checkpoint", must(sign(s.log, s.log.Checkpoint()))(s.t))
}

var logScenarios = []scenario{
	{rule: rule.LogSplitView, settings: nobody,
		trigger: seen(5, func(s *stage) { s.logSite.files.Become(s.fork(3, 2)) }),
		near:    seen(5, func(s *stage) { s.logSite.files.Become(s.fork(5, 2)) })},
	{rule: rule.LogSplitView, what: "of a larger size", settings: nobody, beside: []rule.ID{rule.LogInconsistent},
		trigger: seen(5, func(s *stage) { s.logSite.files.Become(s.fork(3, 7)) }),
		near:    seen(5, func(s *stage) { s.logSite.files.Become(s.fork(5, 7)) })},
	{rule: rule.LogRollback, settings: nobody,
		trigger: func(s *stage) { s.older(false) },
		near:    func(s *stage) { s.older(true) }},
	{rule: rule.LogInconsistent, settings: nobody,
		trigger: seen(5, func(s *stage) {
			s.grow(4)
			s.put("tile/0/000.p/9", bytes.Repeat([]byte{7}, 9*32))
		}),
		near: seen(5, func(s *stage) { // partial tiles that nobody needs any more are gone
			s.grow(260)
			for _, path := range s.logSite.files.Paths() {
				if strings.Contains(path, "000.p/") && !strings.HasPrefix(path, "tile/1/") {
					s.logSite.files.Delete(path)
				}
			}
		})},
	{rule: rule.LogBadSignature, settings: nobody,
		trigger: seen(5, func(s *stage) {
			s.grow(1)
			note := s.logSite.files.Get("checkpoint")
			at := bytes.Index(note, []byte("\n\n")) + len("\n\n— "+origin+" ") + 20 // in the signature of the log
			note[at] = map[bool]byte{true: 'B', false: 'A'}[note[at] == 'A']
			s.put("checkpoint", note)
		}),
		near: seen(5, func(s *stage) { // a signature by somebody who is nobody's concern
			s.grow(1)
			line := base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{9}, 68))
			s.put("checkpoint", append(s.logSite.files.Get("checkpoint"), "— somebody.example.org "+line+"\n"...))
		})},
	{rule: rule.LogBadSignature, what: "of a tree too large for any proof", settings: nobody,
		trigger: seen(5, func(s *stage) {
			s.resign(func(l *mint.Log, text string) ([]byte, error) {
				huge := strings.Replace(text, "\n5\n", fmt.Sprintf("\n%d\n", int64(1)<<62), 1)
				return l.Sign(huge, time.Now(), s.world.Witnesses()...)
			})
		}),
		near: seen(5, func(s *stage) {})},
	{rule: rule.LogBundleMismatch, settings: nobody,
		trigger: seen(5, func(s *stage) {
			s.grow(3)
			path := "tile/entries/000.p/8"
			b := s.logSite.files.Get(path)
			b[len(b)-40] ^= 1
			s.put(path, b)
		}),
		near: seen(5, func(s *stage) {
			s.grow(3)
			path := "tile/entries/000.p/8"
			packed := gzipped(s.logSite.files.Get(path))
			s.logSite.intercept(func(w http.ResponseWriter, r *http.Request) bool {
				if r.URL.Path != "/"+path {
					return false
				}
				w.Header().Set("Content-Encoding", "gzip")
				w.Write(packed)
				return true
			})
		})},
	{rule: rule.LogBundleMismatch, what: "an entry hidden behind a copy of its neighbour", settings: watchAlice,
		trigger: seen(5, func(s *stage) {
			s.sign(person(alice, evil))
			s.publish()
			path := "tile/entries/000.p/6"
			b := s.logSite.files.Get(path)
			hidden := s.entry(4)
			b = append(b[:len(b)-2-len(s.entry(5))], byte(len(hidden)>>8), byte(len(hidden)))
			s.put(path, append(b, hidden...))
		}),
		beside: []rule.ID{rule.IDUnexpected}, // in the certificate log, which hides nothing
		near:   seen(5, func(s *stage) { s.grow(1) })},
	{rule: rule.LogKeyChange, settings: nobody,
		trigger: seen(5, func(s *stage) { s.signedBy(9) }),
		near:    seen(5, func(s *stage) { s.signedBy(1) })},
	{rule: rule.QuorumLost, settings: nobody,
		trigger: seen(5, func(s *stage) { s.cosignedBy(1) }),
		near:    seen(5, func(s *stage) { s.cosignedBy(2) })},
	{rule: rule.LogStale, settings: nobody,
		trigger: seen(5, func(s *stage) { time.Sleep(16 * time.Minute) }),
		near:    seen(5, func(s *stage) { time.Sleep(13 * time.Minute) })},
	{rule: rule.LogUnreachable, settings: nobody,
		trigger: seen(5, func(s *stage) { s.failing(1 << 30) }),
		near:    seen(5, func(s *stage) { s.failing(2) })},
	{rule: rule.LogBehind, settings: nobody + "rules: {log.unreachable: {after: 10h}}\n",
		trigger: seen(5, func(s *stage) { s.withoutBundle(20 * time.Minute) }),
		near:    seen(5, func(s *stage) { s.withoutBundle(10 * time.Minute) })},
	{rule: rule.LogMalformedEntry, settings: watchAlice,
		trigger: func(s *stage) { s.odd([]byte(`{"apiVersion":"0.0.9"}`)) },
		near:    logged(person("bob@example.com", ""), entryOf(mint.Certificate{Details: p256}))},
	{rule: rule.LogMalformedEntry, what: "that holds what is watched", settings: watchAlice,
		trigger: func(s *stage) {
			s.odd([]byte(`{"for":"` + base64.StdEncoding.EncodeToString([]byte("xx ALICE@example.com")) + `"}`))
		},
		near: func(s *stage) {
			s.sign(s.world.Anybody(0))
			s.look()
		}},
}

// older serves the files of before; or caches are behind, which have the checkpoint of before for whoever
// does not ask past them.
func (s *stage) older(caches bool) {
	s.t.Helper()
	s.grow(3)
	before := s.logSite.files.Copy()
	time.Sleep(time.Minute)
	s.grow(4)
	s.check()
	s.logSite.intercept(func(w http.ResponseWriter, r *http.Request) bool {
		if caches && (r.URL.Path != "/checkpoint" || r.Header.Get("Cache-Control") == "no-cache") {
			return false
		}
		before.ServeHTTP(w, r)
		return true
	})
	time.Sleep(time.Minute)
	s.check()
}

// signedBy has the log of the world with another seed sign the checkpoint.
func (s *stage) signedBy(seed uint64) {
	s.t.Helper()
	s.grow(1)
	var files mint.Memory
	other := must(must(mint.New(seed))(s.t).Log(origin, mint.Rekor, &files))(s.t)
	s.resign(func(l *mint.Log, text string) ([]byte, error) {
		signed, err := other.Sign(text, time.Now(), s.world.Witnesses()...)
		return signed, err
	})
}

// cosignedBy has so many witnesses cosign the checkpoint.
func (s *stage) cosignedBy(n int) {
	s.t.Helper()
	s.grow(1)
	s.resign(func(l *mint.Log, text string) ([]byte, error) {
		return l.Sign(text, time.Now(), s.world.Witnesses()[:n]...)
	})
}

// failing has the log answer so many requests with an error.
func (s *stage) failing(n int) {
	s.t.Helper()
	s.grow(1)
	s.logSite.intercept(func(w http.ResponseWriter, r *http.Request) bool {
		if n--; n < 0 {
			return false
		}
		http.Error(w, "busy", http.StatusServiceUnavailable)
		return true
	})
}

// withoutBundle lets the newest entry bundle be missing for a while, and then be there.
func (s *stage) withoutBundle(d time.Duration) {
	s.t.Helper()
	s.grow(1)
	path := "tile/entries/000.p/6"
	bundle := s.logSite.files.Get(path)
	for range d / (5 * time.Minute) {
		s.logSite.files.Delete(path)
		s.check()
		time.Sleep(5 * time.Minute)
		s.publishAs(path)
	}
	s.check()
	if err := s.logSite.files.Put(path, bundle); err != nil {
		s.t.Fatal(err)
	}
}

// publishAs publishes, but for one file.
func (s *stage) publishAs(missing string) {
	s.t.Helper()
	s.publish()
	s.logSite.files.Delete(missing)
}

// odd logs bytes as an entry.
func (s *stage) odd(e []byte) {
	s.t.Helper()
	s.sign(s.world.Anybody(0))
	s.logEntry(e)
	s.look()
}

func gzipped(data []byte) []byte {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	z.Write(data)
	z.Close()
	return b.Bytes()
}
