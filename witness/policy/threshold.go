package policy

import "math/bits"

// maxThreshold is how many witnesses a policy may have for Threshold to try all sets of them.
const maxThreshold = 12

// Threshold returns the n for which any n witnesses satisfy p and no fewer do, and whether there is
// one: a policy may also ask for particular witnesses.
func (p *Policy) Threshold() (n int, ok bool) {
	if len(p.witnesses) > maxThreshold {
		return 0, false
	}
	least, most := len(p.witnesses), -1 // the smallest set that suffices, and the largest that does not
	for set := range 1 << len(p.witnesses) {
		has := map[string]bool{}
		for i, w := range p.witnesses {
			has[w.Name] = set>>i&1 == 1
		}
		size := bits.OnesCount(uint(set))
		if p.Satisfied(func(name string) bool { return has[name] }) {
			least = min(least, size)
		} else {
			most = max(most, size)
		}
	}
	return least, most < least
}
