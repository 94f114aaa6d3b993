package bench

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
	"golang.org/x/sync/errgroup"

	"tallywood/internal/keys"
	"tallywood/witness/policy"
)

// FloorOptions say what to measure the floor of.
type FloorOptions struct {
	Dir    string             // on the file system that the log is on
	Origin string             // of a log that the witnesses know and nobody else writes
	Key    ed25519.PrivateKey // of that log
	Policy *policy.Policy     // with that log, and all witnesses' URLs
	Rounds int                // default 200
}

// A FloorResult is what no log with these witnesses and this disk can be faster than: an entry must be
// synced once, and then cosigned. Times are in milliseconds.
type FloorResult struct {
	Rounds int     `json:"rounds"`
	Sync   Latency `json:"sync"`   // of a new file as large as a record with one entry
	Cosign Latency `json:"cosign"` // asking all witnesses at once, until the last has answered
	Both   Latency `json:"both"`   // one after the other
}

const (
	floorRecord  = 4096    // bytes that are synced
	floorWarmup  = 20      // rounds before the first that counts
	floorAnswer  = 1 << 16 // bytes of a witness's answer
	floorTimeout = 30 * time.Second
	maxFloor     = 1 << 20 // entries, which are in memory
)

// Floor measures one sync and one round trip to all witnesses, of a log of its own that grows by one
// entry each time.
func Floor(ctx context.Context, o FloorOptions) (FloorResult, error) {
	f, err := newFloor(o)
	if err != nil {
		return FloorResult{}, fmt.Errorf("measuring the floor: %w", err)
	}
	or(&f.o.Rounds, 200)
	var syncs, cosigns, both []time.Duration
	for n := range f.o.Rounds + floorWarmup {
		began := time.Now()
		if err := f.sync(); err != nil {
			return FloorResult{}, fmt.Errorf("measuring the floor: %w", err)
		}
		synced := time.Now()
		if err := f.cosign(ctx); err != nil {
			return FloorResult{}, fmt.Errorf("measuring the floor: %w", err)
		}
		if n >= floorWarmup {
			syncs = append(syncs, synced.Sub(began))
			cosigns = append(cosigns, time.Since(synced))
			both = append(both, time.Since(began))
		}
	}
	for _, times := range [][]time.Duration{syncs, cosigns, both} {
		slices.Sort(times)
	}
	return FloorResult{Rounds: f.o.Rounds, Sync: latency(syncs), Cosign: latency(cosigns), Both: latency(both)}, nil
}

// String is a report of a few lines.
func (r FloorResult) String() string {
	line := func(what string, l Latency) string {
		return fmt.Sprintf("  %s p50 %.2f ms, p99 %.2f ms\n", what, l.P50, l.P99)
	}
	return fmt.Sprintf("%d rounds\n", r.Rounds) + line("one sync", r.Sync) + line("cosigning round trip", r.Cosign) + line("both", r.Both)
}

// A floor is one call of Floor.
type floor struct {
	o      FloorOptions
	signer note.Signer
	urls   []string // of the witnesses
	client *http.Client

	size   int64
	hashes []tlog.Hash // of the tree, as tlog stores them
	asked  []int64     // what each witness has cosigned last
}

func newFloor(o FloorOptions) (*floor, error) {
	if o.Policy == nil || o.Policy.None() || len(o.Key) != ed25519.PrivateKeySize || o.Rounds < 0 {
		return nil, errors.New("no key, no policy, one without witnesses, or a negative number of rounds")
	}
	signer, err := keys.NoteSigner(o.Origin, o.Key)
	if err != nil {
		return nil, err
	}
	f := &floor{o: o, signer: signer, client: &http.Client{Timeout: floorTimeout}}
	for _, w := range o.Policy.Witnesses() {
		if w.URL == "" {
			return nil, fmt.Errorf("witness %s has no URL in the policy", w.Name)
		}
		if !slices.Contains(f.urls, w.URL) {
			f.urls = append(f.urls, w.URL)
		}
	}
	f.asked = make([]int64, len(f.urls))
	return f, nil
}

// sync writes a new file and waits until it is on the disk.
func (f *floor) sync() (err error) {
	file, err := os.Create(filepath.Join(f.o.Dir, "floor"))
	if err != nil {
		return fmt.Errorf("creating a file to sync: %w", err)
	}
	defer func() { err = errors.Join(err, file.Close(), os.Remove(file.Name())) }()
	if _, err := file.Write(make([]byte, floorRecord)); err != nil {
		return fmt.Errorf("writing a file to sync: %w", err)
	}
	if err := file.Sync(); err != nil {
		return fmt.Errorf("syncing: %w", err)
	}
	return nil
}

