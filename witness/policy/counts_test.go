package policy_test

import (
	"fmt"
	"testing"
)

// TestCountsIsWhatCanMakeAQuorum compares Counts with every set of witnesses: one counts if there is a
// set that meets the quorum with it and not without it.
func TestCountsIsWhatCanMakeAQuorum(t *testing.T) {
	names := []string{"a", "b", "c", "d", "e"}
	text := ""
	for _, n := range names {
		_, vkey := cosigner(t, n+".example.org", false)
		text += fmt.Sprintf("witness %s %s\n", n, vkey)
	}
	for quorum, want := range map[string]string{
		"quorum none\n":               "",
		"quorum c\n":                  "c",
		"group g any a b\nquorum g\n": "ab",
		"group g 2 a b c\nquorum g\n": "abc",
		"group g 2 a b c\nquorum d\n": "d",
		"group g any a b\nquorum c\n": "c",
		"group g 2 a b c\ngroup h any d e\n" + "group all-of-them all g h\nquorum all-of-them\n": "abcde",
		"group g all a b\ngroup h any g c\nquorum h\n":                                           "abc",
		"group g all a b\ngroup h any g c\nquorum g\n":                                           "ab",
	} {
		p := mustPolicy(t, text+quorum)
		got, decisive := "", ""
		for i, n := range names {
			if p.Counts(n) {
				got += n
			}
			for set := range 1 << len(names) {
				has := func(set int) bool {
					return p.Satisfied(func(name string) bool {
						for j, m := range names {
							if m == name {
								return set>>j&1 == 1
							}
						}
						return false
					})
				}
				if set>>i&1 == 1 && has(set) && !has(set&^(1<<i)) {
					decisive += n
					break
				}
			}
		}
		if got != want || decisive != want {
			t.Errorf("%q: %q count, %q can decide; want %q", quorum, got, decisive, want)
		}
	}
	if mustPolicy(t, text+"group g any a b\nquorum g\n").Counts("g2") {
		t.Error("a name that is nobody's counts")
	}
}
