package e2e_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"tallywood/witness/conformance"
)

var updateConformance = flag.Bool("update-conformance", false, "write docs/conformance.md as the witnesses answer now")

// conformanceDate is when docs/conformance.md was last written.
const conformanceDate = "28 November 2026"

// conformancePage is the page, relative to the repository, and its head; its verbs are the date and the
// two versions.
const (
	conformancePage = "docs/conformance.md"
	conformanceHead = `# How three witnesses answer

The conformance suite (` + "`witness/conformance`" + `, see [Running a witness](witness.md)) run on %s
against the programs of three authors: ours, omniwitness (` + "`github.com/transparency-dev/witness/cmd/omniwitness`" + `
%s) with an Ed25519 and an ML-DSA-44 key, and litewitness
(` + "`filippo.io/torchwood/cmd/litewitness`" + ` %s) with its Ed25519 key. The
specifications are those of c2sp.org as of July 2026. ` + "`go test ./internal/e2e -run TestWitnessesOfOthers`" + `
makes this page again and fails where one of them answers otherwise.

A case that fails is set in **bold**: the specification's own words, in the first column, demand another
answer, or, in the last table, the specification is silent and it is ours that is stricter. An answer with
~ is permitted, but not how ours is. Not in the tables are the cases of races, whose outcome depends on
the moment; omniwitness answers 429 there, to writers of one log and to logs in parallel, and the others
never. Nor are the cases that a program lacks what it takes for: neither of the two others has sign-subtree or
serves what it has cosigned.

`
)

// timed are the cases whose outcome depends on the moment, or on who closes a connection first.
func timed(id string) bool {
	return strings.HasPrefix(id, "race/") || id == "http/2-megabytes" || id == "restart/killed-at-work"
}

// TestWitnessesOfOthers runs the suite against the witnesses of two other authors, and compares what
// they answer with docs/conformance.md.
func TestWitnessesOfOthers(t *testing.T) {
	programs := []func(*testing.T, *conformance.Logs) *judged{judgedOurs, judgedOmniwitness, judgedLitewitness}
	reports := make([]conformance.Report, len(programs))
	t.Run("programs", func(t *testing.T) { // at once: they are waited for most of the time
		for i, start := range programs {
			t.Run(fmt.Sprint(i), func(t *testing.T) {
				t.Parallel()
				logs := newThrowAway(t)
				reports[i] = judge(t, logs, start(t, logs))
				if err := reports[i].WriteText(t.Output()); err != nil {
					t.Fatal(err)
				}
			})
		}
	})
	if t.Failed() {
		return
	}
	page := fmt.Sprintf(conformanceHead, conformanceDate, omniwitnessVersion, litewitnessVersion) + compareReports(reports)
	path := filepath.Join(repository, conformancePage)
	if *updateConformance {
		if err := os.WriteFile(path, []byte(page), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if !strings.Contains(readFile(t, repository, "docs/witness.md"), compareNumbers(reports)) {
		t.Errorf("docs/witness.md does not have the numbers as they are now:\n%s", compareNumbers(reports))
	}
	if was := readFile(t, repository, conformancePage); was != page {
		t.Errorf("%s is not as the witnesses answer now; -update-conformance writes it. It would be:\n%s", conformancePage, page)
	}
}

// compareNumbers renders how many cases ended how.
func compareNumbers(reports []conformance.Report) string {
	names := []string{"ours", "omniwitness", "litewitness"}
	var b strings.Builder
	b.WriteString("| | passed | permitted, not as ours | MUST failed | SHOULD failed | stricter cases failed | not asked |\n| --- | --- | --- | --- | --- | --- | --- |\n")
	for i, r := range reports {
		n := map[string]int{}
		for _, x := range r.Results {
			if !timed(x.ID) {
				n[string(x.Outcome)]++
				n[string(x.Outcome)+string(x.Level)]++
			}
		}
		fmt.Fprintf(&b, "| %s | %d | %d | %d | %d | %d | %d |\n", names[i], n["passed"], n["differs"], n["failedmust"], n["failedshould"], n["failedours"], n["skipped"])
	}
	return b.String()
}

// compareReports renders the numbers, and a table for each level of the cases that are not answered alike.
func compareReports(reports []conformance.Report) string {
	var b strings.Builder
	b.WriteString(compareNumbers(reports))
	for _, level := range []struct {
		level conformance.Level
		title string
	}{
		{conformance.Must, "Where the specification says MUST"}, {conformance.Should, "Where it says SHOULD"}, {conformance.Ours, "Where it leaves it open"},
	} {
		fmt.Fprintf(&b, "\n## %s\n\n| the specification | case | ours | omniwitness | litewitness |\n| --- | --- | --- | --- | --- |\n%s", level.title, differences(reports, level.level))
	}
	return b.String()
}

// differences renders the cases of a level that a witness fails or answers otherwise, those of one rule
// that are answered alike in one row.
func differences(reports []conformance.Report, level conformance.Level) string {
	type row struct {
		rule  conformance.Rule
		cells string
		cases []string
	}
	var rows []*row
	for i, ours := range reports[0].Results {
		if ours.Level != level || timed(ours.ID) {
			continue
		}
		cells, differ := "", false
		for _, r := range reports {
			x := r.Results[i]
			cells += " " + cell(x) + " |"
			differ = differ || x.Outcome == conformance.Failed || x.Outcome == conformance.Differs
		}
		if !differ {
			continue
		}
		at := slices.IndexFunc(rows, func(o *row) bool { return o.rule == ours.Rule && o.cells == cells })
		if at < 0 {
			at = len(rows)
			rows = append(rows, &row{rule: ours.Rule, cells: cells})
		}
		rows[at].cases = append(rows[at].cases, ours.ID)
	}
	var b strings.Builder
	for _, r := range rows {
		said := strings.TrimSuffix(r.rule.Spec+", "+r.rule.Section, ", ") + ": " + r.rule.Text
		if r.rule.Spec == "none" {
			said = r.rule.Text
		}
		fmt.Fprintf(&b, "| %s | %s |%s\n", said, strings.Join(r.cases, ", "), r.cells)
	}
	return b.String()
}

// cell is how one witness answered one case.
func cell(r conformance.Result) string {
	got := r.Got
	if status, rest, _ := strings.Cut(got, " "); strings.HasPrefix(rest, "with ") || strings.HasPrefix(rest, "text/") {
		got = status
	}
	switch r.Outcome {
	case conformance.Skipped:
		return "–"
	case conformance.Differs:
		return got + " ~"
	case conformance.Failed:
		if !strings.HasPrefix(r.Detail, "answered ") && !strings.HasPrefix(r.Detail, "no answer") {
			got = strings.TrimPrefix(got+": "+r.Detail, ": ")
		}
		return "**" + got + "**"
	}
	return got
}
