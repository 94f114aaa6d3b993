package mint

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"golang.org/x/mod/sumdb/tlog"
	"golang.org/x/sync/errgroup"

	"tallywood/log/ctentry"
)

// fillAhead is how many batches are made at once or wait to be written: of each a bundle's entries.
const fillAhead = 8

// FillOptions say what to fill logs with.
type FillOptions struct {
	Entries int64           // the size that the logs are to have
	Planted map[int64]Entry // by index; the others concern nobody in particular
	Start   time.Time       // from when the first certificate is valid; zero: 1 June 2026
	Step    time.Duration   // between one entry and the next; zero: a second

	Signatures   *Log // of kind Rekor; nil: none
	Certificates *Log // of kind CT, with the precertificates of the same entries; nil: none

	Progress func(done, size int64) // optional
}

// End returns when the last entry is made, and its checkpoint is cosigned.
func (o FillOptions) End() time.Time {
	o.defaults()
	return o.Start.Add(time.Duration(o.Entries) * o.Step)
}

func (o *FillOptions) defaults() {
	if o.Start.IsZero() {
		o.Start = time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)
	}
	if o.Step == 0 {
		o.Step = time.Second
	}
	if o.Progress == nil {
		o.Progress = func(int64, int64) {}
	}
}

// An item is an entry in both logs.
type item struct {
	entry, leaf         []byte
	entryHash, leafHash tlog.Hash
}

// Fill appends entries to empty logs until they have as many as o says, with all cores, and publishes
// them once.
func (w *World) Fill(ctx context.Context, o FillOptions) error {
	o.defaults()
	g, ctx := errgroup.WithContext(ctx)
	queue := make(chan chan []item, fillAhead) // in the order of the logs
	g.Go(func() error {
		defer close(queue)
		for from := int64(0); from < o.Entries; from += width {
			batch := make(chan []item, 1)
			select {
			case queue <- batch:
			case <-ctx.Done():
				return ctx.Err()
			}
			g.Go(func() error {
				items, err := w.batch(o, from, min(from+width, o.Entries))
				batch <- items
				return err
			})
		}
		return nil
	})
	g.Go(func() error {
		for batch := range queue {
			items := <-batch
			if items == nil { // its error is that of the group
				return nil
			}
			if err := o.write(items); err != nil {
				return err
			}
		}
		return nil
	})
	if err := g.Wait(); err != nil {
		return fmt.Errorf("filling logs: %w", err)
	}
	for _, l := range []*Log{o.Signatures, o.Certificates} {
		if l != nil {
			if err := l.Publish(o.End()); err != nil {
				return fmt.Errorf("filling logs: %w", err)
			}
		}
	}
	return nil
}

func (o *FillOptions) write(items []item) error {
	for _, it := range items {
		if o.Signatures != nil {
			if err := o.Signatures.append(it.entry, it.entryHash); err != nil {
				return err
			}
		}
		if o.Certificates != nil {
			if err := o.Certificates.append(it.leaf, it.leafHash); err != nil {
				return err
			}
		}
	}
	for _, l := range []*Log{o.Certificates, o.Signatures} {
		if l != nil && len(items) > 0 {
			o.Progress(l.Size(), o.Entries)
			break
		}
	}
	return nil
}

// batch makes the entries [from, to).
func (w *World) batch(o FillOptions, from, to int64) ([]item, error) {
	items := make([]item, 0, to-from)
	for i := from; i < to; i++ {
		e, planted := o.Planted[i]
		if !planted {
			e = w.Anybody(i)
		}
		if e.NotBefore.IsZero() {
			e.NotBefore = o.Start.Add(time.Duration(i) * o.Step)
		}
		made, err := w.Make(e, i)
		if err != nil {
			return nil, err
		}
		it := item{entry: made.Bytes, entryHash: tlog.RecordHash(made.Bytes)}
		if o.Certificates != nil {
			if it.leaf, err = made.TileLeaf(); err != nil {
				return nil, err
			}
			h, err := ctentry.LeafHash(it.leaf)
			if err != nil {
				return nil, err
			}
			it.leafHash = tlog.Hash(h)
		}
		items = append(items, it)
	}
	return items, nil
}

// Anybody returns entry i of a log that everybody uses: mostly workflows of many repositories, and
// some people and service accounts.
func (w *World) Anybody(i int64) Entry {
	r := rand.New(rand.NewChaCha8(w.hash(fmt.Sprintf("anybody %d", i))))
	owner := fmt.Sprintf("%s-%s", pick(r, adjectives), pick(r, nouns))
	repository := owner + "/" + pick(r, nouns) + "-" + pick(r, tools)
	version := fmt.Sprintf("v%d.%d.%d", r.IntN(4), r.IntN(30), r.IntN(12))
	run := Run{Repository: repository, ID: 10_000_000_000 + r.Int64N(9_000_000_000)}
	switch n := r.IntN(100); {
	case n < 40:
		run.Ref, run.Trigger = "refs/tags/"+version, pick(r, []string{"push", "release"})
	case n < 80:
		run.Workflow, run.Trigger = ".github/workflows/"+pick(r, tools)+".yaml", pick(r, []string{"push", "schedule", "workflow_dispatch"})
	case n < 88:
		run.Ref = "refs/tags/" + version
		return Entry{Certificate: run.GitLab()}
	case n < 98:
		person := pick(r, adjectives) + "." + pick(r, nouns)
		return Entry{Certificate: ForEmail(fmt.Sprintf("%s%d@%s.example", person, r.IntN(1000), pick(r, nouns)), "https://accounts.example.com")}
	default:
		return Entry{Certificate: ForKubernetes(pick(r, nouns), pick(r, tools), "https://oidc.eks.eu-west-1.example.com/id/"+owner)}
	}
	return Entry{Certificate: run.GitHub()}
}

func pick(r *rand.Rand, words []string) string { return words[r.IntN(len(words))] }

// Words that the names of a log's users are made of.
var (
	adjectives = []string{"amber", "brisk", "calm", "dusty", "eager", "fabled", "gentle", "hollow", "icy", "jolly", "keen",
		"lively", "mellow", "narrow", "opal", "placid", "quiet", "rapid", "silver", "tidy", "umber", "vivid", "windy", "young"}
	nouns = []string{"anchor", "basin", "canyon", "delta", "ember", "forest", "garnet", "harbor", "island", "jasper", "kernel",
		"lantern", "meadow", "nectar", "orchard", "pebble", "quarry", "river", "saddle", "timber", "upland", "valley", "willow", "zephyr"}
	tools = []string{"action", "api", "build", "charts", "cli", "core", "deploy", "docs", "engine", "images", "lib", "operator",
		"parser", "proxy", "release", "runner", "schema", "sdk", "server", "site", "tests", "tools", "ui", "worker"}
)
