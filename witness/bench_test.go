package witness_test

import (
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"tallywood/internal/keys"
	"tallywood/storage"
	"tallywood/storage/mem"
	"tallywood/storage/posix"
	"tallywood/witness"
	"tallywood/witness/policy"
)

// A longLog is a log of equal entries, which has any size and takes no memory.
type longLog struct {
	origin string
	key    ed25519.PrivateKey
	full   [63]tlog.Hash // of full subtrees, by level
}

func newLongLog(origin string) *longLog {
	s := seed("log " + origin)
	l := &longLog{origin: origin, key: ed25519.NewKeyFromSeed(s[:])}
	l.full[0] = tlog.RecordHash([]byte("entry"))
	for i := range l.full[1:] {
		l.full[i+1] = tlog.NodeHash(l.full[i], l.full[i])
	}
	return l
}

// ReadHashes implements tlog.HashReader.
func (l *longLog) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(indexes))
	for i, x := range indexes {
		level, _ := tlog.SplitStoredHashIndex(x)
		out[i] = l.full[level]
	}
	return out, nil
}

func (l *longLog) public() ed25519.PublicKey { return l.key.Public().(ed25519.PublicKey) }

func (l *longLog) policyKey(b *testing.B) policy.Key {
	k, err := policy.ParseVKey(keys.VKey(l.origin, keys.AlgEd25519, l.public()))
	if err != nil {
		b.Fatal(err)
	}
	return k
}

func (l *longLog) root(b *testing.B, size int64) tlog.Hash {
	h, err := tlog.TreeHash(size, l)
	if err != nil {
		b.Fatal(err)
	}
	return h
}

func (l *longLog) proof(b *testing.B, old, size int64) tlog.TreeProof {
	if old == 0 {
		return nil
	}
	p, err := tlog.ProveTree(size, old, l)
	if err != nil {
		b.Fatal(err)
	}
	return p
}

func (l *longLog) text(b *testing.B, size int64) string {
	return policy.Tree{Origin: l.origin, Size: size, Root: l.root(b, size)}.Text()
}

// request is an honest add-checkpoint request.
func (l *longLog) request(b *testing.B, old, size int64) string {
	var out strings.Builder
	fmt.Fprintf(&out, "old %d\n", old)
	for _, h := range l.proof(b, old, size) {
		out.WriteString(base64.StdEncoding.EncodeToString(h[:]) + "\n")
	}
	text := l.text(b, size)
	id := keys.KeyID(l.origin, keys.AlgEd25519, l.public())
	out.WriteString("\n" + text + "\n" + policy.FormatSignature(l.origin, id, ed25519.Sign(l.key, []byte(text))))
	return out.String()
}

// Sizes at which the benchmarks' logs are met, and by how much they grow.
const (
	longSize = 1_000_003
	growth   = 10
)

// BenchmarkAddCheckpoint has a number of logs grow, in a closed loop and all at once, past the
// network. One operation is one cosigned checkpoint of one log.
func BenchmarkAddCheckpoint(b *testing.B) {
	for name, open := range map[string]func(*testing.B) storage.Bucket{
		"mem": func(*testing.B) storage.Bucket { return mem.New() },
		"posix": func(b *testing.B) storage.Bucket {
			bucket, err := posix.Open(b.TempDir())
			if err != nil {
				b.Fatal(err)
			}
			return bucket
		},
	} {
		for _, n := range []int{1, 16, 256} {
			b.Run(fmt.Sprintf("%s/logs=%d", name, n), func(b *testing.B) { benchmarkAdd(b, open(b), n) })
		}
	}
}

func benchmarkAdd(b *testing.B, bucket storage.Bucket, n int) {
	o := witness.Options{Keys: testKeys(b), Bucket: bucket}
	logs := make([]*longLog, n)
	for i := range logs {
		logs[i] = newLongLog(fmt.Sprintf("log%d.example.org", i))
		o.Logs = append(o.Logs, witness.Log{Origin: logs[i].origin, Keys: []policy.Key{logs[i].policyKey(b)}})
	}
	w, err := witness.New(o)
	if err != nil {
		b.Fatal(err)
	}
	h := w.Handler()
	post := func(body string) {
		rec := httptest.NewRecorder()
		r := httptest.NewRequestWithContext(b.Context(), http.MethodPost, "/add-checkpoint", strings.NewReader(body))
		r.RemoteAddr = "127.0.0.1:1"
		h.ServeHTTP(rec, r)
		if rec.Code != http.StatusOK {
			b.Errorf("%d %.200s", rec.Code, rec.Body)
		}
	}
	requests := make([][]string, n)
	for i, l := range logs {
		post(l.request(b, 0, longSize))
		for k := range int64(b.N/n + 1) {
			requests[i] = append(requests[i], l.request(b, longSize+growth*k, longSize+growth*(k+1)))
		}
	}
	b.ReportAllocs()
	b.ResetTimer()
	start := time.Now()
	var wg sync.WaitGroup
	for i := range logs {
		wg.Go(func() {
			for _, body := range requests[i] {
				if b.Failed() {
					return
				}
				post(body)
			}
		})
	}
	wg.Wait()
	b.ReportMetric(float64((b.N/n+1)*n)/time.Since(start).Seconds(), "updates/s")
}

// BenchmarkSteps has what is done for one checkpoint, step by step.
func BenchmarkSteps(b *testing.B) {
	l := newLongLog(origin)
	w, err := witness.New(witness.Options{
		Keys: testKeys(b), Bucket: mem.New(), Logs: []witness.Log{{Origin: origin, Keys: []policy.Key{l.policyKey(b)}}},
	})
	if err != nil {
		b.Fatal(err)
	}
	const size = longSize + growth
	body := []byte(l.request(b, longSize, size))
	proof, oldRoot, root := l.proof(b, longSize, size), l.root(b, longSize), l.root(b, size)
	for _, step := range []struct {
		name string
		do   func() error
	}{
		{"parse request", func() error { return witness.ParseAdd(body) }},
		{"parse and verify note", func() error { return witness.Authenticate(w, origin, body) }},
		{"check proof", func() error { return witness.CheckConsistency(proof, longSize, size, oldRoot, root) }},
		{"sign with both keys", func() error { return witness.Cosign(w, l.text(b, size), true) }},
		{"sign with Ed25519", func() error { return witness.Cosign(w, l.text(b, size), false) }},
		{"encode state", func() error { return witness.EncodeState(w, origin, body) }},
	} {
		b.Run(strings.ReplaceAll(step.name, " ", "-"), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := step.do(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkCommit replaces the states of logs in a directory, of which each operation is one.
func BenchmarkCommit(b *testing.B) {
	for _, n := range []int{1, 16, 256} {
		b.Run(fmt.Sprintf("logs=%d", n), func(b *testing.B) {
			bucket, err := posix.Open(b.TempDir())
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			start := time.Now()
			var wg sync.WaitGroup
			for i := range n {
				wg.Go(func() { swap(b, bucket, fmt.Sprintf("state/w/%d", i), b.N/n+1) })
			}
			wg.Wait()
			b.ReportMetric(float64((b.N/n+1)*n)/time.Since(start).Seconds(), "swaps/s")
		})
	}
}

// swap replaces an object of the size of a state, so many times.
func swap(b *testing.B, bucket storage.Bucket, key string, times int) {
	condition := storage.Absent()
	for i := range times {
		v, err := bucket.Put(b.Context(), key, fmt.Appendf(nil, "%0800d", i), storage.PutOptions{If: condition})
		if err != nil {
			b.Error(err)
			return
		}
		condition = storage.Match(v)
	}
}
