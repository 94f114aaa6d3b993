package bench

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"tallywood/witness/policy"
)

// WitnessOptions say how to load witnesses. All fields may be zero.
type WitnessOptions struct {
	Logs     int           // that grow at the same time, each with a request under way; default 1
	Duration time.Duration // of the measurement; default 10 s
	Warmup   time.Duration // of load before it; default 1 s
	Timeout  time.Duration // of one request; default 30 s
	Seed     uint64        // picks the logs and their keys, which the witness must know: see WitnessList

	Log *slog.Logger // progress; default: discard
}

// A WitnessTarget is a witness to measure.
type WitnessTarget struct {
	Name string       // for the table; default: the URL
	URL  string       // submission prefix
	Keys []policy.Key // each of them must cosign in every answer
	PIDs []int        // its processes on this machine, as LogOptions.PID; default: not looked at
}

func (t *WitnessTarget) check() error {
	or(&t.Name, t.URL)
	var errs []error
	if u, err := url.Parse(t.URL); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		errs = append(errs, fmt.Errorf("%w: URL %q is not an http or https address", ErrOptions, t.URL))
	}
	if len(t.Keys) == 0 {
		errs = append(errs, fmt.Errorf("%w: no key of the witness at %s", ErrOptions, t.URL))
	}
	for _, k := range t.Keys {
		if k.Alg() != policy.AlgCosignatureV1 && k.Alg() != policy.AlgMLDSA44 {
			errs = append(errs, fmt.Errorf("%w: %s is not the key of a witness", ErrOptions, k))
		}
	}
	return errors.Join(errs...)
}

func (o *WitnessOptions) init() error {
	if o.Logs < 0 || o.Duration < 0 || o.Warmup < 0 || o.Timeout < 0 {
		return fmt.Errorf("%w: a number of logs or a time is negative", ErrOptions)
	}
	or(&o.Logs, 1)
	or(&o.Duration, 10*time.Second)
	or(&o.Warmup, time.Second)
	or(&o.Timeout, 30*time.Second)
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return nil
}

// A WitnessResult is one measurement of a witness.
type WitnessResult struct {
	Name      string         `json:"name"`
	URL       string         `json:"url"`
	Logs      int            `json:"logs"`
	Seed      uint64         `json:"seed,string"`
	Updates   int            `json:"updates"` // cosigned checkpoints, all of them verified
	Seconds   float64        `json:"seconds"` // it took
	PerSecond float64        `json:"per_second"`
	Latency   Latency        `json:"latency"`          // from a checkpoint's first request to its cosignatures
	Limited   int            `json:"status_429"`       // requests answered so
	Errors    map[string]int `json:"errors"`           // by class; other requests that did not end in cosignatures
	Server    *Server        `json:"server,omitempty"` // "entry" in it means update
}

// Witness measures how fast a witness cosigns: a number of logs grow at the same time, each by ten
// entries when its last checkpoint is cosigned. The checkpoints are signed beforehand. Every answer is
// verified after the clock has stopped, and one that does not hold fails the run.
func Witness(ctx context.Context, t WitnessTarget, o WitnessOptions) (WitnessResult, error) {
	if err := errors.Join(t.check(), o.init()); err != nil {
		return WitnessResult{}, err
	}
	l, err := newWitnessLoad(t, o)
	if err != nil {
		return WitnessResult{}, err
	}
	defer l.close()
	if err := l.meet(ctx); err != nil {
		return WitnessResult{}, err
	}
	o.Log.Info("warming up", "dur", o.Warmup)
	warm, err := l.run(ctx, o.Warmup)
	if err != nil {
		return WitnessResult{}, err
	}
	rate := float64(len(warm.replies)) / warm.elapsed.Seconds() / float64(o.Logs)
	if err := l.prepare(ctx, 4+int(1.5*o.Duration.Seconds()*rate)); err != nil {
		return WitnessResult{}, err
	}
	before, err := readProcesses(t.PIDs)
	if err != nil {
		return WitnessResult{}, err
	}
	o.Log.Info("measuring", "dur", o.Duration)
	measured, err := l.run(ctx, o.Duration)
	if err != nil {
		return WitnessResult{}, err
	}
	after, err := readProcesses(t.PIDs)
	if err != nil {
		return WitnessResult{}, err
	}
	if err := l.check(ctx, slices.Concat(warm.replies, measured.replies)); err != nil {
		return WitnessResult{}, err
	}
	if len(measured.replies) == 0 {
		return WitnessResult{}, fmt.Errorf("measuring %s: no checkpoint was cosigned: %s", t.URL, describe(measured.errors))
	}
	return l.result(measured, before, after), nil
}

