package witness

import (
	"fmt"
	"strings"
	"sync"

	"tallywood/storage"
	"tallywood/witness/policy"
)

// maxRendered bounds the notes that are kept ready for the monitoring prefix, of about 4 KiB each.
const maxRendered = 256

// notes are the complete notes that were served lately, by origin hash. Who asks for the same note
// over and over does not make us sign it over and over.
type notes struct {
	mu sync.Mutex
	of map[string]renderedNote
}

type renderedNote struct {
	version storage.Version // of the state
	note    string
}

func (n *notes) get(hash string, version storage.Version) (string, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	r, ok := n.of[hash]
	return r.note, ok && r.version == version
}

func (n *notes) put(hash string, version storage.Version, note string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.of == nil {
		n.of = map[string]renderedNote{}
	}
	if _, ok := n.of[hash]; !ok && len(n.of) >= maxRendered {
		for old := range n.of { // any
			delete(n.of, old)
			break
		}
	}
	n.of[hash] = renderedNote{version, note}
}

// render returns the note of a durable state with all cosignatures that were answered. Most are not
// in the state, so that it can be written while they are made: they follow from it, as our keys sign
// the same text and time with the same bytes always.
func (w *Witness) render(e *entry, s state, version storage.Version) (string, error) {
	if s.Note == "" || len(s.Keys) == 0 {
		return s.Note, nil
	}
	if note, ok := w.rendered.get(e.hash, version); ok {
		return note, nil
	}
	_, derived, err := w.stateLines(s)
	if err != nil {
		return "", fmt.Errorf("signing once more what was cosigned of %q: %w", e.origin, err)
	}
	w.rendered.put(e.hash, version, s.Note+derived)
	return s.Note + derived, nil
}

// stateLines returns the lines with which a state was answered: those that are in its note, and
// those that are derived.
func (w *Witness) stateLines(s state) (kept, derived string, err error) {
	n, err := policy.ParseNote([]byte(s.Note))
	if err != nil {
		return "", "", err
	}
	var missing []*ownKey
	for _, id := range s.Keys {
		k := w.signer.byID(id)
		if line := lineOf(n, w.signer.name, id); line != "" {
			kept += line
		} else if k != nil && k.signer != nil {
			missing = append(missing, k)
		} else if _, said := w.lost.LoadOrStore(id, true); !said {
			w.log.Error("own key is missing: what it last cosigned is served without its line; list it among the keys again", "key", id)
		}
	}
	derived, err = w.signer.cosign(missing, n.Text, policy.Tree{Origin: s.Origin, Size: s.Size, Root: s.Root}, s.Timestamp)
	return kept, derived, err
}

// lineOf returns the line of the key with an ID in n, or "".
func lineOf(n policy.Note, name, id string) string {
	for _, sig := range n.Signatures {
		if sig.Name == name && fmt.Sprintf("%08x", sig.KeyID) == id {
			return sig.Line + "\n"
		}
	}
	return ""
}

// textOf returns the text of a note that is known to parse.
func textOf(note string) string { return note[:strings.LastIndex(note, "\n\n")+1] }
