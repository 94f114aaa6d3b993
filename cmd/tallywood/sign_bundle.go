package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// A bundleFile is where a bundle will be. It is opened before anything is signed: a log forgets
// nothing, and an entry whose bundle has no place is of no use.
type bundleFile struct {
	file *os.File
	made bool // by us, and nothing is in it yet
}

// openBundle opens the file at path, which is not the artifact, and leaves what is in it.
func openBundle(path string, artifact *os.File) (*bundleFile, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	made := err == nil
	if errors.Is(err, fs.ErrExist) {
		f, err = os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o644)
	}
	if err != nil {
		return nil, usagef("opening bundle: %w", err)
	}
	b := &bundleFile{f, made}
	mine, err := f.Stat()
	if err == nil {
		var signed fs.FileInfo
		if signed, err = artifact.Stat(); err == nil && os.SameFile(mine, signed) {
			err = fmt.Errorf("--bundle %s is the file to be signed, which would be lost", path)
		}
	}
	if err != nil {
		b.discard()
		return nil, usagef("%w", err)
	}
	return b, nil
}

// write puts data into the file in the place of what was there.
func (b *bundleFile) write(data []byte) error {
	info, err := b.file.Stat()
	if err == nil && info.Mode().IsRegular() {
		err = b.file.Truncate(0)
	}
	if err != nil {
		return err
	}
	b.made = false
	_, err = b.file.Write(data)
	return errors.Join(err, b.file.Close())
}

// discard closes the file if it was not written, and removes one that would be left empty.
func (b *bundleFile) discard() {
	_ = b.file.Close() // nothing was written, or it is closed already
	if b.made {
		_ = os.Remove(b.file.Name()) // the error that leads here says more
	}
}
