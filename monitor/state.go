package monitor

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/transparency-dev/merkle/compact"
	"github.com/transparency-dev/merkle/rfc6962"

	"tallywood/monitor/rule"
	"tallywood/witness/policy"
)

const (
	stateVersion = 2    // 1 had no book; it is read as one in which nothing is
	maxRaised    = 256  // IDs of events about the log that are remembered
	maxAlerts    = 20   // newest events kept for people to look at
	maxFailures  = 64   // deliveries given up of which the event is kept
	maxSummary   = 4096 // bytes of the summary of an event about the log
	maxError     = 256  // bytes kept of why a delivery failed
	maxStateSize = 64 << 20
)

var ranges = compact.RangeFactory{Hash: rfc6962.DefaultHasher.HashChildren}

// The state of one log: one object, swapped as a whole. A value is never changed once it is in the
// journal; see clone.
type state struct {
	Version int    `json:"v"`
	Seq     int64  `json:"seq"`    // grows with every write
	Writer  string `json:"writer"` // random, of the monitor that wrote it
	Origin  string `json:"origin"`
	VKey    string `json:"vkey"`
	Kind    Kind   `json:"kind"`

	Checkpoint string    `json:"checkpoint"`        // newest verified note; empty: none yet
	Next       int64     `json:"next"`              // entries below it have been matched
	Range      []string  `json:"range"`             // compact range of [0, Next), hex
	Book       rule.Book `json:"book"`              // what the rules remember of the entries below Next
	Usage      Usage     `json:"usage"`             // what is shown of them
	Waiting    []waiting `json:"waiting,omitempty"` // entries that something may explain yet

	Signed  map[string]*signed  `json:"signed,omitempty"`  // by identity, for id.missing
	Decided map[string][]string `json:"decided,omitempty"` // by identity, marks of authorized digests that are not missing, or are told

	Raised  []string  `json:"raised,omitempty"`  // IDs of events about the log, newest last
	Claims  []string  `json:"claims,omitempty"`  // signed notes still to be held against the tree
	Down    time.Time `json:"down,omitzero"`     // since when the log has not answered
	Blind   time.Time `json:"blind,omitzero"`    // since when authorizations cannot be used
	Behind  time.Time `json:"behind,omitzero"`   // since when there have always been entries to match
	Outbox  []pending `json:"outbox,omitempty"`  // events not with all their sinks
	Parcels []parcel  `json:"parcels,omitempty"` // events held back, to be sent as one
	Paces   []pace    `json:"paces,omitempty"`   // how many were sent one by one lately

	Taken  map[string][]string `json:"taken,omitempty"`  // of the shared state: IDs of what each log handed over last, by log and sink
	Handed map[string]int64    `json:"handed,omitempty"` // by sink, the Seq of the shared state with what the log handed over last

	Alerts   []Event   `json:"alerts,omitempty"`   // newest events, newest last
	GivenUp  int64     `json:"given_up,omitempty"` // deliveries given up and not acknowledged
	Failures []Failure `json:"failures,omitempty"` // some of them, newest last

	Roster *known `json:"roster,omitempty"` // of a Roster's state, which has no log

	Witnesses map[string]time.Time `json:"witnesses,omitempty"` // when each was last seen to cosign, about

	bytes int // as encoded when it was last read or written
}

// A Failure is a delivery that was given up: the sink will not get the event any more.
type Failure struct {
	Event Event     `json:"event"`
	Sink  string    `json:"sink"`
	Time  time.Time `json:"time"`  // when it was given up, UTC
	Error string    `json:"error"` // why, one line, safe to print
}

// A pending event and the sinks that have not taken it.
type pending struct {
	Event Event              `json:"event"`
	Sinks map[string]attempt `json:"sinks"`
}

// An attempt is how far the delivery of an event to a sink has come.
type attempt struct {
	Held  bool      `json:"held,omitempty"` // it was held back, and is no more
	Tries int       `json:"tries,omitempty"`
	Since time.Time `json:"since,omitzero"` // first try
	Due   time.Time `json:"due,omitzero"`   // next try
	Error string    `json:"error,omitempty"`
}

