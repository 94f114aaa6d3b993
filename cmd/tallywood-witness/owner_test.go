package main

import (
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
)

// TestRootGivesWhatItWritesToTheOwner has root, where the test is root, edit what serve of another user
// has to read and replace.
func TestRootGivesWhatItWritesToTheOwner(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "w")
	if code := run([]string{"init", "--dir", dir, "--name", "witness.example.org"}, io.Discard, t.Output()); code != 0 {
		t.Fatal(code)
	}
	owner := os.Getuid()
	if os.Geteuid() == 0 {
		owner = 12345
		err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			return os.Lchown(path, owner, owner)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, args := range [][]string{
		{"logs", "add", "--dir", dir, "--vkey", logVKey("log.example.org"), "--contact", "x"},
		{"logs", "disable", "--dir", dir, "--origin", "log.example.org"},
	} {
		if code := run(args, io.Discard, t.Output()); code != 0 {
			t.Fatalf("%v: %d", args, code)
		}
	}
	// A list raises an alarm, as serve does it, and it is acknowledged.
	s, err := openService(serveFlags{dir: dir}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.lists.Take(t.Context(), "/list", []byte("logs/v0\nvkey "+logVKey("thief.example.org")+"\norigin log.example.org\nqpd 1\ncontact x\n")); err != nil {
		t.Fatal(err)
	}
	if code := run([]string{"logs", "acknowledge", "--dir", dir, "--origin", "log.example.org"}, io.Discard, t.Output()); code != 0 {
		t.Fatal(code)
	}
	if alarms, err := s.witness.KeyAlarms(t.Context()); err != nil || len(alarms) != 1 || alarms[0].Acknowledged == nil {
		t.Errorf("alarms %+v, %v", alarms, err)
	}
	err = filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := os.Lstat(path)
		if err != nil {
			return err
		}
		if st, ok := info.Sys().(*syscall.Stat_t); !ok || int(st.Uid) != owner {
			t.Errorf("%s does not belong to %d", path, owner)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// TestOwnerIsGivenNothingElse has a user who wants root's files of it: by links in his directory, and by
// a configuration that says that his state is elsewhere.
func TestOwnerIsGivenNothingElse(t *testing.T) {
	if os.Geteuid() != 0 {
		dir := t.TempDir()
		if err := giveToOwner(dir, filepath.Join(dir, "objects")); err != nil {
			t.Errorf("nobody but root gives anything, and it says %v", err)
		}
		return
	}
	const user = 12345
	base := t.TempDir()
	dir, system := filepath.Join(base, "w"), filepath.Join(base, "system")
	for _, d := range []string{filepath.Join(dir, "objects", "state"), filepath.Join(system, "below"), filepath.Join(base, "his")} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	secrets := []string{filepath.Join(system, "shadow"), filepath.Join(system, "below", "key")}
	ours := []string{filepath.Join(dir, "objects", "state", "x"), filepath.Join(dir, addedFile), filepath.Join(base, "his", "y")}
	for _, f := range slices.Concat(secrets, ours) {
		if err := os.WriteFile(f, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.Lchown(dir, user, user), os.Lchown(filepath.Join(base, "his"), user, user),
		os.Symlink(system, filepath.Join(dir, "objects", "link")),
		os.Symlink(secrets[0], filepath.Join(dir, disabledFile)),
		os.Link(secrets[0], filepath.Join(dir, "objects", "hard"))); err != nil {
		t.Fatal(err)
	}
	is := func(path string, uid uint32) {
		t.Helper()
		if info, err := os.Lstat(path); err != nil || !belongsTo(info, uid) {
			t.Errorf("%s does not belong to %d, or %v", path, uid, err)
		}
	}
	for what, state := range map[string]string{
		"his own": filepath.Join(dir, "objects"), "a link": filepath.Join(dir, "objects", "link"), "below a link": filepath.Join(dir, "objects", "link", "below"),
		"the system's": system, "his, elsewhere": filepath.Join(base, "his"), "nowhere": filepath.Join(base, "nowhere"),
	} {
		if err := giveToOwner(dir, state); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		for _, f := range secrets {
			is(f, 0)
		}
		is(system, 0)
	}
	for _, f := range ours {
		is(f, user)
	}
}