func (l *witnessLoad) result(m witnessTally, before, after process) WitnessResult {
	times := make([]time.Duration, len(m.replies))
	for i, r := range m.replies {
		times[i] = r.latency
	}
	slices.Sort(times)
	r := WitnessResult{
		Name: l.t.Name, URL: l.t.URL, Logs: l.o.Logs, Seed: l.o.Seed,
		Updates: len(times), Seconds: m.elapsed.Seconds(), PerSecond: float64(len(times)) / m.elapsed.Seconds(),
		Latency: latency(times), Limited: m.errors[limited], Errors: m.errors,
	}
	delete(r.Errors, limited)
	if len(l.t.PIDs) > 0 {
		r.Server = newServer(before, after, r.Updates, nil)
	}
	return r
}

// limited is the class of the status 429.
var limited = class(statusError(http.StatusTooManyRequests))

// String is a report of a few lines.
func (r WitnessResult) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n  %d checkpoints of %d logs cosigned in %.1f s, and verified: %.1f updates/s\n", r.URL, r.Updates, r.Logs, r.Seconds, r.PerSecond)
	fmt.Fprintf(&b, "  latency p50 %.2f ms, p95 %.2f ms, p99 %.2f ms, max %.1f ms\n", r.Latency.P50, r.Latency.P95, r.Latency.P99, r.Latency.Max)
	fmt.Fprintf(&b, "  %d × status 429; besides, %s; seed %d\n", r.Limited, describe(r.Errors), r.Seed)
	if r.Server != nil {
		fmt.Fprintf(&b, "  server: %.3f ms CPU per update, %d B written per update, %.0f MB of memory at most\n",
			r.Server.CPU, r.Server.Written, float64(r.Server.RSS)/1e6)
	}
	return b.String()
}

// A witnessLoad is a set of logs that grow, with a connection each.
type witnessLoad struct {
	t      WitnessTarget
	o      WitnessOptions
	target target
	logs   []*growingLog
}

// A growingLog is a log on its way. Only one goroutine uses it at a time.
type growingLog struct {
	*witnessLog
	conn  *conn
	size  int64           // that the witness has cosigned last
	ready []growthRequest // prepared requests, of growing sizes
}

// A growthRequest asks for the cosignatures of a log that has grown.
type growthRequest struct {
	old   int64
	bytes []byte // of the HTTP request
}

func newWitnessLoad(t WitnessTarget, o WitnessOptions) (*witnessLoad, error) {
	to, err := newTarget(t.URL, "/add-checkpoint", "text/plain", o.Timeout)
	if err != nil {
		return nil, err
	}
	l := &witnessLoad{t: t, o: o, target: to}
	for i := range o.Logs {
		l.logs = append(l.logs, &growingLog{witnessLog: newWitnessLog(o.Seed, i), conn: &conn{target: to}})
	}
	return l, nil
}

func (l *witnessLoad) close() {
	for _, g := range l.logs {
		g.conn.close()
	}
}

// meet finds out what the witness knows of each log, and shows it those that are new to it.
func (l *witnessLoad) meet(ctx context.Context) error {
	l.o.Log.Info("asking the witness for the sizes of its logs", "size", len(l.logs))
	for _, g := range l.logs {
		err := l.meetLog(ctx, g)
		if ctx.Err() != nil {
			return context.Cause(ctx) // on a connection it looks like a server that is late
		}
		if err != nil {
			return fmt.Errorf("measuring %s: log %s: %w", l.t.URL, g.origin, err)
		}
	}
	return nil
}

