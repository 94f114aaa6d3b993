package s3

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"tallywood/storage"
)

var _ storage.Exposer = (*Bucket)(nil)

// wrongCredentials no store accepts that looks at them.
const wrongCredentials = "AWS4-HMAC-SHA256 Credential=nobody/20260101/us-east-1/s3/aws4_request, " +
	"SignedHeaders=host;x-amz-content-sha256;x-amz-date, Signature=0"

// Exposed implements storage.Exposer by asking for the object without credentials.
func (b *Bucket) Exposed(ctx context.Context, key string) error {
	if err := check(ctx, key); err != nil {
		return err
	}
	signed, err := s3.NewPresignClient(b.client).PresignGetObject(ctx,
		&s3.GetObjectInput{Bucket: &b.bucket, Key: aws.String(b.prefix + key)})
	if err != nil {
		return fmt.Errorf("finding the address of %q: %w", key, err)
	}
	address, _, _ := strings.Cut(signed.URL, "?")
	readable, err := b.readable(ctx, address, "")
	if err != nil || !readable {
		return err
	}
	if u, err := url.Parse(address); err == nil && isLoopback(u.Hostname()) {
		if anyhow, err := b.readable(ctx, address, wrongCredentials); err == nil && anyhow {
			return storage.ErrUnguarded
		}
	}
	return fmt.Errorf("%w: GET %s", storage.ErrExposed, address)
}

// readable reports whether a GET with the given Authorization header, if any, brings the object.
func (b *Bucket) readable(ctx context.Context, address, authorization string) (bool, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return false, fmt.Errorf("asking without credentials: %w", err)
	}
	if authorization != "" {
		req.Header.Set("Authorization", authorization)
		req.Header.Set("X-Amz-Date", time.Now().UTC().Format("20060102T150405Z"))
		req.Header.Set("X-Amz-Content-Sha256", "UNSIGNED-PAYLOAD")
	}
	res, err := b.http.Do(req)
	if err != nil {
		return false, fmt.Errorf("asking without credentials: %w", err)
	}
	defer res.Body.Close()
	if res.StatusCode >= 500 {
		return false, fmt.Errorf("asking without credentials: %d %s", res.StatusCode, http.StatusText(res.StatusCode))
	}
	return res.StatusCode == http.StatusOK, nil
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
