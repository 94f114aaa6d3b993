package e2e_test

import (
	"bytes"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tallywood/storage/storagetest"
)

// TestTheStoryOnS3 and TestTheStoryOnGCS move a stack that "up" made to an object store and run it
// with "serve": sign, verify, be told, and once more after a restart.
func TestTheStoryOnS3(t *testing.T) {
	t.Setenv("AWS_ACCESS_KEY_ID", storagetest.AccessKey)
	t.Setenv("AWS_SECRET_ACCESS_KEY", storagetest.SecretKey)
	dir := filepath.Join(t.TempDir(), "server")
	if err := os.MkdirAll(filepath.Join(dir, "bucket"), 0o755); err != nil {
		t.Fatal(err)
	}
	story(t, "s3://bucket/tallywood?endpoint="+url.QueryEscape(storagetest.Versitygw(t, dir)))
}

func TestTheStoryOnGCS(t *testing.T) {
	endpoint := storagetest.FakeGCSServer(t)
	res, err := http.Post(endpoint+"/storage/v1/b?project=test", "application/json", bytes.NewReader([]byte(`{"name":"bucket"}`)))
	if err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("creating a bucket: %v, %v", res, err)
	}
	res.Body.Close()
	story(t, "gs://bucket/tallywood?endpoint="+url.QueryEscape(endpoint))
}

func story(t *testing.T, storage string) {
	work := t.TempDir()
	data := filepath.Join(work, "data")
	up(t, data, "--watch", "alice@example.com").stop(t)
	config := strings.Replace(readFile(t, data, "config.yaml"), "storage: file:./objects", "storage: "+storage, 1)
	writeFile(t, data, "config.yaml", config)
	if err := os.RemoveAll(filepath.Join(data, "objects")); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(data, "monitor-state")); err != nil {
		t.Fatal(err)
	}
	for run := range 2 {
		p := start(t, 0, "tallywood", "serve", "--config", filepath.Join(data, "config.yaml"))
		s := readStack(t, &process{cmd: p.cmd, stderr: p.stderr, lines: append(p.lines, "", ""), exited: p.exited, err: p.err}, data)
		file := writeFile(t, work, "hello.txt", "hello\n")
		must(t, work, "tallywood", "sign", file, "--yes", "--trust", s.client, "--identity-token", s.token(t, "alice@example.com"))
		out := must(t, work, "tallywood", "verify", file, "--bundle", file+".sigstore.json", "--trust", s.client,
			"--certificate-identity", "alice@example.com", "--certificate-oidc-issuer", s.issuer())
		if !strings.Contains(out, "verified: signed by alice@example.com") {
			t.Errorf("verify printed:\n%s", out)
		}
		eventually(t, "event of this signature", func() bool {
			for _, e := range events(t, s) {
				if e.Rule == "id.seen" && e.Origin == "log.localhost" && e.Index == int64(run) {
					return true
				}
			}
			return false
		})
		p.stop(t)
	}
	if out, code := command(t, work, "tallywood", "up", "--data", data); code != 2 || !strings.Contains(out, "keeps its objects in a directory") {
		t.Errorf("up on an object store: exit code %d\n%s", code, out)
	}
}

// TestServeRefusesAStoreThatIgnoresConditions starts on s3rver, which takes every conditional write.
func TestServeRefusesAStoreThatIgnoresConditions(t *testing.T) {
	endpoint := storagetest.S3rver(t, "bucket")
	data := filepath.Join(t.TempDir(), "data")
	up(t, data).stop(t)
	config := strings.Replace(readFile(t, data, "config.yaml"), "storage: file:./objects",
		"storage: s3://bucket/log?endpoint="+url.QueryEscape(endpoint), 1)
	writeFile(t, data, "config.yaml", config)
	t.Setenv("AWS_ACCESS_KEY_ID", "S3RVER")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "S3RVER")
	_, err := tryStart(0, "tallywood", "serve", "--config", filepath.Join(data, "config.yaml"))
	for _, want := range []string{"the store does not guarantee that create-only writes (If-None-Match) never overwrite", "exit status 1"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("serve: %v; want %q", err, want)
		}
	}
}
