//go:build darwin || freebsd || dragonfly

package posix

import (
	"os"
	"strings"
	"syscall"
)

// networks are the names of file systems that are not local disks, or begin their names.
var networks = []string{"nfs", "smbfs", "afpfs", "webdav", "fusefs", "macfuse", "osxfuse", "fuse"}

// fileSystem names the file system of f if it is in networks.
func fileSystem(f *os.File) (string, error) {
	var s syscall.Statfs_t
	if err := syscall.Fstatfs(int(f.Fd()), &s); err != nil {
		return "", err
	}
	var name strings.Builder
	for _, c := range s.Fstypename {
		if c == 0 {
			break
		}
		name.WriteByte(byte(c))
	}
	for _, n := range networks {
		if strings.HasPrefix(name.String(), n) {
			return name.String(), nil
		}
	}
	return "", nil
}
