package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// giveToOwner gives what root has written in dir and in the state to whoever owns dir: the user that
// serve runs as, which must be able to replace it. For others than root it does nothing.
//
// That user, whose process may have been taken over, must not get anything else by it: links lead
// nowhere out of the two directories, a file that has a name elsewhere too stays what it is, and a state
// that is not below dir must be the user's already.
func giveToOwner(dir, state string) error {
	info, err := os.Stat(dir)
	if err != nil {
		return operational("", fmt.Errorf("looking for the owner of %s: %w", dir, err))
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok || os.Geteuid() != 0 || owner.Uid == 0 {
		return nil
	}
	root, err := os.OpenRoot(dir)
	if err == nil {
		defer root.Close()
		err = errors.Join(give(root, addedFile, owner), give(root, disabledFile, owner), giveState(root, dir, state, owner))
	}
	if err != nil {
		return operational("", fmt.Errorf("giving it to the owner of %s: %w", dir, err))
	}
	return nil
}

// giveState gives what is in the state. There may be none yet.
func giveState(root *os.Root, dir, state string, owner *syscall.Stat_t) error {
	below, err := filepath.Rel(dir, state)
	var at *os.Root
	if err == nil {
		at, err = root.OpenRoot(below) // refuses what is not below
	}
	if err != nil {
		if at, err = os.OpenRoot(state); errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		if top, err := at.Stat("."); err != nil || !belongsTo(top, owner.Uid) {
			return errors.Join(err, at.Close())
		}
	}
	defer at.Close()
	return fs.WalkDir(at.FS(), ".", func(path string, _ fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist): // serve writes while we look
			return nil
		case err != nil:
			return err
		}
		return give(at, path, owner)
	})
}

// give gives a file, or a link itself, if it is root's.
func give(root *os.Root, path string, owner *syscall.Stat_t) error {
	info, err := root.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if st, ok := info.Sys().(*syscall.Stat_t); !ok || st.Uid != 0 || !info.IsDir() && st.Nlink > 1 {
		return nil
	}
	if err := root.Lchown(path, int(owner.Uid), int(owner.Gid)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// belongsTo reports whether a file is a user's.
func belongsTo(info fs.FileInfo, uid uint32) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && st.Uid == uid
}
