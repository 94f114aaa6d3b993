package witness_test

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	mproof "github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
	"golang.org/x/mod/sumdb/tlog"

	"tallywood/storage"
	"tallywood/storage/mem"
	"tallywood/witness"
)

// TestWitnessSaysWhatDoesNotFit has trees of the size last cosigned, which take no proof.
func TestWitnessSaysWhatDoesNotFit(t *testing.T) {
	l, fork := newTestLog(t, origin), newTestLog(t, origin)
	l.grow(t, 9, "entry")
	fork.grow(t, 9, "forged entry")
	w := serve(t, mem.New(), newClock(), l)
	w.mustAdd(t, l.request(t, 0, 5))
	hash := lines(tlog.Hash{7})
	for body, want := range map[string]string{
		"old 5\n\n" + fork.checkpoint(t, 5):             "root hash is another one than that of the tree of this size that was cosigned\n",
		"old 5\n" + hash + "\n" + fork.checkpoint(t, 5): "root hash is another one than that of the tree of this size that was cosigned\n",
		"old 5\n" + hash + "\n" + l.checkpoint(t, 5):    "proof from a tree to itself is not empty\n",
		"old 5\n" + hash + "\n" + l.checkpoint(t, 9):    "consistency proof does not verify\n",
	} {
		if a := w.add(t, body); a.status != http.StatusUnprocessableEntity || a.body != want {
			t.Errorf("%.60q: %d %q, want %q", body, a.status, a.body, want)
		}
	}
}

// TestConsistencyAgreesWithTwoOthers tries every pair of sizes up to 33, and every proof with a
// hash changed, dropped or added.
func TestConsistencyAgreesWithTwoOthers(t *testing.T) {
	l := newTestLog(t, origin)
	l.grow(t, 33, "entry")
	check := func(p []tlog.Hash, old, size int64, oldRoot, root tlog.Hash) {
		t.Helper()
		got := witness.CheckConsistency(p, old, size, oldRoot, root) == nil
		raw := make([][]byte, len(p))
		for i := range p {
			raw[i] = p[i][:]
		}
		merkle := mproof.VerifyConsistency(rfc6962.DefaultHasher, uint64(old), uint64(size), raw, oldRoot[:], root[:]) == nil
		xmod := tlog.CheckTree(p, size, root, old, oldRoot) == nil
		if got != merkle || got != xmod {
			t.Errorf("%d to %d, %d hashes: %t; merkle %t, x/mod %t", old, size, len(p), got, merkle, xmod)
		}
	}
	for size := int64(1); size <= 33; size++ {
		root := tlog.Hash(l.tree(t, size).Root)
		for old := int64(1); old <= size; old++ {
			oldRoot := tlog.Hash(l.tree(t, old).Root)
			p, err := tlog.ProveTree(size, old, l.reader())
			if err != nil {
				t.Fatal(err)
			}
			check(p, old, size, oldRoot, root)
			check(p, old, size, root, oldRoot)
			check(append(p[:len(p):len(p)], tlog.Hash{1}), old, size, oldRoot, root)
			for i := range p {
				changed := append([]tlog.Hash{}, p...)
				changed[i][0] ^= 1
				check(changed, old, size, oldRoot, root)
				check(append(append([]tlog.Hash{}, p[:i]...), p[i+1:]...), old, size, oldRoot, root)
			}
		}
	}
}

func TestConsistencyEndsForHugeSizes(t *testing.T) {
	h := tlog.Hash{1}
	for _, size := range []int64{1<<62 - 1, 1 << 62, 1<<62 + 1, math.MaxInt64} {
		for n := range 64 {
			proof := make([]tlog.Hash, n)
			for _, old := range []int64{1, 2, 1 << 61, 1<<62 - 1, size - 1} {
				if witness.CheckConsistency(proof, old, size, h, tlog.Hash{2}) == nil {
					t.Fatalf("%d to %d with %d hashes verifies", old, size, n)
				}
			}
		}
	}
	if witness.CheckConsistency(nil, -1, 5, h, h) == nil || witness.CheckConsistency(nil, 6, 5, h, h) == nil {
		t.Error("nonsense verifies")
	}
}

func FuzzAddCheckpoint(f *testing.F) {
	l := newTestLog(f, origin)
	l.grow(f, 20, "entry")
	w, err := witness.New(witness.Options{Keys: testKeys(f), Bucket: mem.New(), Now: newClock().now,
		Logs: []witness.Log{{Origin: origin, Keys: logKeys(l)}}})
	if err != nil {
		f.Fatal(err)
	}
	h := w.Handler()
	post := func(path, body string) int {
		rec := httptest.NewRecorder()
		r := httptest.NewRequestWithContext(context.Background(), http.MethodPost, path, strings.NewReader(body))
		r.RemoteAddr = "127.0.0.1:1" // requests in vain have no limit there
		h.ServeHTTP(rec, r)
		return rec.Code
	}
	if code := post("/add-checkpoint", l.request(f, 0, 5)); code != 200 {
		f.Fatal(code)
	}
	f.Add(l.request(f, 5, 9))
	f.Add(l.request(f, 5, 5))
	f.Add("old 0\n\n" + l.checkpoint(f, 5))
	f.Add("subtree 0 4\n" + lines(tlog.Hash{}) + "\n" + l.checkpoint(f, 5))
	f.Fuzz(func(t *testing.T, body string) {
		switch code := post("/add-checkpoint", body); code {
		case 400, 403, 404, 409, 413, 422:
		case 200:
			_, note, _ := strings.Cut(body, "\n\n")
			head, _, _ := strings.Cut(note, "\n\n")
			if !strings.HasPrefix(head, origin+"\n") {
				t.Errorf("cosigned %q", body)
			}
		default:
			t.Errorf("%d for %q", code, body)
		}
		switch code := post("/sign-subtree", body); code {
		case 400, 403, 404, 413, 422:
		default:
			t.Errorf("sign-subtree: %d for %q", code, body)
		}
	})
}

func FuzzDecodeState(f *testing.F) {
	l := newTestLog(f, origin)
	l.grow(f, 5, "entry")
	b := mem.New()
	serve(f, b, newClock(), l).mustAdd(f, l.request(f, 0, 5))
	data, _, err := b.Get(f.Context(), stateKey(), storage.Range{})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte(`{"counter":1,"origin":"log.example.org"}`))
	f.Fuzz(func(t *testing.T, data []byte) { _ = witness.DecodeState(data, origin) })
}

func FuzzParseList(f *testing.F) {
	l := newTestLog(f, origin)
	f.Add([]byte("logs/v0\n\nvkey " + l.key.String() + "\norigin o\nqpd 24\ncontact me\n"))
	f.Add([]byte("# c\nlogs/v0\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		logs, err := witness.ParseList(data)
		if err != nil {
			return
		}
		if _, err := witness.New(witness.Options{Keys: testKeys(t), Bucket: mem.New(), Logs: logs}); err != nil {
			t.Errorf("a list that parses cannot be followed: %v", err)
		}
		again, err := witness.ParseList(witness.FormatList(logs))
		if err != nil || fmt.Sprint(witness.FormatList(again)) != fmt.Sprint(witness.FormatList(logs)) {
			t.Errorf("rendered and parsed again: %v", err)
		}
	})
}
