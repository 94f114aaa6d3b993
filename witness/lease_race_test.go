package witness_test

import (
	"context"
	"testing"

	"tallywood/storage"
	"tallywood/storage/mem"
	"tallywood/witness"
)

// A passedBucket calls then when an object was read for the nth time, before the reader has it.
type passedBucket struct {
	storage.Bucket
	key  string
	n    int
	then func()
}

func (b *passedBucket) Get(ctx context.Context, key string, r storage.Range) ([]byte, storage.Version, error) {
	data, version, err := b.Bucket.Get(ctx, key, r)
	if key == b.key {
		if b.n--; b.n == 0 {
			b.then()
		}
	}
	return data, version, err
}

// TestRenewalsBetweenTwoReads has one process renew the lease twice while another one on its state looks at it:
// the first lease there is, and the first after what is exported was removed.
func TestRenewalsBetweenTwoReads(t *testing.T) {
	for _, removed := range []bool{false, true} {
		for n := 1; n <= 4; n++ {
			state, export := mem.New(), mem.New()
			open := func(export storage.Bucket) *witness.Witness {
				w, err := witness.New(witness.Options{Keys: testKeys(t), Bucket: state, Export: export})
				if err != nil {
					t.Fatal(err)
				}
				return w
			}
			first := open(export)
			renew := func(who string, w *witness.Witness) {
				for range 2 {
					if err := w.RenewLease(t.Context()); err != nil {
						t.Errorf("removed: %v, after look %d of the second: the %s one: %v", removed, n, who, err)
					}
				}
			}
			if removed {
				renew("first", first)
				if err := export.Delete(t.Context(), "lease.json"); err != nil {
					t.Fatal(err)
				}
			}
			renew("second", open(&passedBucket{export, "lease.json", n, func() { renew("first", first) }}))
			renew("first", first)
		}
	}
}
