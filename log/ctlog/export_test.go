package ctlog

import "context"

// Issue returns the time of a new SCT.
func (h *TreeHead) Issue(ctx context.Context) (int64, error) { return h.issue(ctx) }
