package witness

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"tallywood/storage"
)

// checkedStates is how many logs CheckState looks at.
const checkedStates = 16

// ErrOtherKeys is wrapped by the error of CheckState about state that other keys have signed.
var ErrOtherKeys = errors.New("no key of this witness has cosigned what its state says was cosigned")

// CheckState looks at the state before anything is served from it. It returns an error if the state
// takes no writes, and one that wraps ErrOtherKeys if none of a few logs was last cosigned with a key
// of this witness, present or past: then the keys or the state are another witness's.
func (w *Witness) CheckState(ctx context.Context) error {
	if err := w.checkKeys(ctx); err != nil {
		return err
	}
	key := "started/" + w.signer.name
	if _, err := w.bucket.Put(ctx, key, []byte(w.instance+"\n"), storage.PutOptions{ContentType: "text/plain", CacheControl: "private, no-store"}); err != nil {
		w.endIfUnusable(err)
		return fmt.Errorf("writing to the state: %w", err)
	}
	return nil
}

// checkKeys looks for a log that was last cosigned with a key of this witness.
func (w *Witness) checkKeys(ctx context.Context) error {
	var signed []string
	looked := 0
	for key, err := range w.bucket.List(ctx, w.stateKey("")) {
		if err != nil {
			return fmt.Errorf("looking at the state: %w", err)
		}
		if len(strings.TrimPrefix(key, w.stateKey(""))) != 2*sha256.Size { // it is no log's
			continue
		}
		ids, err := w.signedBy(ctx, key)
		if err != nil {
			return err
		}
		if slices.ContainsFunc(w.signer.keys, func(k *ownKey) bool { return slices.Contains(ids, k.idText) }) {
			return nil
		}
		signed = append(signed, ids...)
		if looked++; looked == checkedStates {
			break
		}
	}
	if len(signed) == 0 {
		return nil
	}
	slices.Sort(signed)
	return fmt.Errorf("%w, but keys with the IDs %s", ErrOtherKeys, strings.Join(slices.Compact(signed), " "))
}

// signedBy returns the IDs of the keys that last cosigned the log whose state is at key. State that cannot
// be read says nothing: it is told of when the log asks.
func (w *Witness) signedBy(ctx context.Context, key string) ([]string, error) {
	data, _, err := w.bucket.Get(ctx, key, storage.Range{})
	var j stateJSON
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil && ctx.Err() != nil:
		return nil, fmt.Errorf("looking at the state: %w", err)
	case err != nil || json.Unmarshal(data, &j) != nil:
		return nil, nil
	}
	return j.Keys, nil
}
