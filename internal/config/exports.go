package config

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
)

// checkExports wants what each witness publishes apart from the storage and from what others publish.
// Paths are resolved by then.
func (c *Config) checkExports() error {
	var errs []error
	others := []string{c.Storage}
	for i, w := range c.Witnesses {
		if w.Export == "" {
			continue
		}
		for _, other := range others {
			if !apart(w.Export, other) {
				errs = append(errs, fmt.Errorf("witness %d: export %s is not apart from %s: one would be lost or restored with the other", i+1, w.Export, other))
			}
		}
		others = append(others, w.Export)
	}
	return errors.Join(errs...)
}

// apart reports whether neither of two buckets, by their locations, is in the other.
func apart(a, b string) bool {
	clean := func(location string) string {
		if IsObjectStore(location) {
			location, _, _ = strings.Cut(location, "?")
			return strings.TrimRight(location, "/") + "/"
		}
		return strings.TrimRight(filepath.ToSlash(filepath.Clean(location)), "/") + "/"
	}
	a, b = clean(a), clean(b)
	return !strings.HasPrefix(a, b) && !strings.HasPrefix(b, a)
}
