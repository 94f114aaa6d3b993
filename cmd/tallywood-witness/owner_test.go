package main

import (
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
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
