package rule

import "slices"

// Watches reports whether s has an identity of that name. A nil Set has none.
func (s *Set) Watches(identity string) bool {
	return s != nil && slices.ContainsFunc(s.watches, func(w *watch) bool { return w.Name == identity })
}
