// Package bench measures servers from outside, ours and others' alike, and by the same rules.
//
// [Log] posts hashedrekord entries to a log that speaks the Rekor v2 write API, in a closed loop: a
// fixed number of connections, each with one request under way; or in an open one: at a fixed rate,
// whether or not the requests before have ended. The entries are signed beforehand, the connections are
// bare TCP, and replies are checked fully only after the clock has stopped, so that the load costs
// little beside the server on the same machine. Wrong answers do not count: an index given twice, or an
// inclusion proof that does not verify, fails the whole run.
//
// [Compare] measures two such servers in turns. On a noisy machine the ratio of two runs side by
// side says more than either number. [Floor] measures what no log can be faster than. [Witness] and
// [CompareWitnesses] do for servers of c2sp.org/tlog-witness what Log and Compare do for logs.
package bench

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"tallywood/witness/policy"
)

// LogOptions say what to load and how. All fields but URL may be zero.
type LogOptions struct {
	URL         string        // of the log: /api/v2/log/entries is appended
	Concurrency int           // connections; default 1, with Rate 1024
	Rate        float64       // requests a second, evenly; default 0: the next when one has ended
	Duration    time.Duration // of the measurement; default 10 s
	Count       int           // end the measurement after so many entries; default: no limit
	Warmup      time.Duration // of load before it; default 1 s
	Timeout     time.Duration // of one request; default 30 s

	// Seed picks the corpus. The same seed posts the same entries, which a log that has them
	// already does not add again. Default 0: a random one.
	Seed uint64
	// Known is how many entries the log has from Fill with the same seed, 0 by default then. Seven of
	// eight requests repeat one of them at random, which must get the index that it has.
	Known int64
	// Corpus is Keys or Certificates. Default Keys.
	Corpus string
	// Sample is how many replies there are to one that is checked fully. Default 64, and more if
	// that would be more than 16,384 of them at Rate.
	Sample int
	// Policy, if set, must be satisfied by the checkpoint of every checked reply.
	Policy *policy.Policy
	// PID is the server's process on this machine, for its use of CPU, memory and disk; Linux
	// only. Default 0: not looked at.
	PID int

	Log *slog.Logger // progress; default: discard
}

func (o *LogOptions) init() error {
	var errs []error
	if u, err := url.Parse(o.URL); err != nil {
		errs = append(errs, fmt.Errorf("%w: URL: %w", ErrOptions, err))
	} else if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		errs = append(errs, fmt.Errorf("%w: URL %q is not an http or https address", ErrOptions, o.URL))
	}
	for name, v := range map[string]int64{
		"Concurrency": int64(o.Concurrency), "Duration": int64(o.Duration), "Count": int64(o.Count),
		"Warmup": int64(o.Warmup), "Timeout": int64(o.Timeout), "Sample": int64(o.Sample), "PID": int64(o.PID),
		"Known": o.Known,
	} {
		if v < 0 {
			errs = append(errs, fmt.Errorf("%w: %s is negative", ErrOptions, name))
		}
	}
	if o.Rate < 0 {
		errs = append(errs, fmt.Errorf("%w: Rate is negative", ErrOptions))
	}
	if o.Rate > 0 {
		or(&o.Concurrency, 1024)
	}
	or(&o.Concurrency, 1)
	or(&o.Duration, 10*time.Second)
	or(&o.Warmup, time.Second)
	or(&o.Timeout, 30*time.Second)
	or(&o.Sample, max(64, int(o.Rate*o.Duration.Seconds()/maxChecked)))
	or(&o.Corpus, Keys)
	if o.Corpus != Keys && o.Corpus != Certificates {
		errs = append(errs, fmt.Errorf("%w: Corpus %q is neither %q nor %q", ErrOptions, o.Corpus, Keys, Certificates))
	}
	if o.Seed == 0 && o.Known == 0 {
		var b [8]byte
		rand.Read(b[:]) // never fails
		o.Seed = binary.BigEndian.Uint64(b[:])
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return errors.Join(errs...)
}

// maxChecked bounds the replies that are kept to be checked.
const maxChecked = 16384

func or[T comparable](v *T, fallback T) {
	var zero T
	if *v == zero {
		*v = fallback
	}
}

// ErrOptions is wrapped by errors about options that cannot be measured with.
var ErrOptions = errors.New("checking options")

// A WrongError reports answers that a log must not give. There is no result then.
type WrongError struct {
	Answers int   // how many were found wrong
	Err     error // what is wrong with the first
}

// Error says how many answers were wrong, and why the first was.
func (e *WrongError) Error() string {
	return fmt.Sprintf("%d wrong answers, the first: %v", e.Answers, e.Err)
}

// Unwrap returns what is wrong with the first.
func (e *WrongError) Unwrap() error { return e.Err }

