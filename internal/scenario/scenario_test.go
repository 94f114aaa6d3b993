package scenario_test

import (
	"slices"
	"testing"

	"tallywood/monitor"
	"tallywood/monitor/rule"
)

// A scenario is a rule, one story that it is for, and one that is nearly the same.
type scenario struct {
	rule     rule.ID
	what     string // happens, if the rule has several scenarios
	settings string // of the configuration

	trigger func(*stage) // the rule must fire on it, and nothing else that is more than information
	near    func(*stage) // nothing must be said of it that is more than information, nor by the rule

	beside []rule.ID // rules that fire with it on the trigger, or may: they are for the same thing
}

// scenarios has at least one scenario for each rule.
var scenarios = concat(logScenarios, witnessScenarios, trustScenarios, identityScenarios, buildScenarios,
	memoryScenarios, authorizeScenarios, entryScenarios, crossScenarios, incidents)

func concat(lists ...[]scenario) (all []scenario) {
	for _, l := range lists {
		all = append(all, l...)
	}
	return all
}

func TestEveryRuleHasAScenario(t *testing.T) {
	has := map[rule.ID]bool{}
	for _, s := range scenarios {
		if _, ok := rule.Lookup(s.rule); !ok {
			t.Errorf("rule %s is not in the catalogue", s.rule)
		}
		has[s.rule] = true
	}
	for _, r := range rule.All() {
		if !has[r.ID] {
			t.Errorf("rule %s has no scenario", r.ID)
		}
	}
}

// TestRulesFireOnWhatTheyAreForAlone plays each scenario.
func TestRulesFireOnWhatTheyAreForAlone(t *testing.T) {
	for _, sc := range scenarios {
		name := string(sc.rule)
		if sc.what != "" {
			name += "/" + sc.what
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			t.Run("trigger", func(t *testing.T) { sc.fires(t) })
			t.Run("near miss", func(t *testing.T) { sc.isSilent(t) })
		})
	}
}

func (sc scenario) fires(t *testing.T) {
	s := play(t, sc.settings, sc.trigger)
	fired := s.fired(sc.rule)
	if len(fired) == 0 {
		t.Errorf("the rule is silent; told was%s", summary(s.told))
	}
	told := map[string]bool{}
	for _, e := range s.told {
		if told[e.ID] {
			t.Errorf("told of twice was%s", summary([]monitor.Event{e}))
		}
		told[e.ID] = true
	}
	expected := append([]rule.ID{sc.rule}, sc.beside...)
	for _, e := range s.alerts() {
		if !slices.Contains(expected, e.Rule) {
			t.Errorf("told besides was%s", summary(s.told))
			break
		}
	}
	r, _ := rule.Lookup(sc.rule)
	for _, e := range fired {
		if e.Severity < r.Severity {
			t.Errorf("%s fired as %s, the catalogue says %s", sc.rule, e.Severity, r.Severity)
		}
		if e.Evidence == "" || e.Summary == "" || e.ID == "" {
			t.Errorf("an event without evidence or summary: %+v", e)
		}
	}
}

func (sc scenario) isSilent(t *testing.T) {
	s := play(t, sc.settings, sc.near)
	if fired := s.fired(sc.rule); len(fired) > 0 {
		t.Errorf("the rule fired%s", summary(fired))
	}
	if alerts := s.alerts(); len(alerts) > 0 {
		t.Errorf("told was%s", summary(alerts))
	}
}
