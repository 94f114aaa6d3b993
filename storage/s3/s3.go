// Package s3 is a storage.Bucket in Amazon S3 or any store that speaks its protocol.
//
// The store must honour conditional writes (If-None-Match: *, If-Match), read what was written
// last, and answer 404 for a missing key. storage.Probe finds out whether it does.
package s3

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go/logging"

	"tallywood/storage"
)

const (
	maxConns       = 256              // connections kept per host: writers put in parallel
	headerTimeout  = 10 * time.Second // for the first byte of an answer
	connectTimeout = 5 * time.Second
	stallTimeout   = connectTimeout + headerTimeout // for the next byte of one
)

var _ storage.Bucket = (*Bucket)(nil)

// A Bucket keeps objects in an S3 bucket, all of them below one prefix. Make one with Open.
type Bucket struct {
	client *s3.Client
	http   *http.Client // of client
	bucket string
	prefix string // "" or ending in a slash
	name   string // for errors
}

// A location is what a URL says.
type location struct {
	bucket, prefix, region string
	endpoint               *url.URL // nil: that of AWS
}

// Open returns the Bucket at an s3://BUCKET[/PREFIX][?region=REGION][&endpoint=URL]. Without a
// region it is that of the environment, and with an endpoint us-east-1. An endpoint is spoken to
// in path style. Credentials come from the environment, the shared files of AWS or the machine's
// role. Open sends no request to the store.
func Open(ctx context.Context, rawURL string) (*Bucket, error) {
	loc, err := parseURL(rawURL)
	if err != nil {
		return nil, err
	}
	client := awshttp.NewBuildableClient().WithTransportOptions(tune).
		WithDialerOptions(func(d *net.Dialer) { d.Timeout = connectTimeout })
	// The SDK's own log would go to the standard error.
	options := []func(*config.LoadOptions) error{config.WithHTTPClient(client), config.WithLogger(logging.Nop{})}
	switch {
	case loc.region != "":
		options = append(options, config.WithRegion(loc.region))
	case loc.endpoint != nil:
		options = append(options, config.WithDefaultRegion("us-east-1"))
	}
	cfg, err := config.LoadDefaultConfig(ctx, options...)
	if err != nil {
		return nil, fmt.Errorf("opening %s: reading AWS configuration: %w", rawURL, err)
	}
	if cfg.Region == "" {
		return nil, fmt.Errorf("opening %s: no region: add ?region=REGION or set AWS_REGION", rawURL)
	}
	b := &Bucket{bucket: loc.bucket, prefix: loc.prefix, name: "s3://" + loc.bucket,
		http: &http.Client{CheckRedirect: sameMethod}}
	if c, ok := cfg.HTTPClient.(*awshttp.BuildableClient); ok { // it has the CA certificates of AWS_CA_BUNDLE
		b.http.Transport = c.GetTransport()
	}
	b.client = s3.NewFromConfig(cfg, func(o *s3.Options) {
		o.HTTPClient = b.http
		o.Retryer = aws.NopRetryer{} // what may be repeated is known here, not there
		o.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenRequired
		o.ResponseChecksumValidation = aws.ResponseChecksumValidationWhenRequired
		if loc.endpoint != nil {
			o.BaseEndpoint = aws.String(loc.endpoint.String())
			o.UsePathStyle = true
		}
	})
	return b, nil
}

func parseURL(rawURL string) (location, error) {
	fail := func(reason string) (location, error) {
		return location{}, fmt.Errorf("storage %q: %s; want s3://BUCKET/PREFIX?region=REGION&endpoint=URL", rawURL, reason)
	}
	u, err := url.Parse(rawURL)
	switch {
	case err != nil:
		return fail("not a URL")
	case u.Scheme != "s3":
		return fail("the scheme is not s3")
	case u.Host == "" || u.User != nil || u.Port() != "" || u.Fragment != "":
		return fail("a bucket's name alone must follow s3://")
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
		switch {
		case len(values) != 1 || values[0] == "":
			return fail(name + " must have one value")
		case name == "region":
			loc.region = values[0]
		case name == "endpoint":
			e, err := url.Parse(values[0])
			if err != nil || e.Scheme != "http" && e.Scheme != "https" || e.Host == "" || e.RawQuery != "" {
				return fail("the endpoint is not an http or https URL")
			}
			loc.endpoint = e
		default:
			return fail("unknown parameter " + name)
		}
	}
	return loc, nil
}

// tune makes t one for many requests at a time to one host.
func tune(t *http.Transport) {
	t.MaxIdleConns = maxConns
	t.MaxIdleConnsPerHost = maxConns
	t.ResponseHeaderTimeout = headerTimeout
}

// sameMethod follows the redirects that do not turn a request into a GET.
func sameMethod(r *http.Request, via []*http.Request) error {
	if s := r.Response.StatusCode; len(via) < 10 && (s == http.StatusTemporaryRedirect || s == http.StatusPermanentRedirect) {
		return nil
	}
	return http.ErrUseLastResponse
}

// String names the bucket, without anything secret.
func (b *Bucket) String() string { return b.name + "/" + b.prefix }

// status returns the status of the answer in err, or 0.
func status(err error) int {
	if r, ok := errors.AsType[*awshttp.ResponseError](err); ok {
		return r.HTTPStatusCode()
	}
	return 0
}
