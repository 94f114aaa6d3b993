package duplicates

import (
	"encoding/binary"
	"math/bits"
)

// filterBits is how many bits of a filter there are for each key. One key in about fifty that a run
// has not got passes its filter all the same.
const filterBits = 10

// A filter is a blocked Bloom filter: it knows for certain of some keys that they were not added. All
// bits of a key are in one block of 64 bytes, a cache line. Keys are hashes already: they say themselves
// which bits.
type filter []byte

const blockBytes = 64

func newFilter(keys int64) filter {
	return make(filter, (keys*filterBits/8/blockBytes+1)*blockBytes)
}

// block returns the block of key, and which bits of it are the key's, nine bits for each.
func (f filter) block(key *[32]byte) (block []byte, places uint64) {
	n, _ := bits.Mul64(binary.BigEndian.Uint64(key[8:]), uint64(len(f)/blockBytes))
	return f[n*blockBytes:][:blockBytes], binary.BigEndian.Uint64(key[16:])
}

const bitsOfKey = 6

func (f filter) add(key *[32]byte) {
	block, places := f.block(key)
	for range bitsOfKey {
		block[places%512/8] |= 1 << (places % 8)
		places >>= 9
	}
}

// mayHave reports false only if key was not added.
func (f filter) mayHave(key *[32]byte) bool {
	block, places := f.block(key)
	for range bitsOfKey {
		if block[places%512/8]&(1<<(places%8)) == 0 {
			return false
		}
		places >>= 9
	}
	return true
}
