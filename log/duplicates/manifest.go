package duplicates

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// A manifest says which files make up an index. It is the hexadecimal SHA-256 of the JSON in the lines
// after it, and is replaced as a whole, once what it names is on disk.
type manifest struct {
	Format int `json:"format"`
	Identity
	Next    int           `json:"next"` // number of the next file
	Journal journalFile   `json:"journal"`
	Runs    []runFile     `json:"runs"` // the oldest first
	At      manifestTrees `json:"at"`   // before the journal
}

type journalFile struct {
	Name string `json:"name"`
	Seed uint32 `json:"seed"`
}

type runFile struct {
	Name    string `json:"name"`
	Tier    int    `json:"tier"`
	Records int64  `json:"records"`
}

type manifestTrees struct {
	All    manifestTree `json:"all"`
	Within manifestTree `json:"within"`
}

type manifestTree struct {
	Size int64  `json:"size"`
	Root string `json:"root"` // hexadecimal
}

const (
	format       = 2 // 1 was a B+tree in one file
	manifestName = "manifest"
)

func (t Tree) manifest() manifestTree { return manifestTree{t.Size, hex.EncodeToString(t.Root[:])} }

func (t manifestTree) tree() (Tree, error) {
	root, err := hex.DecodeString(t.Root)
	if err != nil || len(root) != 32 || t.Size < 0 {
		return Tree{}, errors.New("impossible tree")
	}
	return Tree{t.Size, [32]byte(root)}, nil
}

// readManifest returns the manifest in dir and the progress it names. An error means that there is no
// index of the given log to be had there, and is not wrapped in ErrDamaged.
func readManifest(dir string, id Identity) (m manifest, p Progress, err error) {
	data, err := os.ReadFile(filepath.Join(dir, manifestName))
	if err != nil {
		return m, p, fmt.Errorf("reading manifest: %w", err)
	}
	sum, text, _ := bytes.Cut(data, []byte("\n"))
	if string(sum) != manifestSum(text) {
		return m, p, errors.New("reading manifest: its checksum is wrong")
	}
	if err := json.Unmarshal(text, &m); err != nil {
		return m, p, fmt.Errorf("reading manifest: %w", err)
	}
	if m.Format != format || m.Identity != id {
		return m, p, errors.New("reading manifest: it is of another log or format")
	}
	all, err := m.At.All.tree()
	within, err2 := m.At.Within.tree()
	if err := errors.Join(err, err2); err != nil {
		return m, p, fmt.Errorf("reading manifest: %w", err)
	}
	return m, Progress{all, within}, nil
}

func (m *manifest) write(dir string) error {
	text, err := json.MarshalIndent(m, "", "\t")
	if err != nil {
		return fmt.Errorf("encoding manifest: %w", err)
	}
	text = append(text, '\n')
	path := filepath.Join(dir, manifestName)
	if err := writeSynced(path+".new", append([]byte(manifestSum(text)+"\n"), text...)); err != nil {
		return fmt.Errorf("writing manifest: %w", err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		return fmt.Errorf("writing manifest: %w", err)
	}
	return nil
}

func manifestSum(text []byte) string {
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

func writeSynced(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// sweep removes what is in dir and the manifest does not name.
func (m *manifest) sweep(dir string) error {
	keep := map[string]bool{manifestName: true, lockName: true, m.Journal.Name: true}
	for _, r := range m.Runs {
		keep[r.Name] = true
	}
	files, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("listing files of duplicate index: %w", err)
	}
	for _, f := range files {
		if keep[f.Name()] {
			continue
		}
		if err := os.RemoveAll(filepath.Join(dir, f.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("removing what is left of a duplicate index: %w", err)
		}
	}
	return nil
}
