package witness

import (
	"context"
	"time"
)

// Logs returns what is known of every log, in the order of origins.
func (w *Witness) Logs() []Log {
	entries := w.entries()
	out := make([]Log, len(entries))
	for i, e := range entries {
		out[i] = e.log()
	}
	return out
}

// A Recorded is what the state of a log says.
type Recorded struct {
	Size     int64
	Cosigned time.Time // zero: never
	Frozen   bool      // because state of it was lost
}

// Recorded reads the state of a log. It may be called while another process serves on the same bucket.
func (w *Witness) Recorded(ctx context.Context, origin string) (Recorded, error) {
	e := w.lookup(origin)
	if e == nil {
		return Recorded{}, ErrUnknownLog
	}
	s, _, err := w.read(ctx, e)
	if err != nil {
		return Recorded{}, err
	}
	r := Recorded{Size: s.Size, Frozen: s.Frozen != ""}
	if s.Timestamp != 0 {
		r.Cosigned = time.Unix(s.Timestamp, 0).UTC()
	}
	return r, nil
}

// VKeys returns the verifier keys of the witness, those too that do not sign now.
func (w *Witness) VKeys() []string {
	var vkeys []string
	for _, k := range w.signer.keys {
		vkeys = append(vkeys, k.String())
	}
	return vkeys
}
