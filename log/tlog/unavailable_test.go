package tlog_test

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"tallywood/internal/bubble"
	"tallywood/log"
	"tallywood/log/tlog"
)

// TestQuorumLost: 503 with Retry-After and nothing published; the retry gets the proof of what was
// logged then.
func TestQuorumLost(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := newCosigner(t)
		s := serve(t, w, nil)
		s.accepted(s.add("before"))
		w.silent.Store(true)
		begun := time.Now()
		r := s.add("during")
		if message := r.message(t, 14); r.status != 503 || time.Since(begun) > 5*time.Second || !strings.Contains(message, "the entry is logged, but too few witnesses") {
			t.Errorf("%d after %v: %s", r.status, time.Since(begun), message)
		}
		if seconds, err := strconv.Atoi(r.header.Get("Retry-After")); err != nil || seconds < 1 {
			t.Errorf("Retry-After %q", r.header.Get("Retry-After"))
		}
		if strings.Contains(string(r.body), "tlog-proof@") {
			t.Error("an under-cosigned proof left")
		}
		if c := s.do("GET", "/checkpoint", nil); !strings.HasPrefix(string(c.body), origin+"\n1\n") {
			t.Errorf("published without quorum: %q", c.body)
		}
		w.silent.Store(false)
		eventually(t, "the quorum to return", func() bool { r = s.add("during"); return r.status == 201 })
		if p := s.accepted(r); p.Index != 1 || len(s.verify(r.body, "during").Witnesses) != 1 {
			t.Errorf("index %d\n%s", p.Index, r.body)
		}
	})
}

// TestNotLeadingAnswers503: a log that is not run takes nothing and is read all the same.
func TestNotLeadingAnswers503(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		leads := serve(t, nil, nil)
		leads.accepted(leads.add("x"))
		eventually(t, "the bucket's checkpoint", func() bool {
			return strings.HasPrefix(string(leads.do("GET", "/checkpoint", nil).body), origin+"\n1\n")
		})
		l, err := log.Open(t.Context(), leads.options)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		s := &server{t: t, log: l, options: leads.options, bucket: leads.bucket}
		if s.http, err = tlog.New(tlog.Options{Log: l, Bucket: s.bucket}); err != nil {
			t.Fatal(err)
		}
		for _, e := range []string{"x", "y"} {
			if r := s.add(e); r.status != 503 || r.header.Get("Retry-After") != "1" {
				t.Errorf("%q: %d %v", e, r.status, r.header)
			} else {
				r.message(t, 14)
			}
		}
		if r := s.do("GET", "/tile/entries/000.p/1", nil); r.status != 200 {
			t.Errorf("reads: %d", r.status)
		}
	})
}

// TestFrozenLogAnswers405: with where to go, whoever asks, and for an entry that it has as well; its
// reads go on.
func TestFrozenLogAnswers405(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		next := log.Successor{Origin: "releases2.example.org", URL: "https://releases2.example.org"}
		s := serve(t, nil, func(_ *log.Options, o *tlog.Options) { o.Token = "s3cret" })
		s.accepted(s.add("x", "Authorization", "Bearer s3cret"))
		if err := s.log.Freeze(t.Context(), next); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the end of the log", func() bool { return s.log.Frozen() != nil })
		for _, e := range []string{"x", "y"} {
			for _, header := range [][]string{nil, {"Authorization", "Bearer s3cret"}} {
				r := s.add(e, header...)
				if r.status != 405 || !strings.Contains(string(r.body), "releases2.example.org takes entries now") ||
					r.header.Get("Link") != `<https://releases2.example.org>; rel="successor-version"` {
					t.Errorf("%q, %v: %d %v %s", e, header, r.status, r.header, r.body)
				}
			}
		}
		if r := s.do("GET", "/checkpoint", nil); r.status != 200 || !strings.HasPrefix(string(r.body), origin+"\n1\n") {
			t.Errorf("reads: %d %q", r.status, r.body)
		}
	})
}
