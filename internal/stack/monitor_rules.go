package stack

import (
	"fmt"
	"time"

	"tallywood/internal/config"
	"tallywood/internal/keys"
	"tallywood/monitor/rule"
)

// monitorRules returns the compiled identities, nil if there are none.
func monitorRules(m *config.Monitor) (*rule.Set, error) {
	if len(m.Identities) == 0 {
		return nil, nil
	}
	ids := make([]rule.Identity, len(m.Identities))
	for i, id := range m.Identities {
		ids[i] = rule.Identity{Name: id.Name, Email: id.Email, Domain: id.Domain, SAN: id.SAN, Regex: id.Regex,
			GitHub: id.GitHub, GitLab: id.GitLab, Key: id.Key, Kubernetes: id.Kubernetes,
			RepositoryID: id.RepositoryID, OwnerID: id.OwnerID,
			Expect: rule.Expect{Issuers: id.Expect.Issuers, Workflows: id.Expect.Workflows, Refs: id.Expect.Refs,
				Triggers: id.Expect.Triggers, Runner: id.Expect.Runner, Environments: id.Expect.Environments},
			Rules: ruleParams(id.Rules), Notify: id.Notify}
		if a := id.Expect.Authorize; a != nil {
			ids[i].Expect.Authorize, ids[i].Expect.Grace, ids[i].Expect.Certificates = a.Required, time.Duration(a.Grace), a.Certificates
		}
	}
	o := rule.Options{Identities: ids}
	if m.CAs != "" {
		var err error
		if o.CAs, err = keys.ReadChain(m.CAs); err != nil {
			return nil, fmt.Errorf("reading cas: %w", err)
		}
	}
	return rule.New(o)
}

func ruleParams(named map[string]config.RuleParams) map[rule.ID]rule.Params {
	params := make(map[rule.ID]rule.Params, len(named))
	for name, p := range named {
		params[rule.ID(name)] = rule.Params{Off: p.Off, Max: p.Max, Window: time.Duration(p.Window), After: time.Duration(p.After),
			Grace: time.Duration(p.Grace), Allow: p.Allow, Keys: p.Keys, Witnesses: p.Witnesses, File: p.File,
			Hours: p.Hours, Days: p.Days, Zone: p.Zone}
	}
	return params
}
