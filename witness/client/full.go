package client

import "time"

// fullest is for how long a checkpoint stays the fullest one while newer ones have fewer
// cosignatures: a slow witness needs that long, and one that is away must not hold it back.
const fullest = 30 * time.Second

// A cosigned is what has come of the rounds of one log that met the quorum.
type cosigned struct {
	newest *round
	full   *round // of the newest ones that with the most cosignatures; never smaller than it was
	since  time.Time
}

// Full returns a checkpoint of the log of this origin that satisfies the policy, with all the
// cosignatures that have come, after the quorum too, and of witnesses that do not count towards it. It may be smaller than the newest: than one that
// fewer witnesses have cosigned yet. It is never smaller than it was. Nil if there is none.
func (c *Client) Full(origin string) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	f := c.cosigned[origin]
	if f == nil {
		return nil
	}
	if c.now().Sub(f.since) > fullest && f.newest != f.full && f.newest.tree.Size >= f.full.tree.Size {
		f.full, f.since = f.newest, c.now()
	}
	return c.assemble(f.full, true)
}

// consider notes that r has got cosignatures, for Full. The caller holds c.mu.
func (c *Client) consider(r *round) {
	if !c.policy.Satisfied(func(name string) bool { return r.cosignatures[name].line != "" }) {
		return
	}
	f := c.cosigned[r.tree.Origin]
	if f == nil {
		c.cosigned[r.tree.Origin] = &cosigned{newest: r, full: r, since: c.now()}
		return
	}
	if r.number > f.newest.number {
		close(f.newest.outdone)
		f.newest = r
	}
	if r.tree.Size >= f.full.tree.Size && len(r.cosignatures) >= len(f.full.cosignatures) && r.number >= f.full.number {
		f.full, f.since = r, c.now()
	}
}
