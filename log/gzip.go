package log

import (
	"bytes"
	"compress/gzip"
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"sync"
)

// leastZip is the size from which on an entry bundle is worth compressing.
const leastZip = 4 << 10 // bytes

// zippers are kept between answers. At most a quarter of the processors are for them, or one.
var (
	zippers = sync.Pool{New: func() any {
		z, _ := gzip.NewWriterLevel(nil, gzip.BestSpeed) // the level is one
		return z
	}}
	zipping = make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/4))
)

// zipped returns data compressed, or nil if there is no processor for that or it does not get smaller.
func zipped(data []byte) []byte {
	select {
	case zipping <- struct{}{}:
		defer func() { <-zipping }()
	default:
		return nil
	}
	var out bytes.Buffer
	out.Grow(len(data) / 2)
	z := zippers.Get().(*gzip.Writer)
	defer zippers.Put(z)
	z.Reset(&out)
	_, err := z.Write(data)
	if cerr := z.Close(); err != nil || cerr != nil || out.Len() >= len(data) {
		return nil
	}
	return out.Bytes()
}

// zips reports whether the object at path may be sent compressed. Of the others, hashes do not get
// smaller, and checkpoints and issuers are small.
func zips(path string) bool {
	return strings.HasPrefix(path, "tile/entries/") || strings.HasPrefix(path, "tile/data/")
}

// wantsZip reports whether the client of r takes gzip and does not ask for a part: parts are of the
// object as it is.
func wantsZip(r *http.Request) bool {
	if r.Header.Get("Range") != "" {
		return false
	}
	for _, value := range r.Header.Values("Accept-Encoding") {
		for coding := range strings.SplitSeq(value, ",") {
			name, params, _ := strings.Cut(coding, ";")
			if !strings.EqualFold(strings.TrimSpace(name), "gzip") {
				continue
			}
			weight, given := strings.CutPrefix(strings.ReplaceAll(params, " ", ""), "q=")
			q, err := strconv.ParseFloat(weight, 64)
			return !given || err == nil && q > 0
		}
	}
	return false
}
