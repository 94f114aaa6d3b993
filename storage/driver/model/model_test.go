package model_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const (
	source = "slotlog.pml"
	design = "../../../docs/design/004-exhaustive-model.md"
)

func readFile(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// table returns the cells of the page's table whose first column has that title.
func table(t *testing.T, title string) (rows [][]string) {
	t.Helper()
	inside := false
	for line := range strings.Lines(readFile(t, design)) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		switch {
		case !strings.HasPrefix(line, "|"):
			inside = false
		case cells[0] == title:
			inside = true
		case inside && !strings.HasPrefix(cells[0], "--"):
			rows = append(rows, cells)
		}
	}
	if len(rows) < 3 {
		t.Fatalf("%s has no table of %q", design, title)
	}
	return rows
}

// bounds are the macros for cells of the page.
func bounds(replicas, slots, takeovers string) []string {
	return []string{"-DREPLICAS=" + replicas, "-DSLOTS=" + slots, "-DTAKEOVERS=" + takeovers}
}

// A result is what a complete search found.
type result struct {
	violated  string   // the property that a path violates; the search ends there
	states    string   // how many there are
	unreached []string // lines of the replica's source that no path gets to
}

var (
	violation = regexp.MustCompile(`assertion violated \(?(\w+)`)
	stored    = regexp.MustCompile(`(\d+) states, stored`)
	unreached = regexp.MustCompile(`(?m)^\t.*slotlog\.pml:(\d+), state`)
)

// check has spin try every path of the model with those macros. A low level of optimization is for
// short searches, which take less time than the compiler.
func check(t *testing.T, level string, macros ...string) result {
	t.Helper()
	for _, tool := range []string{"spin", "gcc"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Fatalf("%v: apt-get install spin gcc libc6-dev", err)
		}
	}
	model, err := filepath.Abs(source)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	run := func(name string, args ...string) string {
		cmd := exec.CommandContext(t.Context(), name, args...)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s %v: %v\n%s", name, args, err, out)
		}
		return string(out)
	}
	run("spin", append(append([]string{"-a"}, macros...), model)...)
	// SAFETY: asserts alone. NOREDUCE: all paths, as the processes share everything. No compression
	// of states. MEMLIM is in MB.
	run("gcc", level, "-w", "-DSAFETY", "-DNOFAIR", "-DNOREDUCE", "-DMEMLIM=6000", "-o", "pan", "pan.c")
	out := run("./pan", "-E", "-w24", "-m1000000")
	var r result
	if m := violation.FindStringSubmatch(out); m != nil {
		r.violated = m[1]
		return r
	}
	m := stored.FindStringSubmatch(out)
	if m == nil || !strings.Contains(out, "errors: 0") || strings.Contains(out, "not completed") || strings.Contains(out, "too small") {
		t.Fatalf("%v: the search did not end:\n%s", macros, out)
	}
	r.states = m[1]
	lines := strings.Split(readFile(t, source), "\n")
	_, replica, _ := strings.Cut(out, "unreached in proctype replica")
	replica, _, _ = strings.Cut(replica, "unreached in proctype store")
	for _, m := range unreached.FindAllStringSubmatch(replica, -1) {
		var n int
		if _, err := fmt.Sscan(m[1], &n); err != nil {
			t.Fatal(err)
		}
		r.unreached = append(r.unreached, lines[n-1])
	}
	return r
}

