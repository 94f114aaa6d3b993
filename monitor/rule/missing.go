package rule

import "time"

// missingGrace is how long after it was authorized a signature may be missing.
const missingGrace = time.Hour

// Missing says how id.missing is told of an identity.
type Missing struct {
	Grace  time.Duration // since the digest was authorized
	Notify []string      // names of sinks, empty for all
}

// Missing returns the identities for which id.missing is on, by name. The caller must not change it.
func (s *Set) Missing() map[string]Missing {
	if s == nil {
		return nil
	}
	return s.missing
}

// missingOf collects what Missing returns.
func missingOf(watches []*watch) map[string]Missing {
	out := map[string]Missing{}
	for _, w := range watches {
		p, on := w.rule(IDMissing)
		if !on {
			continue
		}
		if p.Grace == 0 {
			p.Grace = missingGrace
		}
		out[w.Name] = Missing{Grace: p.Grace, Notify: w.Identity.Notify}
	}
	return out
}
