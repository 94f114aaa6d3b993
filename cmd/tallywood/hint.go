package main

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"tallywood/internal/kms"
	"tallywood/internal/stack"
	"tallywood/storage"
	"tallywood/storage/driver"
	"tallywood/storage/posix"
)

// openError gives an error that kept a stack from opening its exit code and a hint: damage is a
// negative result, so is a store that cannot be used, everything else a matter of configuration.
func openError(err error) error {
	if _, damaged := errors.AsType[*driver.DamageError](err); damaged {
		return hinted(exitNegative, err, "nothing was signed over it; put the objects back from where they are whole")
	}
	if _, broken := errors.AsType[*storage.BrokenError](err); broken {
		return hinted(exitNegative, err, "choose a store with conditional writes and a private state/; \"tallywood storage check\" shows all that is missing")
	}
	if _, ok := errors.AsType[*kms.Error](err); ok {
		return keyError(err)
	}
	return hinted(exitUsage, err, openHint(err))
}

// openHint says what to do about an error that kept a stack from opening.
func openHint(err error) string {
	if errors.Is(err, posix.ErrLocked) {
		return "stop the other process, or choose another directory: a stack for development runs once"
	}
	if errors.Is(err, stack.ErrMoving) {
		return "\"tallywood up --data DIR\" with that directory finishes the move"
	}
	if errors.Is(err, driver.ErrFormat) {
		return "run the version of Tallywood that wrote it; nothing was changed"
	}
	if frozen, ok := errors.AsType[*stack.FrozenError](err); ok {
		return fmt.Sprintf("\"state: frozen\" in the configuration serves it for reading; \"tallywood log freeze %s --undo --config FILE\" lets it grow again", frozen.Log)
	}
	if errors.Is(err, driver.ErrOtherLog) {
		return "the configuration's storage, or the log's name, origin or key, is not that log's; nothing was changed"
	}
	var missing *fs.PathError
	if errors.As(err, &missing) && errors.Is(err, fs.ErrNotExist) {
		switch ext := filepath.Ext(missing.Path); {
		case ext == ".pem" || ext == ".seed":
			return "put the file back from a backup: logs and authorities cannot go on with another key"
		case strings.HasSuffix(missing.Path, "policy.txt"):
			return "put the policy back: without it nothing may be published"
		}
		return "the configuration names a file that is not there"
	}
	return ""
}
