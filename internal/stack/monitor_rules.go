package stack

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"tallywood/internal/config"
	"tallywood/monitor/rule"
)

// monitorRules returns the compiled identities, nil if there are none and nothing is audited.
func monitorRules(m *config.Monitor) (*rule.Set, error) {
	_, rules := splitRules(m)
	if len(m.Identities) == 0 && !m.Audit {
		errs := []error{rule.CheckRules(rules)}
		for id := range rules {
			if _, known := rule.Lookup(id); known {
				errs = append(errs, fmt.Errorf("rule %q is about identities, and none is watched", id))
			}
		}
		return nil, errors.Join(errs...)
	}
	ids := make([]rule.Identity, len(m.Identities))
	for i, id := range m.Identities {
		ids[i] = rule.Identity{Name: id.Name, Email: id.Email, Domain: id.Domain, SAN: id.SAN, Regex: id.Regex,
			GitHub: id.GitHub, GitLab: id.GitLab, Key: id.Key, Kubernetes: id.Kubernetes,
			RepositoryID: id.RepositoryID, OwnerID: id.OwnerID,
			Expect: rule.Expect{Issuers: id.Expect.Issuers, Workflows: id.Expect.Workflows, Refs: id.Expect.Refs,
				Triggers: id.Expect.Triggers, Runner: id.Expect.Runner, Environments: id.Expect.Environments},
			Rules: ruleParams(id.Rules), Notify: id.Notify}
		if e := id.Extension; e != nil {
			ids[i].Extension = rule.Extension{ID: e.ID, Values: e.Values}
		}
		if a := id.Expect.Authorize; a != nil {
			ids[i].Expect.Authorize, ids[i].Expect.Grace, ids[i].Expect.Certificates = a.Required, time.Duration(a.Grace), a.Certificates
		}
	}
	o := rule.Options{Identities: ids, Rules: rules, Audit: m.Audit}
	if err := readTrust(m, &o); err != nil {
		return nil, err
	}
	return rule.New(o)
}

// splitRules returns the rules that are named for the whole configuration: those about logs, and all
// others.
func splitRules(m *config.Monitor) (logs, entries map[rule.ID]rule.Params) {
	logs, entries = map[rule.ID]rule.Params{}, map[rule.ID]rule.Params{}
	for id, p := range ruleParams(m.Rules) {
		if r, _ := rule.Lookup(id); r.PerLog {
			logs[id] = p
		} else {
			entries[id] = p
		}
	}
	return logs, entries
}

// ExplainMonitor returns what the configuration of a monitor means that is not to be seen in it, in
// lines for people: the rules that are on and have nothing to compare with.
func ExplainMonitor(m *config.Monitor) ([]string, error) {
	rules, err := monitorRules(m)
	if err != nil {
		return nil, err
	}
	lines := silences(rules)
	for i, line := range lines {
		lines[i] = "silent, for want of something to compare with: " + line
	}
	return lines, nil
}

// silences returns a line for each identity with rules that are silent.
func silences(rules *rule.Set) []string {
	var lines []string
	last := ""
	for _, s := range rules.Silent() {
		item := fmt.Sprintf("%s (%s)", s.Rule, s.Needs)
		if n := len(lines); n > 0 && s.Identity == last {
			lines[n-1] += ", " + item
			continue
		}
		last = s.Identity
		lines = append(lines, fmt.Sprintf("%s: %s", strings.TrimSpace(s.Identity), item))
	}
	return lines
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
