package monitor

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"tallywood/internal/disk"
)

// A file is one piece of evidence.
type file struct {
	name string
	data []byte
	url  string    // path below the log's URL; empty if it was not fetched
	at   time.Time // when it was fetched
}

// evidenceName makes a file name of a path below a log's URL.
func evidenceName(path string) string { return strings.ReplaceAll(path, "/", "-") }

// about is what evidence.json says of each other file.
type about struct {
	File    string    `json:"file"`
	SHA256  string    `json:"sha256"`
	Path    string    `json:"path,omitempty"`
	Fetched time.Time `json:"fetched,omitzero"`
}

const temporaryPrefix = ".tmp-"

// writeEvidence puts files, and a list of them with the event itself, into the directory of e
// below dir, and returns its path once all of it is on disk. A directory that is already there is
// left alone: it is of the same event, found before a crash.
func writeEvidence(dir string, e Event, files []file) (string, error) {
	path := filepath.Join(dir, e.ID)
	if _, err := os.Stat(path); err == nil {
		return path, disk.SyncDir(dir)
	}
	if err := disk.MakeDir(dir, 0o700); err != nil {
		return "", fmt.Errorf("writing evidence: %w", err)
	}
	tmp, err := os.MkdirTemp(dir, temporaryPrefix)
	if err != nil {
		return "", fmt.Errorf("writing evidence: %w", err)
	}
	defer os.RemoveAll(tmp)
	e.Evidence = path
	list := struct {
		Event Event   `json:"event"`
		Files []about `json:"files"`
	}{Event: e}
	for _, f := range files {
		sum := sha256.Sum256(f.data)
		list.Files = append(list.Files, about{f.name, hex.EncodeToString(sum[:]), f.url, f.at.UTC()})
	}
	index, err := json.MarshalIndent(list, "", "  ")
	if err != nil {
		return "", fmt.Errorf("writing evidence: %w", err)
	}
	for _, f := range append(slices.Clip(files), file{name: "evidence.json", data: append(index, '\n')}) {
		if err := writeSynced(filepath.Join(tmp, f.name), f.data); err != nil {
			return "", fmt.Errorf("writing evidence: %w", err)
		}
	}
	if err := disk.SyncDir(tmp); err != nil {
		return "", fmt.Errorf("writing evidence: %w", err)
	}
	// Another monitor on the same state may have come first.
	if err := os.Rename(tmp, path); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", fmt.Errorf("writing evidence: %w", err)
	}
	return path, disk.SyncDir(dir)
}

func writeSynced(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Sync(), f.Close())
}

// sweepEvidence removes what a process left that died while it wrote evidence.
func sweepEvidence(dir string) {
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		info, err := e.Info()
		if err == nil && strings.HasPrefix(e.Name(), temporaryPrefix) && time.Since(info.ModTime()) > time.Hour {
			os.RemoveAll(filepath.Join(dir, e.Name()))
		}
	}
}
