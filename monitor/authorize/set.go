package authorize

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"tallywood/monitor"
	"tallywood/monitor/rule"
	"tallywood/storage"
)

// Options configure a Set.
type Options struct {
	Identities []Identity     // at least one
	State      storage.Bucket // private; what is in it tells an older manifest from a newer one
	Prefix     string         // of keys in State; empty: "authorizations"
	HTTP       *http.Client   // nil: no redirects to other hosts
}

// An Identity and where its owner says what is meant to be signed with it.
type Identity struct {
	Name     string
	From     []string // paths, or URLs of https or of this machine; at least one
	Verifier *Verifier
}

// A Set knows the manifests of identities. It is safe for concurrent use.
type Set struct {
	sources    []*source
	identities map[string][]*source
}

var _ monitor.Authorizations = (*Set)(nil)

// New checks o. It does no I/O: before the first [Set.Refresh] nothing is explained.
func New(o Options) (*Set, error) {
	var errs []error
	if o.State == nil {
		errs = append(errs, errors.New("no state bucket"))
	}
	if len(o.Identities) == 0 {
		errs = append(errs, errors.New("no identities to authorize"))
	}
	if o.Prefix == "" {
		o.Prefix = "authorizations"
	}
	if o.HTTP == nil {
		o.HTTP = defaultClient()
	}
	errs = append(errs, storage.CheckKey(o.Prefix))
	s := &Set{identities: map[string][]*source{}}
	for _, id := range o.Identities {
		if err := s.add(id, o); err != nil {
			errs = append(errs, fmt.Errorf("authorizations of identity %q: %w", id.Name, err))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return s, nil
}

// add adds the sources of an identity; one that another has too is looked at once for both.
func (s *Set) add(id Identity, o Options) error {
	switch {
	case id.Verifier == nil:
		return errors.New("nobody's signature counts on them")
	case len(id.From) == 0:
		return errors.New("no file or URL with a manifest")
	case s.identities[id.Name] != nil:
		return errors.New("they are there twice")
	}
	for _, from := range id.From {
		at, err := parseLocation(from)
		if err != nil {
			return err
		}
		src := newSource(at, id.Verifier, o)
		i := slices.IndexFunc(s.sources, func(other *source) bool { return other.key == src.key })
		if i >= 0 {
			src = s.sources[i]
		} else {
			s.sources = append(s.sources, src)
		}
		s.identities[id.Name] = append(s.identities[id.Name], src)
	}
	return nil
}

// Refresh implements monitor.Authorizations.
func (s *Set) Refresh(ctx context.Context, fresh bool) error {
	errs := make([]error, len(s.sources))
	var wg sync.WaitGroup
	for i, src := range s.sources {
		wg.Go(func() { errs[i] = src.refresh(ctx, fresh) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// Digests implements monitor.Authorizations.
func (s *Set) Digests(identity string) []monitor.Authorized {
	var out []monitor.Authorized
	for _, src := range s.identities[identity] {
		if v := src.verified.Load(); v != nil {
			out = append(out, v.digests...)
		}
	}
	return out
}

// Explains implements monitor.Authorizations.
func (s *Set) Explains(identity string, f rule.Facts, at time.Time) bool {
	return slices.ContainsFunc(s.identities[identity], func(src *source) bool {
		v := src.verified.Load()
		return v != nil && v.explains(f, at)
	})
}
