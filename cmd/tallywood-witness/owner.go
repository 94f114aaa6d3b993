package main

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// giveToOwner gives what root has written below the paths to whoever owns dir: the user that serve runs
// as, which must be able to replace it. For others than root it does nothing.
func giveToOwner(dir string, paths ...string) error {
	info, err := os.Stat(dir)
	if err != nil {
		return operational("", fmt.Errorf("looking for the owner of %s: %w", dir, err))
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok || os.Geteuid() != 0 || owner.Uid == 0 {
		return nil
	}
	for _, path := range append(paths, filepath.Join(dir, addedFile), filepath.Join(dir, disabledFile)) {
		err := filepath.WalkDir(path, func(path string, _ fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			info, err := os.Lstat(path)
			if err != nil {
				return err
			}
			if st, ok := info.Sys().(*syscall.Stat_t); ok && st.Uid == 0 {
				return os.Lchown(path, int(owner.Uid), int(owner.Gid))
			}
			return nil
		})
		if err != nil && !os.IsNotExist(err) {
			return operational("", fmt.Errorf("giving it to the owner of %s: %w", dir, err))
		}
	}
	return nil
}
