package log

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"

	"tallywood/storage/driver"
)

// readObject returns the object of a log that is at path, as get reads it. Of a partial tile or entry
// bundle that is gone it returns how the full one begins: those are the same bytes.
//
//	> Logs [...] MAY delete any partial tile once the corresponding full tile is [...] available [...].
//	> Clients [...] MAY fetch the full tile in parallel as a fallback (c2sp.org/tlog-tiles)
//
// Not all do, so a partial of an older checkpoint stays readable here for good.
func readObject(get func(path string) ([]byte, error), path string) ([]byte, error) {
	data, err := get(path)
	full, width, partial := strings.Cut(path, ".p/")
	if !partial || !errors.Is(err, fs.ErrNotExist) {
		return data, err
	}
	if data, err = get(full); err != nil {
		return nil, err
	}
	n, err := strconv.Atoi(width)
	if err != nil {
		return nil, err // the path was checked
	}
	return beginning(full, data, n)
}

// beginning returns the first n hashes or entries of the full tile or bundle at path.
func beginning(path string, data []byte, n int) ([]byte, error) {
	level, _, _ := strings.Cut(strings.TrimPrefix(path, "tile/"), "/")
	size := n * sha256.Size
	if level == "entries" || level == "data" {
		layout := driver.TlogTiles()
		if level == "data" {
			layout = driver.StaticCT()
		}
		entries, err := layout.Split(data)
		if err != nil {
			return nil, fmt.Errorf("reading %s: %w", path, err)
		}
		if len(entries) < n {
			return nil, fmt.Errorf("reading %s: %d entries are not a full bundle", path, len(entries))
		}
		size = 0
		for _, e := range entries[:n] {
			size += len(e)
		}
	}
	if size > len(data) {
		return nil, fmt.Errorf("reading %s: %d bytes are not a full tile", path, len(data))
	}
	return data[:size:size], nil
}
