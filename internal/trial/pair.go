package trial

import (
	"math/rand/v2"
	"regexp"
	"strings"
)

// near is how many operations after the first the second may be that what the first caused meets.
const near = 8

// A Pair is two operations of a story that fail.
type Pair struct {
	first, second int
	relation      int
	key           string // of the first
	fell          int
}

// DrawPair draws a Pair. ops are the operations of the story without faults, in order, each as what it
// does, a space and its key. The first is one of a class of operations that is drawn among all, since
// there are hundreds of some. The second is any later one, or one of the next, or the next on the same
// key, as the repetition of the first may be.
func DrawPair(r *rand.Rand, ops []string) *Pair {
	byClass := map[string][]int{}
	var classes []string
	for n, op := range ops {
		c := class(op)
		if byClass[c] == nil {
			classes = append(classes, c)
		}
		byClass[c] = append(byClass[c], n)
	}
	of := byClass[classes[r.IntN(len(classes))]]
	p := &Pair{first: of[r.IntN(len(of))], relation: r.IntN(3)}
	within := near
	if p.relation == 0 {
		within = max(len(ops)-p.first, 1)
	}
	p.second = p.first + 1 + r.IntN(within)
	return p
}

// Falls reports whether the operation op, number n, is one of the two. It is called once for each.
func (p *Pair) Falls(n int, op string) bool {
	_, key, _ := strings.Cut(op, " ")
	switch {
	case p.fell == 0 && n == p.first:
		p.key = key
	case p.fell == 1 && p.relation == 2 && key == p.key, p.fell == 1 && p.relation < 2 && n == p.second:
	default:
		return false
	}
	p.fell++
	return true
}

var (
	digits  = regexp.MustCompile(`\d+`)
	partial = regexp.MustCompile(`\.p/.*`)
)

// class is what an operation does, whatever the slot, and whatever the index of a tile.
func class(op string) string {
	return digits.ReplaceAllString(partial.ReplaceAllString(op, ".p"), "N")
}
