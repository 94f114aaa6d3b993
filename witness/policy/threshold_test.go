package policy_test

import (
	"fmt"
	"strings"
	"testing"
)

func TestThresholdIsHowManySuffice(t *testing.T) {
	witnesses := func(n int) string {
		var b strings.Builder
		for i := range n {
			name := fmt.Sprintf("w%d", i)
			_, vkey := cosigner(t, name+".example.org", false)
			fmt.Fprintf(&b, "witness %s %s\n", name, vkey)
		}
		return b.String()
	}
	for text, want := range map[string]int{
		witnesses(1) + "quorum w0\n":                                                 1,
		witnesses(3) + "group g 2 w0 w1 w2\nquorum g\n":                              2,
		witnesses(3) + "group g any w0 w1 w2\nquorum g\n":                            1,
		witnesses(3) + "group g all w0 w1 w2\nquorum g\n":                            3,
		witnesses(3) + "group g any w0 w1\nquorum g\n":                               -1, // w2 alone does not
		witnesses(4) + "group a 1 w0 w1\ngroup b 1 w2 w3\ngroup g 2 a b\nquorum g\n": -1,
		witnesses(13) + "group g any w0 w1 w2 w3 w4 w5 w6 w7\nquorum g\n":            -1, // too many to try
		"quorum none\n": 0,
	} {
		if n, ok := mustPolicy(t, text).Threshold(); ok != (want >= 0) || ok && n != want {
			t.Errorf("threshold is %d, %v; want %d of\n%s", n, ok, want, text)
		}
	}
}
