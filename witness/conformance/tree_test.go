package conformance_test

import (
	"fmt"
	"strings"
	"testing"

	"filippo.io/torchwood"
	"golang.org/x/mod/sumdb/tlog"

	"tallywood/witness"
	"tallywood/witness/conformance"
)

func convert(hashes []conformance.Hash) []tlog.Hash {
	var out []tlog.Hash
	for _, h := range hashes {
		out = append(out, tlog.Hash(h))
	}
	return out
}

// TestProofsAgreeWithOthers checks the suite's own trees with the verifiers of x/mod and torchwood.
func TestProofsAgreeWithOthers(t *testing.T) {
	tree := conformance.NewTree("entry", 0)
	var hashes []tlog.Hash
	for i := range int64(70) {
		hs, err := tlog.StoredHashes(i, fmt.Appendf(nil, "entry %d", i), tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
			var out []tlog.Hash
			for _, x := range indexes {
				out = append(out, hashes[x])
			}
			return out, nil
		}))
		if err != nil {
			t.Fatal(err)
		}
		hashes = append(hashes, hs...)
	}
	reader := tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		var out []tlog.Hash
		for _, x := range indexes {
			out = append(out, hashes[x])
		}
		return out, nil
	})
	for size := int64(1); size <= 70; size++ {
		root, err := tlog.TreeHash(size, reader)
		if err != nil || root != tlog.Hash(tree.Root(0, size)) {
			t.Fatalf("size %d: root hashes %v and %v (%v)", size, root, tree.Root(0, size), err)
		}
		for old := int64(1); old <= size; old++ {
			if err := tlog.CheckTree(convert(tree.Proof(old, size)), size, root, old, tlog.Hash(tree.Root(0, old))); err != nil {
				t.Errorf("from %d to %d: %v", old, size, err)
			}
		}
	}
	const size = 21
	for start := int64(0); start <= size; start++ {
		for end := int64(0); end <= size; end++ {
			if torchwood.ValidSubtree(start, end) != conformance.ValidSubtree(start, end) {
				t.Errorf("[%d, %d): valid %t", start, end, conformance.ValidSubtree(start, end))
			}
			if !torchwood.ValidSubtree(start, end) {
				continue
			}
			err := torchwood.CheckSubtree(convert(tree.SubtreeProof(start, end, size)), size, tlog.Hash(tree.Root(0, size)), start, end, tlog.Hash(tree.Root(start, end)))
			if err != nil {
				t.Errorf("[%d, %d): %v", start, end, err)
			}
		}
	}
}

func TestDeepProofsAreAsLongAsTheyMayBe(t *testing.T) {
	for size, want := range map[uint64]int{2: 1, 1 << 48: 48, 1<<62 + 1: 63, 1<<63 - 1: 63} {
		if _, _, proof := conformance.DeepProof(size); len(proof) != want {
			t.Errorf("size %d: %d hashes", size, len(proof))
		}
	}
	const size = 1<<40 - 1
	old, root, proof := conformance.DeepProof(size)
	if err := tlog.CheckTree(convert(proof), size, tlog.Hash(root), 1, tlog.Hash(old)); err != nil {
		t.Error(err)
	}
}

func TestCasesSayWhatTheyAre(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range conformance.Cases() {
		if seen[c.ID] {
			t.Errorf("two cases are called %s", c.ID)
		}
		seen[c.ID] = true
		if c.About == "" || c.Rule.Text == "" || c.Level == "" || strings.ContainsFunc(c.ID, func(r rune) bool {
			return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' && r != '/'
		}) {
			t.Errorf("case %+v is not complete", c)
		}
		if c.Level != conformance.Ours && c.Rule.Spec == "none" {
			t.Errorf("%s demands what no specification says", c.ID)
		}
	}
	if len(seen) < 600 {
		t.Errorf("%d cases", len(seen))
	}
}

func TestListNamesAllLogs(t *testing.T) {
	logs := throwAway(t)
	parsed, err := witness.ParseList(logs.List())
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]int{}
	for _, l := range parsed {
		known[l.Origin] = len(l.Keys)
	}
	for _, l := range logs.All(conformance.Listed()...) {
		if known[l.Origin] != len(l.VKeys) {
			t.Errorf("%s has %d keys in the list; want %d", l.Origin, known[l.Origin], len(l.VKeys))
		}
	}
	if want := len(logs.All(conformance.Listed()...)); len(parsed) != want {
		t.Errorf("%d logs in the list; want %d", len(parsed), want)
	}
}

func TestNewLogsRefuses(t *testing.T) {
	for _, prefix := range []string{"", "with space", "a+b", "ü", strings.Repeat("x", 201)} {
		if _, err := conformance.NewLogs(prefix, [32]byte{1}); err == nil {
			t.Errorf("prefix %q was taken", prefix)
		}
	}
	if _, err := conformance.NewLogs("x.invalid", [32]byte{}); err == nil {
		t.Error("a seed of zeroes was taken")
	}
}

func TestRunRefuses(t *testing.T) {
	good := conformance.Options{URL: "http://127.0.0.1:1", VKeys: witnessKeys(t).VKeys(), Logs: throwAway(t)}
	for _, c := range []struct {
		want string
		edit func(o *conformance.Options)
	}{
		{"no URL", func(o *conformance.Options) { o.URL = "" }},
		{"not a URL", func(o *conformance.Options) { o.URL = "witness.example.org" }},
		{"not a URL", func(o *conformance.Options) { o.Monitoring = "ftp://witness.example.org/" }},
		{"no verifier key", func(o *conformance.Options) { o.VKeys = nil }},
		{"no throw-away logs", func(o *conformance.Options) { o.Logs = nil }},
		{"not of the form", func(o *conformance.Options) { o.VKeys = []string{"x"} }},
		{"which should be", func(o *conformance.Options) { o.VKeys = []string{strings.Replace(o.VKeys[0], "+", "x+", 1)} }},
		{"no answer", func(*conformance.Options) {}},
	} {
		o := good
		c.edit(&o)
		if _, err := conformance.Run(t.Context(), o); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v; want an error with %q", err, c.want)
		}
	}
}
