package driver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/transparency-dev/tessera"
	"github.com/transparency-dev/tessera/ctonly"
)

// lookInterval is how often a standby looks at the bucket's checkpoint.
const lookInterval = time.Second

// findInterval is how long FindLeader believes what it found in the bucket.
const findInterval = 100 * time.Millisecond

// A Replica is one process's part in a log that any number of them may run on one bucket: one
// leads, the others stand by and take over when it is gone (storage-protocol section 4). Standing
// by it shows the log as the bucket's checkpoint has it. All methods may be called concurrently.
type Replica struct {
	o        Options
	identity identity
	object   hash // of the identity object

	mu      sync.Mutex
	changed chan struct{} // closed and replaced when the role changes
	log     *Log          // the present leadership, or what the bucket's checkpoint shows
	term    int64         // counts this process's leaderships; 0: it has not led yet
	leading bool
	leader  Leader  // whom a standby last heard of
	idle    error   // why nobody is known to lead
	frozen  *Frozen // the end of the log, nil while it may grow

	finding sync.Mutex // guards what follows
	finder  *watch
	found   time.Time // when finder has looked
	findErr error     // what came of it
}

// A Leader is where writes go.
type Leader struct {
	URL    string // "" if it is not known
	Writer string // of its LEADER record, hex
}

// OpenReplica opens the log, creating it if the bucket has none, and verifies its checkpoint and
// the tiles at its right edge. It starts nothing and writes nothing but a new log's first objects.
// Errors are those of Open.
func OpenReplica(ctx context.Context, o Options) (*Replica, error) {
	l, err := newLog(o)
	if err != nil {
		return nil, err
	}
	r := &Replica{o: l.o, changed: make(chan struct{}), idle: errors.New("no leader is known yet")}
	if err := r.open(ctx, l); err != nil {
		return nil, fmt.Errorf("opening log %q: %w", l.o.Name, err)
	}
	return r, nil
}

func (r *Replica) open(ctx context.Context, l *Log) (err error) {
	if r.identity, r.object, err = l.init(ctx); err != nil {
		return err
	}
	r.log = l
	for wait := (backoff{}); ; {
		if err = r.look(ctx); !errors.Is(err, errOvertaken) || !wait.sleep(ctx) {
			break
		}
	}
	if err != nil {
		return err
	}
	frozen, err := l.readFrozen(ctx, r.identity.UUID)
	r.sawFrozen(frozen)
	return err
}

// look brings what a standby shows to the bucket's checkpoint.
func (r *Replica) look(ctx context.Context) error {
	l, err := newLog(r.o)
	if err != nil {
		return err
	}
	before := r.current()
	shown, ok := before.Published()
	stored := before.hasStored()
	pub, found, err := l.readCheckpoint(ctx)
	switch {
	case err != nil:
		return err
	case stored && !found:
		return damagef("the checkpoint of size %d is gone", shown.Size)
	case ok && found && shown.Size == pub.Size && shown.Root == pub.Root:
		r.renew(before, pub)
		return nil
	case ok && found && shown.Size == pub.Size:
		return damagef("the stored checkpoint has another root at size %d than it had", pub.Size)
	case ok && (!found || shown.Size > pub.Size):
		return nil // smaller, or of a leadership of our own that the bucket does not show yet
	}
	l.tree, l.bundles = newTree(l.readTile), newBundles()
	l.published, l.found = pub, found
	if !found {
		pub.Root = emptyHash
	} else if err := l.readEdge(ctx, state{size: pub.Size, root: pub.Root}); err != nil {
		return err
	}
	l.head = l.snapshot(0, pub.Size, pub.Root)
	if found {
		l.setStored(pub)
	}
	r.show(l)
	return nil
}

// renew takes over what l, which a standby shows, has in the bucket under another signing of the same
// tree: an idle log is cosigned anew now and then, by which readers see that it lives.
func (r *Replica) renew(l *Log, p Published) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.leading || r.log != l {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if !bytes.Equal(l.published.Note, p.Note) {
		l.published.Note, l.published.Time = p.Note, p.Time
	}
}

// keepLooking keeps what a standby shows up with the bucket until stop, which waits for its end.
func (r *Replica) keepLooking(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var looking sync.WaitGroup
	looking.Go(func() {
		for pause(ctx, lookInterval) {
			if _, leading, _ := r.Term(); leading || r.showsEnd() {
				continue
			}
			if err := r.look(ctx); err != nil && ctx.Err() == nil {
				r.o.Log.WarnContext(ctx, "reading the published log", "origin", r.o.Origin, "err", err)
			}
		}
	})
	return func() {
		cancel()
		looking.Wait()
	}
}

