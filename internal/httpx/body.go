package httpx

import (
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"
)

// TooLargeError reports a request body over its limit.
type TooLargeError struct {
	Limit int64 // bytes, decompressed
}

// Error names the limit.
func (e *TooLargeError) Error() string {
	return fmt.Sprintf("request body is larger than %d bytes", e.Limit)
}

// Errors of ReadBody and of a BodyBudget.
var (
	// ErrEncoding reports a Content-Encoding other than gzip and identity.
	ErrEncoding = errors.New("unknown content encoding")
	// ErrGzip reports a body announced as gzip that is none.
	ErrGzip = errors.New("malformed gzip")
)

// ReadBody reads a request body of at most limit bytes, which is decompressed if its
// Content-Encoding is gzip. A larger one is a *TooLargeError; of what is compressed no more is
// decompressed than shows that.
func ReadBody(w http.ResponseWriter, r *http.Request, limit int64) ([]byte, error) {
	b, err := openBody(w, r, limit)
	if err != nil {
		return nil, err
	}
	defer b.close()
	return io.ReadAll(b)
}

// A body reads a request body, decompressed, up to a limit. Its errors are those of ReadBody.
type body struct {
	announced int64 // bytes; -1 if that is not known
	limit     int64

	plain *plainBody
	unzip *gzip.Reader // nil: it is not compressed
	read  int64        // decompressed bytes
}

// plainBody is a body as it came, which remembers why it ended.
type plainBody struct {
	io.Reader
	err error
}

// Read implements io.Reader.
func (b *plainBody) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	if err != nil && err != io.EOF {
		b.err = err
	}
	return n, err
}

var unzippers = sync.Pool{New: func() any { return new(gzip.Reader) }}

// openBody returns the body of r. close must be called unless there is an error.
func openBody(w http.ResponseWriter, r *http.Request, limit int64) (*body, error) {
	b := &body{announced: r.ContentLength, limit: limit}
	wire, zipped := limit, false
	switch encoding := strings.ToLower(strings.TrimSpace(strings.Join(r.Header.Values("Content-Encoding"), ","))); encoding {
	case "", "identity":
	case "gzip", "x-gzip":
		b.announced, zipped = -1, true
		wire += limit/1000 + 64 // what cannot be compressed becomes longer
	default:
		return nil, fmt.Errorf("%w %.40q", ErrEncoding, encoding)
	}
	if r.ContentLength > wire {
		return nil, &TooLargeError{Limit: limit}
	}
	b.plain = &plainBody{Reader: http.MaxBytesReader(innermost(w), r.Body, wire)}
	if zipped {
		b.unzip = unzippers.Get().(*gzip.Reader)
		if err := b.unzip.Reset(b.plain); err != nil {
			b.close()
			if err == io.EOF {
				err = io.ErrUnexpectedEOF // an empty body is no gzip
			}
			return nil, b.explain(err)
		}
	}
	return b, nil
}

// close gives the decompressor back.
func (b *body) close() {
	if b.unzip != nil {
		unzippers.Put(b.unzip)
		b.unzip = nil
	}
}

// Read implements io.Reader.
func (b *body) Read(p []byte) (int, error) {
	if b.unzip == nil {
		n, err := b.plain.Read(p)
		return n, b.explain(err)
	}
	if left := b.limit + 1 - b.read; int64(len(p)) > left {
		p = p[:left]
	}
	n, err := b.unzip.Read(p)
	if b.read += int64(n); b.read > b.limit {
		return 0, &TooLargeError{Limit: b.limit}
	}
	return n, b.explain(err)
}

// explain returns an error of reading as ReadBody has it.
func (b *body) explain(err error) error {
	if err == nil || err == io.EOF {
		return err
	}
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return &TooLargeError{Limit: b.limit}
	case b.plain.err == nil: // all came, and it made no sense
		return fmt.Errorf("%w: %w", ErrGzip, err)
	}
	return fmt.Errorf("reading request body: %w", err)
}

// innermost returns the server's own writer: MaxBytesReader tells that, and no wrapper of it, to
// close the connection of a client that sends too much.
func innermost(w http.ResponseWriter) http.ResponseWriter {
	for {
		wrapper, ok := w.(interface{ Unwrap() http.ResponseWriter })
		if !ok {
			return w
		}
		w = wrapper.Unwrap()
	}
}

// BodyStatus returns how an error of ReadBody or of a BodyBudget is answered: 413 with the limit, 415
// for an unknown encoding, 408 for a body that came too slowly, 503 for ErrBusy, otherwise 400.
func BodyStatus(err error) (status int, message string) {
	var large *TooLargeError
	switch {
	case errors.As(err, &large):
		return http.StatusRequestEntityTooLarge, large.Error()
	case errors.Is(err, ErrEncoding):
		return http.StatusUnsupportedMediaType, "the request body has an " + ErrEncoding.Error() + "; send gzip or none"
	case errors.Is(err, ErrGzip):
		return http.StatusBadRequest, "the request body is not the gzip that its Content-Encoding announces"
	case errors.Is(err, os.ErrDeadlineExceeded):
		return http.StatusRequestTimeout, fmt.Sprintf("the request body came too slowly; at least %d bytes per second are expected", bodyRate)
	case errors.Is(err, ErrBusy):
		return http.StatusServiceUnavailable, "too many large requests at the same time; try again"
	}
	return http.StatusBadRequest, "the request body could not be read completely"
}

// WriteBodyError answers an error of ReadBody or of a BodyBudget as BodyStatus says.
func WriteBodyError(w http.ResponseWriter, err error) {
	switch status, message := BodyStatus(err); status {
	case http.StatusServiceUnavailable:
		RetryLater(w, time.Second, message)
	case http.StatusUnsupportedMediaType:
		w.Header().Set("Accept-Encoding", "gzip")
		Error(w, status, message)
	case http.StatusRequestTimeout:
		w.Header().Set("Connection", "close")
		Error(w, status, message)
	default:
		Error(w, status, message)
	}
}
