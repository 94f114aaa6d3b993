package posix_test

import (
	"testing"

	"tallywood/storage"
	"tallywood/storage/posix"
	"tallywood/storage/storagetest"
)

func TestConformance(t *testing.T) {
	storagetest.Run(t, func(t *testing.T) storage.Bucket { return open(t, t.TempDir()) })
}

func open(t testing.TB, dir string) *posix.Bucket {
	t.Helper()
	b, err := posix.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
