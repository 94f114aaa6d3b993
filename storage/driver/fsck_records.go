package driver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/transparency-dev/tessera/api/layout"

	"tallywood/storage"
)

// records verifies the records from the floor to the head, headers and entries, and the LEADER
// records below.
func (c *fsck) records(ctx context.Context) error {
	s := c.floor.state(c.ident.UUID)
	if c.pub.Size == s.size {
		c.record, c.covered = true, s.rng
	}
	var line []byte // of the record before
	var newest, below int64
	for raw, err := range inOrder(ctx, s.n, fsckRecords, c.readSlot) {
		if err != nil {
			return err
		}
		if raw == nil {
			if newest, below, err = c.listSlots(ctx); err != nil {
				return err
			}
			if raw, err = c.readSlot(ctx, s.n); err != nil {
				return err
			}
		}
		if raw == nil {
			if err := c.checkEnd(ctx, s.n, newest); err != nil {
				return err
			}
			break
		}
		if s, line, err = c.verifyRecord(ctx, s, line, raw); err != nil {
			return err
		}
		c.total.Add(1)
		c.step()
	}
	c.report.Head = s.size
	leaders, err := c.leaders(ctx)
	c.report.Leaders += leaders
	c.report.Strays = below - leaders
	return err
}

// readSlot returns the object in slot n, nil if there is none.
func (c *fsck) readSlot(ctx context.Context, n int64) ([]byte, error) {
	raw, _, err := c.l.o.Bucket.Get(ctx, c.l.slotKey(n), storage.Range{})
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading slot %d: %w", n, err)
	}
	return raw, nil
}

// checkEnd finds out whether the log ends before slot n, which is missing. newest was the last slot
// a moment ago.
func (c *fsck) checkEnd(ctx context.Context, n, newest int64) error {
	if newest < n && (n > c.floor.N || n == 0) {
		return nil
	}
	f, err := c.l.readFloor(ctx)
	if err != nil {
		return err
	}
	if f.N > n {
		return errOvertaken
	}
	return &ObjectError{c.l.slotKey(n), errMissing}
}

// listSlots returns the newest slot that a listing shows, and how many below the floor.
func (c *fsck) listSlots(ctx context.Context) (newest, below int64, err error) {
	newest = -1
	prefix := "state/" + c.l.o.Name + "/"
	for key, err := range c.l.o.Bucket.List(ctx, prefix+"log/") {
		if err != nil {
			return 0, 0, fmt.Errorf("listing the records: %w", err)
		}
		if n, ok := slotOf(strings.TrimPrefix(key, prefix)); ok {
			newest = max(newest, n)
			if n < c.floor.N {
				below++
			}
		}
	}
	return newest, below, nil
}

// verifyRecord verifies the record raw that follows s, which the header line before led to, and
// returns the state after it and its own line.
func (c *fsck) verifyRecord(ctx context.Context, s state, before, raw []byte) (state, []byte, error) {
	key := c.l.slotKey(s.n)
	h, size, err := parseHeader(raw)
	if err != nil {
		return s, nil, objectf(key, "is damaged: %w", err)
	}
	line, payload := raw[:size], raw[size:]
	if h.Type == typeBatch && s.writer == (id{}) {
		s.writer, c.writer, c.first = h.Writer, h.Writer, true // leaders compares it
	}
	next, err := s.follow(h, sum(line))
	if err != nil {
		return s, nil, c.blame(ctx, s, h, before, line, err)
	}
	if len(payload) > maxPayload || sum(payload) != h.Payload {
		return s, nil, objectf(key, "is damaged: its entries are not those of its header")
	}
	leaves, err := c.leaves(payload)
	if err != nil {
		return s, nil, objectf(key, "is damaged: %w", err)
	}
	if int64(len(leaves)) != h.Count {
		return s, nil, objectf(key, "is damaged: it has %d entries, not %d", len(leaves), h.Count)
	}
	rng := slices.Clone(s.rng)
	for i, leaf := range leaves {
		rng = appendLeaf(rng, s.size+int64(i), leaf)
	}
	if rangeRoot(rng) != h.NewRoot || !slices.Equal(rng, h.Range) {
		return s, nil, objectf(key, "is damaged: its entries do not lead to its root")
	}
	if h.NewSize == c.pub.Size {
		c.record, c.covered = true, h.Range
	}
	if h.Type == typeLeader {
		c.report.Leaders++
	}
	c.report.Records++
	return next, line, nil
}

