package kms

import (
	"context"
	"errors"
	"time"
)

// OpenWithin is Open with less time for one request and for a signature, and for fewer of them at a
// time.
func OpenWithin(ctx context.Context, uri string, attempt, call time.Duration, calls int) (*Key, error) {
	l := defaultLimits
	l.attempt, l.call, l.open, l.calls = attempt, call, call, calls
	return open(ctx, uri, l)
}

// Limit gives k other times for one request and for a signature.
func Limit(k *Key, attempt, call time.Duration) { k.limits.attempt, k.limits.call = attempt, call }

// Retry lets tests reach what repeats requests.
var Retry = retry

// Temporary is a fault that may pass.
func Temporary(text string) error { return &failure{err: errors.New(text), temporary: true} }

// Normal is the URI of what parse reads in uri.
func Normal(uri string) (string, error) {
	r, err := parse(uri)
	if err != nil {
		return "", err
	}
	path := r.key
	if r.cloud == aws {
		path = "/" + path
	}
	sep := "?"
	if r.region != "" {
		path += sep + "region=" + r.region
		sep = "&"
	}
	if r.endpoint != "" {
		path += sep + "endpoint=" + r.endpoint
	}
	return r.cloud + "://" + path, nil
}

// Occupy lets as many signatures be under way as may, for ever.
func Occupy(k *Key) {
	for range cap(k.slots) {
		k.slots <- struct{}{}
	}
}
