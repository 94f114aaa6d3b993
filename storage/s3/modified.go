package s3

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// Modified returns when the object at key was written. It asks once.
func (b *Bucket) Modified(ctx context.Context, key string) (time.Time, error) {
	err := check(ctx, key)
	if err == nil {
		var out *s3.HeadObjectOutput
		out, err = b.client.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &b.bucket, Key: aws.String(b.prefix + key)})
		switch {
		case err != nil:
			err = b.readError(err)
		case out.LastModified == nil:
			err = errors.New("the store sent no Last-Modified")
		default:
			return *out.LastModified, nil
		}
	}
	return time.Time{}, fmt.Errorf("looking at %q in %s: %w", key, b.name, err)
}