// clone returns a copy that may be changed, events excepted.
func (s *state) clone() *state {
	c := *s
	c.Range = slices.Clone(s.Range)
	c.Waiting = slices.Clone(s.Waiting)
	c.Signed = cloneSigned(s.Signed)
	c.Raised = slices.Clone(s.Raised)
	c.Claims = slices.Clone(s.Claims)
	c.Alerts = slices.Clone(s.Alerts)
	c.Failures = slices.Clone(s.Failures)
	c.Usage = s.Usage.clone()
	c.Parcels, c.Paces, c.Taken = cloneParcels(s.Parcels), slices.Clone(s.Paces), maps.Clone(s.Taken)
	c.Handed = maps.Clone(s.Handed)
	c.Outbox = slices.Clone(s.Outbox)
	for i, p := range c.Outbox {
		c.Outbox[i].Sinks = maps.Clone(p.Sinks)
	}
	return &c
}

// queue adds e for the sinks named.
func (s *state) queue(e Event, sinks []string) {
	if n := len(s.Raised) - maxRaised; n > 0 {
		s.Raised = slices.Delete(s.Raised, 0, n)
	}
	s.Alerts = append(s.Alerts, e)
	if n := len(s.Alerts) - maxAlerts; n > 0 {
		s.Alerts = slices.Delete(s.Alerts, 0, n)
	}
	if len(sinks) == 0 {
		return
	}
	p := pending{Event: e, Sinks: map[string]attempt{}}
	for _, name := range sinks {
		p.Sinks[name] = attempt{}
	}
	s.Outbox = append(s.Outbox, p)
}

// giveUp notes that sink will not get e. Of more failures than are kept the count goes on, and the
// events of the least severity go first.
func (s *state) giveUp(e Event, sink, why string) {
	s.GivenUp++
	s.Failures = append(s.Failures, Failure{e, sink, time.Now().UTC(), why})
	if len(s.Failures) <= maxFailures {
		return
	}
	least := 0
	for i, f := range s.Failures {
		if f.Event.Severity < s.Failures[least].Event.Severity {
			least = i
		}
	}
	s.Failures = slices.Delete(s.Failures, least, least+1)
}

// compactRange returns the compact range of [0, Next).
func (s *state) compactRange() (*compact.Range, error) {
	hashes := make([][]byte, len(s.Range))
	for i, h := range s.Range {
		b, err := hex.DecodeString(h)
		if err != nil || len(b) != 32 {
			return nil, fmt.Errorf("hash %d of the compact range is not a SHA-256 in hex", i)
		}
		hashes[i] = b
	}
	return ranges.NewRange(0, uint64(s.Next), hashes)
}

// advance moves the position to the end of r.
func (s *state) advance(r *compact.Range) {
	s.Next = int64(r.End())
	s.Range = make([]string, 0, len(r.Hashes()))
	for _, h := range r.Hashes() {
		s.Range = append(s.Range, hex.EncodeToString(h))
	}
}

// fits returns an error unless position and range belong to the state's checkpoint, opened.
func (s *state) fits(cp policy.Checkpoint) error {
	if s.Next > cp.Size() {
		return fmt.Errorf("position %d is beyond its checkpoint of size %d", s.Next, cp.Size())
	}
	r, err := s.compactRange()
	if err != nil || s.Next < cp.Size() || s.Next == 0 {
		return err
	}
	root, err := r.GetRootHash(nil)
	if err == nil && [32]byte(root) != cp.Root() {
		err = errors.New("its compact range does not make the root of its checkpoint")
	}
	return err
}

func (s *state) encode() ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	err := enc.Encode(s)
	return b.Bytes(), err
}

// decodeState reads a state object, strictly: one that this program did not write is damage.
func decodeState(data []byte) (*state, error) {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	s := &state{}
	if err := dec.Decode(s); err != nil {
		return nil, fmt.Errorf("decoding state: %w", err)
	}
	if dec.More() {
		return nil, errors.New("decoding state: data after the object")
	}
	switch {
	case s.Version < 1 || s.Version > stateVersion:
		return nil, fmt.Errorf("state has version %d, this program knows %d and earlier", s.Version, stateVersion)
	case s.Seq < 1 || s.Next < 0:
		return nil, errors.New("state has a negative number")
	case s.Next > 0 && s.Checkpoint == "":
		return nil, errors.New("state has a position and no checkpoint")
	}
	if _, err := s.compactRange(); err != nil {
		return nil, fmt.Errorf("decoding state: %w", err)
	}
	s.Version, s.bytes = stateVersion, len(data)
	return s, nil
}

// waitingFor adds to waiting how many events each sink has not taken.
func (s *state) waitingFor(waiting map[string]int) {
	for _, p := range s.Outbox {
		for sink := range p.Sinks {
			waiting[sink]++
		}
	}
	for _, p := range s.Parcels {
		waiting[p.Sink] += p.Count
	}
}