func (l *witnessLoad) meetLog(ctx context.Context, g *growingLog) error {
	const tries = 100
	var status int
	for range tries {
		var err error
		if status, err = g.conn.send(ctx, l.target.request(g.request(0, firstSize))); err != nil {
			return err
		}
		switch status {
		case http.StatusOK:
			g.size = firstSize
			return nil
		case http.StatusConflict:
			g.size, err = conflictSize(g.conn.buffer.Bytes())
			return err
		case http.StatusNotFound:
			return errors.New("the witness does not know it: give it the list that --write-list makes")
		case http.StatusTooManyRequests, http.StatusServiceUnavailable:
			if !wait(ctx, afterRefusal) {
				return context.Cause(ctx)
			}
		default:
			return fmt.Errorf("%w: %.200q", statusError(status), g.conn.buffer.Bytes())
		}
	}
	return fmt.Errorf("%w, %d times", statusError(status), tries)
}

// conflictSize is the size in the body of a 409.
func conflictSize(body []byte) (int64, error) {
	size, err := policy.ParseSize(strings.TrimSuffix(string(body), "\n"))
	if err != nil {
		return 0, fmt.Errorf("409 with a size that is %w", err)
	}
	return size, nil
}

// prepare makes n requests of each log beforehand.
func (l *witnessLoad) prepare(ctx context.Context, n int) error {
	l.o.Log.Info("signing checkpoints", "size", n*len(l.logs))
	return parallel(ctx, len(l.logs), func(i int) {
		g := l.logs[i]
		g.ready = make([]growthRequest, n)
		for k := 0; k < n && ctx.Err() == nil; k++ {
			g.ready[k] = l.growth(g, g.size+growth*int64(k))
		}
	})
}

func (l *witnessLoad) growth(g *growingLog, old int64) growthRequest {
	return growthRequest{old: old, bytes: l.target.request(g.request(old, old+growth))}
}

// next returns the request by which g grows from the size that the witness knows.
func (l *witnessLoad) next(g *growingLog) growthRequest {
	for len(g.ready) > 0 && g.ready[0].old < g.size {
		g.ready[0].bytes = nil // it is not needed again
		g.ready = g.ready[1:]
	}
	if len(g.ready) > 0 && g.ready[0].old == g.size {
		return g.ready[0]
	}
	return l.growth(g, g.size)
}

// A witnessReply is what a witness has answered to a checkpoint.
type witnessReply struct {
	log     *witnessLog
	size    int64
	latency time.Duration
	at      time.Time
	body    []byte
}

// A witnessTally is what a phase has seen.
type witnessTally struct {
	replies []witnessReply
	errors  map[string]int // by class
	elapsed time.Duration  // until the last reply
}

// run lets all logs grow for a time. Requests under way at its end are waited for.
func (l *witnessLoad) run(ctx context.Context, d time.Duration) (witnessTally, error) {
	tallies := make([]witnessTally, len(l.logs))
	start := time.Now()
	deadline := start.Add(d)
	var wg sync.WaitGroup
	for i, g := range l.logs {
		wg.Go(func() { tallies[i] = l.grow(ctx, g, deadline) })
	}
	wg.Wait()
	sum := witnessTally{errors: make(map[string]int), elapsed: time.Since(start)}
	for _, t := range tallies {
		sum.replies = append(sum.replies, t.replies...)
		for class, n := range t.errors {
			sum.errors[class] += n
		}
	}
	return sum, context.Cause(ctx)
}

// afterRefusal is how long a log waits before it asks once more: a witness that is busy has no use for
// it at once.
const afterRefusal = 10 * time.Millisecond

// grow lets one log grow until the deadline, once at least.
func (l *witnessLoad) grow(ctx context.Context, g *growingLog, deadline time.Time) witnessTally {
	t := witnessTally{errors: make(map[string]int)}
	began := time.Now()
	for once := true; (once || time.Now().Before(deadline)) && ctx.Err() == nil; once = false {
		r := l.next(g)
		status, err := g.conn.send(ctx, r.bytes)
		switch {
		case err == nil && status == http.StatusOK:
			g.size = r.old + growth
			at := time.Now()
			t.replies = append(t.replies, witnessReply{
				log: g.witnessLog, size: g.size, latency: at.Sub(began), at: at, body: slices.Clone(g.conn.buffer.Bytes()),
			})
			began = at
			continue
		case err == nil && status == http.StatusConflict:
			// It was stored although the answer did not say so, and is not cosigned for its log.
			if g.size, err = conflictSize(g.conn.buffer.Bytes()); err == nil {
				t.errors[class(statusError(status))]++
				continue
			}
		case err == nil:
			err = statusError(status)
		}
		t.errors[class(err)]++
		wait(ctx, afterRefusal)
	}
	return t
}
