package bench

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"time"
)

// AbuseOptions say how well-behaved clients of a log are measured beside clients that are not. All
// fields but URL may be zero.
type AbuseOptions struct {
	URL      string        // of the log, as in LogOptions
	Clients  int           // well-behaved connections; default 8
	Rate     float64       // of their entries together, per second; default 100
	Duration time.Duration // of each phase; default 10 s
	Settle   time.Duration // between a phase and the next; default 2 s

	From      string   // the address of the well-behaved; default: the machine's choice
	Attackers []string // addresses that attacks come from; default 127.0.0.2 to 127.0.0.5
	Attacks   []string // names of Attacks; default: all of them, and then all at once
	PID       int      // as in LogOptions

	// Start begins the named attacks and returns what waits for their end, once ctx has ended, and
	// says what they got. Default: they run in this process, whose own work then slows the server's
	// machine and the well-behaved down as that of strangers would not.
	Start func(ctx context.Context, names []string) (wait func() (map[string]int, error), err error)

	Log *slog.Logger // progress; default: discard
}

// allAtOnce is the name of the phase in which every attack runs.
const allAtOnce = "all at once"

func (o *AbuseOptions) init() error {
	load := LogOptions{URL: o.URL, PID: o.PID, Log: o.Log}
	errs := []error{load.init()}
	o.Log = load.Log
	if o.Clients < 0 || o.Rate < 0 || o.Duration < 0 || o.Settle < 0 {
		errs = append(errs, fmt.Errorf("%w: a number is negative", ErrOptions))
	}
	or(&o.Clients, 8)
	or(&o.Rate, 100)
	or(&o.Duration, 10*time.Second)
	or(&o.Settle, 2*time.Second)
	if o.Attackers == nil {
		o.Attackers = []string{"127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.0.5"}
	}
	if o.Attacks == nil {
		o.Attacks = append(AttackNames(), allAtOnce)
	}
	for _, from := range append(slices.Clone(o.Attackers), o.From) {
		if from != "" && net.ParseIP(from) == nil {
			errs = append(errs, fmt.Errorf("%w: %q is not an IP address", ErrOptions, from))
		}
	}
	for _, name := range o.Attacks {
		if _, ok := attacks[name]; !ok && name != allAtOnce {
			errs = append(errs, fmt.Errorf("%w: there is no attack %q; there are %s", ErrOptions, name, strings.Join(AttackNames(), ", ")))
		}
	}
	return errors.Join(errs...)
}

// An Abuse is what well-behaved clients saw beside each attack.
type Abuse struct {
	URL    string       `json:"url"`
	Rate   float64      `json:"per_second"`
	Phases []AbusePhase `json:"phases"`
}

// An AbusePhase is one attack, and the quiet time before it.
type AbusePhase struct {
	Attack     string         `json:"attack"`
	Quiet      Latency        `json:"quiet_ms"`
	Beside     Latency        `json:"beside_ms"`
	Ratio      float64        `json:"p99_ratio"`
	Refused    map[string]int `json:"refused"`         // of the well-behaved, by class
	Attackers  map[string]int `json:"attackers"`       // what they got, by class
	QuietPeak  int64          `json:"quiet_rss_bytes"` // of the server's resident memory
	BesidePeak int64          `json:"beside_rss_bytes"`
}

// MeasureAbuse measures well-behaved clients of a log in turns without and with attackers. The log
// must be the caller's own.
func MeasureAbuse(ctx context.Context, o AbuseOptions) (Abuse, error) {
	if err := o.init(); err != nil {
		return Abuse{}, err
	}
	c, err := newCorpus(uint64(time.Now().UnixNano()), Keys)
	if err != nil {
		return Abuse{}, err
	}
	t, err := newTarget(o.URL, entriesPath, "application/json", 30*time.Second)
	if err != nil {
		return Abuse{}, err
	}
	if o.Start == nil {
		o.Start = func(ctx context.Context, names []string) (func() (map[string]int, error), error) {
			return startAttackers(ctx, t, o.Attackers, names)
		}
	}
	m := &abuse{o: o, corpus: c, target: t}
	if _, err := m.phase(ctx, nil); err != nil { // to warm up
		return Abuse{}, err
	}
	out := Abuse{URL: o.URL, Rate: o.Rate}
	for _, name := range o.Attacks {
		o.Log.Info("measuring without attackers", "dur", o.Duration)
		quiet, err := m.phase(ctx, nil)
		if err != nil {
			return Abuse{}, err
		}
		o.Log.Info("measuring beside "+name, "dur", o.Duration)
		names := []string{name}
		if name == allAtOnce {
			names = AttackNames()
		}
		beside, err := m.phase(ctx, names)
		if err != nil {
			return Abuse{}, err
		}
		p := AbusePhase{
			Attack: name, Quiet: quiet.latency(), Beside: beside.latency(), Refused: beside.refused,
			Attackers: beside.attackers, QuietPeak: quiet.peak, BesidePeak: beside.peak,
		}
		maps.Copy(p.Refused, quiet.refused)
		if p.Quiet.P99 > 0 {
			p.Ratio = p.Beside.P99 / p.Quiet.P99
		}
		out.Phases = append(out.Phases, p)
	}
	return out, nil
}

