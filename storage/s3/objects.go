package s3

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"

	"tallywood/internal/httpx"
	"tallywood/storage"
)

const (
	reads       = 4                     // attempts at a request that changes nothing
	firstWait   = 50 * time.Millisecond // before the second of them; doubled for each
	maxDeletes  = 1000                  // keys of one DeleteObjects
	noSuchKey   = "NoSuchKey"
	notFound    = "NotFound" // the code of a HEAD, whose answers have no body
	invalidPart = "InvalidRange"
)

// Get implements storage.Bucket. The version is the object's ETag.
func (b *Bucket) Get(ctx context.Context, key string, r storage.Range) (data []byte, v storage.Version, err error) {
	if err := check(ctx, key); err != nil {
		return nil, "", fmt.Errorf("getting %q: %w", key, err)
	}
	if r.Offset < 0 || r.Length < 0 {
		return nil, "", fmt.Errorf("getting %q: negative range %+v", key, r)
	}
	err = b.retry(ctx, func(ctx context.Context, beat func()) error {
		data, v, err = b.get(ctx, key, r, beat)
		return err
	})
	if err != nil {
		return nil, "", fmt.Errorf("getting %q from %s: %w", key, b.name, err)
	}
	return data, v, nil
}

func (b *Bucket) get(ctx context.Context, key string, r storage.Range, beat func()) ([]byte, storage.Version, error) {
	in := &s3.GetObjectInput{Bucket: &b.bucket, Key: aws.String(b.prefix + key), Range: rangeHeader(r)}
	out, err := b.client.GetObject(ctx, in)
	if code(err) == invalidPart || status(err) == http.StatusRequestedRangeNotSatisfiable {
		return b.head(ctx, key) // there are no such bytes, but the object is
	}
	if err != nil {
		return nil, "", b.readError(err)
	}
	defer out.Body.Close()
	data, err := io.ReadAll(httpx.Beating(out.Body, beat))
	if err != nil {
		return nil, "", err
	}
	if out.ContentLength != nil && *out.ContentLength != int64(len(data)) {
		return nil, "", fmt.Errorf("%d bytes came of %d: %w", len(data), *out.ContentLength, io.ErrUnexpectedEOF)
	}
	if aws.ToString(out.ETag) == "" {
		return nil, "", errors.New("the store sent no ETag")
	}
	return cut(data, r, out.ContentRange != nil), storage.Version(*out.ETag), nil
}

// cut returns the part of data that r names, where the store sent the whole object instead.
func cut(data []byte, r storage.Range, isPart bool) []byte {
	if isPart {
		return data
	}
	data = data[min(r.Offset, int64(len(data))):]
	if r.Length > 0 {
		data = data[:min(r.Length, int64(len(data)))]
	}
	return data
}

func (b *Bucket) head(ctx context.Context, key string) ([]byte, storage.Version, error) {
	out, err := b.client.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &b.bucket, Key: aws.String(b.prefix + key)})
	if err != nil {
		return nil, "", b.readError(err)
	}
	if aws.ToString(out.ETag) == "" {
		return nil, "", errors.New("the store sent no ETag")
	}
	return []byte{}, storage.Version(*out.ETag), nil
}

func rangeHeader(r storage.Range) *string {
	switch {
	case r == storage.Range{}:
		return nil
	case r.Length == 0:
		return aws.String("bytes=" + strconv.FormatInt(r.Offset, 10) + "-")
	}
	return aws.String(fmt.Sprintf("bytes=%d-%d", r.Offset, r.Offset+r.Length-1))
}

// Put implements storage.Bucket. It sends one request and never repeats it: whether it may be
// repeated depends on what is written, which the caller knows.
func (b *Bucket) Put(ctx context.Context, key string, data []byte, opts storage.PutOptions) (storage.Version, error) {
	if err := check(ctx, key); err != nil {
		return "", fmt.Errorf("putting %q: %w", key, err)
	}
	in := &s3.PutObjectInput{
		Bucket: &b.bucket, Key: aws.String(b.prefix + key),
		Body: bytes.NewReader(data), ContentLength: aws.Int64(int64(len(data))),
		ContentType: orNil(opts.ContentType), CacheControl: orNil(opts.CacheControl),
	}
	version, conditional := opts.If.Version()
	switch {
	case opts.If.IsAbsent():
		in.IfNoneMatch = aws.String("*")
	case conditional:
		in.IfMatch = aws.String(string(version))
	}
	out, err := b.client.PutObject(ctx, in)
	b.distrust(err)
	switch {
	case err == nil && aws.ToString(out.ETag) == "":
		return "", fmt.Errorf("putting %q into %s: the store sent no ETag", key, b.name)
	case err == nil:
		return storage.Version(*out.ETag), nil
	case status(err) == http.StatusPreconditionFailed && (opts.If.IsAbsent() || conditional),
		code(err) == noSuchKey && conditional: // the store's way to say that there is nothing to match
		return "", fmt.Errorf("putting %q into %s: %w", key, b.name, storage.ErrPrecondition)
	}
	return "", fmt.Errorf("putting %q into %s: %w", key, b.name, b.hint(err))
}

