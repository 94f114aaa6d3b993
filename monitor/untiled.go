package monitor

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"tallywood/witness/policy"
)

const (
	maxTreeHead    = 64 << 10         // bytes of an answer to get-sth
	untiledTimeout = 10 * time.Second // of both requests
)

// untiled says why a log of trust material that was never followed cannot be: it has no checkpoint, and
// answers as a log of RFC 6962, with a tree head that its key has signed. Nobody else can have a log
// left out by that. Empty: it can be followed, or not be reached, which the following tells.
func (m *Monitor) untiled(ctx context.Context, l Log) string {
	if l.Kind != KindCT || m.follows(l.Origin) {
		return ""
	}
	t, err := m.newTail(l)
	if err != nil || t.key.Alg() != policy.AlgRFC6962 {
		return ""
	}
	if st, err := t.journal.load(ctx); err != nil || st.Checkpoint != "" {
		return ""
	}
	ctx, cancel := context.WithTimeout(ctx, untiledTimeout)
	defer cancel()
	_, err = t.source.attempt(ctx, nil, "checkpoint", maxCheckpoint, false)
	var fe *fetchError
	if !errors.As(err, &fe) || fe.Status < 400 || fe.Status >= 500 || fe.Status == http.StatusTooManyRequests || fe.Status == http.StatusRequestTimeout {
		return ""
	}
	answer, err := t.source.attempt(ctx, nil, "ct/v1/get-sth", maxTreeHead, false)
	if err == nil {
		err = t.verifyTreeHead(answer)
	}
	if err != nil {
		return ""
	}
	return "it is a certificate log of RFC 6962, which has no tiles to verify"
}

// follows reports whether a log is followed already.
func (m *Monitor) follows(origin string) bool {
	for _, t := range m.all() {
		if t.cfg.Origin == origin {
			return true
		}
	}
	return false
}

// verifyTreeHead verifies an answer to get-sth (RFC 6962, section 4.3), as a checkpoint that says the
// same is verified.
//
//	> struct { uint64 timestamp; TreeHeadSignature signature; } RFC6962NoteSignature; (c2sp.org/static-ct-api)
func (t *tail) verifyTreeHead(answer []byte) error {
	var head struct {
		Size      int64  `json:"tree_size"`
		Timestamp uint64 `json:"timestamp"`
		Root      []byte `json:"sha256_root_hash"`
		Signature []byte `json:"tree_head_signature"`
	}
	if err := json.Unmarshal(answer, &head); err != nil {
		return fmt.Errorf("reading tree head: %w", err)
	}
	text := fmt.Sprintf("%s\n%d\n%s\n", t.cfg.Origin, head.Size, base64.StdEncoding.EncodeToString(head.Root))
	_, err := t.key.Verify(text, append(binary.BigEndian.AppendUint64(nil, head.Timestamp), head.Signature...))
	if err != nil {
		return fmt.Errorf("verifying tree head: %w", err)
	}
	return nil
}
