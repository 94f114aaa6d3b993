package mint

import (
	"bytes"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
)

// A Dir keeps a log's files below a directory. Nothing is synced.
type Dir string

// Put implements [Files].
func (d Dir) Put(path string, data []byte) error {
	name := filepath.Join(string(d), filepath.FromSlash(path))
	err := os.WriteFile(name, data, 0o644)
	if os.IsNotExist(err) {
		if err = os.MkdirAll(filepath.Dir(name), 0o755); err == nil {
			err = os.WriteFile(name, data, 0o644)
		}
	}
	return err
}

// A Memory keeps a log's files in memory, and serves them. The zero Memory is empty. It may be used
// concurrently.
type Memory struct {
	mu    sync.Mutex
	files map[string][]byte
	gets  []string
}

// Put implements [Files].
func (m *Memory) Put(path string, data []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.files == nil {
		m.files = map[string][]byte{}
	}
	m.files[path] = bytes.Clone(data)
	return nil
}

// Get returns the file at path, nil if there is none.
func (m *Memory) Get(path string) []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	return bytes.Clone(m.files[path])
}

// Paths returns the paths of all files, in order.
func (m *Memory) Paths() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Sorted(maps.Keys(m.files))
}

// Delete removes the file at path.
func (m *Memory) Delete(path string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.files, path)
}

// Copy returns a Memory with the same files.
func (m *Memory) Copy() *Memory {
	m.mu.Lock()
	defer m.mu.Unlock()
	return &Memory{files: maps.Clone(m.files)}
}

// Become replaces the files with those of another Memory.
func (m *Memory) Become(other *Memory) {
	files := other.Copy().files
	m.mu.Lock()
	defer m.mu.Unlock()
	m.files = files
}

// Requests returns the paths that were asked for, in order.
func (m *Memory) Requests() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]string(nil), m.gets...)
}

// ServeHTTP answers a request for the file at the URL's path.
func (m *Memory) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := strings.TrimPrefix(r.URL.Path, "/")
	m.mu.Lock()
	m.gets = append(m.gets, path)
	data, ok := m.files[path]
	m.mu.Unlock()
	if !ok {
		http.NotFound(w, r)
		return
	}
	w.Write(data) // a client that is gone is no trouble of ours
}
