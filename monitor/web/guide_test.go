package web_test

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"tallywood/monitor/rule"
	"tallywood/monitor/web"
)

var update = flag.Bool("update", false, "write docs/monitor-rules.md as the rules are now")

// rulesPage is the page that the guides make.
const rulesPage = "../../docs/monitor-rules.md"

// TestEveryRuleHasAGuide keeps a rule from alerting people who are then not told what to do.
func TestEveryRuleHasAGuide(t *testing.T) {
	for _, r := range rule.All() {
		g := web.GuideOf(r.ID)
		for what, text := range map[string]string{"headline": g.Headline, "fires": g.Fires, "example": g.Example} {
			if text == "" {
				t.Errorf("%s has no %s", r.ID, what)
			}
		}
		if !strings.HasSuffix(g.Headline, ".") || len(g.Headline) > 110 || len(g.Mine) == 0 || len(g.Foreign) == 0 {
			t.Errorf("the guide of %s is %+v", r.ID, g)
		}
		for _, p := range r.Params {
			if !strings.Contains(g.Detail, "`"+p+"`") {
				t.Errorf("the guide of %s does not explain its parameter %q", r.ID, p)
			}
		}
	}
}

// TestRulesPageIsTheCatalogue compares docs/monitor-rules.md with the rules.
func TestRulesPageIsTheCatalogue(t *testing.T) {
	want := web.Markdown()
	if *update {
		if err := os.WriteFile(rulesPage, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(rulesPage)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Error("docs/monitor-rules.md is not what the rules are; write it with: go test ./monitor/web -run RulesPage -update")
	}
	for _, r := range rule.All() {
		row := fmt.Sprintf("| [`%s`](#%s) | %s |", r.ID, web.Anchor(r.ID), r.Severity)
		if !strings.Contains(string(got), row) {
			t.Errorf("the table has no row that begins %q", row)
		}
	}
}
