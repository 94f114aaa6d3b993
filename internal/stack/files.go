package stack

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"

	"tallywood/internal/disk"
	"tallywood/internal/keys"
)

// replaceFile puts data at path in one step, so that a reader sees the old or the new content,
// and returns once it is durable. A file that is there keeps its mode; where a symbolic link is,
// the file that it names is replaced.
func replaceFile(path string, data []byte) error {
	target, mode, err := replaced(path)
	if err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	dir := filepath.Dir(target)
	tmp, err := os.CreateTemp(dir, "."+filepath.Base(target)+".*")
	if err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	_, err = tmp.Write(data)
	if err == nil {
		err = tmp.Chmod(mode)
	}
	if err == nil {
		err = tmp.Sync()
	}
	if err = errors.Join(err, tmp.Close()); err == nil {
		err = os.Rename(tmp.Name(), target)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("writing %s: %w", path, err), os.Remove(tmp.Name()))
	}
	if err := disk.SyncDir(dir); err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	return nil
}

// replaceUnchanged is replaceFile for data that was made of what was read at path before: it is an error
// if that has changed meanwhile, by an editor or another command, whose change would be lost.
func replaceUnchanged(path string, before, data []byte) error {
	now, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("editing %s: %w", path, err)
	}
	if !bytes.Equal(now, before) {
		return fmt.Errorf("editing %s: it has changed meanwhile; do it again", path)
	}
	return replaceFile(path, data)
}

// replaced returns the file that path stands for, and the mode a new one gets.
func replaced(path string) (string, fs.FileMode, error) {
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		return path, 0o644, nil
	}
	target, err := filepath.EvalSymlinks(path)
	if err != nil {
		return "", 0, err
	}
	info, err := os.Stat(target)
	if err != nil {
		return "", 0, err
	}
	return target, info.Mode().Perm(), nil
}

var temporary = regexp.MustCompile(`^\.(.+)\.[0-9]+$`)

// isTemporary reports whether name is one under which replaceFile writes a file of names, or
// keys.WriteNew any file.
func isTemporary(name string, names []string) bool {
	m := temporary.FindStringSubmatch(name)
	return m != nil && slices.Contains(names, m[1]) || keys.IsTemporary(name)
}

// removeTemporary removes what writers of files in dir have left that were killed. Nobody may be
// writing there.
func removeTemporary(dir string, names []string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range entries {
		if isTemporary(e.Name(), names) {
			errs = append(errs, os.Remove(filepath.Join(dir, e.Name())))
		}
	}
	return errors.Join(errs...)
}
