//go:build netbsd || openbsd

package posix

import "os"

// fileSystem knows no file system here.
func fileSystem(*os.File) (string, error) { return "", nil }