// show makes l what a standby shows, unless a leadership that came and went meanwhile has more.
func (r *Replica) show(l *Log) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if p, ok := r.log.Published(); !r.leading && (!ok || p.Size <= l.published.Size) {
		r.log = l
	}
}

func (r *Replica) current() *Log {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.log
}

// Run takes part until ctx ends: it stands by, leads while nobody else does, and hands over at the
// end. While the log is frozen nobody leads. It returns nil at the end, and an error if this process
// must not take part: a *DamageError when the bucket holds what must not be there. Run may be called once.
func (r *Replica) Run(ctx context.Context) error {
	stopLooking := r.keepLooking(ctx)
	defer stopLooking()
	w := newWatch(r)
	defer w.close()
	for {
		l, err := r.takeOver(ctx, w)
		if err != nil || l == nil {
			return err
		}
		letGo := w.keepHolding(ctx)
		err = l.Run(ctx)
		letGo()
		r.standBy(l.ended)
		switch goesOn := err == nil || errors.Is(err, ErrNotLeading) || errors.Is(err, ErrFrozen); {
		case !goesOn:
			return err
		case ctx.Err() != nil:
			return nil
		}
		if l.ended == nil {
			r.o.Log.WarnContext(ctx, "standing by", "origin", r.o.Origin, "err", err)
		}
		w.deposed()
	}
}

// takeOver waits until there is reason to lead and returns the leadership, or nil when ctx ends.
func (r *Replica) takeOver(ctx context.Context, w *watch) (*Log, error) {
	var wait backoff
	for w.wait(ctx) {
		l, err := r.attempt(ctx, w.at)
		if err == nil {
			err = r.lead(l)
		}
		var damage *DamageError
		switch {
		case err == nil:
			return l, nil
		case ctx.Err() != nil:
			return nil, nil
		case errors.As(err, &damage), unusable(err), errors.Is(err, ErrFormat), errors.Is(err, ErrOtherLog):
			return nil, fmt.Errorf("taking over log %q: %w", r.o.Name, err)
		case errors.Is(err, errOvertaken):
			w.reset()
			wait = backoff{}
		default:
			w.close() // others may do better, and need not wait
			r.explain(err)
			r.o.Log.WarnContext(ctx, "taking over", "origin", r.o.Origin, "err", err)
		}
		if !wait.sleep(ctx) {
			break
		}
	}
	return nil, nil
}

// attempt is one attempt at leadership after what was seen, with a writer of its own.
func (r *Replica) attempt(ctx context.Context, seen state) (*Log, error) {
	l, err := newLog(r.o)
	if err != nil {
		return nil, err
	}
	if err := l.syncAll(ctx); err != nil {
		return nil, err
	}
	if err := l.takeOver(ctx, r.identity.UUID, r.object, &seen); err != nil {
		return nil, err
	}
	// A process that was stopped meanwhile may have an old state, but not one older than what it showed.
	if p, _ := r.Published(); p.Size > l.head.size {
		err := damagef("rolled back: size %d was published, but the bucket has only %d", p.Size, l.head.size)
		return nil, l.refuse(ctx, err, l.state.n, -1)
	}
	return l, nil
}

// lead makes l what this replica is. A standby may have shown a newer checkpoint than the one takeover
// read; what is shown never shrinks.
func (r *Replica) lead(l *Log) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if p, ok := r.log.Published(); ok && p.Size > l.published.Size {
		if p.Size > l.head.size {
			return errOvertaken // shown since attempt looked
		}
		p.round, p.slot = 0, 0 // of a leadership that has ended
		l.announce(p)
	}
	r.log, r.leading, r.idle, r.frozen = l, true, nil, nil
	r.term++
	r.leader = Leader{URL: r.o.URL, Writer: l.writer.String()}
	close(r.changed)
	r.changed = make(chan struct{})
	return nil
}

// standBy ends a leadership, which may have been the log's last. What it published is shown until the
// bucket shows as much.
func (r *Replica) standBy(frozen *Frozen) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.frozen = frozen
	r.leading, r.leader, r.idle = false, Leader{}, errors.New("no leader is known yet")
	close(r.changed)
	r.changed = make(chan struct{})
}

func (r *Replica) explain(err error) { r.setLeader(Leader{}, err) }

// setLeader notes whom a standby knows to lead, or why it knows nobody.
func (r *Replica) setLeader(leader Leader, idle error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.leading {
		r.leader, r.idle = leader, idle
	}
}

