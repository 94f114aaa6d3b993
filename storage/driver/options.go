package driver

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"

	"tallywood/storage"
)

// maxUnpublished is how many entries may be committed or queued but not published.
const maxUnpublished = 65_536

// check returns o with defaults filled in, and the verifier of Signers[0].
func (o Options) check() (Options, note.Verifier, error) {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if o.Bucket == nil {
		bad("no bucket")
	}
	if err := storage.CheckKey(o.Name); err != nil || strings.Contains(o.Name, "/") {
		bad("name %q is not one path segment", o.Name)
	}
	if o.Layout.Split == nil || o.Layout.LeafHash == nil || o.Layout.EntriesPath == nil || o.Layout.maxEntry == 0 {
		bad("no layout")
	}
	if len(o.URL) > maxURL {
		bad("URL of %d bytes is longer than %d", len(o.URL), maxURL)
	}
	if o.BatchMaxSize < 0 || o.MaxOutstanding < 0 || o.MaxOutstandingBytes < 0 || o.CommitInterval < 0 || o.PublishInterval < 0 || o.MaxQueueAge < 0 {
		bad("negative limit or interval")
	}
	if (o.Sizes == nil) != (o.Satisfied == nil) || o.Sizes != nil && o.Cosign == nil {
		bad("Sizes and Satisfied go together, and with Cosign")
	}
	verifier, err := o.checkKeys()
	if err != nil {
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return Options{}, nil, fmt.Errorf("checking options of log %q: %w", o.Name, err)
	}
	o.GCInterval = cmp.Or(o.GCInterval, time.Minute)
	o.GCKeepAge = cmp.Or(o.GCKeepAge, time.Hour)
	o.GCKeepSlots = cmp.Or(o.GCKeepSlots, 1000)
	o.SuspectAfter = cmp.Or(o.SuspectAfter, time.Second)
	o.QuorumTimeout = cmp.Or(o.QuorumTimeout, 3*time.Second)
	o.LateTimeout = max(cmp.Or(o.LateTimeout, 30*time.Second), o.QuorumTimeout)
	o.FullInterval = cmp.Or(o.FullInterval, time.Second)
	o.Republish = cmp.Or(o.Republish, 10*time.Minute)
	o.DrainTimeout = cmp.Or(o.DrainTimeout, 10*time.Second)
	o.BatchMaxAge = cmp.Or(o.BatchMaxAge, 10*time.Millisecond)
	o.BatchMaxSize = cmp.Or(o.BatchMaxSize, 4096)
	o.MaxOutstanding = cmp.Or(o.MaxOutstanding, 16_384)
	o.MaxOutstandingBytes = cmp.Or(o.MaxOutstandingBytes, 64<<20)
	o.MaxQueueAge = cmp.Or(o.MaxQueueAge, 2*time.Second)
	if o.MaxUnpublished == 0 {
		o.MaxUnpublished = 5*time.Second + o.PublishInterval
		if o.Layout.indexed {
			o.MaxUnpublished = 60 * time.Second
		}
	}
	o.Log = cmp.Or(o.Log, slog.New(slog.DiscardHandler))
	return o, verifier, nil
}

func (o Options) checkKeys() (note.Verifier, error) {
	if len(o.Signers) == 0 || len(o.VKeys) < len(o.Signers) {
		return nil, errors.New("no signer, or a signer without vkey")
	}
	for _, s := range o.Signers {
		if s.Name() != o.Origin {
			return nil, fmt.Errorf("signer is named %q, not %q", s.Name(), o.Origin)
		}
	}
	v, err := note.NewVerifier(o.VKeys[0])
	if err != nil {
		return nil, fmt.Errorf("parsing vkey: %w", err)
	}
	if v.Name() != o.Origin || v.KeyHash() != o.Signers[0].KeyHash() {
		return nil, errors.New("the first vkey is not the first signer's")
	}
	return v, nil
}
