package rekor_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"tallywood/internal/bubble"
	"tallywood/log"
	"tallywood/log/rekor"
	"tallywood/storage"
)

// slow is a bucket in which full entry bundles are read one after the other, each in 7 seconds.
type slow struct {
	storage.Bucket
	turn chan struct{}
}

func (s slow) Get(ctx context.Context, key string, r storage.Range) ([]byte, storage.Version, error) {
	if strings.Contains(key, "/tile/entries/") && !strings.Contains(key, ".p/") {
		s.turn <- struct{}{}
		time.Sleep(7 * time.Second)
		<-s.turn
	}
	return s.Bucket.Get(ctx, key, r)
}

// TestRebuildingAnswers503: while the duplicate index is rebuilt, whoever adds is told how far that is
// and when to come again; reads are served.
func TestRebuildingAnswers503(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		var lo log.Options
		s := run(t, nil, func(o *log.Options, _ *rekor.Options) { lo = *o })
		c := newClient(t)
		const entries = 600
		var adding sync.WaitGroup
		for i := range entries {
			data := fmt.Append(nil, i)
			adding.Go(func() {
				if _, err := s.log.Add(t.Context(), log.Entry{Key: sha256.Sum256(data), Data: data}); err != nil {
					t.Error(err)
				}
			})
		}
		adding.Wait()
		bucket := s.bucket
		eventually(t, "all to be public", func() bool { // a receipt may be ahead of it
			checkpoint, _, err := bucket.Get(t.Context(), "logs/signatures/checkpoint", storage.Range{})
			return err == nil && bytes.HasPrefix(checkpoint, fmt.Appendf(nil, "%s\n%d\n", origin, entries))
		})
		lo.Bucket = slow{bucket, make(chan struct{}, 1)}
		next := &server{t: t, bucket: bucket, id: s.id}
		var err error
		if next.log, err = log.Open(t.Context(), lo); err != nil {
			t.Fatal(err)
		}
		if next.http, err = rekor.New(rekor.Options{Log: next.log, Bucket: bucket, LogID: s.id}); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- next.log.Run(ctx) }()
		eventually(t, "the half", func() bool {
			r, _ := next.log.Rebuilding()
			return next.log.Leading() && r.Read > 256
		})
		r := record(next.http, "POST", "/api/v2/log/entries", c.request("another"))
		if r.status != 503 {
			t.Fatalf("%d %s", r.status, r.body)
		}
		if seconds, err := strconv.Atoi(r.header.Get("Retry-After")); err != nil || seconds < 5 || seconds > 30 {
			t.Errorf("Retry-After is %q", r.header.Get("Retry-After"))
		}
		const want = "nothing was logged: the log takes entries when its duplicate index is rebuilt; so far 344 of 600 entries are read, 0 indexed"
		if text := r.message(t, 14); text != want {
			t.Errorf("it says %q; want %q", text, want)
		}
		if r := record(next.http, "GET", "/api/v2/tile/entries/001", nil); r.status != 200 {
			t.Errorf("a read: %d", r.status)
		}
		eventually(t, "the end", func() bool { return next.log.Ready() == nil })
		if r := record(next.http, "POST", "/api/v2/log/entries", c.request("another")); r.status != 201 {
			t.Errorf("afterwards: %d %s", r.status, r.body)
		}
		cancel()
		if err := errors.Join(<-done, next.log.Close()); err != nil {
			t.Error(err)
		}
	})
}