// Log measures how fast a log takes entries.
func Log(ctx context.Context, o LogOptions) (Result, error) {
	if err := o.init(); err != nil {
		return Result{}, err
	}
	b, err := newLoad(o)
	if err != nil {
		return Result{}, err
	}
	defer b.close()
	o.Log.Info("warming up", "dur", o.Warmup)
	warm, err := b.run(ctx, phase{duration: o.Warmup})
	if err != nil {
		return Result{}, err
	}
	if o.Rate == 0 {
		// The rate of the warm-up says how many entries to sign beforehand; what is missing then is
		// signed between requests.
		expected := 4*o.Concurrency + int(2*o.Duration.Seconds()*float64(len(warm.replies))/warm.elapsed.Seconds())
		if o.Count > 0 {
			expected = min(expected, o.Count)
		}
		o.Log.Info("signing entries", "size", expected)
		if err := b.corpus.prepare(ctx, expected); err != nil {
			return Result{}, err
		}
	}
	before, err := readProcess(o.PID)
	if err != nil {
		return Result{}, err
	}
	o.Log.Info("measuring", "dur", o.Duration)
	resident := watchResident(o.PID)
	measured, err := b.run(ctx, phase{duration: o.Duration, count: o.Count})
	sizes := resident()
	if err != nil {
		return Result{}, err
	}
	after, err := readProcess(o.PID)
	if err != nil {
		return Result{}, err
	}
	checked, err := b.check(warm, measured)
	if err != nil {
		return Result{}, err
	}
	if len(measured.replies) == 0 {
		return Result{}, fmt.Errorf("measuring %s: no entry was accepted: %s", o.URL, describe(measured.errors))
	}
	r := newResult(o, measured, checked)
	if o.Known > 0 {
		known := slices.DeleteFunc(measured.replies, func(r reply) bool { return r.number >= o.Known })
		l := latency(sortedTimes(known))
		r.Known, r.KnownLatency = len(known), &l
	}
	if o.PID != 0 {
		r.Server = newServer(before, after, r.Entries, sizes)
	}
	return r, nil
}

// A load is a set of connections to one log, and the entries posted through them.
type load struct {
	o      LogOptions
	target target
	corpus *corpus
	conns  []*conn
}

func newLoad(o LogOptions) (*load, error) {
	c, err := newCorpus(o.Seed, o.Corpus)
	if err != nil {
		return nil, err
	}
	c.known = o.Known
	t, err := newTarget(o.URL, entriesPath, "application/json", o.Timeout)
	if err != nil {
		return nil, err
	}
	b := &load{o: o, target: t, corpus: c}
	for range o.Concurrency {
		b.conns = append(b.conns, &conn{target: t})
	}
	return b, nil
}

func (b *load) close() {
	for _, c := range b.conns {
		c.close()
	}
}

// A phase is load until either limit is reached.
type phase struct {
	duration time.Duration
	count    int // of entries; 0 means no limit
}

// A reply is one entry's acceptance.
type reply struct {
	entry   int64 // position in the corpus
	number  int64 // of the entry there
	index   int64 // in the log
	latency time.Duration
	body    []byte // kept of sampled replies only
}

// A tally is what a phase has seen.
type tally struct {
	replies []reply
	errors  map[string]int // by class
	elapsed time.Duration  // until the last reply
}

// afterError keeps a connection from hammering a server that refuses.
const afterError = 50 * time.Millisecond

// run loads the log for one phase. Requests under way at its end are waited for.
func (b *load) run(ctx context.Context, p phase) (tally, error) {
	end := int64(math.MaxInt64)
	if p.count > 0 {
		end = b.corpus.next.Load() + int64(p.count)
	}
	tallies := make([]tally, len(b.conns))
	start := time.Now()
	deadline := start.Add(p.duration)
	pace := b.pace(start, deadline)
	var wg sync.WaitGroup
	for i, c := range b.conns {
		wg.Go(func() { tallies[i] = b.work(ctx, c, pace, end) })
	}
	wg.Wait()
	sum := tally{errors: make(map[string]int), elapsed: time.Since(start)}
	for _, t := range tallies {
		sum.replies = append(sum.replies, t.replies...)
		for class, n := range t.errors {
			sum.errors[class] += n
		}
	}
	return sum, context.Cause(ctx)
}

// work posts entries over one connection until there is no next, or the corpus position end.
func (b *load) work(ctx context.Context, c *conn, next pace, end int64) tally {
	t := tally{errors: make(map[string]int)}
	for ctx.Err() == nil {
		at, ok := next()
		if !ok {
			break
		}
		i := b.corpus.next.Add(1) - 1
		if i >= end {
			break
		}
		request := b.target.request(b.corpus.entry(i).json())
		if !wait(ctx, time.Until(at)) {
			break
		}
		began := time.Now()
		if b.o.Rate > 0 {
			began = at // when it was due, however late it is sent
		}
		body, err := c.post(ctx, request)
		latency := time.Since(began)
		if err == nil {
			var index int64
			if index, err = replyIndex(body); err == nil {
				r := reply{entry: i, number: b.corpus.number(i), index: index, latency: latency}
				if i%int64(b.o.Sample) == 0 {
					r.body = slices.Clone(body)
				}
				t.replies = append(t.replies, r)
				continue
			}
		}
		t.errors[class(err)]++
		if b.o.Rate == 0 {
			wait(ctx, afterError)
		}
	}
	return t
}

// class maps an error to one of few names.
func class(err error) string {
	var status statusError
	switch {
	case errors.As(err, &status):
		return fmt.Sprintf("status %d", int(status))
	case errors.Is(err, errReply):
		return "malformed reply"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "connection closed"
	case isTimeout(err):
		return "timeout"
	}
	return "connection error"
}

func describe(refusals map[string]int) string {
	var parts []string
	for class, n := range refusals {
		parts = append(parts, fmt.Sprintf("%d × %s", n, class))
	}
	slices.Sort(parts)
	if len(parts) == 0 {
		return "no errors"
	}
	return strings.Join(parts, ", ")
}
