package arch_test

import (
	"encoding/json"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// module is our module path.
const module = "tallywood/"

// leaves may be imported by every package and import nothing of ours.
var leaves = []string{"storage", "log/duplicates", "log/entry", "log/ctentry", "witness/policy", "ca/oidc", "internal/disk", "internal/httpx", "internal/keys", "internal/span", "internal/yamlerror"}

// allowed says what a package may import of ours besides the leaves. A trailing /... stands for
// everything below. A package that is not here may import the leaves alone.
var allowed = map[string][]string{
	"log":            {"storage/driver"},
	"log/rekor":      {"log"},
	"log/ctlog":      {"log"},
	"log/tlog":       {"log"},
	"monitor":        {"monitor/rule"},
	"monitor/alert":  {"monitor", "monitor/rule"},
	"monitor/web":    {"monitor", "monitor/rule"},
	"ca/fulcio":      {"ca"},
	"internal/sign":  {"log/verify"},
	"internal/bench": {"internal/mint", "log/verify", "storage/driver"},
	"internal/trial": {"storage/driver"},
	// It starts servers.
	"storage/storagetest": {"internal/loopback"},
	// It plays all parts, the dishonest ones too.
	"internal/demo":  {"ca/devoidc", "internal/config", "internal/sign", "internal/stack", "log/verify", "monitor", "monitor/rule"},
	"internal/stack": {"..."},
	"cmd/tallywood":  {"internal/...", "storage/...", "log/verify", "monitor", "monitor/...", "ca/trust"},
	// The witness alone: what is here an operator audits, so it is named one by one.
	"cmd/tallywood-witness": {"witness", "witness/conformance", "witness/bastion", "storage/posix", "internal/sealed", "internal/sshagent", "internal/tlsfile"},
	// A Sigstore bundle may be the signature over a manifest.
	"monitor/authorize": {"monitor", "monitor/rule", "log/verify"},
}

// clouds are the modules of the clouds' SDKs; sdks are the packages that may know them.
var (
	clouds = []string{"github.com/aws/", "cloud.google.com/", "google.golang.org/api/"}
	sdks   = []string{"storage/s3", "storage/gcs", "internal/kms"}
)

// packages that tests may use from anywhere; they exist for that.
var testOnly = []string{"storage/storagetest", "internal/faultbucket", "internal/trial", "internal/loopback", "internal/bubble", "internal/e2e"}

type pkg struct {
	ImportPath string
	Imports    []string
}

func goList(t *testing.T, args ...string) []byte {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list"}, args...)...)
	cmd.Dir = root(t)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go %v: %v", cmd.Args, err)
	}
	return out
}

func ours(t *testing.T) []pkg {
	t.Helper()
	dec := json.NewDecoder(strings.NewReader(string(goList(t, "-json=ImportPath,Imports", "./..."))))
	var out []pkg
	for dec.More() {
		var p pkg
		if err := dec.Decode(&p); err != nil {
			t.Fatal(err)
		}
		out = append(out, p)
	}
	if len(out) < 20 {
		t.Fatalf("found %d packages of ours; the test looks in the wrong place", len(out))
	}
	return out
}

func TestImportsFollowTheTable(t *testing.T) {
	seen := map[string]bool{}
	for _, p := range ours(t) {
		name := strings.TrimPrefix(p.ImportPath, module)
		seen[name] = true
		for _, imp := range p.Imports {
			if dep, own := strings.CutPrefix(imp, module); own && !mayImport(name, dep) {
				t.Errorf("%s imports %s, which the table does not allow", name, dep)
			}
		}
	}
	for name := range allowed {
		if !seen[name] {
			t.Errorf("the table names package %s, which does not exist", name)
		}
	}
	for _, name := range leaves {
		if !seen[name] {
			t.Errorf("the table names leaf %s, which does not exist", name)
		}
	}
}

func mayImport(name, dep string) bool {
	if name == "storage" || slices.Contains(testOnly, dep) && !slices.Contains(testOnly, name) {
		return false
	}
	if slices.Contains(leaves, dep) {
		// trust material and the CA's tokens have leaves of their own in internal/keys.
		return !slices.Contains(leaves, name)
	}
	for _, a := range allowed[name] {
		if prefix, tree := strings.CutSuffix(a, "..."); tree && strings.HasPrefix(dep, prefix) || a == dep {
			return true
		}
	}
	return false
}

func TestFewKnowTheClouds(t *testing.T) {
	knowing := map[string]bool{}
	for _, p := range ours(t) {
		for _, imp := range p.Imports {
			if slices.ContainsFunc(clouds, func(c string) bool { return strings.HasPrefix(imp, c) }) {
				knowing[strings.TrimPrefix(p.ImportPath, module)] = true
			}
		}
	}
	for name := range knowing {
		if !slices.Contains(sdks, name) {
			t.Errorf("%s imports a cloud's SDK; only %v do", name, sdks)
		}
	}
	for _, name := range sdks {
		if !knowing[name] {
			t.Errorf("%s imports no cloud's SDK; the test does not see it", name)
		}
	}
}

func TestStorageIsStandardLibraryOnly(t *testing.T) {
	for _, p := range ours(t) {
		if p.ImportPath != module+"storage" {
			continue
		}
		for _, imp := range p.Imports {
			if strings.Contains(strings.Split(imp, "/")[0], ".") {
				t.Errorf("storage imports %s", imp)
			}
		}
	}
}

func TestNobodyUsesTheStandardLog(t *testing.T) {
	for _, p := range ours(t) {
		if slices.Contains(p.Imports, "log") {
			t.Errorf("%s imports the standard log package", p.ImportPath)
		}
	}
}

// TestTheTableBites makes sure that the check can fail.
func TestTheTableBites(t *testing.T) {
	for _, c := range []struct{ name, dep string }{
		{"storage", "internal/keys"}, {"witness", "log"}, {"log", "witness/client"}, {"monitor", "log"},
		{"log/entry", "internal/keys"}, {"ca", "log/ctlog"}, {"cmd/tallywood", "log"}, {"cmd/tallywood-witness", "log/verify"},
		{"log", "internal/loopback"}, {"internal/trial", "internal/loopback"},
	} {
		if mayImport(c.name, c.dep) {
			t.Errorf("%s may import %s", c.name, c.dep)
		}
	}
	if !mayImport("log/rekor", "log") || !mayImport("internal/stack", "witness/client") || !mayImport("monitor", "witness/policy") {
		t.Error("the table forbids what it allows")
	}
}
