//go:build !race

package driver_test

import (
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

// TestFaultMutants runs the trials on mutants of this package that believe a fault too soon, which
// they must find: the first by one fault, the last by no less than two.
func TestFaultMutants(t *testing.T) {
	for _, m := range faultMutants {
		t.Run(strings.ReplaceAll(m.name, " ", "_"), func(t *testing.T) {
			t.Parallel()
			binary := m.build(t)
			for _, args := range m.survives {
				if out, err := exec.Command(binary, append(args, "-test.timeout", "10m")...).CombinedOutput(); err != nil {
					t.Errorf("the mutant is found by %v: %v\n%s", args, err, out)
				}
			}
			out, err := exec.Command(binary, append(m.found, "-test.timeout", "10m")...).CombinedOutput()
			switch found := violated.FindSubmatch(out); {
			case err == nil:
				t.Errorf("the mutant survives %v", m.found)
			case found == nil:
				t.Errorf("the mutant fails by no violation: %v\n%s", err, out)
			default:
				t.Logf("found by %s %s", found[1], repeated.Find(out))
			}
		})
	}
}

var repeated = regexp.MustCompile(`-fault.first \d+`)

var violated = regexp.MustCompile(`(?m)(\["\d+ .*: violation: .*)$`)

// A faultMutant is a mutant and the tests that it survives and that find it.
type faultMutant struct {
	mutant
	survives [][]string
	found    []string
}

// bySingle are all faults, up to the first that finds the mutant; sampled is one in seven.
var (
	bySingle = []string{"-test.run", "^TestFaultsSingly$", "-fault.every", "1"}
	sampled  = []string{"-test.run", "^TestFaultsSingly$", "-fault.every", "7"}
)

// byPairs are 400 pairs, of which some are known to find the mutant.
func byPairs(first string) []string {
	return []string{"-test.run", "^TestFaultsInPairs$", "-fault.pairs", "400", "-fault.first", first}
}

var faultMutants = []faultMutant{
	{mutant{name: "a tile write believed without an answer", edits: []edit{{"objects.go",
		"			if err = l.compare(ctx, o); err == nil {\n",
		"			err = l.compare(ctx, o)\n		}\n		if true {\n			if err == nil || errors.Is(err, context.DeadlineExceeded) {\n"}}}, nil, bySingle},
	{mutant{name: "a floor believed without an answer", edits: []edit{{"gc.go",
		"		return errors.Join(fmt.Errorf(\"moving the floor: %w\", err), rerr)\n",
		"		return errors.Join()\n"}}}, nil, byPairs("1")},
	{mutant{name: "records taken for deleted", edits: []edit{{"gc.go",
		"	if err := l.deleteAll(ctx, keys); err != nil {\n		return err\n	}\n",
		"	_ = l.deleteAll(ctx, keys)\n"}}}, nil, bySingle},
	{mutant{name: "a LEADER record that cannot be read taken for the first", edits: []edit{{"gc.go",
		"			return fmt.Errorf(\"following the LEADER records: %w\", err)\n",
		"			break\n"}}}, nil, bySingle},
	{mutant{name: "a checkpoint that cannot be read taken for none", edits: []edit{{"checkpoint.go",
		"	if errors.Is(err, fs.ErrNotExist) {\n		return Published{}, \"\", false, nil\n",
		"	if err != nil && !errors.Is(err, fs.ErrExist) {\n		return Published{}, \"\", false, nil\n"}}}, nil, bySingle},
	{mutant{name: "a second failure of a tile write believed", edits: []edit{
		{"objects.go",
			"	opts.If, opts.Unversioned = storage.Absent(), true\n	var wait backoff\n	for {\n		_, err := l.put(ctx, o.key, o.data, opts)\n		if err == nil {\n",
			"	opts.If, opts.Unversioned = storage.Absent(), true\n	var wait backoff\n	for attempt := 1; ; attempt++ {\n		_, err := l.put(ctx, o.key, o.data, opts)\n		if err == nil || attempt == 2 && !errors.Is(err, storage.ErrPrecondition) {\n"},
	}}, [][]string{sampled}, byPairs("500")},
}
