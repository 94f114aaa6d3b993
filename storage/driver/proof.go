package driver

import (
	"context"
	"fmt"

	"github.com/transparency-dev/merkle/proof"
)

// InclusionProof returns the inclusion proof of the entry at index in the tree of size, which
// must be committed. Its hashes come from memory, or from tiles that were checked against it.
func (l *Log) InclusionProof(ctx context.Context, index, size int64) ([][]byte, error) {
	if head, _ := l.Head(); index < 0 || index >= size || size > head {
		return nil, fmt.Errorf("proving entry %d in size %d: the log has %d", index, size, head)
	}
	nodes, err := proof.Inclusion(uint64(index), uint64(size))
	if err != nil {
		return nil, fmt.Errorf("proving entry %d in size %d: %w", index, size, err)
	}
	hashes, err := l.prove(ctx, nodes)
	if err != nil {
		return nil, fmt.Errorf("proving entry %d in size %d: %w", index, size, err)
	}
	return hashes, nil
}

// ConsistencyProof returns the consistency proof between the trees of oldSize and size, which
// must be committed. From size 0 or to the same size it is empty.
func (l *Log) ConsistencyProof(ctx context.Context, oldSize, size int64) ([][]byte, error) {
	if head, _ := l.Head(); oldSize < 0 || oldSize > size || size > head {
		return nil, fmt.Errorf("proving size %d in size %d: the log has %d", oldSize, size, head)
	}
	nodes, err := proof.Consistency(uint64(oldSize), uint64(size))
	if err != nil {
		return nil, fmt.Errorf("proving size %d in size %d: %w", oldSize, size, err)
	}
	hashes, err := l.prove(ctx, nodes)
	if err != nil {
		return nil, fmt.Errorf("proving size %d in size %d: %w", oldSize, size, err)
	}
	return hashes, nil
}

// prove fetches the nodes of a proof.
func (l *Log) prove(ctx context.Context, nodes proof.Nodes) ([][]byte, error) {
	hashes := make([]hash, len(nodes.IDs))
	out := make([][]byte, len(nodes.IDs))
	for i, id := range nodes.IDs {
		h, err := l.tree.node(ctx, id)
		if err != nil {
			return nil, err
		}
		hashes[i] = h
		out[i] = hashes[i][:]
	}
	return nodes.Rehash(out, hashChildren)
}
