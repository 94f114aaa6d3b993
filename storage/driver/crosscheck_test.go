package driver_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/transparency-dev/tessera"

	"tallywood/internal/bubble"
	"tallywood/storage/driver"
	"tallywood/storage/mem"
)

// TestNothingIsSignedOverAFlippedBit flips a bit in memory, of what is published or of what is
// being committed. Nothing that has it is signed or written, and the next process goes on from what
// the bucket has.
func TestNothingIsSignedOverAFlippedBit(t *testing.T) {
	for _, c := range []struct {
		name      string
		size, to  int64                  // published before, and added up to afterwards
		between   func(*driver.Log)      // flips a bit when all is published
		during    func(*driver.Log) bool // or during a commit, if it can
		committed bool                   // what is added afterwards is
		want      string
	}{
		{"tile", 5, 6, func(l *driver.Log) { driver.FlipRow(l, 0) }, nil, false, "do not lead to its root"},
		{"upper tile", 600, 601, func(l *driver.Log) { driver.FlipRow(l, 1) }, nil, false, "do not lead to its root"},
		{"range", 6, 7, driver.FlipRange, nil, false, "do not lead to its root"},
		{"bundle", 5, 6, driver.FlipBundle, nil, true, "does not match its tile"},
		{"full tile", 255, 300, nil, driver.FlipFullRow, true, "the tile 0/0 in memory does not match"},
		{"full bundle", 255, 300, nil, driver.FlipFullBundle, true, "the entry bundle of tile 0/0 in memory does not match"},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				b := mem.New()
				var l *driver.Log
				l = open(t, options(t, &hooked{b, func(op, key string) {
					if op == "put" && strings.HasPrefix(key, "state/test/log/") && l != nil && c.during != nil && c.during(l) {
						c.during = nil
					}
				}}))
				flipped(t, b, l, c.size, c.to, c.between, c.committed, c.want)
			})
		})
	}
}

func flipped(t *testing.T, b *mem.Bucket, l *driver.Log, size, to int64, flip func(*driver.Log), committed bool, want string) {
	ctx, cancel := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- l.Run(ctx) }()
	synctest.Wait()
	add(t, l, 0, size)
	time.Sleep(time.Second)
	if flip != nil {
		flip(l)
	}
	before := newest(t, b)
	for i := size; i < to; i++ {
		l.Add(t.Context(), tessera.NewEntry(data(i)))
	}
	var err error
	select {
	case err = <-ran:
	case <-time.After(time.Minute):
		cancel()
		<-ran
		t.Fatalf("Run goes on with the flipped bit, size %d is published", stored(t, b).N)
	}
	var damage *driver.DamageError
	if !errors.As(err, &damage) || !strings.Contains(err.Error(), want) {
		t.Fatalf("Run: %v, want damage that says %q", err, want)
	}
	if n := stored(t, b).N; n < size || n > 255 && size < 256 || n == to {
		t.Errorf("size %d is published", n)
	}
	if !committed && newest(t, b) != before {
		t.Error("a record was written over the flipped bit")
	}
	cancel()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}

	l = open(t, options(t, b))
	stop := lead(t, l)
	head, _ := l.Head()
	add(t, l, head, to+10)
	quit(t, l, stop)
	checkLog(t, options(t, b), to+10)
}
