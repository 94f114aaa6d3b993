package rekor

import (
	"encoding/base64"
	"encoding/json"
	"strconv"
	"sync"

	"tallywood/log"
	"tallywood/log/entry"
)

// render returns the TransparencyLogEntry of a receipt (dev.sigstore.rekor.v1, as protojson with
// unset fields writes it): 64-bit numbers are strings, bytes padded base64. The times are unset,
// as in every Rekor v2 log, and there is one index, the log's own.
func (h *handler) render(r log.Receipt) []byte {
	root := r.Checkpoint.Root()
	note := h.notes.json(r.Checkpoint.NoteString())
	enc := base64.StdEncoding
	b := make([]byte, 0, 512+64*len(r.Hashes)+len(note)+enc.EncodedLen(len(r.Body)))
	b = append(b, `{"logIndex":"`...)
	b = strconv.AppendInt(b, r.Index, 10)
	b = append(b, `","logId":{"keyId":"`...)
	b = enc.AppendEncode(b, h.o.LogID[:])
	b = append(b, `"},"kindVersion":{"kind":"`+entry.Kind+`","version":"`+entry.Version+`"},`...)
	b = append(b, `"integratedTime":"0","inclusionPromise":null,"inclusionProof":{"logIndex":"`...)
	b = strconv.AppendInt(b, r.Index, 10)
	b = append(b, `","rootHash":"`...)
	b = enc.AppendEncode(b, root[:])
	b = append(b, `","treeSize":"`...)
	b = strconv.AppendInt(b, r.Checkpoint.Size(), 10)
	b = append(b, `","hashes":[`...)
	for i, hash := range r.Hashes {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, '"')
		b = enc.AppendEncode(b, hash)
		b = append(b, '"')
	}
	b = append(b, `],"checkpoint":{"envelope":`...)
	b = append(b, note...)
	b = append(b, `}},"canonicalizedBody":"`...)
	b = enc.AppendEncode(b, r.Body)
	return append(b, `"}`...)
}

// A noteCache keeps the JSON string of the note rendered last: all receipts under one checkpoint
// have the same, and with post-quantum cosignatures it is long.
type noteCache struct {
	mu   sync.Mutex
	note string
	text []byte
}

func (c *noteCache) json(note string) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.text == nil || c.note != note {
		text, err := json.Marshal(note)
		if err != nil { // strings always marshal
			text = []byte(`""`)
		}
		c.note, c.text = note, text
	}
	return c.text
}
