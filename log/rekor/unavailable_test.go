package rekor_test

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"tallywood/internal/bubble"
	"tallywood/log"
	"tallywood/log/rekor"
)

// TestQuorumLost: 503 with Retry-After within the timeout and nothing published; then it heals
// without a restart, and the retry gets the entry that was logged.
func TestQuorumLost(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := newCosigner(t)
		s := run(t, w, nil)
		post := func(request []byte) reply { return record(s.http, "POST", "/api/v2/log/entries", request) }
		c := newClient(t)
		first := c.request("before")
		s.accept(post(first), first)

		w.silent.Store(true)
		request := c.request("during")
		start := time.Now()
		r := post(request)
		if r.status != 503 || time.Since(start) != 3*time.Second {
			t.Errorf("status %d after %v", r.status, time.Since(start))
		}
		if seconds, err := strconv.Atoi(r.header.Get("Retry-After")); err != nil || seconds < 1 {
			t.Errorf("Retry-After %q", r.header.Get("Retry-After"))
		}
		if message := r.message(t, 14); !strings.Contains(message, "witnesses") {
			t.Errorf("message %q", message)
		}
		if cp := record(s.http, "GET", "/checkpoint", nil); !strings.HasPrefix(string(cp.body), origin+"\n1\n") {
			t.Errorf("published without quorum: %q", cp.body)
		}

		w.silent.Store(false)
		eventually(t, "the quorum to return", func() bool { r = post(request); return r.status == 201 })
		if e := s.accept(r, request); e.LogIndex != 1 || strings.Count(e.InclusionProof.Checkpoint.Envelope, "— ") != 2 {
			t.Errorf("index %d under %q", e.LogIndex, e.InclusionProof.Checkpoint.Envelope)
		}
	})
}

// TestLongWithoutQuorum: then nothing more is logged, and the answer says so.
func TestLongWithoutQuorum(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := newCosigner(t)
		s := run(t, w, nil)
		c := newClient(t)
		post := func(request []byte) reply { return record(s.http, "POST", "/api/v2/log/entries", request) }
		w.silent.Store(true)
		logged, refused := c.request("during"), c.request("long after")
		if r := post(logged); r.status != 503 || !strings.HasPrefix(r.message(t, 14), "the entry is logged") {
			t.Errorf("at first: %d %s", r.status, r.body)
		}
		time.Sleep(10 * time.Second)
		r := post(refused)
		if r.status != 503 || r.header.Get("Retry-After") == "" || !strings.HasPrefix(r.message(t, 14), "nothing was logged") {
			t.Errorf("10 s later: %d %v %s", r.status, r.header, r.body)
		}
		w.silent.Store(false)
		eventually(t, "the quorum to return", func() bool { r = post(refused); return r.status == 201 })
		if r.header.Get("X-Log-Index") != "" {
			t.Error("what was refused was logged all the same")
		}
		s.accept(r, refused)
	})
}

// TestNotLeadingAnswers503: before and after its time as leader a log sends writers away.
func TestNotLeadingAnswers503(t *testing.T) {
	s := serve(t, nil, nil)
	var lo log.Options
	stopped := serve(t, nil, func(o *log.Options, _ *rekor.Options) { lo = *o })
	lo.Bucket, lo.Name = s.bucket, "standby"
	idle, err := log.Open(t.Context(), lo)
	if err != nil {
		t.Fatal(err)
	}
	defer idle.Close()
	h, err := rekor.New(rekor.Options{Log: idle, Bucket: s.bucket, LogID: stopped.id})
	if err != nil {
		t.Fatal(err)
	}
	r := record(h, "POST", "/api/v2/log/entries", newClient(t).request("artifact"))
	if r.status != 503 || r.header.Get("Retry-After") != "1" {
		t.Errorf("%d %v", r.status, r.header)
	}
	r.message(t, 14)
}
