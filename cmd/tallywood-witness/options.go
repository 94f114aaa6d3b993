package main

import (
	"fmt"

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
	if o.Bucket, err = posix.Open(c.State); err != nil {
		return o, operational("", fmt.Errorf("opening state: %w", err))
	}
	return o, nil
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
	return o, c.rotationConfig.open(&o, dir, passphraseFile)
}
