package stack_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tallywood/internal/config"
	"tallywood/internal/stack"
)

const (
	here  = "127.0.0.1:18931"
	there = "127.0.0.1:18932"
)

// addressed are the files of a data directory that hold its address.
var addressed = []string{"config.yaml", "issuers.yaml", "monitor.yaml", "client/policy.txt"}

// create makes a data directory at the address here.
func create(t *testing.T) (string, *config.Config) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "data")
	if err := stack.CreateDev(dir, here, nil); err != nil {
		t.Fatal(err)
	}
	return dir, load(t, dir)
}

func load(t *testing.T, dir string) *config.Config {
	t.Helper()
	c, err := config.Load(filepath.Join(dir, "config.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// wantMoved checks that every file of names speaks of there alone.
func wantMoved(t *testing.T, dir string, names []string) {
	t.Helper()
	for _, name := range names {
		if text := read(t, filepath.Join(dir, name)); strings.Contains(text, here) || !strings.Contains(text, there) {
			t.Errorf("%s was not moved:\n%s", name, text)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, stack.MoveJournal)); err == nil {
		t.Error("the move is still under way")
	}
	if err := stack.Check(load(t, dir)); err != nil {
		t.Errorf("the stack does not open: %v", err)
	}
}

func TestMoveGoesOnWithoutAFileThatIsNotThere(t *testing.T) {
	dir, _ := create(t)
	if err := os.Remove(filepath.Join(dir, "monitor.yaml")); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "config.yaml")
	write(t, path, strings.Replace(read(t, path), "monitor: {config: monitor.yaml}\n", "", 1))
	changed, err := stack.MoveDev(dir, load(t, dir), there)
	if err != nil || len(changed) != 3 || changed[2] != "config.yaml" {
		t.Errorf("got %v, %v; want three files, config.yaml last", changed, err)
	}
	wantMoved(t, dir, []string{"config.yaml", "issuers.yaml", "client/policy.txt"})
}

func TestMoveFollowsThePolicyToItsOwnName(t *testing.T) {
	dir, _ := create(t)
	path := filepath.Join(dir, "config.yaml")
	write(t, path, strings.ReplaceAll(read(t, path), "policy: client/policy.txt", "policy: witnesses.txt"))
	if err := os.Rename(filepath.Join(dir, "client", "policy.txt"), filepath.Join(dir, "witnesses.txt")); err != nil {
		t.Fatal(err)
	}
	monitor := filepath.Join(dir, "monitor.yaml")
	write(t, monitor, strings.ReplaceAll(read(t, monitor), "policy: client/policy.txt", "policy: witnesses.txt"))
	if _, err := stack.MoveDev(dir, load(t, dir), there); err != nil {
		t.Fatal(err)
	}
	wantMoved(t, dir, []string{"config.yaml", "issuers.yaml", "monitor.yaml", "witnesses.txt"})
}

// TestMoveThatWasCutShortIsFinished stops a move after each number of files it has written.
func TestMoveThatWasCutShortIsFinished(t *testing.T) {
	for n := range len(addressed) + 1 {
		dir, c := create(t)
		write(t, filepath.Join(dir, stack.MoveJournal), here+"\n"+there+"\n")
		for i := range n { // config.yaml, the first of them, is written last
			path := filepath.Join(dir, addressed[len(addressed)-1-i])
			write(t, path, strings.ReplaceAll(read(t, path), here, there))
		}
		if err := stack.Check(load(t, dir)); !errors.Is(err, stack.ErrMoving) {
			t.Errorf("after %d files: %v; want that it is not opened", n, err)
		}
		from, to, err := stack.ResumeMove(dir, c)
		if err != nil || from != here || to != there {
			t.Errorf("after %d files: from %q to %q, %v", n, from, to, err)
		}
		wantMoved(t, dir, addressed)
		if _, to, err := stack.ResumeMove(dir, load(t, dir)); to != "" || err != nil {
			t.Errorf("a finished move went on to %q, %v", to, err)
		}
	}
}

func TestMoveChangesNothingIfTheAddressIsNotSpeltOut(t *testing.T) {
	dir, c := create(t)
	path := filepath.Join(dir, "config.yaml")
	write(t, path, strings.ReplaceAll(read(t, path), here, "${ADDRESS}"))
	before := read(t, filepath.Join(dir, "client", "policy.txt"))
	if changed, err := stack.MoveDev(dir, c, there); err == nil || len(changed) > 0 {
		t.Errorf("got %v, %v", changed, err)
	}
	if read(t, filepath.Join(dir, "client", "policy.txt")) != before {
		t.Error("the policy was changed all the same")
	}
	if _, err := os.Stat(filepath.Join(dir, stack.MoveJournal)); err == nil {
		t.Error("a move is under way")
	}
}

func TestReplaceAddressLeavesOthersAlone(t *testing.T) {
	for text, want := range map[string]string{
		"http://localhost:80/x":          "http://[::1]:9/x",
		"localhost:80":                   "[::1]:9",
		"localhost:8080":                 "localhost:8080",
		"log.localhost:80":               "log.localhost:80",
		"localhost:80localhost:80":       "[::1]:9localhost:80",
		"a localhost:80, b localhost:80": "a [::1]:9, b [::1]:9",
	} {
		if got := stack.ReplaceAddress(text, "localhost:80", "[::1]:9"); got != want {
			t.Errorf("%q became %q; want %q", text, got, want)
		}
	}
}

func TestReplaceFileKeepsModeAndLink(t *testing.T) {
	dir := t.TempDir()
	target, link := filepath.Join(dir, "secret.yaml"), filepath.Join(dir, "monitor.yaml")
	write(t, target, "old")
	if err := errors.Join(os.Chmod(target, 0o600), os.Symlink("secret.yaml", link)); err != nil {
		t.Fatal(err)
	}
	if err := stack.ReplaceFile(link, []byte("new")); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Lstat(link); err != nil || info.Mode()&os.ModeSymlink == 0 {
		t.Errorf("the link is gone: %v, %v", info, err)
	}
	if info, err := os.Stat(target); err != nil || info.Mode().Perm() != 0o600 || read(t, target) != "new" {
		t.Errorf("got %v, %v", info, err)
	}
	fresh := filepath.Join(dir, "fresh")
	if err := stack.ReplaceFile(fresh, nil); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(fresh); err != nil || info.Mode().Perm() != 0o644 {
		t.Errorf("a new file: %v, %v", info, err)
	}
	if err := os.Symlink("nowhere", filepath.Join(dir, "dangling")); err != nil {
		t.Fatal(err)
	}
	if err := stack.ReplaceFile(filepath.Join(dir, "dangling"), nil); err == nil {
		t.Error("a link to nowhere was replaced")
	}
}

func TestFirstStartThatWasKilledIsGoneOnWith(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	left := []string{".issuers.yaml.123456", "keys/.tmp-ca.pem.1", "client/.policy.txt.22"}
	for _, name := range left {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		write(t, path, "half")
	}
	if known, err := stack.IsDev(dir); known || err != nil {
		t.Fatalf("got %v, %v; want a directory to go on with", known, err)
	}
	if err := stack.CreateDev(dir, here, nil); err != nil {
		t.Fatal(err)
	}
	for _, name := range left {
		if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
			t.Errorf("%s is still there", name)
		}
	}
	if known, err := stack.IsDev(dir); !known || err != nil {
		t.Errorf("got %v, %v", known, err)
	}
	if err := stack.CreateDev(dir, there, nil); err == nil {
		t.Error("a directory that is complete was created again")
	}
	for _, name := range []string{".thesis.txt.123456", ".issuers.yaml.old"} {
		dir := t.TempDir()
		write(t, filepath.Join(dir, name), "")
		if _, err := stack.IsDev(dir); err == nil {
			t.Errorf("%s was taken for ours", name)
		}
	}
}