// leaves returns the leaf hashes of the entries of a record.
func (c *fsck) leaves(payload []byte) ([][]byte, error) {
	entries, err := c.l.o.Layout.Split(payload)
	if err != nil {
		return nil, err
	}
	var out [][]byte
	for part := range slices.Chunk(entries, layout.EntryBundleWidth) {
		leaves, err := c.hashes(bytes.Join(part, nil))
		if err != nil {
			return nil, err
		}
		out = append(out, leaves...)
	}
	return out, nil
}

// blame returns which object is damaged, now that the record with header h does not follow s: the
// record, the one before it, with its header line, or what the floor or the identity says. The
// record after it knows whether h is what was written.
func (c *fsck) blame(ctx context.Context, s state, h header, before, line []byte, why error) error {
	after, _, err := c.l.readHeader(ctx, s.n+1)
	attested := err == nil && after.Prev == sum(line)
	guilty := c.l.slotKey(s.n)
	switch {
	case err == nil && !attested:
	case s.n == 0 && h.Prev != s.rec && c.isIdentity(h.Prev, attested):
		guilty = c.l.stateKey("identity")
	case s.n == 0:
	case s.n > c.floor.N && h.Prev != s.rec && (attested || oneBitOff(before, h.Prev)):
		guilty = c.l.slotKey(s.n - 1)
	case s.n > c.floor.N:
	case h.Log != s.log && attested:
		guilty = c.l.stateKey("identity")
	case h.Prev == s.rec || attested:
		guilty = c.l.stateKey("floor")
	}
	return objectf(guilty, "is damaged: %w", why)
}

// isIdentity reports whether the identity, rather than slot 0, is to blame that slot 0 names another
// hash of it.
func (c *fsck) isIdentity(want hash, attested bool) bool {
	raw, err := c.ident.encode()
	return attested || err == nil && oneBitOff(raw, want)
}

// leaders verifies the LEADER records below the floor, from the newest back to slot 0, and returns
// how many there are. Those from the floor on are among the records.
func (c *fsck) leaders(ctx context.Context) (int64, error) {
	s := c.floor.state(c.ident.UUID)
	at, above := s.leader, s.n
	for n := int64(0); ; n++ {
		if at < 0 {
			return n, nil
		}
		c.total.Add(1)
		raw, err := c.get(ctx, c.l.slotKey(at))
		if err != nil {
			return n, err
		}
		h, size, err := parseHeader(raw)
		if err == nil {
			err = c.checkLeader(h, s, at)
		}
		switch line := sum(raw[:size]); {
		case err != nil:
		case len(raw) != size:
			err = errors.New("it has entries")
		case above == at+1 && line != s.rec:
			err = errors.New("the record after it names another")
		case n == 0 && c.first && h.Writer != c.writer:
			err = errors.New("it is by another writer than the records after it")
		case at == 0 && h.Prev != c.object:
			after, _, aerr := c.l.readHeader(ctx, 1)
			if c.isIdentity(h.Prev, aerr == nil && after.Prev == line) {
				return n, objectf(c.l.stateKey("identity"), "is damaged: slot 0 names another")
			}
			err = errors.New("it names another identity")
		}
		if err != nil {
			return n, objectf(c.l.slotKey(at), "is damaged: %w", err)
		}
		s.rec, s.epoch, s.size, above, at = h.Prev, s.epoch-1, h.NewSize, at, h.Leader
		c.step()
	}
}

// checkLeader checks the header of the LEADER record in slot at, whose leadership, or that of a
// later one, led to s.
func (c *fsck) checkLeader(h header, s state, at int64) error {
	switch {
	case h.N != at:
		return fmt.Errorf("it says that it is slot %d", h.N)
	case h.Log != s.log:
		return errors.New("it belongs to another log")
	case h.Type != typeLeader:
		return fmt.Errorf("it is a %s", h.Type)
	case h.Epoch != s.epoch:
		return fmt.Errorf("it is of epoch %d, not %d", h.Epoch, s.epoch)
	case h.NewSize > s.size:
		return fmt.Errorf("it has size %d, more than later ones", h.NewSize)
	case (h.Leader < 0) != (at == 0) || (h.Epoch == 1) != (at == 0) || at == 0 && h.NewSize != 0:
		return errors.New("it does not lead back to slot 0")
	}
	return nil
}
