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

// evidence is two checkpoints signed by the log: of one size with different roots, or, of kind
// rollback, one that this witness has cosigned and lost, and what it remembered when it was shown that.
type evidence struct {
	Kind   string    `json:"kind"` // equivocation of the log, or rollback of the witness
	Origin string    `json:"origin"`
	Size   int64     `json:"size"` // of the second note
	Time   time.Time `json:"time"`
	First  string    `json:"first"`  // the note in our state; empty: none
	Second string    `json:"second"` // the note we refused
}

// Kinds of evidence.
const (
	kindEquivocation = "equivocation"
	kindRollback     = "rollback"
)

func (w *Witness) evidenceKey(hash, name string) string {
	return "evidence/" + w.signer.name + "/" + hash + "/" + name
}

// keepEvidence stores that a log has signed two trees of one size, or that we have lost what we
// cosigned, once per (size, root). Nothing is signed or refused because of it, so that its errors are
// logged only. The caller holds e.lock.
func (w *Witness) keepEvidence(ctx context.Context, e *entry, a addition, kind string) {
	if err := w.storeEvidence(ctx, e, a, kind); err != nil {
		w.log.Error("keeping evidence of "+kind, "origin", e.origin, "size", a.tree.Size, "err", err)
	}
}

func (w *Witness) storeEvidence(ctx context.Context, e *entry, a addition, kind string) error {
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
	ev := evidence{Kind: kind, Origin: e.origin, Size: a.tree.Size, Time: w.now().UTC(), First: first, Second: a.note.Text + "\n" + a.lines}
	name := fmt.Sprintf("%d-%x.json", a.tree.Size, a.tree.Root)
	switch {
	case kind == kindRollback:
		ev.Second, name = string(a.request.note), kindRollback+"-"+name
	case s.Note == "" || s.Size != a.tree.Size || s.Root == a.tree.Root:
		return nil // the state has moved on meanwhile
	}
	data, err := json.MarshalIndent(ev, "", "  ")
	if err != nil {
		return fmt.Errorf("encoding evidence: %w", err)
	}
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
	w.log.Error("evidence kept of "+kind, "origin", e.origin, "size", a.tree.Size, "key", name)
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
