package monitor

import (
	"cmp"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"time"
)

const (
	maxCheckpoint  = 1 << 20 // bytes; 100 ML-DSA signature lines are a third of it
	fetchAttempts  = 3       // of one request, while it is the network or the server that fails
	attemptTimeout = 30 * time.Second
	firstRetry     = 100 * time.Millisecond
)

// A fetchError reports that nothing could be read: it says nothing about the log's honesty.
type fetchError struct {
	Path   string
	Status int // HTTP status, 0 if there was no answer
	Err    error
}

func (e *fetchError) Error() string { return fmt.Sprintf("get %q: %v", e.Path, e.Err) }

func (e *fetchError) Unwrap() error { return e.Err }

// A getter has the files of a log: a source, or evidence of what one had. Its errors are of
// *fetchError.
type getter interface {
	get(ctx context.Context, path string, limit int64, fresh bool) ([]byte, error)
}

// A source is where one log's static files are read.
type source struct {
	base    string // without trailing slash
	http    *http.Client
	buffers buffers                    // of entry bundles
	fetched func(time.Duration, error) // told of each attempt, unless nil
}

// get returns the body at a path below the log's URL. One longer than limit is cut at limit+1
// bytes: too long to be what was asked for, so that it fails verification like any other lie.
// fresh asks caches on the way to ask the origin.
func (s *source) get(ctx context.Context, path string, limit int64, fresh bool) ([]byte, error) {
	return s.getInto(ctx, nil, path, limit, fresh)
}

// getInto is get for a body that is put into buf, if it fits.
func (s *source) getInto(ctx context.Context, buf []byte, path string, limit int64, fresh bool) ([]byte, error) {
	for n := 1; ; n++ {
		data, err := s.attempt(ctx, buf, path, limit, fresh)
		var fe *fetchError
		if err == nil || n == fetchAttempts || ctx.Err() != nil ||
			errors.As(err, &fe) && fe.Status != 0 && fe.Status < 500 && fe.Status != http.StatusTooManyRequests {
			return data, err
		}
		pause := firstRetry << (2 * (n - 1))
		select {
		case <-time.After(pause + rand.N(pause/2)):
		case <-ctx.Done():
			return nil, err
		}
	}
}

func (s *source) attempt(ctx context.Context, buf []byte, path string, limit int64, fresh bool) (data []byte, err error) {
	if s.fetched != nil {
		defer func(began time.Time) { s.fetched(time.Since(began), err) }(time.Now())
	}
	ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.base+"/"+path, nil)
	if err != nil {
		return nil, &fetchError{path, 0, err}
	}
	// Said aloud, or net/http would ask for gzip and decode it without limit.
	req.Header.Set("Accept-Encoding", "identity")
	req.Header.Set("User-Agent", "tallywood-monitor")
	if fresh {
		req.Header.Set("Cache-Control", "no-cache")
		req.Header.Set("Pragma", "no-cache")
	}
	res, err := s.http.Do(req)
	if err != nil {
		return nil, &fetchError{path, 0, err}
	}
	defer res.Body.Close()
	switch {
	case res.StatusCode == http.StatusNotFound:
		return nil, &fetchError{path, res.StatusCode, fs.ErrNotExist}
	case res.StatusCode != http.StatusOK:
		return nil, &fetchError{path, res.StatusCode, httpStatus(res.StatusCode)}
	}
	data, err = readBody(res, buf, limit)
	if err != nil {
		return nil, &fetchError{path, 0, err}
	}
	return data, nil
}

// httpStatus returns the error of a status. The words that the server has for it may be anything.
func httpStatus(code int) error {
	return fmt.Errorf("%d %s", code, cmp.Or(http.StatusText(code), "unknown status"))
}

// readBody reads at most limit+1 bytes, decoded, into buf if they fit.
func readBody(res *http.Response, buf []byte, limit int64) ([]byte, error) {
	switch {
	case res.Header.Get("Content-Encoding") == "gzip": // some logs store bundles so
		z, err := gzip.NewReader(res.Body)
		if err != nil {
			return nil, fmt.Errorf("decoding gzip: %w", err)
		}
		return io.ReadAll(io.LimitReader(z, limit+1))
	case res.ContentLength < 0:
		return io.ReadAll(io.LimitReader(res.Body, limit+1))
	}
	n := int(min(res.ContentLength, limit+1))
	if cap(buf) < n {
		buf = make([]byte, n, n+n/32) // the next bundle may be a little larger
	}
	_, err := io.ReadFull(res.Body, buf[:n])
	return buf[:n], err
}

// defaultClient reads logs: many small files from few hosts, redirects within a host alone.
func defaultClient() *http.Client {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.MaxIdleConnsPerHost = 2 * readAhead
	t.ResponseHeaderTimeout = attemptTimeout
	return &http.Client{Transport: t, CheckRedirect: func(req *http.Request, via []*http.Request) error {
		if len(via) >= 5 || req.URL.Host != via[0].URL.Host || req.URL.Scheme != via[0].URL.Scheme {
			return errors.New("redirect to another host, or one too many")
		}
		return nil
	}}
}
