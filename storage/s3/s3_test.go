package s3_test

import (
	"errors"
	"io/fs"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"

	"tallywood/storage"
	"tallywood/storage/s3"
	"tallywood/storage/storagetest"
)

// open returns a Bucket in a prefix of its own.
func open(t *testing.T, endpoint, bucket, prefix string) *s3.Bucket {
	t.Helper()
	b, err := s3.Open(t.Context(), "s3://"+bucket+"/"+prefix+"?endpoint="+url.QueryEscape(endpoint))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func credentials(t *testing.T) {
	t.Setenv("AWS_ACCESS_KEY_ID", storagetest.AccessKey)
	t.Setenv("AWS_SECRET_ACCESS_KEY", storagetest.SecretKey)
	t.Setenv("AWS_CONFIG_FILE", os.DevNull)
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", os.DevNull)
}

// TestVersitygw runs the suite on two gateways over one directory: every operation of a bucket
// goes to the one or the other.
func TestVersitygw(t *testing.T) {
	credentials(t)
	dir := filepath.Join(t.TempDir(), "data")
	if err := os.MkdirAll(filepath.Join(dir, "bucket"), 0o755); err != nil {
		t.Fatal(err)
	}
	gateways := []string{storagetest.Versitygw(t, dir), storagetest.Versitygw(t, dir)}
	var n atomic.Int32
	storagetest.Run(t, func(t *testing.T) storage.Bucket {
		prefix := strconv.Itoa(int(n.Add(1)))
		return storagetest.Alternate(open(t, gateways[0], "bucket", prefix), open(t, gateways[1], "bucket", prefix))
	})
}

// TestGofakes3 runs the suite on a second implementation of the protocol, in this process.
func TestGofakes3(t *testing.T) {
	credentials(t)
	backend := s3mem.New()
	if err := backend.CreateBucket("bucket"); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(gofakes3.New(backend).Server())
	defer server.Close()
	var n atomic.Int32
	storagetest.Run(t, func(t *testing.T) storage.Bucket {
		return open(t, server.URL, "bucket", strconv.Itoa(int(n.Add(1))))
	})
	checks, err := storage.Probe(t.Context(), open(t, server.URL, "bucket", "probe"), "state/log/probe")
	if err != nil || checks[len(checks)-1].Warning != storage.ErrUnguarded.Error() {
		t.Errorf("probing: %+v, %v; want a warning that nobody is asked for credentials", checks, err)
	}
}

func TestProbeAcceptsVersitygw(t *testing.T) {
	credentials(t)
	endpoint := versitygw(t)
	checks, err := storage.Probe(t.Context(), open(t, endpoint, "bucket", "log"), "state/log/probe")
	if err != nil || checks[len(checks)-1].Warning != "" {
		t.Errorf("%+v, %v", checks, err)
	}
}

// TestProbeRefusesPublicState gives everyone the right to read the bucket, as a careless policy
// for a public log does, and then logs/ alone.
func TestProbeRefusesPublicState(t *testing.T) {
	credentials(t)
	endpoint := versitygw(t)
	b := open(t, endpoint, "bucket", "log")
	for resource, exposed := range map[string]bool{"bucket/*": true, "bucket/log/logs/*": false} {
		setPolicy(t, endpoint, resource)
		_, err := storage.Probe(t.Context(), b, "state/log/probe")
		if errors.Is(err, storage.ErrExposed) != exposed && (err == nil) == exposed {
			t.Errorf("%s is public: %v", resource, err)
		}
		if exposed && (err == nil || !strings.Contains(err.Error(), "strangers cannot read state/")) {
			t.Errorf("%s is public: %v", resource, err)
		}
	}
}

func TestProbeRefusesAStoreThatIgnoresConditions(t *testing.T) {
	t.Setenv("AWS_ACCESS_KEY_ID", "S3RVER")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "S3RVER")
	b := open(t, storagetest.S3rver(t, "bucket"), "bucket", "log")
	_, err := storage.Probe(t.Context(), b, "state/log/probe")
	for _, guarantee := range []string{"create-only writes (If-None-Match) never overwrite", "compare-and-swap (If-Match) replaces only"} {
		if err == nil || !strings.Contains(err.Error(), "the store does not guarantee that "+guarantee) {
			t.Errorf("%v; want that it names %q", err, guarantee)
		}
	}
}

func TestOpenRefusesBadURLs(t *testing.T) {
	for _, u := range []string{
		"s3://", "s3:///prefix", "gs://bucket", "bucket", "s3://bucket:80/p", "s3://user@bucket/p", "s3://bucket/a/../b",
		"s3://bucket?endpoint=ftp://host", "s3://bucket?endpoint=", "s3://bucket?regoin=x", "s3://bucket?region=a&region=b",
		"s3://bucket?endpoint=http%3A%2F%2Fhost%3Fa%3Db",
	} {
		if _, err := s3.Open(t.Context(), u); err == nil || !strings.Contains(err.Error(), "s3://BUCKET") {
			t.Errorf("%s: %v", u, err)
		}
	}
	t.Setenv("AWS_CONFIG_FILE", os.DevNull)
	t.Setenv("AWS_REGION", "")
	if _, err := s3.Open(t.Context(), "s3://bucket/p"); err == nil || !strings.Contains(err.Error(), "AWS_REGION") {
		t.Errorf("without a region: %v", err)
	}
}

func TestAMissingBucketIsNoMissingKey(t *testing.T) {
	credentials(t)
	b := open(t, versitygw(t), "nobucket", "log")
	if _, _, err := b.Get(t.Context(), "key", storage.Range{}); err == nil || errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "the bucket does not exist") {
		t.Errorf("getting: %v", err)
	}
}

// versitygw starts a gateway with a bucket named bucket.
func versitygw(t *testing.T) (endpoint string) {
	dir := filepath.Join(t.TempDir(), "data")
	if err := os.MkdirAll(filepath.Join(dir, "bucket"), 0o755); err != nil {
		t.Fatal(err)
	}
	return storagetest.Versitygw(t, dir)
}

// setPolicy lets everyone read the objects that resource names, and no others.
func setPolicy(t *testing.T, endpoint, resource string) {
	t.Helper()
	cfg, err := config.LoadDefaultConfig(t.Context(), config.WithRegion("us-east-1"))
	if err != nil {
		t.Fatal(err)
	}
	client := awss3.NewFromConfig(cfg, func(o *awss3.Options) { o.BaseEndpoint, o.UsePathStyle = aws.String(endpoint), true })
	_, err = client.PutBucketPolicy(t.Context(), &awss3.PutBucketPolicyInput{Bucket: aws.String("bucket"), Policy: aws.String(
		`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":"*","Action":"s3:GetObject","Resource":"arn:aws:s3:::` + resource + `"}]}`)})
	if err != nil {
		t.Fatal(err)
	}
}
