package stack

import (
	"crypto"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"tallywood/internal/config"
	"tallywood/internal/keys"
	"tallywood/monitor"
)

// monitorKeyFile is the name of the monitor's own key in its state directory.
const monitorKeyFile = "key.pem"

// An ownKey is what a monitor signs its states with. The zero ownKey is none.
type ownKey struct {
	signer crypto.Signer
	fresh  bool // it was just made
}

// monitorKey reads the monitor's own key, and makes it if there is none.
func monitorKey(m *config.Monitor) (ownKey, error) {
	path := filepath.Join(m.State, monitorKeyFile)
	signer, err := keys.ReadSigner(path)
	fresh := errors.Is(err, fs.ErrNotExist)
	if fresh {
		if signer, err = newNoteKey(); err == nil {
			err = keys.WriteSigner(path, signer)
		}
		if errors.Is(err, fs.ErrExist) { // another process was faster
			signer, err = keys.ReadSigner(path)
		}
	}
	if err == nil {
		_, err = monitor.VKey(signer)
	}
	if err != nil {
		return ownKey{}, fmt.Errorf("the monitor's key %s: %w", path, err)
	}
	return ownKey{signer, fresh}, nil
}

// MonitorVKey returns the verifier key of the monitor's own key, which must be there.
func MonitorVKey(m *config.Monitor) (string, error) {
	signer, err := keys.ReadSigner(filepath.Join(m.State, monitorKeyFile))
	if err != nil {
		return "", fmt.Errorf("the monitor's key: %w", err)
	}
	return monitor.VKey(signer)
}
