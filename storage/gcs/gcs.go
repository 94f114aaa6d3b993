// Package gcs is a storage.Bucket in Google Cloud Storage.
//
// Conditions are generation preconditions, which the store keeps strictly. An object's name takes
// about one write a second: who writes one more often is answered 429 and has to wait.
package gcs

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	gcs "cloud.google.com/go/storage"
	"google.golang.org/api/googleapi"
	"google.golang.org/api/option"

	"tallywood/storage"
)

const (
	maxConns      = 256              // connections kept to an endpoint: writers put in parallel
	headerTimeout = 30 * time.Second // for the first byte of an answer
	stallTimeout  = 15 * time.Second // for the next byte of one, and for an answer as a whole if it is short
	readAttempts  = 4                // at a request that changes nothing
)

var (
	_ storage.Bucket  = (*Bucket)(nil)
	_ storage.Exposer = (*Bucket)(nil)
)

// A Bucket keeps objects in a GCS bucket, all of them below one prefix. Make one with Open.
type Bucket struct {
	client *gcs.Client
	bucket *gcs.BucketHandle
	public string // where anyone may ask for objects
	prefix string // "" or ending in a slash
	name   string // for errors
}

// A location is what a URL says.
type location struct {
	bucket, prefix, endpoint string // endpoint "": that of Google
}

// Open returns the Bucket at a gs://BUCKET[/PREFIX][?endpoint=URL]. Credentials are the
// application default ones; an endpoint, which is for emulators, is spoken to without any. Open
// sends no request to the store.
func Open(ctx context.Context, rawURL string) (*Bucket, error) {
	loc, err := parseURL(rawURL)
	if err != nil {
		return nil, err
	}
	// What may be repeated, and how often, is known here better than there.
	options := []option.ClientOption{gcs.WithJSONReads()}
	public := "https://storage.googleapis.com"
	if loc.endpoint != "" {
		public = loc.endpoint
		options = append(options, option.WithEndpoint(loc.endpoint+"/storage/v1/"), option.WithoutAuthentication(),
			option.WithHTTPClient(&http.Client{Transport: &http.Transport{
				MaxIdleConns: maxConns, MaxIdleConnsPerHost: maxConns, ResponseHeaderTimeout: headerTimeout,
			}}))
	}
	client, err := gcs.NewClient(ctx, options...)
	if err != nil {
		return nil, fmt.Errorf("opening %s: %w", rawURL, err)
	}
	return &Bucket{
		client: client, bucket: client.Bucket(loc.bucket), prefix: loc.prefix, name: "gs://" + loc.bucket,
		public: public + "/" + loc.bucket,
	}, nil
}

func parseURL(rawURL string) (location, error) {
	fail := func(reason string) (location, error) {
		return location{}, fmt.Errorf("storage %q: %s; want gs://BUCKET/PREFIX", rawURL, reason)
	}
	u, err := url.Parse(rawURL)
	switch {
	case err != nil:
		return fail("not a URL")
	case u.Scheme != "gs":
		return fail("the scheme is not gs")
	case u.Host == "" || u.User != nil || u.Port() != "" || u.Fragment != "":
		return fail("a bucket's name alone must follow gs://")
	}
	loc := location{bucket: u.Host, prefix: strings.Trim(u.Path, "/")}
	if loc.prefix != "" {
		if err := storage.CheckKey(loc.prefix); err != nil {
			return fail(err.Error())
		}
		loc.prefix += "/"
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return fail("its query cannot be read")
	}
	for name, values := range query {
		if name != "endpoint" || len(values) != 1 {
			return fail("unknown parameter " + name)
		}
		e, err := url.Parse(values[0])
		if err != nil || e.Scheme != "http" && e.Scheme != "https" || e.Host == "" || e.RawQuery != "" {
			return fail("the endpoint is not an http or https URL")
		}
		loc.endpoint = strings.TrimSuffix(values[0], "/")
	}
	return loc, nil
}

// String names the bucket.
func (b *Bucket) String() string { return b.name + "/" + b.prefix }

// Exposed implements storage.Exposer by asking for the object without credentials.
func (b *Bucket) Exposed(ctx context.Context, key string) error {
	if err := check(ctx, key); err != nil {
		return err
	}
	address := b.public + "/" + b.prefix + key
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return fmt.Errorf("asking without credentials: %w", err)
	}
	res, err := (&http.Client{Timeout: headerTimeout}).Do(req)
	if err != nil {
		return fmt.Errorf("asking without credentials: %w", err)
	}
	defer res.Body.Close()
	ip := net.ParseIP(req.URL.Hostname())
	switch {
	case res.StatusCode >= 500:
		return fmt.Errorf("asking without credentials: %d %s", res.StatusCode, http.StatusText(res.StatusCode))
	case res.StatusCode != http.StatusOK:
		return nil
	case req.URL.Hostname() == "localhost" || ip != nil && ip.IsLoopback():
		return storage.ErrUnguarded
	}
	return fmt.Errorf("%w: GET %s", storage.ErrExposed, address)
}

// status returns the status of the answer in err, or 0.
func status(err error) int {
	if e, ok := errors.AsType[*googleapi.Error](err); ok {
		return e.Code
	}
	return 0
}
