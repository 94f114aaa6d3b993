package driver

import (
	"errors"
	"fmt"
	"slices"
)

// A state is what a log is after its records up to slot n-1, as far as the hash chain tells.
type state struct {
	log    id
	n      int64 // the next slot
	rec    hash  // of the header line in slot n-1; with n = 0, of the identity
	size   int64
	root   hash
	rng    []hash // compact range
	epoch  int64
	leader int64 // slot of the newest LEADER; -1 without
	writer id    // whose leadership it is; unknown in a state that a floor gave
}

// after returns the state after the record with header h.
func after(h header, line hash) state {
	s := state{
		log: h.Log, n: h.N + 1, rec: line,
		size: h.NewSize, root: h.NewRoot, rng: h.Range,
		epoch: h.Epoch, leader: h.Leader, writer: h.Writer,
	}
	if h.Type == typeLeader {
		s.leader = h.N
	}
	return s
}

// follow returns the state after the record with header h, whose line has the given hash, if
// that record may follow s. It judges the header alone; see replay for the payload.
func (s state) follow(h header, line hash) (state, error) {
	err := func() error {
		switch {
		case h.N != s.n:
			return fmt.Errorf("record says it is slot %d", h.N)
		case h.Log != s.log:
			return errors.New("record belongs to another log")
		case h.Prev != s.rec:
			return errors.New("record does not chain to the one before it")
		case h.OldSize != s.size:
			return fmt.Errorf("record begins at size %d, not %d", h.OldSize, s.size)
		case h.Leader != s.leader:
			return fmt.Errorf("record names slot %d as leader, not %d", h.Leader, s.leader)
		case h.Type == typeLeader && h.Epoch != s.epoch+1, h.Type == typeBatch && h.Epoch != s.epoch:
			return fmt.Errorf("%s of epoch %d follows epoch %d", h.Type, h.Epoch, s.epoch)
		case h.Type == typeBatch && h.Writer != s.writer:
			return errors.New("record is by another writer than its leader")
		case h.Count == 0 && (h.NewRoot != s.root || !slices.Equal(h.Range, s.rng)):
			return errors.New("record without entries changes the tree")
		}
		return nil
	}()
	if err != nil {
		return state{}, fmt.Errorf("chaining slot %d: %w", s.n, err)
	}
	return after(h, line), nil
}

// leaderHeader is the LEADER record by which writer takes over from s.
func (s state) leaderHeader(writer id, url string) header {
	h := s.nextHeader(typeLeader, writer)
	h.Epoch++
	h.URL = url
	return h
}

// nextHeader is a record without entries that follows s.
func (s state) nextHeader(typ string, writer id) header {
	return header{
		V: 1, Log: s.log, N: s.n, Type: typ,
		Epoch: s.epoch, Leader: s.leader, Writer: writer, Nonce: newID(), Prev: s.rec,
		OldSize: s.size, NewSize: s.size, NewRoot: s.root, Range: s.rng, Payload: emptyHash,
	}
}
