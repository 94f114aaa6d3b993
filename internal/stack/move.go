package stack

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"tallywood/internal/config"
	"tallywood/internal/disk"
)

// A move rewrites several files, which no file system does in one step. So its two addresses are
// put into this file of the data directory first, and it is removed last: a move that was cut
// short is finished by ResumeMove, and a stack between two addresses is not opened.
const moveJournal = ".move"

// ErrMoving reports a data directory whose files name two addresses, as a move was cut short.
var ErrMoving = errors.New("a move to another address was cut short")

// MoveDev puts address into the files of the development stack in dir wherever the address of old
// stands, and returns the names of those that changed. Everything else in them stays as its owner
// wrote it, and files that are not there are none of its business. config.yaml comes last.
func MoveDev(dir string, old *config.Config, address string) (changed []string, err error) {
	unlock, err := lockDev(old.Storage)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	files, err := moveFiles(dir, old, old.Address, address)
	if err != nil {
		return nil, fmt.Errorf("moving to %s: %w", address, err)
	}
	if len(files) == 0 || files[len(files)-1].name != "config.yaml" {
		return nil, fmt.Errorf("moving to %s: config.yaml does not spell out its address %s; change it there", address, old.Address)
	}
	if err := replaceFile(filepath.Join(dir, moveJournal), []byte(old.Address+"\n"+address+"\n")); err != nil {
		return nil, fmt.Errorf("moving to %s: %w", address, err)
	}
	return finishMove(dir, files)
}

// ResumeMove finishes a move of the development stack in dir that was cut short, and returns the
// addresses that it goes from and to, empty if there was none.
func ResumeMove(dir string, c *config.Config) (from, to string, err error) {
	if err := checkMoved(dir); err == nil {
		return "", "", nil
	}
	unlock, err := lockDev(c.Storage)
	if err != nil {
		return "", "", err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	journal, err := os.ReadFile(filepath.Join(dir, moveJournal))
	if errors.Is(err, fs.ErrNotExist) {
		return "", "", nil // who held the lock has finished it
	} else if err != nil {
		return "", "", fmt.Errorf("resuming a move: %w", err)
	}
	words := strings.Fields(string(journal))
	if len(words) != 2 {
		return "", "", fmt.Errorf("resuming a move: %s holds %q; want two addresses", moveJournal, journal)
	}
	files, err := moveFiles(dir, c, words[0], words[1])
	if err == nil {
		_, err = finishMove(dir, files)
	}
	if err != nil {
		return "", "", fmt.Errorf("resuming a move: %w", err)
	}
	return words[0], words[1], nil
}

// checkMoved returns an error that wraps ErrMoving if a move of dir is not finished.
func checkMoved(dir string) error {
	path := filepath.Join(dir, moveJournal)
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return fmt.Errorf("looking for %s: %w", path, err)
	}
	return fmt.Errorf("%w: %s holds its addresses", ErrMoving, path)
}

// A movedFile is a file with its new content.
type movedFile struct {
	name string // relative to the data directory
	text string
}

// moveFiles computes what the files of dir become, config.yaml last. A file that would not change
// is left out.
func moveFiles(dir string, c *config.Config, from, to string) ([]movedFile, error) {
	var files []movedFile
	for _, name := range moveNames(dir, c) {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		} else if err != nil {
			return nil, err
		}
		if text := replaceAddress(string(data), from, to); text != string(data) {
			files = append(files, movedFile{name, text})
		}
	}
	return files, nil
}

// moveNames lists the files of dir that may hold its address: those of a first start, and those
// the configuration names instead.
func moveNames(dir string, c *config.Config) []string {
	names := []string{"issuers.yaml", "monitor.yaml", filepath.Join("client", "policy.txt")}
	add := func(path string) {
		name, err := filepath.Rel(dir, path)
		if err == nil && filepath.IsLocal(name) && name != "config.yaml" && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	for _, l := range c.Logs {
		add(l.Policy)
	}
	if c.CA != nil {
		add(c.CA.Issuers)
	}
	if c.Monitor != nil {
		add(c.Monitor.Config)
	}
	return append(names, "config.yaml")
}

// finishMove writes files and then removes the journal.
func finishMove(dir string, files []movedFile) ([]string, error) {
	var changed []string
	for _, f := range files {
		if err := replaceFile(filepath.Join(dir, f.name), []byte(f.text)); err != nil {
			return changed, err
		}
		changed = append(changed, filepath.ToSlash(f.name))
	}
	if err := os.Remove(filepath.Join(dir, moveJournal)); err != nil {
		return changed, err
	}
	return changed, disk.SyncDir(dir)
}

// replaceAddress replaces old (HOST:PORT) where it stands whole: a longer port, or a longer host
// name, is another one.
func replaceAddress(text, old, new string) string {
	var out strings.Builder
	last := byte(' ') // what stands before text
	for {
		i := strings.Index(text, old)
		if i < 0 {
			out.WriteString(text)
			return out.String()
		}
		if i > 0 {
			last = text[i-1]
		}
		end := i + len(old)
		out.WriteString(text[:i])
		if end < len(text) && text[end] >= '0' && text[end] <= '9' || inHost(last) {
			out.WriteString(old)
		} else {
			out.WriteString(new)
		}
		text, last = text[end:], old[len(old)-1]
	}
}

// inHost reports whether b may stand in a host name.
func inHost(b byte) bool {
	return b >= '0' && b <= '9' || b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' || b == '.' || b == '-' || b == '_'
}
