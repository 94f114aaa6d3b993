package log

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"

	"github.com/transparency-dev/tessera/api/layout"

	"tallywood/internal/httpx"
	"tallywood/log/entry"
	"tallywood/storage"
)

const (
	// maxBundle is how large an entry bundle of tlog-tiles can be. Those of certificates may be larger.
	maxBundle = layout.EntryBundleWidth * (2 + entry.MaxSize)
	// maxAnswers is how many bytes of objects that are being read and sent may be in memory.
	maxAnswers = 4 * maxBundle
)

// bundleSteps are the sizes as which an entry bundle is read, one after the other until it fits: how
// large it is nobody knows before, and there must be room for it. One that fits none is read as the
// largest that there may be.
var bundleSteps = []int64{512 << 10, 2 << 20, 8 << 20}

// published reads the public objects of a log for those who ask for them. The memory that they take
// is bounded from before they are read until they are sent.
type published struct {
	bucket  storage.Bucket
	prefix  string
	answers *httpx.BodyBudget
	usual   atomic.Int64 // bytes of the full entry bundle read last
}

func newPublished(bucket storage.Bucket, prefix string) *published {
	return &published{bucket: bucket, prefix: prefix, answers: httpx.NewBodyBudget(maxAnswers)}
}

// read returns the object at path, and a tag that another content of it does not have. release must be
// called once it is sent, unless there is an error.
func (p *published) read(r *http.Request, path string) (data []byte, tag string, release func(), err error) {
	var held *httpx.Held
	var version storage.Version
	data, err = readObject(func(path string) (data []byte, err error) {
		if zips(path) {
			data, version, held, err = p.bundle(r, path)
		} else {
			data, version, held, err = p.small(r, path)
		}
		return data, err
	}, path)
	if err != nil {
		if held != nil { // the full bundle was not one
			held.Release()
		}
		return nil, "", nil, err
	}
	return data, tagOf(version, len(data)), held.Release, nil
}

// tagOf makes an entity tag of an object's version, which the bucket has anyway: to hash a large object
// takes as long as to read it. A partial that is how a full one begins has the version of that.
func tagOf(v storage.Version, size int) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s %d", v, size))
	return hex.EncodeToString(sum[:16])
}

// small reads an object that is no entry bundle: of a few kilobytes.
func (p *published) small(r *http.Request, path string) ([]byte, storage.Version, *httpx.Held, error) {
	data, version, err := p.bucket.Get(r.Context(), p.prefix+path, storage.Range{})
	if err != nil {
		return nil, "", nil, err
	}
	held, err := p.answers.Take(r.Context(), httpx.Client(r), int64(len(data)))
	return data, version, held, err
}

// bundle reads an entry bundle. It begins as large as the last one was, if that is likely.
func (p *published) bundle(r *http.Request, path string) ([]byte, storage.Version, *httpx.Held, error) {
	full := !strings.Contains(path, ".p/")
	for _, size := range bundleSteps {
		if full && size <= p.usual.Load() {
			continue
		}
		data, version, held, err := p.part(r, path, size, storage.Range{Length: size})
		if err != nil || int64(len(data)) < size {
			return data, version, held, err
		}
		held.Release()
	}
	return p.part(r, path, p.largest(path), storage.Range{})
}

// part reads a part of an entry bundle, when there is room for size bytes.
func (p *published) part(r *http.Request, path string, size int64, part storage.Range) ([]byte, storage.Version, *httpx.Held, error) {
	held, err := p.answers.Take(r.Context(), httpx.Client(r), size)
	if err != nil {
		return nil, "", nil, err
	}
	data, version, err := p.bucket.Get(r.Context(), p.prefix+path, part)
	if err != nil {
		held.Release()
		return nil, "", nil, err
	}
	held.Shrink(int64(len(data)))
	if !strings.Contains(path, ".p/") {
		p.usual.Store(int64(len(data)))
	}
	return data, version, held, nil
}

// largest is how large the entry bundle at path can be, as far as there is room.
func (p *published) largest(path string) int64 {
	if strings.HasPrefix(path, "tile/data/") {
		return maxAnswers
	}
	return maxBundle
}
