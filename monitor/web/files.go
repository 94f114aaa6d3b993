package web

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"tallywood/internal/disk"
)

const (
	filePerm = 0o644 // a web server reads the files under another user
	dirPerm  = 0o755

	temporaryPrefix = ".tmp-"

	maxCopy = 8 << 20 // bytes of evidence that are copied for one alert
)

// A tree is the directory that pages are in. Files are replaced as a whole, and only when they are
// other ones.
type tree struct {
	dir     string
	written map[string][sha256.Size]byte // what is in files that this process has written, by name
}

// ours returns an error if the directory has what is not ours under names of ours: it would be replaced,
// or removed as pages that are out of date.
func (t *tree) ours() error {
	there := func(name string) bool {
		_, err := os.Lstat(filepath.Join(t.dir, name))
		return err == nil
	}
	if there("alerts") || there("rules.html") { // made before all others, and after
		return nil
	}
	for _, name := range []string{"index.html", "alerts.html", "status.json", "identities", "logs", "checkpoints"} {
		if there(name) {
			return fmt.Errorf("writing pages: %s is there, and no page of a monitor; want a directory for pages alone", filepath.Join(t.dir, name))
		}
	}
	return nil
}

// put makes data the content of a file, unless it is already. With durable it is on the disk
// afterwards; without, a crash may bring back what was there.
func (t *tree) put(name string, data []byte, durable bool) error {
	sum := sha256.Sum256(data)
	if t.written[name] == sum {
		return nil
	}
	path := filepath.Join(t.dir, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(path), dirPerm); err != nil {
		return fmt.Errorf("writing page: %w", err)
	}
	f, err := os.CreateTemp(filepath.Dir(path), temporaryPrefix)
	if err != nil {
		return fmt.Errorf("writing page: %w", err)
	}
	defer os.Remove(f.Name())
	_, err = f.Write(data)
	if err == nil && durable {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Chmod(filePerm), f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err == nil && durable {
		err = disk.SyncDir(filepath.Dir(path))
	}
	if err != nil {
		return fmt.Errorf("writing page: %w", err)
	}
	t.written[name] = sum
	return nil
}

// remove removes a file or a directory with all that is in it.
func (t *tree) remove(name string) error {
	delete(t.written, name)
	if err := os.RemoveAll(filepath.Join(t.dir, filepath.FromSlash(name))); err != nil {
		return fmt.Errorf("removing page: %w", err)
	}
	return nil
}

// keepOnly removes all pages in a directory that are not among names.
func (t *tree) keepOnly(dir string, names map[string]bool) error {
	entries, err := os.ReadDir(filepath.Join(t.dir, dir))
	if err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		return fmt.Errorf("reading pages: %w", err)
	}
	var errs []error
	for _, e := range entries {
		if !names[e.Name()] && !strings.HasPrefix(e.Name(), temporaryPrefix) {
			errs = append(errs, t.remove(dir+"/"+e.Name()))
		}
	}
	return errors.Join(errs...)
}

// sweep removes what a process left that died while it wrote.
func (t *tree) sweep() {
	for _, dir := range []string{"", "alerts", "identities", "logs", "checkpoints"} {
		entries, _ := os.ReadDir(filepath.Join(t.dir, dir))
		for _, e := range entries {
			info, err := e.Info()
			if err == nil && strings.HasPrefix(e.Name(), temporaryPrefix) && time.Since(info.ModTime()) > time.Hour {
				os.RemoveAll(filepath.Join(t.dir, dir, e.Name()))
			}
		}
	}
}

// A copied piece of evidence.
type copied struct {
	Name    string // below the directory of the alert
	Was     string // in the evidence
	Size    int64
	SHA256  string
	Omitted bool // too large to be copied
}

// copyName returns the name of the copy of a file of evidence: one that no web server gives a type
// which a browser would run or show as a page, whatever the bytes are.
func copyName(name string) string {
	switch {
	case strings.HasSuffix(name, ".json"), strings.HasSuffix(name, ".pem"), strings.HasSuffix(name, ".txt"):
		return name
	case strings.HasPrefix(name, "checkpoint") && !strings.Contains(name, "."), strings.HasPrefix(name, "checkpoint."), strings.HasSuffix(name, ".tlog-proof"):
		return name + ".txt"
	}
	return name + ".bin"
}

// copyEvidence puts copies of the files of evidence in from into the directory name, all at once,
// unless it is there already.
func (t *tree) copyEvidence(from, name string) error {
	to := filepath.Join(t.dir, filepath.FromSlash(name))
	if _, err := os.Stat(to); err == nil {
		return nil
	}
	entries, err := os.ReadDir(from)
	if err != nil && !errors.Is(err, os.ErrNotExist) { // somebody may have cleared it away
		return fmt.Errorf("reading evidence: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(to), dirPerm); err != nil {
		return fmt.Errorf("copying evidence: %w", err)
	}
	tmp, err := os.MkdirTemp(filepath.Dir(to), temporaryPrefix)
	if err != nil {
		return fmt.Errorf("copying evidence: %w", err)
	}
	defer os.RemoveAll(tmp)
	var omitted bytes.Buffer
	left := int64(maxCopy)
	for _, e := range entries {
		info, err := e.Info()
		switch {
		case err != nil:
			return fmt.Errorf("copying evidence: %w", err)
		case !info.Mode().IsRegular():
			continue
		case info.Size() > left:
			fmt.Fprintf(&omitted, "%d %s\n", info.Size(), e.Name())
			continue
		}
		left -= info.Size()
		if err := copyFile(filepath.Join(from, e.Name()), filepath.Join(tmp, copyName(e.Name()))); err != nil {
			return fmt.Errorf("copying evidence: %w", err)
		}
	}
	if omitted.Len() > 0 {
		if err := os.WriteFile(filepath.Join(tmp, omittedName), omitted.Bytes(), filePerm); err != nil {
			return fmt.Errorf("copying evidence: %w", err)
		}
	}
	err = errors.Join(os.Chmod(tmp, dirPerm), disk.SyncDir(tmp))
	if err == nil {
		err = os.Rename(tmp, to)
		if _, there := os.Stat(to); there == nil { // another process with these pages was as quick
			err = nil
		}
	}
	if err = errors.Join(err, disk.SyncDir(filepath.Dir(to))); err != nil {
		return fmt.Errorf("copying evidence: %w", err)
	}
	return nil
}

// omittedName is the file that lists what was too large to copy: size and name, one a line.
const omittedName = "omitted.txt"

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, filePerm)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	// The umask may have taken from what a web server needs.
	return errors.Join(err, out.Chmod(filePerm), out.Sync(), out.Close())
}

// copies lists the evidence in directory name.
func (t *tree) copies(name string) ([]copied, error) {
	dir := filepath.Join(t.dir, filepath.FromSlash(name))
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("reading evidence: %w", err)
	}
	var out []copied
	for _, e := range entries {
		data, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return nil, fmt.Errorf("reading evidence: %w", err)
		}
		if e.Name() == omittedName {
			for line := range strings.Lines(string(data)) {
				var size int64
				var was string
				if _, err := fmt.Sscan(line, &size, &was); err == nil {
					out = append(out, copied{Was: was, Size: size, Omitted: true})
				}
			}
			continue
		}
		sum := sha256.Sum256(data)
		out = append(out, copied{Name: e.Name(), Size: int64(len(data)), SHA256: hex.EncodeToString(sum[:])})
	}
	return out, nil
}
