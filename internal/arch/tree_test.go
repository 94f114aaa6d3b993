package arch_test

import (
	"bytes"
	"flag"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the lists of linked packages anew")

// root is the top of the repository.
func root(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// topLevel is all that may lie at the top of the repository.
var topLevel = []string{".ci", ".git", "LICENSE", "NEWS.md", "README.md", "ca", "cmd", "deploy", "docs",
	"go.mod", "go.sum", "internal", "log", "monitor", "storage", "witness"}

// tracked are the files git knows or would add.
func tracked(t *testing.T) []string {
	t.Helper()
	cmd := exec.Command("git", "ls-files", "--cached", "--others", "--exclude-standard")
	cmd.Dir = root(t)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("listing files: %v", err)
	}
	return strings.Fields(string(out))
}

func TestTopLevel(t *testing.T) {
	for _, f := range tracked(t) {
		if name, _, _ := strings.Cut(f, "/"); !slices.Contains(topLevel, name) {
			t.Errorf("%s lies at the top level, which holds %v alone", name, topLevel)
		}
	}
}

// goFiles yields our Go files, parsed.
func goFiles(t *testing.T, visit func(path string, fset *token.FileSet, f *ast.File, src []byte)) {
	t.Helper()
	n := 0
	err := filepath.WalkDir(root(t), func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == "testdata" || strings.HasPrefix(d.Name(), ".") && d.Name() != ".") {
			return filepath.SkipDir
		}
		if !strings.HasSuffix(path, ".go") {
			return nil
		}
		src, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		fset := token.NewFileSet()
		f, err := parser.ParseFile(fset, path, src, parser.ParseComments)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root(t), path)
		visit(filepath.ToSlash(rel), fset, f, src)
		n++
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if n < 50 {
		t.Fatalf("saw %d Go files; the test looks in the wrong place", n)
	}
}

func TestFilesAndFunctionsStaySmall(t *testing.T) {
	goFiles(t, func(path string, fset *token.FileSet, f *ast.File, src []byte) {
		if strings.HasSuffix(path, "_test.go") {
			return
		}
		if n := bytes.Count(src, []byte("\n")); n > 500 {
			t.Errorf("%s has %d lines; 500 are the limit", path, n)
		}
		for _, d := range f.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok || fn.Body == nil {
				continue
			}
			if n := fset.Position(fn.End()).Line - fset.Position(fn.Pos()).Line + 1; n > 60 {
				t.Errorf("%s: function %s has %d lines; 60 are the limit", path, fn.Name.Name, n)
			}
		}
	})
}

func TestEveryPackageSaysWhatItIs(t *testing.T) {
	docs := map[string]bool{}
	goFiles(t, func(path string, _ *token.FileSet, f *ast.File, _ []byte) {
		if !strings.HasSuffix(path, "_test.go") {
			docs[filepath.Dir(path)] = docs[filepath.Dir(path)] || f.Doc != nil
		}
	})
	for dir, ok := range docs {
		if !ok {
			t.Errorf("package %s has no doc comment", dir)
		}
	}
}

func TestNoTestIsSkipped(t *testing.T) {
	goFiles(t, func(path string, fset *token.FileSet, f *ast.File, _ []byte) {
		if !strings.HasSuffix(path, "_test.go") {
			return
		}
		ast.Inspect(f, func(n ast.Node) bool {
			sel, ok := n.(*ast.SelectorExpr)
			if ok && slices.Contains([]string{"Skip", "Skipf", "SkipNow"}, sel.Sel.Name) {
				t.Errorf("%s: a test is skipped; what is missing makes it fail", fset.Position(sel.Pos()))
			}
			return true
		})
	})
}

// TestBubblesAreOurs: what the race detector cannot bear, internal/bubble keeps from it.
func TestBubblesAreOurs(t *testing.T) {
	goFiles(t, func(path string, fset *token.FileSet, f *ast.File, _ []byte) {
		ast.Inspect(f, func(n ast.Node) bool {
			sel, ok := n.(*ast.SelectorExpr)
			if !ok || sel.Sel.Name != "Test" || path == "internal/bubble/bubble.go" {
				return true
			}
			if x, ok := sel.X.(*ast.Ident); ok && x.Name == "synctest" {
				t.Errorf("%s: synctest.Test is called; tests use bubble.Test", fset.Position(sel.Pos()))
			}
			return true
		})
	})
}

// budgets are the most packages outside the standard library that a program may link.
var budgets = map[string]int{"cmd/tallywood": 900, "cmd/tallywood-witness": 100}

// forbidden are modules that the witness must not link: an operator audits all of it.
var forbidden = []string{"github.com/sigstore/", "github.com/aws/", "cloud.google.com/", "github.com/transparency-dev/tessera"}

func TestLinkedPackages(t *testing.T) {
	for name, budget := range budgets {
		cmd := exec.Command("go", "list", "-tags=", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", "./"+name)
		cmd.Dir = root(t)
		cmd.Env = append(os.Environ(), "GOOS=linux", "GOARCH=amd64", "CGO_ENABLED=0")
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("listing packages of %s: %v", name, err)
		}
		linked := strings.Fields(string(out))
		slices.Sort(linked)
		text := strings.Join(linked, "\n") + "\n"
		path := filepath.Join(root(t), name, "deps.txt")
		if *update {
			if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if string(want) != text {
			t.Errorf("%s/deps.txt is not what is linked; look at the difference, then: go test ./internal/arch -update", name)
		}
		if len(linked) > budget {
			t.Errorf("%s links %d packages; %d are the budget", name, len(linked), budget)
		}
		if name == "cmd/tallywood-witness" {
			for _, p := range linked {
				if slices.ContainsFunc(forbidden, func(f string) bool { return strings.HasPrefix(p, f) }) {
					t.Errorf("%s links %s", name, p)
				}
			}
		}
	}
}
