package authorize

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"tallywood/log/verify"
	"tallywood/storage"
)

const (
	refreshURL  = time.Minute     // between two looks at a URL when nothing is urgent
	refreshFile = 2 * time.Second // at a file
	keptVersion = 1
	maxKept     = 64 << 20 // bytes of what is kept of a source
)

// bundleEnding is what the file with the bundle of a manifest has after the manifest's name.
const bundleEnding = ".sigstore.json"

// A source is one manifest, as it changes.
type source struct {
	at       location
	verifier *Verifier
	bucket   storage.Bucket
	key      string // of what is kept of it
	http     *http.Client

	verified atomic.Pointer[Verified] // the newest that counts; nil: none

	mu      sync.Mutex // for all below; held while the source is looked at
	loaded  bool
	kept    kept
	version storage.Version // of kept
	looked  time.Time       // when the last look began
	asked   time.Time       // when the last one past caches did
	err     error           // why the source cannot be used, at the last look
}

// kept is what is kept of a source between two runs: the newest manifest that counted, so that an
// older one is told from it.
type kept struct {
	Version  int        `json:"v"`
	Source   string     `json:"source"` // to read by people
	Manifest string     `json:"manifest"`
	Bundle   string     `json:"bundle,omitempty"`
	Known    validators `json:"known"`
}

func newSource(at location, v *Verifier, o Options) *source {
	full := at.path
	if at.url != nil {
		full = at.url.String()
	}
	sum := sha256.Sum256([]byte(full + "\n" + v.name))
	return &source{at: at, verifier: v, bucket: o.State, key: o.Prefix + "/" + hex.EncodeToString(sum[:]), http: o.HTTP}
}

// refresh looks at the source unless that was done of late, and returns why it cannot be used.
func (s *source) refresh(ctx context.Context, fresh bool) error {
	began := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	interval := refreshFile
	if s.at.url != nil {
		interval = refreshURL
	}
	switch {
	case fresh && s.asked.After(began): // while we waited for our turn
		return s.err
	case !fresh && !s.looked.IsZero() && began.Sub(s.looked) < interval:
		return s.err
	}
	s.looked = time.Now()
	if fresh {
		s.asked = s.looked
	}
	err := s.look(ctx, fresh)
	if err != nil && ctx.Err() != nil { // that says nothing about the source
		s.looked, s.asked = time.Time{}, time.Time{}
		return ctx.Err()
	}
	if s.err = nil; err != nil {
		s.err = fmt.Errorf("authorizations in %s cannot be used: %w", s.at, err)
	}
	return s.err
}

// look reads the manifest and has it count if it comes after the one that does.
func (s *source) look(ctx context.Context, fresh bool) error {
	if err := s.load(ctx); err != nil {
		return err
	}
	err := s.advance(ctx, fresh)
	if errors.Is(err, storage.ErrPrecondition) { // another monitor keeps it too, and was faster
		if err = s.load(ctx); err == nil {
			err = s.advance(ctx, fresh)
		}
	}
	return err
}

// advance has the manifest that is there now count, if it may.
func (s *source) advance(ctx context.Context, fresh bool) error {
	next, v, err := s.open(ctx, fresh)
	if err != nil && !errors.Is(err, errUnchanged) {
		// A cache may be to blame, or it was being replaced.
		next, v, err = s.open(ctx, true)
	}
	switch {
	case errors.Is(err, errUnchanged):
		return nil
	case err != nil:
		return err
	}
	if err := s.keep(ctx, next); err != nil {
		return err
	}
	s.verified.Store(v)
	return nil
}

// open reads the manifest once and verifies it, and that it may come after the one that counts.
func (s *source) open(ctx context.Context, fresh bool) (kept, *Verified, error) {
	next, err := s.read(ctx, fresh)
	if err != nil {
		return next, nil, err
	}
	if s.verified.Load() != nil && next.Manifest == s.kept.Manifest && next.Bundle == s.kept.Bundle {
		return next, nil, errUnchanged
	}
	v, err := s.verifier.Open([]byte(next.Manifest), []byte(next.Bundle))
	if err != nil {
		return next, nil, err
	}
	if old := s.verified.Load(); old != nil {
		err = v.manifest.follows(old.manifest, time.Now())
	}
	return next, v, err
}

// read returns what the source has, or errUnchanged.
func (s *source) read(ctx context.Context, fresh bool) (kept, error) {
	known := s.kept.Known
	if s.err != nil || s.verified.Load() == nil {
		known = validators{} // what it is told from did not count
	}
	data, now, err := s.at.read(ctx, s.http, MaxManifest, known, fresh)
	if err != nil {
		return kept{}, err
	}
	next := kept{Version: keptVersion, Source: s.at.String(), Manifest: string(data), Known: now}
	if s.verifier.bundle == nil {
		return next, nil
	}
	beside := s.at.beside(bundleEnding)
	data, _, err = beside.read(ctx, s.http, verify.MaxBundle, validators{}, fresh)
	if err != nil {
		return kept{}, fmt.Errorf("reading its bundle %s: %w", beside, err)
	}
	next.Bundle = string(data)
	return next, nil
}

// load reads what was kept of the source, once. Of a manifest that does not verify any more, as other
// keys count now, nothing is left.
func (s *source) load(ctx context.Context) error {
	if s.loaded {
		return nil
	}
	data, version, err := s.bucket.Get(ctx, s.key, storage.Range{Length: maxKept + 1})
	if errors.Is(err, fs.ErrNotExist) {
		s.loaded, s.version = true, ""
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading what was kept of it: %w", err)
	}
	var k kept
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&k); err != nil || dec.More() || k.Version != keptVersion {
		return fmt.Errorf("what was kept of it, at %q, cannot be read: %w", s.key, errors.Join(err, fmt.Errorf("version %d", k.Version)))
	}
	s.loaded, s.version = true, version
	v, err := s.verifier.Open([]byte(k.Manifest), []byte(k.Bundle))
	if err != nil {
		return nil
	}
	s.kept = k
	if old := s.verified.Load(); old == nil || v.manifest.follows(old.manifest, time.Now()) == nil {
		s.verified.Store(v)
	}
	return nil
}

// keep writes what is kept of the source, unless another monitor has.
func (s *source) keep(ctx context.Context, next kept) error {
	data, err := json.Marshal(next)
	if err != nil {
		return fmt.Errorf("keeping it: %w", err)
	}
	cond := storage.Match(s.version)
	if s.version == "" {
		cond = storage.Absent()
	}
	s.loaded = false // until the outcome is known
	version, err := s.bucket.Put(ctx, s.key, data, storage.PutOptions{If: cond, ContentType: "application/json", CacheControl: "private, no-store"})
	if err != nil {
		return fmt.Errorf("keeping it: %w", err)
	}
	s.loaded, s.kept, s.version = true, next, version
	return nil
}
