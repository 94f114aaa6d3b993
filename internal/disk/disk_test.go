package disk_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tallywood/internal/disk"
)

// names returns what is in a directory.
func names(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return strings.Join(out, " ")
}

func TestReplaceKeepsTheMode(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "f")
	for _, c := range []struct {
		text string
		mode fs.FileMode // afterwards
	}{{"new", 0o644}, {"another", 0o644}, {"private", 0o600}, {"", 0o600}} {
		if c.text == "private" {
			if err := os.Chmod(path, c.mode); err != nil {
				t.Fatal(err)
			}
		}
		if err := disk.Replace(path, []byte(c.text)); err != nil {
			t.Fatal(err)
		}
		data, err := os.ReadFile(path)
		info, statErr := os.Stat(path)
		if err != nil || statErr != nil || string(data) != c.text || info.Mode() != c.mode {
			t.Errorf("%q: %q, %v, %v, %v", c.text, data, err, info.Mode(), statErr)
		}
	}
	if got := names(t, filepath.Dir(path)); got != "f" {
		t.Errorf("what is left: %s", got)
	}
}

func TestReplaceThatFailsLeavesWhatWas(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	full := filepath.Join(dir, "full")
	if err := os.MkdirAll(filepath.Join(full, "below"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := disk.Replace(full, nil); err == nil || !strings.Contains(err.Error(), "writing "+full) {
		t.Errorf("a file in place of a directory: %v", err)
	}
	if err := disk.Replace(filepath.Join(dir, "nowhere", "f"), nil); err == nil {
		t.Error("a file in no directory")
	}
	if got := names(t, dir) + " " + names(t, full); got != "full below" {
		t.Errorf("what is left: %s", got)
	}
}

// TestReplaceWritesThroughNoLink has somebody put a link where a file is to be.
func TestReplaceWritesThroughNoLink(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	other, link := filepath.Join(dir, "other"), filepath.Join(dir, "link")
	if err := os.WriteFile(other, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(other, link); err != nil {
		t.Fatal(err)
	}
	if err := disk.Replace(link, []byte("theirs")); err != nil {
		t.Fatal(err)
	}
	if data, err := os.ReadFile(other); err != nil || string(data) != "mine" {
		t.Errorf("the other file has %q, %v", data, err)
	}
	if info, err := os.Lstat(link); err != nil || !info.Mode().IsRegular() {
		t.Errorf("the link is %v, %v", info, err)
	}
}

func TestMakeDir(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	deep := filepath.Join(dir, "a", "b", "c")
	for range 2 {
		if err := disk.MakeDir(deep, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if info, err := os.Stat(deep); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("%v, %v", info, err)
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{file, filepath.Join(file, "below")} {
		if err := disk.MakeDir(path, 0o700); err == nil {
			t.Errorf("%s was made", path)
		}
	}
}