// grow adds entries, which the size alone decides, until there are size.
func (f *floor) grow(size int64) error {
	for ; f.size < size; f.size++ {
		more, err := tlog.StoredHashes(f.size, strconv.AppendInt(nil, f.size, 10), f)
		if err != nil {
			return fmt.Errorf("growing a tree: %w", err)
		}
		f.hashes = append(f.hashes, more...)
	}
	return nil
}

// ReadHashes implements tlog.HashReader.
func (f *floor) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(indexes))
	for i, index := range indexes {
		out[i] = f.hashes[index]
	}
	return out, nil
}

// cosign has the tree, one entry larger than before, cosigned by all witnesses. One that remembers a
// larger tree, of an earlier measurement, gets one that is larger still.
func (f *floor) cosign(ctx context.Context) error {
	for range 3 {
		if err := f.grow(slices.Max(append(f.asked, f.size)) + 1); err != nil {
			return err
		}
		again, err := f.ask(ctx)
		if err != nil || !again {
			return err
		}
	}
	return errors.New("witnesses do not agree on what they cosigned last: does anything else write to this log?")
}

// ask asks all witnesses once. If again is true, one has told its size.
func (f *floor) ask(ctx context.Context) (again bool, err error) {
	root, err := tlog.TreeHash(f.size, f)
	if err != nil {
		return false, fmt.Errorf("hashing a tree: %w", err)
	}
	tree := policy.Tree{Origin: f.o.Origin, Size: f.size, Root: root}
	checkpoint, err := note.Sign(&note.Note{Text: tree.Text()}, f.signer)
	if err != nil {
		return false, fmt.Errorf("signing a checkpoint: %w", err)
	}
	answers, conflicts := make([][]byte, len(f.urls)), make([]bool, len(f.urls))
	g, gctx := errgroup.WithContext(ctx)
	for i := range f.urls {
		g.Go(func() (err error) {
			answers[i], conflicts[i], err = f.post(gctx, i, checkpoint)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return false, err
	}
	if slices.Contains(conflicts, true) {
		return true, nil
	}
	if _, err := f.o.Policy.Open(append(checkpoint, bytes.Join(answers, nil)...)); err != nil {
		return false, fmt.Errorf("checking cosignatures: %w", err)
	}
	return false, nil
}

// post sends the checkpoint to witness i (c2sp.org/tlog-witness).
func (f *floor) post(ctx context.Context, i int, checkpoint []byte) (lines []byte, conflict bool, err error) {
	var b bytes.Buffer
	fmt.Fprintf(&b, "old %d\n", f.asked[i])
	if f.asked[i] > 0 {
		proof, err := tlog.ProveTree(f.size, f.asked[i], f)
		if err != nil {
			return nil, false, fmt.Errorf("proving consistency: %w", err)
		}
		for _, h := range proof {
			b.WriteString(base64.StdEncoding.EncodeToString(h[:]) + "\n")
		}
	}
	b.WriteString("\n")
	b.Write(checkpoint)
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimRight(f.urls[i], "/")+"/add-checkpoint", &b)
	if err != nil {
		return nil, false, fmt.Errorf("asking %s: %w", f.urls[i], err)
	}
	res, err := f.client.Do(r)
	if err != nil {
		return nil, false, fmt.Errorf("asking %s: %w", f.urls[i], err)
	}
	defer res.Body.Close()
	if lines, err = io.ReadAll(io.LimitReader(res.Body, floorAnswer)); err != nil {
		return nil, false, fmt.Errorf("asking %s: %w", f.urls[i], err)
	}
	switch res.StatusCode {
	case http.StatusOK:
		f.asked[i] = f.size
		return lines, false, nil
	case http.StatusConflict:
		size, err := policy.ParseSize(strings.TrimSuffix(string(lines), "\n"))
		if err != nil {
			return nil, false, fmt.Errorf("asking %s: 409 with a size that is %w", f.urls[i], err)
		}
		if size > maxFloor {
			return nil, false, fmt.Errorf("asking %s: it has cosigned size %d, which is too large to measure with", f.urls[i], size)
		}
		f.asked[i] = size
		return nil, true, nil
	}
	return nil, false, fmt.Errorf("asking %s: %s: %.200q", f.urls[i], res.Status, lines)
}
