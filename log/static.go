package log

import (
	"bytes"
	"errors"
	"io/fs"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"

	"tallywood/internal/httpx"
	"tallywood/storage"
)

// Static serves the public objects of the log of that name, relative to "/": checkpoint, tile/…
// and issuer/…, as c2sp.org/tlog-tiles and c2sp.org/static-ct-api lay them out, from the bucket
// alone; beside the checkpoint there is checkpoint.full, which has the cosignatures that came after the
// quorum too. Paths that neither has are answered 404 without a look at the bucket. Conditional and
// range requests work, entry bundles are compressed for whoever takes gzip, and pages of any origin
// may read. The memory that answers under way take is bounded.
func Static(bucket storage.Bucket, name string) http.Handler {
	objects := newPublished(bucket, "logs/"+name+"/")
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		header := w.Header()
		header.Set("Access-Control-Allow-Origin", "*")
		if r.Method == http.MethodOptions {
			header.Set("Access-Control-Allow-Methods", "GET, HEAD")
			header.Set("Access-Control-Allow-Headers", "Range, If-None-Match, If-Range")
			header.Set("Access-Control-Max-Age", "86400")
			w.WriteHeader(http.StatusNoContent)
			return
		}
		header.Set("Access-Control-Expose-Headers", "ETag, Content-Range")
		path := strings.TrimPrefix(r.URL.Path, "/")
		contentType, cacheControl, ok := classify(path)
		if !ok {
			httpx.Error(w, http.StatusNotFound, "no such object: a log has checkpoint, tile/… and issuer/… only")
			return
		}
		data, tag, release, err := objects.read(r, path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			header.Set("Cache-Control", "no-store") // it may be there the next moment
			httpx.Error(w, http.StatusNotFound, "no such object in this log, or not yet")
			return
		case errors.Is(err, httpx.ErrBusy):
			httpx.RetryLater(w, time.Second, "too many objects are read at the same time; try again")
			return
		case err != nil:
			httpx.RetryLater(w, time.Second, "the storage of this log does not answer")
			return
		}
		defer release()
		header.Set("Content-Type", contentType)
		header.Set("Cache-Control", cacheControl)
		header.Set("X-Content-Type-Options", "nosniff")
		serveObject(w, r, data, tag, zips(path))
	})
	return httpx.Methods(h, http.MethodGet, http.MethodOptions)
}

// serveObject answers with data, compressed if that is allowed, pays and is wanted.
func serveObject(w http.ResponseWriter, r *http.Request, data []byte, tag string, zip bool) {
	header := w.Header()
	if zip {
		header.Set("Vary", "Accept-Encoding")
		if len(data) >= leastZip && wantsZip(r) {
			if z := zipped(data); z != nil {
				data, tag = z, tag+"-gzip" // another representation has another tag
				header.Set("Content-Encoding", "gzip")
				header.Set("Content-Length", strconv.Itoa(len(z)))
			}
		}
	}
	header.Set("ETag", `"`+tag+`"`)
	httpx.Unhurried(w, len(data))
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
}

const immutable = "public, max-age=604800, immutable"

var issuerPath = regexp.MustCompile(`^issuer/[0-9a-f]{64}$`)

// classify says how the object at path is served, if the layouts have such a path.
func classify(path string) (contentType, cacheControl string, ok bool) {
	switch {
	case path == "checkpoint", path == "checkpoint.full":
		return "text/plain; charset=utf-8", "no-store", true
	case validTile(path):
		return "application/octet-stream", immutable, true
	case issuerPath.MatchString(path):
		return "application/pkix-cert", immutable, true
	}
	return "", "", false
}

// validTile reports whether path is a tile's or an entry bundle's, in the one spelling it has:
//
//	> <N> [...] MUST be a non-negative integer encoded into zero-padded 3-digit path elements.
//	> All but the last path element MUST begin with an x. (c2sp.org/tlog-tiles)
func validTile(path string) bool {
	path, ok := strings.CutPrefix(path, "tile/")
	if !ok {
		return false
	}
	level, n, ok := strings.Cut(path, "/")
	if !ok || level != "entries" && level != "data" && !canonical(level, 0, 63) {
		return false
	}
	if full, width, partial := strings.Cut(n, ".p/"); partial {
		if !canonical(width, 1, 255) {
			return false
		}
		n = full
	}
	const maxGroups = 6 // 2^63 entries make no more
	groups := strings.Split(n, "/")
	for i, g := range groups {
		if i < len(groups)-1 {
			if g, ok = strings.CutPrefix(g, "x"); !ok {
				return false
			}
		}
		if len(g) != 3 || strings.Trim(g, "0123456789") != "" {
			return false
		}
	}
	return len(groups) <= maxGroups && (len(groups) == 1 || groups[0] != "x000")
}

// canonical reports whether s is a decimal number from low to high without leading zeros.
func canonical(s string, low, high int) bool {
	n, err := strconv.Atoi(s)
	return err == nil && n >= low && n <= high && strconv.Itoa(n) == s
}