// Term returns how many leaderships this process has begun, whether it is in one, and a channel
// that is closed when that changes.
func (r *Replica) Term() (n int64, leading bool, changed <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.term, r.leading, r.changed
}

// Admits reports whether this process leads and admits adds, or refuses them for a while only: not
// before its leadership has begun, nor while it drains at its end.
func (r *Replica) Admits() bool {
	l, leading := r.role()
	return leading && l.admits()
}

func (r *Replica) role() (l *Log, leading bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.log, r.leading
}

// Leader returns the replica that is known to lead, or why none is.
func (r *Replica) Leader() (Leader, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.leader, r.idle
}

// FindLeader is Leader, and looks into the bucket if Run does not know: after its end, for requests
// that are still to be passed on.
func (r *Replica) FindLeader(ctx context.Context) (Leader, error) {
	if leader, err := r.Leader(); err == nil {
		return leader, nil
	}
	r.finding.Lock()
	defer r.finding.Unlock()
	if r.finder == nil {
		r.finder = newWatch(r)
	}
	if time.Since(r.found) >= findInterval { // many requests may wait for a leader
		_, err := r.finder.frozen(ctx)
		if err == nil {
			err = r.finder.look(ctx)
		}
		if err != nil && ctx.Err() != nil { // that says nothing to others
			return Leader{}, fmt.Errorf("looking for the leader: %w", context.Cause(ctx))
		}
		r.findErr, r.found = err, time.Now()
	}
	if r.findErr != nil {
		return Leader{}, fmt.Errorf("looking for the leader: %w", r.findErr)
	}
	if r.finder.end || r.finder.leader.Writer == "" {
		return Leader{}, errors.New("the last leader has left")
	}
	return r.finder.leader, nil
}

// Frozen returns the end of the log, nil as long as this replica knows of none.
func (r *Replica) Frozen() *Frozen {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.frozen
}

// sawFrozen notes what a standby has seen. A leader has looked later.
func (r *Replica) sawFrozen(f *Frozen) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.leading {
		r.frozen = f
	}
}

// showsEnd reports whether the log is frozen and all of it is shown.
func (r *Replica) showsEnd() bool {
	f := r.Frozen()
	if f == nil {
		return false
	}
	p, ok := r.Published()
	return ok && p.Size >= f.Size
}

// Freeze asks that the log be frozen; see the function of that name. If this replica leads it begins
// at once.
func (r *Replica) Freeze(ctx context.Context, next Successor) error {
	l, _ := r.role()
	if err := l.askToFreeze(ctx, r.identity.UUID, next); err != nil {
		return err
	}
	select {
	case l.nudged <- struct{}{}:
	default:
	}
	return nil
}

// Add is Log.Add; a standby fails with ErrNotLeading, and of a frozen log every replica with ErrFrozen.
func (r *Replica) Add(ctx context.Context, e *tessera.Entry) tessera.IndexFuture {
	if r.Frozen() != nil {
		return failed(ErrFrozen)
	}
	return r.current().Add(ctx, e)
}

// AddCT is Log.AddCT; otherwise as Add.
func (r *Replica) AddCT(ctx context.Context, e *ctonly.Entry) tessera.IndexFuture {
	if r.Frozen() != nil {
		return failed(ErrFrozen)
	}
	return r.current().AddCT(ctx, e)
}

// Await is Log.Await.
func (r *Replica) Await(ctx context.Context, size int64) (Published, error) {
	return r.current().Await(ctx, size)
}

// Head is Log.Head; of a standby, the size and root of the bucket's checkpoint.
func (r *Replica) Head() (size int64, root [32]byte) { return r.current().Head() }

// Published is Log.Published; of a standby, the bucket's checkpoint.
func (r *Replica) Published() (Published, bool) { return r.current().Published() }

// OldestUnpublished is Log.OldestUnpublished; a standby knows of none.
func (r *Replica) OldestUnpublished() (time.Time, bool) { return r.current().OldestUnpublished() }

// InclusionProof is Log.InclusionProof.
func (r *Replica) InclusionProof(ctx context.Context, index, size int64) ([][]byte, error) {
	return r.current().InclusionProof(ctx, index, size)
}

// ConsistencyProof is Log.ConsistencyProof.
func (r *Replica) ConsistencyProof(ctx context.Context, oldSize, size int64) ([][]byte, error) {
	return r.current().ConsistencyProof(ctx, oldSize, size)
}

// Entry is Log.Entry.
func (r *Replica) Entry(ctx context.Context, index int64) ([]byte, error) {
	return r.current().Entry(ctx, index)
}
