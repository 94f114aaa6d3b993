package faultbucket

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"tallywood/storage"
)

// A Mode says what a fault does to the operation it falls on.
type Mode int

// The modes. All but None, Again and Cut make the operation return an error that wraps ErrInjected.
const (
	None       Mode = iota // the operation goes through
	Fail                   // not applied
	Lose                   // applied, the response lost
	Late                   // not applied now, but when Land is called; a Get, List or Sync just fails
	Crash                  // not applied; every later operation fails with ErrCrashed
	CrashAfter             // applied, the response lost; every later operation fails with ErrCrashed

	// Unsynced applies a Put or Delete, fails, and leaves it to Crash to take it back: unless a later
	// Put or Delete in the same directory, or a Sync of that, went through. Others just fail.
	Unsynced
	// Broken is Unsynced of a store that from then on takes no Put, Delete or Sync. The errors say
	// so by a method Unusable, which returns true.
	Broken

	// Refuse applies a Put and fails with storage.ErrPrecondition: what a store answers to the
	// repetition of a request whose first answer was lost. An operation without condition just loses
	// its response.
	Refuse
	Hang      // not applied, and no answer until the context ends or the client gives up
	HangAfter // applied, and then no answer
	Again     // goes through; Land applies a Put or Delete once more, as a network that repeats it
	// Cut lets a Get return the first half of what it should, without an error, which no Bucket may do.
	// Others go through.
	Cut
)

// hangLimit is when a client gives up that waits for an answer.
const hangLimit = 30 * time.Second

var modeNames = [...]string{"none", "fail", "lose", "late", "crash", "crash after", "unsynced", "broken", "refuse", "hang", "hang after", "again", "cut"}

// String returns the mode in lower-case words, for the names of subtests.
func (m Mode) String() string {
	if m < 0 || int(m) >= len(modeNames) {
		return fmt.Sprintf("mode %d", int(m))
	}
	return modeNames[m]
}

// A Kind is the method an operation calls.
type Kind string

// The kinds of operation.
const (
	Get    Kind = "get"
	Put    Kind = "put"
	Delete Kind = "delete"
	List   Kind = "list"
	Sync   Kind = "sync"
)

// An Op is one operation that a Bucket has seen.
type Op struct {
	N    int               // its number, from 0
	Kind Kind              // what it does
	Key  string            // its key; List: the prefix; Sync: the prefixes, separated by spaces
	If   storage.Condition // Put: its condition
	Mode Mode              // the fault planned for it
}

// On returns a matcher for the operations of kind on keys that begin with prefix.
// The empty kind stands for every kind.
func On(kind Kind, prefix string) func(Op) bool {
	return func(op Op) bool {
		return (kind == "" || op.Kind == kind) && strings.HasPrefix(op.Key, prefix)
	}
}

// keep is the mode of a rule that leaves the mode to the other rules.
const keep Mode = -1

// A rule is one line of the plan. Of the rules that have a mode for an operation the newest decides;
// their delays add up.
type rule func(Op) (Mode, time.Duration)

// A plan numbers the operations of one Bucket or several, and says which of them fail.
type plan struct {
	mu    sync.Mutex // guards the fields below
	rules []rule
	ops   []Op
}

// FailAt plans mode for operation n.
func (b *Bucket) FailAt(n int, mode Mode) {
	b.FailWhen(func(op Op) bool { return op.N == n }, mode)
}

// FailWhen plans mode for every later operation that match accepts. match is called once for each
// operation, one at a time, and must not call the Bucket. A newer plan overrides an older one, so
// FailWhen(match, None) exempts.
func (b *Bucket) FailWhen(match func(Op) bool, mode Mode) {
	b.plan.add(func(op Op) (Mode, time.Duration) {
		if match(op) {
			return mode, 0
		}
		return keep, 0
	})
}

// FailAs plans for every later operation the mode that decide returns, which is called as the
// function of FailWhen is.
func (b *Bucket) FailAs(decide func(Op) Mode) {
	b.plan.add(func(op Op) (Mode, time.Duration) { return decide(op), 0 })
}

// DelayWhen delays every later operation that match accepts by d, or until its context ends, before
// anything else happens to it.
func (b *Bucket) DelayWhen(match func(Op) bool, d time.Duration) {
	b.plan.add(func(op Op) (Mode, time.Duration) {
		if match(op) {
			return keep, d
		}
		return keep, 0
	})
}

func (p *plan) add(r rule) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rules = append(p.rules, r)
}

// Heal drops all plans. A crashed Bucket stays crashed.
func (b *Bucket) Heal() {
	b.plan.mu.Lock()
	defer b.plan.mu.Unlock()
	b.plan.rules = nil
}

// Ops returns the operations seen so far, in the order in which they began.
func (b *Bucket) Ops() []Op {
	b.plan.mu.Lock()
	defer b.plan.mu.Unlock()
	return slices.Clone(b.plan.ops)
}

// begin numbers and records op with the fault planned for it.
func (p *plan) begin(op Op) (Op, time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	op.N = len(p.ops)
	var delay time.Duration
	for _, r := range p.rules {
		mode, d := r(op)
		delay += d
		if mode != keep {
			op.Mode = mode
		}
	}
	p.ops = append(p.ops, op)
	return op, delay
}
