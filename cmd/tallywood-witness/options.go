package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"tallywood/internal/disk"
	"tallywood/storage/posix"
	"tallywood/witness"
)

// options opens the keys, the state and the export of a configuration in dir.
func (c config) options(dir, passphraseFile string) (witness.Options, error) {
	o, err := c.keyOptions(dir, passphraseFile)
	if err != nil {
		return o, err
	}
	if o.Export, err = openExport(c, dir); err != nil {
		return o, err
	}
	o.Bucket, err = c.openState(dir)
	return o, err
}

// openState opens the directory of the state of a witness in dir.
func (c config) openState(dir string) (*posix.Bucket, error) {
	if err := errors.Join(c.checkStateName(), c.checkBegun(dir)); err != nil {
		return nil, err
	}
	b, err := posix.Open(c.State)
	if err != nil {
		return nil, operational("", fmt.Errorf("opening state: %w", err))
	}
	return b, nil
}

// checkStateName refuses the state of a witness of another name: an Ed25519 key that an agent holds is
// the same under any name, and would begin anew there, with everything forgotten that it has signed.
func (c config) checkStateName() error {
	root := filepath.Join(c.State, "state") // see package witness
	if _, err := os.Stat(filepath.Join(root, filepath.FromSlash(c.Name))); !errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	entries, err := os.ReadDir(root)
	if err != nil { // there is none yet, or the bucket says what is wrong
		return nil
	}
	for _, e := range entries {
		if e.IsDir() && !strings.HasPrefix(e.Name(), ".") {
			return usageError("a witness keeps its name for ever: put it back, or make another witness in another directory",
				"%s is the state of the witness %q, and the name in %s is %q", c.State, e.Name(), configFile, c.Name)
		}
	}
	return nil
}

// begunFile is in DIR once serve has begun a state: without it one that is lost would look like a new one.
const begunFile = "state-begun"

// checkBegun refuses a state that was begun and is gone, with its directory or out of it: a new one with
// the same keys knows nothing of what they have signed, and can be made to sign a fork of it. Where the
// lease was published it is not needed: with that a new state signs nothing until take-over.
func (c config) checkBegun(dir string) error {
	note := filepath.Join(dir, begunFile)
	if _, err := os.Lstat(note); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if c.Export != "" {
		if _, err := os.Stat(filepath.Join(within(dir, c.Export), "lease.json")); err == nil { // see package witness
			return nil
		}
	}
	_, err := os.Stat(filepath.Join(c.State, "started", filepath.FromSlash(c.Name))) // see package witness
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return usageError("put it back, or mount its disk, and begin no other one with these keys; if it is lost for good, docs/witness.md says how to go on",
			"the state of this witness is gone: there is none in %s, and %s says that it was begun", c.State, note)
	case err != nil:
		return operational("", fmt.Errorf("looking for the state: %w", err))
	}
	return nil
}

// noteBegun notes in dir that the state was begun. It is durable by then.
func noteBegun(dir string) error {
	path := filepath.Join(dir, begunFile)
	if _, err := os.Lstat(path); err == nil {
		return nil
	}
	return disk.Replace(path, []byte("The state of this witness was begun. While this file is here, no other state is begun in its place:\n"+
		"see docs/witness.md, \"When something fails\".\n"))
}

// keyOptions opens the keys alone. One passphrase is for all seeds that are encrypted.
func (c config) keyOptions(dir, passphraseFile string) (witness.Options, error) {
	o := witness.Options{About: c.About}
	var err error
	if o.Keys, err = openKeys(c, passphraseFile); err != nil {
		return o, err
	}
	if passphraseFile == "" {
		passphraseFile = c.PassphraseFile
	}
	if _, err := os.Stat(passphraseFile); passphraseFile != "" && err != nil { // also where no seed needs it
		return o, usageError("", "reading passphrase: %w", err)
	}
	return o, c.rotationConfig.open(&o, dir, passphraseFile)
}
