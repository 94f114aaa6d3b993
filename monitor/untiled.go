package monitor

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"tallywood/witness/policy"
)

const (
	maxTreeHead    = 64 << 10         // bytes of an answer to get-sth
	untiledTimeout = 10 * time.Second // of both requests
)

// untiled says why a log of trust material of which no checkpoint was ever verified cannot be followed:
// it has none, and answers as a log of RFC 6962, with a tree head that its key has signed. Nobody else
// can have a log left out by that. Empty: it can be followed, or not be reached, which the following
// tells; once that is told and delivered, it is asked again.
func (m *Monitor) untiled(ctx context.Context, l Log) string {
	if l.Kind != KindCT || m.settled(l.Origin) {
		return ""
	}
	t, err := m.newTail(l)
	if err != nil || t.key.Alg() != policy.AlgRFC6962 {
		return ""
	}
	if st, err := t.journal.load(ctx); err != nil || st.Checkpoint != "" || len(st.Outbox)+len(st.Parcels) > 0 {
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

// settled reports whether a log is followed and need not be asked what it is: the configuration has it,
// or a checkpoint of it was verified, or it is looked at only once.
func (m *Monitor) settled(origin string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	at := m.position(origin)
	if at < 0 {
		return false
	}
	st := m.tails[at].journal.peek()
	return m.start == nil || !m.tails[at].listed || st != nil && st.Checkpoint != ""
}

// unfollow has a log followed no more, if it was. What there is to deliver of it still is.
func (m *Monitor) unfollow(origin string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	at := m.position(origin)
	if at < 0 {
		return
	}
	t := m.tails[at]
	m.tails = slices.Delete(m.tails, at, at+1)
	t.stop()
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
