//go:build unix

package keys

import (
	"io/fs"
	"syscall"
)

// ownerOf returns the user that owns the file of info.
func ownerOf(info fs.FileInfo) (uid int, ok bool) {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, false
	}
	return int(st.Uid), true
}