// Delete implements storage.Bucket.
func (b *Bucket) Delete(ctx context.Context, keys ...string) error {
	for _, key := range keys {
		if err := check(ctx, key); err != nil {
			return fmt.Errorf("deleting %q: %w", key, err)
		}
	}
	for len(keys) > 0 {
		n := min(len(keys), maxDeletes)
		if err := b.retry(ctx, func(ctx context.Context, _ func()) error { return b.deleteSome(ctx, keys[:n]) }); err != nil {
			return fmt.Errorf("deleting %q and %d more from %s: %w", keys[0], n-1, b.name, err)
		}
		keys = keys[n:]
	}
	return nil
}

func (b *Bucket) deleteSome(ctx context.Context, keys []string) error {
	if len(keys) == 1 {
		_, err := b.client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &b.bucket, Key: aws.String(b.prefix + keys[0])})
		if code(err) == noSuchKey {
			return nil
		}
		return b.hint(err)
	}
	objects := make([]types.ObjectIdentifier, len(keys))
	for i, key := range keys {
		objects[i].Key = aws.String(b.prefix + key)
	}
	out, err := b.client.DeleteObjects(ctx, &s3.DeleteObjectsInput{
		Bucket: &b.bucket, Delete: &types.Delete{Objects: objects, Quiet: aws.Bool(true)},
	})
	if err != nil {
		return b.hint(err)
	}
	var errs []error
	for _, e := range out.Errors {
		if c := aws.ToString(e.Code); c != noSuchKey {
			errs = append(errs, fmt.Errorf("%s: %s: %s", aws.ToString(e.Key), c, aws.ToString(e.Message)))
		}
	}
	return errors.Join(errs...)
}

// List implements storage.Bucket.
func (b *Bucket) List(ctx context.Context, prefix string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		in := &s3.ListObjectsV2Input{Bucket: &b.bucket, Prefix: aws.String(b.prefix + prefix)}
		for {
			var out *s3.ListObjectsV2Output
			err := b.retry(ctx, func(ctx context.Context, _ func()) (err error) {
				out, err = b.client.ListObjectsV2(ctx, in)
				return b.hint(err)
			})
			if err != nil {
				yield("", fmt.Errorf("listing %q in %s: %w", prefix, b.name, err))
				return
			}
			for _, o := range out.Contents {
				if key := strings.TrimPrefix(aws.ToString(o.Key), b.prefix); !yield(key, nil) {
					return
				}
			}
			if !aws.ToBool(out.IsTruncated) || out.NextContinuationToken == nil {
				return
			}
			in.ContinuationToken = out.NextContinuationToken
		}
	}
}

// readError gives a failed read the meaning a Bucket gives it.
func (b *Bucket) readError(err error) error {
	if c := code(err); c == noSuchKey || c == notFound {
		return fs.ErrNotExist
	}
	return b.hint(err)
}

// hint adds to err what its reader is likely to need.
func (b *Bucket) hint(err error) error {
	switch c := code(err); {
	case c == "NoSuchBucket":
		return fmt.Errorf("the bucket does not exist: %w", err)
	case status(err) == http.StatusForbidden:
		return fmt.Errorf("%w (the store says 403 for a missing object too where s3:ListBucket is not granted)", err)
	}
	return err
}

// code returns the store's code of the failure in err, or "".
func code(err error) string {
	if e, ok := errors.AsType[smithy.APIError](err); ok {
		return e.ErrorCode()
	}
	return ""
}

// retry repeats a request that may be repeated while its failure may pass. A request ends when nothing
// of its answer has come for a while, which is not so as long as it calls beat.
func (b *Bucket) retry(ctx context.Context, request func(ctx context.Context, beat func()) error) error {
	wait := firstWait
	for attempt := 1; ; attempt++ {
		err := httpx.Steady(ctx, stallTimeout, request)
		b.distrust(err)
		if err == nil || attempt == reads || !passing(err) || ctx.Err() != nil {
			return err
		}
		select {
		case <-time.After(wait/2 + rand.N(wait)):
		case <-ctx.Done():
			return err
		}
		wait *= 2
	}
}

// distrust closes the idle connections after a request without an answer: where that came to nothing,
// requests on the others would too, one after the other.
func (b *Bucket) distrust(err error) {
	if err != nil && status(err) == 0 && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, context.Canceled) {
		b.http.CloseIdleConnections()
	}
}

// passing reports whether a failure may be gone at the next attempt: one without an answer, or
// whose answer says so. That the caller's time is over is not asked here: the limits on connecting and
// on the first byte of an answer look like it.
func passing(err error) bool {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, context.Canceled) {
		return false
	}
	s := status(err)
	return s == 0 || s >= 500 || s == http.StatusTooManyRequests || s == http.StatusRequestTimeout
}

// check refuses a cancelled context and a key no Bucket accepts.
func check(ctx context.Context, key string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return storage.CheckKey(key)
}

func orNil(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
