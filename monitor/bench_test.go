package monitor_test

import (
	"testing"

	"tallywood/internal/mint"
	"tallywood/monitor"
	"tallywood/monitor/rule"
)

// BenchmarkEntry hashes, decodes and matches entries that concern nobody, as most do.
func BenchmarkEntry(b *testing.B) {
	w, err := mint.New(1)
	if err != nil {
		b.Fatal(err)
	}
	var ids []rule.Identity
	for _, repo := range []string{"example/tool", "example/other", "somebody/else"} {
		ids = append(ids, rule.Identity{Name: repo, GitHub: repo, Expect: rule.Expect{Issuers: []string{goodIssuer}}})
	}
	s, err := rule.New(rule.Options{Identities: ids})
	if err != nil {
		b.Fatal(err)
	}
	made, err := w.Make(w.Anybody(7), 7)
	if err != nil {
		b.Fatal(err)
	}
	leaf, err := made.TileLeaf()
	if err != nil {
		b.Fatal(err)
	}
	for kind, e := range map[monitor.Kind][]byte{monitor.KindRekor: made.Bytes, monitor.KindCT: leaf} {
		b.Run(string(kind), func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(e)))
			for b.Loop() {
				if matches, err := monitor.MatchEntry(s, kind, 7, e); err != nil || matches > 0 {
					b.Fatal(matches, err)
				}
			}
		})
	}
}
