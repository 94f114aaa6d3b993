package driver_test

import (
	"context"
	"errors"
	"slices"
	"testing"

	"tallywood/storage/driver"
	"tallywood/storage/mem"
	"tallywood/witness/policy"
)

// twoOfThree is a policy by which two of the witnesses a, b and c must cosign.
func twoOfThree(has func(string) bool) bool {
	n := 0
	for _, name := range []string{"a", "b", "c"} {
		if has(name) {
			n++
		}
	}
	return n >= 2
}

// TestALyingWitnessHasNoMoreThanItsVote opens a log of size 5 with witnesses that say what is not so.
// A lie has no signature of the log to show.
func TestALyingWitnessHasNoMoreThanItsVote(t *testing.T) {
	b := mem.New()
	o := options(t, b)
	q := new(quorum)
	o.Cosign = q.cosign
	l := open(t, o)
	stop := lead(t, l)
	add(t, l, 0, 5)
	settle(t, b, 5)
	root5 := [32]byte(stored(t, b).Hash)
	quit(t, l, stop)
	at5 := func(name string) policy.WitnessSize {
		return policy.WitnessSize{Name: name, Size: 5, Root: &root5}
	}
	says := func(name string, size int64) policy.WitnessSize { return policy.WitnessSize{Name: name, Size: size} }
	forked := func(name string, size int64) policy.WitnessSize {
		return policy.WitnessSize{Name: name, Size: size, Root: &[32]byte{1}}
	}
	silent := policy.WitnessSize{Name: "c", Err: errDown}
	for name, c := range map[string]struct {
		sizes []policy.WitnessSize
		want  error // nil: it leads
		harm  bool  // damage is wanted
	}{
		"one says a huge size":         {[]policy.WitnessSize{says("a", 1<<62), at5("b"), at5("c")}, nil, false},
		"one says nothing is known":    {[]policy.WitnessSize{says("a", 0), at5("b"), at5("c")}, nil, false},
		"two say a size beyond":        {[]policy.WitnessSize{says("a", 6), says("b", 6), at5("c")}, driver.ErrGate, false},
		"one lies and one is silent":   {[]policy.WitnessSize{says("a", 6), at5("b"), silent}, driver.ErrGate, false},
		"one shows a larger tree":      {[]policy.WitnessSize{forked("a", 6), at5("b"), at5("c")}, nil, true},
		"one shows another tree of it": {[]policy.WitnessSize{forked("a", 5), at5("b"), at5("c")}, nil, true},
	} {
		t.Run(name, func(t *testing.T) {
			o := options(t, b)
			o.Cosign, o.Satisfied = q.cosign, twoOfThree
			o.Sizes = func(context.Context, []byte) ([]policy.WitnessSize, error) { return slices.Clone(c.sizes), nil }
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			l, err := driver.Open(ctx, o)
			var damage *driver.DamageError
			if harm := errors.As(err, &damage); harm != c.harm {
				t.Fatalf("Open: %v; damage wanted: %v", err, c.harm)
			}
			if !c.harm && !errors.Is(err, c.want) {
				t.Fatalf("Open: %v; want %v", err, c.want)
			}
			if err == nil {
				quit(t, l, lead(t, l))
			}
		})
	}
}
