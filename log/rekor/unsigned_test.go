package rekor_test

import (
	"errors"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/mod/sumdb/note"

	"tallywood/internal/bubble"
	"tallywood/log"
	"tallywood/log/rekor"
)

// farSigner is the signer of a key elsewhere, which may be out of reach.
type farSigner struct {
	note.Signer
	down atomic.Bool
}

func (s *farSigner) Sign(msg []byte) ([]byte, error) {
	if s.down.Load() {
		return nil, errors.New("no answer in time")
	}
	return s.Signer.Sign(msg)
}

// TestKeyOutOfReach: 503 with the reason while the log's key does not sign; then the retry gets the
// entry that was logged.
func TestKeyOutOfReach(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		far := new(farSigner)
		s := run(t, nil, func(o *log.Options, _ *rekor.Options) {
			far.Signer = o.Signers[0]
			o.Signers[0] = far
		})
		c := newClient(t)
		post := func(request []byte) reply { return record(s.http, "POST", "/api/v2/log/entries", request) }
		far.down.Store(true)
		request := c.request("during")
		r := post(request)
		if message := r.message(t, 14); r.status != 503 || r.header.Get("Retry-After") == "" || !strings.Contains(message, "is logged, but the log's key does not sign") {
			t.Errorf("%d %v %s", r.status, r.header, message)
		}
		far.down.Store(false)
		eventually(t, "the key to sign", func() bool { r = post(request); return r.status == 201 })
		if e := s.accept(r, request); e.LogIndex != 0 {
			t.Errorf("logged again at %d", e.LogIndex)
		}
	})
}
