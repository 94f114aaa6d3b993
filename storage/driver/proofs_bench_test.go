package driver_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/transparency-dev/tessera"

	"tallywood/internal/keys"
	"tallywood/storage/driver"
	"tallywood/storage/mem"
	"tallywood/witness"
	"tallywood/witness/client"
	"tallywood/witness/policy"
)

// BenchmarkProofs proves every entry of a batch in the tree that it completes, in a log of a million
// entries: the receipts under one checkpoint.
func BenchmarkProofs(b *testing.B) {
	for _, batch := range []int64{256, 4096} {
		b.Run(fmt.Sprint(batch), func(b *testing.B) {
			l, size := grownBy(b, 1_000_000, batch)
			b.ReportAllocs()
			for b.Loop() {
				for index := size - batch; index < size; index++ {
					if _, err := l.InclusionProof(context.Background(), index, size); err != nil {
						b.Fatal(err)
					}
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(batch), "ns/receipt")
		})
	}
}

// grownBy returns a log of size entries with a batch more, and how many it has then.
func grownBy(t testing.TB, size, batch int64) (*driver.Log, int64) {
	t.Helper()
	v := newVast(size, entrySize)
	v.establish(t, 1)
	l := open(t, options(t, v))
	lead(t, l)
	var last tessera.IndexFuture
	for i := range batch {
		last = l.Add(t.Context(), tessera.NewEntry(data(i)))
	}
	if _, err := last(); err != nil {
		t.Fatal(err)
	}
	size, _ = l.Head()
	if _, err := l.Await(t.Context(), size); err != nil {
		t.Fatal(err)
	}
	return l, size
}

// BenchmarkPublish adds an entry to a log in memory and waits for the checkpoint that covers it, which
// two witnesses in the process have cosigned with two keys each, and which is checked twice: by who
// collects cosignatures, and by who publishes.
func BenchmarkPublish(b *testing.B) {
	o := options(b, mem.New())
	p, transport := witnesses(b, o.VKeys[0], 2)
	c, err := client.New(client.Options{Policy: p, HTTP: &http.Client{Transport: transport}})
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	o.Cosign = func(ctx context.Context, checkpoint []byte, prove driver.ProofFunc) ([]byte, error) {
		cosigned, err := c.Cosign(ctx, checkpoint, prove)
		if err == nil {
			_, err = p.Open(cosigned)
		}
		return cosigned, err
	}
	l := open(b, o)
	stop := lead(b, l)
	add(b, l, 0, 1000)
	b.ReportAllocs()
	for n := int64(1000); b.Loop(); n++ {
		if err := addOne(l, data(n)); err != nil {
			b.Fatal(err)
		}
	}
	quit(b, l, stop)
}

// handlers is a transport that calls handlers, by host.
type handlers map[string]http.Handler

func (h handlers) RoundTrip(r *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	h[r.URL.Host].ServeHTTP(w, r)
	return w.Result(), nil
}

// witnesses returns a policy that wants n witnesses' cosignatures, with both keys, and how to reach
// them.
func witnesses(t testing.TB, vkey string, n int) (*policy.Policy, handlers) {
	t.Helper()
	key, err := policy.ParseVKey(vkey)
	if err != nil {
		t.Fatal(err)
	}
	reach := handlers{}
	text, group := "log "+vkey+"\n", "group everyone all"
	for i := range n {
		host := fmt.Sprintf("w%d.example.org", i)
		k, err := keys.WitnessFromSeed(host, [32]byte{byte(i)})
		if err != nil {
			t.Fatal(err)
		}
		w, err := witness.New(witness.Options{Keys: k, Bucket: mem.New(), Logs: []witness.Log{{Origin: origin, Keys: []policy.Key{key}}}})
		if err != nil {
			t.Fatal(err)
		}
		reach[host] = w.Handler()
		for j, vkey := range k.VKeys() {
			text += fmt.Sprintf("witness w%d-%d %s http://%s\n", i, j, vkey, host)
			group += fmt.Sprintf(" w%d-%d", i, j)
		}
	}
	p, err := policy.Parse([]byte(text + group + "\nquorum everyone\n"))
	if err != nil {
		t.Fatal(err)
	}
	return p, reach
}
