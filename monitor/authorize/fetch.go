package authorize

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"
)

const fetchTimeout = 10 * time.Second

// errUnchanged reports that a server has what was read before.
var errUnchanged = errors.New("unchanged")

// Validators are by what a server tells whether a file has changed.
type validators struct {
	ETag         string `json:"etag,omitempty"`
	LastModified string `json:"last_modified,omitempty"`
}

// A location is where a manifest is: a path, or the URL of a static file.
type location struct {
	path string
	url  *url.URL // nil: a file
}

// parseLocation reads a location. A URL is one of https, or of http on this machine.
func parseLocation(text string) (location, error) {
	if !strings.Contains(text, "://") {
		if text == "" {
			return location{}, errors.New("no file or URL of a manifest")
		}
		return location{path: text}, nil
	}
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return location{}, fmt.Errorf("%q is not a URL", text)
	case u.Host == "" || u.Scheme != "https" && (u.Scheme != "http" || !isLoopback(u.Hostname())):
		return location{}, fmt.Errorf("%s is neither an https URL nor an http URL of this machine", u.Redacted())
	case u.Fragment != "":
		return location{}, fmt.Errorf("%s has a fragment", u.Redacted())
	}
	return location{url: u}, nil
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || strings.HasSuffix(host, ".localhost") || ip != nil && ip.IsLoopback()
}

// String returns the location without what may be secret in a URL.
func (l location) String() string {
	if l.url == nil {
		return l.path
	}
	return (&url.URL{Scheme: l.url.Scheme, Host: l.url.Host, Path: l.url.Path}).String()
}

// beside returns the location of a file beside it, whose name has an ending more.
func (l location) beside(ending string) location {
	if l.url == nil {
		return location{path: l.path + ending}
	}
	u := *l.url
	u.Path, u.RawPath = u.Path+ending, ""
	return location{url: &u}
}

// read returns what is at a location, at most limit bytes, and by what it is told from what comes
// after it. With known, errUnchanged says that it is still that; fresh asks past caches.
func (l location) read(ctx context.Context, client *http.Client, limit int64, known validators, fresh bool) ([]byte, validators, error) {
	if l.url == nil {
		f, err := os.Open(l.path)
		if err != nil {
			return nil, validators{}, err
		}
		defer f.Close()
		data, err := readLimited(f, limit)
		return data, validators{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, l.url.String(), nil)
	if err != nil {
		return nil, known, err
	}
	// Said aloud, or net/http would ask for gzip and decode it without limit.
	req.Header.Set("Accept-Encoding", "identity")
	req.Header.Set("User-Agent", "tallywood-monitor")
	if fresh {
		req.Header.Set("Cache-Control", "no-cache")
	}
	if known.ETag != "" {
		req.Header.Set("If-None-Match", known.ETag)
	}
	if known.LastModified != "" {
		req.Header.Set("If-Modified-Since", known.LastModified)
	}
	res, err := client.Do(req)
	if err != nil {
		if ue, ok := errors.AsType[*url.Error](err); ok { // its text has the URL, which may be a secret
			err = ue.Err
		}
		return nil, known, err
	}
	defer res.Body.Close()
	switch {
	case res.StatusCode == http.StatusNotModified && known != validators{}:
		return nil, known, errUnchanged
	case res.StatusCode != http.StatusOK:
		return nil, known, fmt.Errorf("answered %d %s", res.StatusCode, cmp.Or(http.StatusText(res.StatusCode), "unknown status"))
	}
	data, err := readLimited(res.Body, limit)
	return data, validators{clip(res.Header.Get("ETag")), clip(res.Header.Get("Last-Modified"))}, err
}

// clip drops a header that is longer than any server makes it.
func clip(v string) string {
	if len(v) > 256 {
		return ""
	}
	return v
}

func readLimited(r io.Reader, limit int64) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("it is larger than %d bytes", limit)
	}
	return data, err
}

// defaultClient follows redirects within a host alone.
func defaultClient() *http.Client {
	return &http.Client{CheckRedirect: func(req *http.Request, via []*http.Request) error {
		if len(via) >= 5 || req.URL.Host != via[0].URL.Host || req.URL.Scheme != via[0].URL.Scheme {
			return errors.New("redirect to another host, or one too many")
		}
		return nil
	}}
}
