//go:build !unix

package bench

import (
	"context"
	"errors"
)

// newTesseraPOSIX fails: Tessera's POSIX driver is for Unix systems.
func newTesseraPOSIX(context.Context, StorageOptions, *counter64) (engine, error) {
	return nil, errors.New("Tessera's POSIX driver does not build for this system")
}
