package mem_test

import (
	"testing"

	"tallywood/storage"
	"tallywood/storage/mem"
	"tallywood/storage/storagetest"
)

func TestConformance(t *testing.T) {
	storagetest.Run(t, func(*testing.T) storage.Bucket { return mem.New() })
}

// TestVersionsNeverRepeat holds mem to more than storage asks for: a caller that relies on content
// versions must not find them here.
func TestVersionsNeverRepeat(t *testing.T) {
	b := mem.New()
	seen := make(map[storage.Version]bool)
	for range 3 {
		for _, key := range []string{"a", "b"} {
			v, err := b.Put(t.Context(), key, []byte("same"), storage.PutOptions{})
			if err != nil || seen[v] {
				t.Errorf("putting %s: version %q again, %v", key, v, err)
			}
			seen[v] = true
		}
		if err := b.Delete(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
	}
}
