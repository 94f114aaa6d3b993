package witness

import (
	"errors"

	"golang.org/x/mod/sumdb/tlog"
)

// What is wrong between two trees that do not fit.
var (
	errProof     = errors.New("consistency proof does not verify")
	errRoot      = errors.New("root hash is another one than that of the tree of this size that was cosigned")
	errSameProof = errors.New("proof from a tree to itself is not empty")
)

// checkConsistency verifies an RFC 6962 consistency proof from the tree (old, oldRoot) to the tree
// (size, root), with 0 < old <= size, and that it uses every hash (RFC 9162 section 2.1.4.2). It
// is ours because golang.org/x/mod's CheckTree does not return for sizes above 2^62.
func checkConsistency(proof []tlog.Hash, old, size int64, oldRoot, root tlog.Hash) error {
	if old == size {
		switch {
		case oldRoot != root:
			return errRoot
		case len(proof) != 0:
			return errSameProof
		}
		return nil
	}
	if old <= 0 || old > size {
		return errProof
	}
	if old&(old-1) == 0 { // the old tree is one node of the new one
		proof = append([]tlog.Hash{oldRoot}, proof...)
	}
	if len(proof) == 0 {
		return errProof
	}
	fn, sn := old-1, size-1
	for fn&1 == 1 {
		fn, sn = fn>>1, sn>>1
	}
	fr, sr := proof[0], proof[0]
	for _, c := range proof[1:] {
		if sn == 0 {
			return errProof
		}
		if fn&1 == 1 || fn == sn {
			fr, sr = tlog.NodeHash(c, fr), tlog.NodeHash(c, sr)
			for fn&1 == 0 && fn != 0 {
				fn, sn = fn>>1, sn>>1
			}
		} else {
			sr = tlog.NodeHash(sr, c)
		}
		fn, sn = fn>>1, sn>>1
	}
	if fr != oldRoot || sr != root || sn != 0 {
		return errProof
	}
	return nil
}
