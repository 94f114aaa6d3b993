package gcs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"net/http"
	"strconv"
	"strings"

	gcs "cloud.google.com/go/storage"
	"golang.org/x/sync/errgroup"
	"google.golang.org/api/iterator"

	"tallywood/internal/httpx"
	"tallywood/storage"
)

const (
	parallelDeletes = 32   // objects deleted at a time: the store deletes one by one
	pageSize        = 1000 // keys of one listing: the store's limit
)

// Get implements storage.Bucket. The version is the object's generation.
func (b *Bucket) Get(ctx context.Context, key string, r storage.Range) ([]byte, storage.Version, error) {
	if err := check(ctx, key); err != nil {
		return nil, "", fmt.Errorf("getting %q: %w", key, err)
	}
	if r.Offset < 0 || r.Length < 0 {
		return nil, "", fmt.Errorf("getting %q: negative range %+v", key, r)
	}
	var data []byte
	var v storage.Version
	var err error
	for range readAttempts {
		err = httpx.Steady(ctx, stallTimeout, func(ctx context.Context, beat func()) (err error) {
			data, v, err = b.get(ctx, b.reading(key), r, beat)
			return err
		})
		if !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, httpx.ErrStalled) {
			break
		}
	}
	if errors.Is(err, gcs.ErrObjectNotExist) {
		err = fs.ErrNotExist
	}
	if err != nil {
		return nil, "", fmt.Errorf("getting %q from %s: %w", key, b.name, err)
	}
	return data, v, nil
}

func (b *Bucket) get(ctx context.Context, o *gcs.ObjectHandle, r storage.Range, beat func()) ([]byte, storage.Version, error) {
	length := r.Length
	if length == 0 {
		length = -1
	}
	in, err := o.NewRangeReader(ctx, r.Offset, length)
	if status(err) == http.StatusRequestedRangeNotSatisfiable { // there are no such bytes, but the object is
		attrs, err := o.Attrs(ctx)
		if err != nil {
			return nil, "", err
		}
		return []byte{}, version(attrs.Generation), nil
	}
	if err != nil {
		return nil, "", err
	}
	data, err := io.ReadAll(httpx.Beating(in, beat))
	if err := errors.Join(err, in.Close()); err != nil {
		return nil, "", err
	}
	return data, version(in.Attrs.Generation), nil
}

// Put implements storage.Bucket. It sends one request and never repeats it: whether it may be
// repeated depends on what is written, which the caller knows.
func (b *Bucket) Put(ctx context.Context, key string, data []byte, opts storage.PutOptions) (storage.Version, error) {
	if err := check(ctx, key); err != nil {
		return "", fmt.Errorf("putting %q: %w", key, err)
	}
	o := b.object(key).Retryer(gcs.WithPolicy(gcs.RetryNever))
	want, conditional := opts.If.Version()
	switch {
	case opts.If.IsAbsent():
		o = o.If(gcs.Conditions{DoesNotExist: true})
	case conditional:
		generation, err := strconv.ParseInt(string(want), 10, 64)
		if err != nil || generation <= 0 { // no object ever has it
			return "", fmt.Errorf("putting %q into %s: %w", key, b.name, storage.ErrPrecondition)
		}
		o = o.If(gcs.Conditions{GenerationMatch: generation})
	}
	v, err := write(ctx, o, data, opts)
	if status(err) == http.StatusPreconditionFailed && (opts.If.IsAbsent() || conditional) {
		err = storage.ErrPrecondition
	}
	if err != nil {
		return "", fmt.Errorf("putting %q into %s: %w", key, b.name, err)
	}
	return v, nil
}

func write(ctx context.Context, o *gcs.ObjectHandle, data []byte, opts storage.PutOptions) (storage.Version, error) {
	ctx, cancel := context.WithCancel(ctx) // ends an upload that was not closed
	defer cancel()
	w := o.NewWriter(ctx)
	w.ChunkSize = 0 // one request
	w.ContentType, w.CacheControl = opts.ContentType, opts.CacheControl
	if w.ContentType == "" {
		w.ContentType = "application/octet-stream"
	}
	if _, err := io.Copy(w, bytes.NewReader(data)); err != nil {
		return "", err
	}
	if err := w.Close(); err != nil {
		return "", err
	}
	return version(w.Attrs().Generation), nil
}

// Delete implements storage.Bucket.
func (b *Bucket) Delete(ctx context.Context, keys ...string) error {
	for _, key := range keys {
		if err := check(ctx, key); err != nil {
			return fmt.Errorf("deleting %q: %w", key, err)
		}
	}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(parallelDeletes)
	for _, key := range keys {
		g.Go(func() error {
			err := httpx.Steady(gctx, stallTimeout, func(ctx context.Context, _ func()) error { return b.reading(key).Delete(ctx) })
			if err == nil || errors.Is(err, gcs.ErrObjectNotExist) {
				return nil
			}
			return fmt.Errorf("deleting %q from %s: %w", key, b.name, err)
		})
	}
	return g.Wait()
}

// List implements storage.Bucket.
func (b *Bucket) List(ctx context.Context, prefix string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		query := &gcs.Query{Prefix: b.prefix + prefix}
		if err := query.SetAttrSelection([]string{"Name"}); err != nil {
			yield("", fmt.Errorf("listing %q in %s: %w", prefix, b.name, err))
			return
		}
		for token, more := "", true; more; more = token != "" {
			var page []*gcs.ObjectAttrs
			err := httpx.Steady(ctx, stallTimeout, func(ctx context.Context, _ func()) (err error) {
				token, err = iterator.NewPager(b.bucket.Objects(ctx, query), pageSize, token).NextPage(&page)
				return err
			})
			if err != nil {
				yield("", fmt.Errorf("listing %q in %s: %w", prefix, b.name, err))
				return
			}
			for _, attrs := range page {
				if !yield(strings.TrimPrefix(attrs.Name, b.prefix), nil) {
					return
				}
			}
		}
	}
}

func (b *Bucket) object(key string) *gcs.ObjectHandle { return b.bucket.Object(b.prefix + key) }

// reading is the object for requests that may be repeated as they are.
func (b *Bucket) reading(key string) *gcs.ObjectHandle {
	return b.object(key).Retryer(gcs.WithPolicy(gcs.RetryAlways), gcs.WithMaxAttempts(readAttempts))
}

func version(generation int64) storage.Version {
	return storage.Version(strconv.FormatInt(generation, 10))
}

// check refuses a cancelled context and a key no Bucket accepts.
func check(ctx context.Context, key string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return storage.CheckKey(key)
}