// Attack attacks a log as MeasureAbuse does, with o.Attacks from o.Attackers at once, until ctx ends,
// and returns what attackers got.
func Attack(ctx context.Context, o AbuseOptions) (map[string]int, error) {
	if err := o.init(); err != nil {
		return nil, err
	}
	t, err := newTarget(o.URL, entriesPath, "application/json", 30*time.Second)
	if err != nil {
		return nil, err
	}
	wait, err := startAttackers(ctx, t, o.Attackers, slices.DeleteFunc(o.Attacks, func(name string) bool { return name == allAtOnce }))
	if err != nil {
		return nil, err
	}
	return wait()
}

// abuse is a measurement under way.
type abuse struct {
	o      AbuseOptions
	corpus *corpus
	target target
}

// seen is what one phase has seen.
type seen struct {
	latencies []time.Duration // of the well-behaved, sorted
	refused   map[string]int
	attackers map[string]int
	peak      int64
}

func (s seen) latency() Latency {
	return Latency{
		P50: percentile(s.latencies, 50), P95: percentile(s.latencies, 95),
		P99: percentile(s.latencies, 99), Max: percentile(s.latencies, 100),
	}
}

// phase measures the well-behaved beside the named attacks, which begin before and end after.
func (m *abuse) phase(ctx context.Context, names []string) (seen, error) {
	actx, stop := context.WithCancel(ctx)
	defer stop()
	wait := func() (map[string]int, error) { return nil, nil }
	if names != nil {
		var err error
		if wait, err = m.o.Start(actx, names); err != nil {
			return seen{}, fmt.Errorf("starting attackers: %w", err)
		}
		sleep(ctx, m.o.Settle)
	}
	if _, err := readProcess(m.o.PID); err != nil { // its peak begins here
		return seen{}, err
	}
	s := m.measure(ctx)
	p, err := readProcess(m.o.PID)
	if err != nil {
		return seen{}, err
	}
	s.peak = p.rss
	stop()
	s.attackers, err = wait()
	if ctx.Err() != nil { // a process of attackers was interrupted, too
		return seen{}, context.Cause(ctx)
	}
	if err != nil {
		return seen{}, fmt.Errorf("ending attackers: %w", err)
	}
	sleep(ctx, m.o.Settle)
	if len(s.latencies) == 0 && ctx.Err() == nil {
		return seen{}, fmt.Errorf("measuring %s: no entry was accepted: %s", m.o.URL, describe(s.refused))
	}
	return s, context.Cause(ctx)
}

// measure lets the well-behaved post at their rate. A latency counts from the moment at which the
// entry was to be sent, so that waiting for the one before it is not overlooked.
func (m *abuse) measure(ctx context.Context) seen {
	period := time.Duration(float64(m.o.Clients) / m.o.Rate * float64(time.Second))
	begin := time.Now()
	target := m.target
	if m.o.From != "" {
		target.from = net.ParseIP(m.o.From)
	}
	parts := make([]seen, m.o.Clients)
	var clients sync.WaitGroup
	for i := range parts {
		clients.Go(func() {
			s := &parts[i]
			s.refused = map[string]int{}
			c := conn{target: target}
			defer c.close()
			for at := begin.Add(period * time.Duration(i) / time.Duration(m.o.Clients)); at.Before(begin.Add(m.o.Duration)); at = at.Add(period) {
				if !sleep(ctx, time.Until(at)) {
					return
				}
				request := target.request(m.corpus.entry(m.corpus.next.Add(1) - 1).json())
				if _, err := c.post(ctx, request); err != nil {
					s.refused[class(err)]++
					continue
				}
				s.latencies = append(s.latencies, time.Since(at))
			}
		})
	}
	clients.Wait()
	out := seen{refused: map[string]int{}}
	for _, s := range parts {
		out.latencies = append(out.latencies, s.latencies...)
		for class, n := range s.refused {
			out.refused[class] += n
		}
	}
	slices.Sort(out.latencies)
	return out
}

// sleep reports whether d went by before ctx ended.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// String is a table.
func (a Abuse) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: well-behaved clients, %g entries/s\n\n", a.URL, a.Rate)
	b.WriteString("| attack | quiet p50, p99 ms | beside it p50, p99 ms | p99 ratio | refused | peak MB, quiet | beside it | attackers got |\n")
	b.WriteString("| --- | ---: | ---: | ---: | ---: | ---: | ---: | --- |\n")
	for _, p := range a.Phases {
		refused := 0
		for _, n := range p.Refused {
			refused += n
		}
		fmt.Fprintf(&b, "| %s | %s, %s | %s, %s | %s | %d | %s | %s | %s |\n", p.Attack, number(p.Quiet.P50), number(p.Quiet.P99),
			number(p.Beside.P50), number(p.Beside.P99), number(p.Ratio), refused,
			number(float64(p.QuietPeak)/1e6), number(float64(p.BesidePeak)/1e6), describe(p.Attackers))
	}
	return b.String()
}
