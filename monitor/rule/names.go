package rule

import (
	"slices"
	"time"
)

// Watches reports whether s has an identity of that name. A nil Set has none.
func (s *Set) Watches(identity string) bool {
	return s != nil && slices.ContainsFunc(s.watches, func(w *watch) bool { return w.Name == identity })
}

// Moment returns when an entry of s was made, as far as certificate and cosignatures tell; zero if
// that is not known.
func (s *Signer) Moment(at Times) time.Time {
	t, _ := s.moment(at)
	return t
}
