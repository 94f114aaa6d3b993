package alert

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"tallywood/monitor"
)

// JSONL appends events to a file, one JSON object in one line each.
type JSONL struct {
	path string
	mu   sync.Mutex
}

var _ monitor.Sink = (*JSONL)(nil)

// NewJSONL returns a sink that appends to the file at path. The file is created with mode 0600 by
// the first event, and opened anew for each, so that it may be rotated away at any time.
func NewJSONL(path string) (*JSONL, error) {
	if path == "" {
		return nil, errors.New("no path for JSON lines")
	}
	return &JSONL{path: path}, nil
}

// Probe says why no event could be taken as things are, if that can be seen. It writes nothing.
func (j *JSONL) Probe() error { return probeFile(j.path) }

// probeFile returns why there can be no file at path.
func probeFile(path string) error {
	if _, err := os.Stat(filepath.Dir(path)); err != nil {
		return fmt.Errorf("looking for the directory of %s: %w", path, err)
	}
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		return fmt.Errorf("%s is a directory; want the path of a file in it", path)
	}
	return nil
}

// Send implements monitor.Sink: when it returns nil the line is on disk.
func (j *JSONL) Send(_ context.Context, e monitor.Event) error {
	line, err := encode(e)
	if err != nil {
		return err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.append(line); err != nil {
		return fmt.Errorf("appending event %s: %w", e.ID, err)
	}
	return nil
}

func (j *JSONL) append(line []byte) error {
	_, statErr := os.Stat(j.path)
	f, err := os.OpenFile(j.path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	torn, err := endsTorn(f)
	if err != nil {
		return errors.Join(err, f.Close())
	}
	if torn { // a line that a crash or a full disk cut off must not swallow this one
		line = append([]byte{'\n'}, line...)
	}
	_, err = f.Write(line)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if errors.Is(statErr, fs.ErrNotExist) {
		d, err := os.Open(filepath.Dir(j.path))
		if err != nil {
			return err
		}
		return errors.Join(d.Sync(), d.Close())
	}
	return nil
}

// endsTorn reports whether f has content that does not end with a line.
func endsTorn(f *os.File) (bool, error) {
	info, err := f.Stat()
	if err != nil || info.Size() == 0 || !info.Mode().IsRegular() {
		return false, err
	}
	var last [1]byte
	if _, err := f.ReadAt(last[:], info.Size()-1); err != nil {
		return false, err
	}
	return last[0] != '\n', nil
}

// encode renders e as one line of JSON, LF included.
func encode(e monitor.Event) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(e); err != nil {
		return nil, fmt.Errorf("encoding event %s: %w", e.ID, err)
	}
	return b.Bytes(), nil
}
