package gcs_test

import (
	"bytes"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"tallywood/storage"
	"tallywood/storage/gcs"
	"tallywood/storage/storagetest"
)

func open(t *testing.T, endpoint, bucket, prefix string) *gcs.Bucket {
	t.Helper()
	b, err := gcs.Open(t.Context(), "gs://"+bucket+"/"+prefix+"?endpoint="+url.QueryEscape(endpoint))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestFakeGCSServer(t *testing.T) {
	endpoint := storagetest.FakeGCSServer(t)
	res, err := http.Post(endpoint+"/storage/v1/b?project=test", "application/json", bytes.NewReader([]byte(`{"name":"bucket"}`)))
	if err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("creating a bucket: %v, %v", res, err)
	}
	res.Body.Close()
	var n atomic.Int32
	storagetest.Run(t, func(t *testing.T) storage.Bucket {
		return open(t, endpoint, "bucket", strconv.Itoa(int(n.Add(1))))
	})
	checks, err := storage.Probe(t.Context(), open(t, endpoint, "bucket", "probe"), "state/log/probe")
	if err != nil || checks[len(checks)-1].Warning != storage.ErrUnguarded.Error() {
		t.Errorf("probing: %+v, %v; want a warning that nobody is asked for credentials", checks, err)
	}
}

func TestOpenRefusesBadURLs(t *testing.T) {
	for _, u := range []string{
		"gs://", "gs:///prefix", "s3://bucket", "bucket", "gs://bucket:80/p", "gs://user@bucket/p", "gs://bucket/a/../b",
		"gs://bucket?endpoint=ftp://host", "gs://bucket?region=x",
	} {
		if _, err := gcs.Open(t.Context(), u); err == nil || !strings.Contains(err.Error(), "gs://BUCKET") {
			t.Errorf("%s: %v", u, err)
		}
	}
}
