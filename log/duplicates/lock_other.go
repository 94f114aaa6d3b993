//go:build !(linux || darwin || freebsd || netbsd || openbsd || dragonfly)

package duplicates

import (
	"errors"
	"fmt"
	"os"
)

// lockFile fails: two processes with one index would spoil it.
func lockFile(*os.File) error {
	return fmt.Errorf("a duplicate index in files: %w: set no cache directory", errors.ErrUnsupported)
}
