package witness

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"tallywood/storage"
)

// maxEvidence bounds the objects of evidence per log. The first proves all there is to prove.
const maxEvidence = 16

// evidence is two checkpoints of one size with different roots, each signed by the log.
type evidence struct {
	Origin string    `json:"origin"`
	Size   int64     `json:"size"`
	Time   time.Time `json:"time"`
	First  string    `json:"first"`  // the note we cosigned
	Second string    `json:"second"` // the note we refused
}

func (w *Witness) evidenceKey(hash, name string) string {
	return "evidence/" + w.signer.name + "/" + hash + "/" + name
}

// keepEvidence stores that a log has signed two trees of one size, once per (size, root). Nothing
// is signed or refused because of it, so that its errors are logged only. The caller holds e.lock.
func (w *Witness) keepEvidence(ctx context.Context, e *entry, a addition) {
	err := w.storeEvidence(ctx, e, a)
	if err != nil {
		w.log.Error("keeping evidence of equivocation", "origin", e.origin, "size", a.tree.Size, "err", err)
	}
}

func (w *Witness) storeEvidence(ctx context.Context, e *entry, a addition) error {
	if e.evidence < 0 {
		names, err := w.listEvidence(ctx, e)
		if err != nil {
			return err
		}
		e.evidence = len(names)
	}
	if e.evidence >= maxEvidence {
		return nil
	}
	s, version, err := w.read(ctx, e)
	if err != nil {
		return err
	}
	first, err := w.render(e, s, version)
	if err != nil {
		return err
	}
	if s.Note == "" || s.Size != a.tree.Size || s.Root == a.tree.Root {
		return nil // the state has moved on meanwhile
	}
	data, err := json.MarshalIndent(evidence{
		Origin: e.origin, Size: s.Size, Time: w.now().UTC(), First: first, Second: a.note.Text + "\n" + a.lines,
	}, "", "  ")
	if err != nil {
		return fmt.Errorf("encoding evidence: %w", err)
	}
	name := fmt.Sprintf("%d-%x.json", a.tree.Size, a.tree.Root)
	_, err = w.bucket.Put(ctx, w.evidenceKey(e.hash, name), append(data, '\n'), putOptions(storage.Absent()))
	switch {
	case errors.Is(err, storage.ErrPrecondition):
		return nil // known already
	case err != nil:
		w.endIfUnusable(err)
		return fmt.Errorf("writing evidence: %w", err)
	}
	e.evidence++
	w.metrics.evidence.Add(1)
	w.log.Error("log has signed two trees of one size", "origin", e.origin, "size", a.tree.Size, "key", name)
	return nil
}

// listEvidence returns the names of a log's objects of evidence.
func (w *Witness) listEvidence(ctx context.Context, e *entry) ([]string, error) {
	prefix := w.evidenceKey(e.hash, "")
	var names []string
	for key, err := range w.bucket.List(ctx, prefix) {
		if err != nil {
			return nil, fmt.Errorf("listing evidence: %w", err)
		}
		names = append(names, strings.TrimPrefix(key, prefix))
	}
	return names, nil
}