// TestProtocolHolds searches within the bounds that the page says are searched here, and wants the
// page's number of states.
func TestProtocolHolds(t *testing.T) {
	searched := 0
	for _, row := range table(t, "grain") {
		grain, states, where := row[0], strings.ReplaceAll(row[4], ",", ""), row[6]
		if where != "test" {
			continue
		}
		searched++
		t.Run(strings.Join(row[:4], "-"), func(t *testing.T) {
			t.Parallel()
			macros := bounds(row[1], row[2], row[3])
			if grain == "coarse" {
				macros = append(macros, "-DCOARSE")
			}
			r := check(t, "-O1", macros...)
			if r.violated != "" || r.states != states {
				t.Errorf("%v: %q violated, %s states; want none violated, %s states", macros, r.violated, r.states, states)
			}
			for _, line := range r.unreached {
				if grain == "fine" && !strings.Contains(line, "unreachable") && line != "}" {
					t.Errorf("%v: no path gets to %s", macros, line)
				}
			}
		})
	}
	if searched < 3 {
		t.Errorf("%d rows of the page are searched", searched)
	}
}

// TestModelCatchesMutants breaks one rule at a time, and wants the property violated that the page
// names. But for mutants of the refusal rule, a mutant may refuse the store, lest that hide worse.
func TestModelCatchesMutants(t *testing.T) {
	for _, row := range table(t, "mutant") {
		name, property := strings.Trim(row[0], "`"), strings.Trim(row[3], "`")
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := strings.Fields(row[2])
			macros := append(bounds(b[0], b[1], b[2]), "-DMUTANT_"+name)
			if property != "healthyStoreIsNotRefused" {
				macros = append(macros, "-DMAY_REFUSE")
			}
			level := "-O0"
			if b[1] == "4" {
				level = "-O1"
			}
			if r := check(t, level, macros...); r.violated != property {
				t.Errorf("%v: %q violated; want %s", macros, r.violated, property)
			}
		})
	}
}

// TestModelAcceptsCaution is the control: a leader that takes every occupied slot for another's,
// even when its own repeated PUT finds its own record, gives up too early and breaks nothing.
func TestModelAcceptsCaution(t *testing.T) {
	t.Parallel()
	if r := check(t, "-O0", append(bounds("2", "3", "3"), "-DCONTROL_RETRY_IS_DEPOSED")...); r.violated != "" {
		t.Errorf("%s violated", r.violated)
	}
}

// TestPageNamesWhatExists compares the page with the model and with storage/driver.
func TestPageNamesWhatExists(t *testing.T) {
	files, err := filepath.Glob("../*.go")
	if err != nil {
		t.Fatal(err)
	}
	code := ""
	for _, name := range files {
		if !strings.HasSuffix(name, "_test.go") {
			code += readFile(t, name)
		}
	}
	model := readFile(t, source)
	quoted := regexp.MustCompile("`(\\w+)`")
	functions := 0
	for _, row := range table(t, "step of the model") {
		for _, m := range quoted.FindAllStringSubmatch(row[0], -1) {
			if !regexp.MustCompile(`(?m)^(` + m[1] + `:|inline ` + m[1] + `\(|#define ` + m[1] + `\b)`).MatchString(model) {
				t.Errorf("%s has no step %s", source, m[1])
			}
		}
		for _, m := range quoted.FindAllStringSubmatch(row[2], -1) {
			functions++
			if !regexp.MustCompile(`(?m)^func (\(\w+ \*?\w+\) )?` + m[1] + `\(`).MatchString(code) {
				t.Errorf("storage/driver has no function %s", m[1])
			}
		}
	}
	if functions < 15 {
		t.Errorf("the page names %d functions; the test does not read it", functions)
	}
	var listed, made []string
	for _, row := range table(t, "mutant") {
		listed = append(listed, strings.Trim(row[0], "`"))
	}
	for _, m := range regexp.MustCompile(`(?:ifdef |defined\()MUTANT_(\w+)`).FindAllStringSubmatch(model, -1) {
		made = append(made, m[1])
	}
	slices.Sort(listed)
	slices.Sort(made)
	if made = slices.Compact(made); !slices.Equal(listed, made) {
		t.Errorf("the page lists the mutants %v, the model has %v", listed, made)
	}
	if n := strings.Count(model, "\n"); n > 500 {
		t.Errorf("%s has %d lines", source, n)
	}
}
