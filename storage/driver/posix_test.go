package driver_test

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/transparency-dev/tessera"

	"tallywood/storage"
	"tallywood/storage/driver"
	"tallywood/storage/mem"
	"tallywood/storage/posix"
)

// TestPosixRefusesSecondProcess opens one directory twice, as two processes would.
func TestPosixRefusesSecondProcess(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	bucket := func() storage.Bucket {
		b, err := posix.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	l := open(t, options(t, bucket()))
	stop := lead(t, l)
	add(t, l, 0, 3)
	if _, err := driver.Open(t.Context(), options(t, bucket())); !errors.Is(err, posix.ErrLocked) {
		t.Fatalf("a second Open: %v", err)
	} else if !strings.Contains(err.Error(), "another process") {
		t.Errorf("the error does not say what is wrong: %v", err)
	}
	other := options(t, bucket())
	other.Name = "other"
	open(t, other) // another log in the same directory is fine
	add(t, l, 3, 300)
	quit(t, l, stop)
	l = open(t, options(t, bucket()))
	stop = lead(t, l)
	add(t, l, 300, 310)
	quit(t, l, stop)
	checkLog(t, options(t, bucket()), 310)
}

// unusable is the error of a bucket whose disk failed.
type unusable struct{}

func (unusable) Error() string  { return "disk failed" }
func (unusable) Unusable() bool { return true }

type broken struct{ storage.Bucket }

func (b broken) Put(ctx context.Context, key string, data []byte, o storage.PutOptions) (storage.Version, error) {
	if strings.HasPrefix(key, "state/test/log/") && strings.Contains(string(data), `"BATCH"`) {
		return "", unusable{}
	}
	return b.Bucket.Put(ctx, key, data, o)
}

func TestUnusableBucketEndsRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := open(t, options(t, broken{mem.New()}))
		ran := make(chan error, 1)
		go func() { ran <- l.Run(t.Context()) }()
		synctest.Wait()
		if _, err := l.Add(t.Context(), tessera.NewEntry(nil))(); !errors.Is(err, driver.ErrNotLeading) {
			t.Errorf("Add: %v", err)
		}
		if err := <-ran; !errors.Is(err, unusable{}) {
			t.Errorf("Run: %v", err)
		}
	})
}
