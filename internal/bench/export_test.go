package bench

import (
	"context"
	"time"

	"golang.org/x/mod/sumdb/tlog"
)

// Number, Percentile and CorpusBodies let tests reach the arithmetic.
var Number = number

func Percentile(sorted []time.Duration, p int) float64 { return percentile(sorted, p) }

// CorpusBodies returns the request bodies of the first n entries of a seed.
func CorpusBodies(seed uint64, kind string, n int) ([][]byte, error) {
	c, err := newCorpus(seed, kind)
	if err != nil {
		return nil, err
	}
	if err := c.prepare(context.Background(), n/2); err != nil { // the rest is signed on demand
		return nil, err
	}
	var bodies [][]byte
	for i := range int64(n) {
		bodies = append(bodies, c.entry(i).json())
	}
	return bodies, nil
}

// SetFillBatch makes n how many entries of a filled log are a record, until restore.
func SetFillBatch(n int64) (restore func()) {
	old := fillBatch
	fillBatch = n
	return func() { fillBatch = old }
}

// ReplyIndex is what a reply's index is taken for.
var ReplyIndex = replyIndex

// EqualRoot and EqualProof are of the tree whose entries are all the same.
func EqualRoot(size int64) tlog.Hash { return equalEntries.root(size) }

func EqualProof(old, size int64) tlog.TreeProof { return equalEntries.proof(old, size) }
