package rule

import "slices"

// A Silence is a rule that is on for an identity and cannot fire, because there is nothing to compare
// with.
type Silence struct {
	Identity string
	Rule     ID
	Needs    string // what of the configuration would give it something
}

// Silent returns the rules that are on by default and silent, by identity and in the order of the
// catalogue. Rules about builds are not listed for identities that are none.
func (s *Set) Silent() []Silence {
	if s == nil {
		return nil
	}
	var out []Silence
	for _, w := range s.watches {
		kind, _ := w.kind()
		build := slices.Contains(builds, kind)
		x := w.Expect
		for _, r := range []struct {
			id    ID
			has   bool
			of    bool
			needs string
		}{
			{IDUnexpected, len(x.Issuers) > 0, true, "expect.issuers"},
			{IDNoIssuer, len(x.Issuers) > 0, true, "expect.issuers"},
			{IDUnknownCA, s.cas != nil, true, "cas"},
			{IDUnexpectedWorkflow, len(x.Workflows) > 0, build, "expect.workflows"},
			{IDUnexpectedRef, len(x.Refs) > 0, build, "expect.refs"},
			{IDUnexpectedTrigger, len(x.Triggers) > 0, build, "expect.triggers"},
			{IDRepoIDMismatch, w.RepositoryID+w.OwnerID != "", build, "repository_id or owner_id"},
			{IDUnauthorized, x.Authorize, true, "expect.authorize"},
			{IDSelfHosted, x.Runner != "", build, "expect.runner"},
			{IDUnexpectedEnv, len(x.Environments) > 0, build, "expect.environments"},
		} {
			if r.of && !r.has && w.on(r.id) {
				out = append(out, Silence{w.Name, r.id, r.needs})
			}
		}
	}
	return out
}
