package e2e_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"tallywood/internal/loopback"
	"tallywood/storage/storagetest"
)

// pageStore is the store in the examples of docs/storage.md.
const pageStore = "s3://example-logs/prod?region=eu-central-1"

// TestStoragePage does what the page about storage says, on a gateway that knows users and policies.
func TestStoragePage(t *testing.T) {
	p := openPage(t, "docs/storage.md")
	dir := filepath.Join(t.TempDir(), "server")
	if err := os.MkdirAll(filepath.Join(dir, "example-logs"), 0o755); err != nil {
		t.Fatal(err)
	}
	endpoint := storagetest.Versitygw(t, dir, "--iam-dir", t.TempDir())
	storagetest.VersitygwAdmin(t, endpoint, "create-user", "--access", "server", "--secret", "serversecret", "--role", "user")
	address := loopback.Address(t)
	vkey := p.vkey(t, p.shell(t, "tallywood key generate log.pem --origin log.example.org"))
	writeFile(t, p.dir, "policy.txt", "log "+vkey+"\nquorum none\n")
	p.swap = strings.NewReplacer(pageStore, "s3://example-logs/prod?endpoint="+url.QueryEscape(endpoint), "127.0.0.1:8091", address)
	p.env = append(p.env, "AWS_ACCESS_KEY_ID=server", "AWS_SECRET_ACCESS_KEY=serversecret")

	// Permissions: with none the store is refused, with those of the page it has all it needs.
	check, public, role := p.next(t, "sh", "tallywood storage check"), p.next(t, "json", "{"), p.next(t, "json", "{")
	if out, code := p.try(t, check); code == 0 {
		t.Errorf("without permissions the check says:\n%s", out)
	}
	setPolicy(t, endpoint, "example-logs", public, role)
	if out := p.shell(t, check); strings.Contains(out, "FAILS") || !strings.Contains(out, "ok       strangers cannot read state/") {
		t.Errorf("the check says:\n%s", out)
	}

	// A copy of a directory.
	log := serveLog(t, writeFile(t, p.dir, "directory.yaml", "address: 127.0.0.1:0\nstorage: file:./objects\nlogs:\n"+
		"  - {name: signatures, kind: rekor, origin: log.example.org, key: file:log.pem, policy: policy.txt}\n"))
	addEntry(t, log.url)
	log.stop(t)
	if out := p.shell(t, p.next(t, "sh", "cp -a objects copy\n")); !strings.Contains(out, "signatures: whole: ") {
		t.Errorf("of a copy fsck says:\n%s", out)
	}

	// A replica, and a look at it.
	p.file(t, "config.yaml", "yaml", "address: ")
	p.server(t, "tallywood serve --config config.yaml", 0)
	addEntry(t, "http://"+address)
	out := p.shell(t, p.next(t, "sh", "tallywood storage state"))
	for _, want := range []string{"leader      http://" + address + " since slot 0, epoch 1", "s ago", "signatures: whole: "} {
		if !strings.Contains(out, want) {
			t.Errorf("there is no %q in:\n%s", want, out)
		}
	}
	p.done(t)

	// What is public, and what is not.
	for path, want := range map[string]int{
		"logs/signatures/checkpoint": 200, "logs/signatures/tile/0/000.p/1": 200,
		"state/signatures/identity": 403, "state/signatures/floor": 403, "state/signatures/log/00000000000000000000": 403,
	} {
		if got := statusOf(t, endpoint+"/example-logs/prod/"+path); got != want {
			t.Errorf("a stranger who asks for %s is answered %d; want %d", path, got, want)
		}
	}

	// A policy that opens more is found out.
	setPolicy(t, endpoint, "example-logs", strings.Replace(public, "prod/logs/*", "prod/*", 1), role)
	if out, code := p.try(t, check); code != 1 || !strings.Contains(out, "FAILS    strangers cannot read state/") {
		t.Errorf("of a store whose state/ is public the check says, with exit code %d:\n%s", code, out)
	}
}

// try is shell of commands that may fail.
func (p *page) try(t *testing.T, commands string) (string, int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "sh", "-e", "-c", commands)
	cmd.Dir, cmd.Env = p.dir, p.env
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

// setPolicy makes public the policy of a bucket, and role what the user "server" may do: the gateway
// has no policies of users, and a bucket's that names the user says the same.
func setPolicy(t *testing.T, endpoint, bucket, public, role string) {
	t.Helper()
	type policy struct {
		Version   string
		Statement []map[string]any
	}
	var all, more policy
	for text, into := range map[string]*policy{public: &all, role: &more} {
		if err := json.Unmarshal([]byte(text), into); err != nil {
			t.Fatalf("the policy is no JSON: %v\n%s", err, text)
		}
	}
	for _, s := range more.Statement {
		s["Principal"] = map[string]any{"AWS": []string{"server"}}
		all.Statement = append(all.Statement, s)
	}
	text, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	client := s3.New(s3.Options{BaseEndpoint: &endpoint, UsePathStyle: true, Region: "us-east-1",
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: storagetest.AccessKey, SecretAccessKey: storagetest.SecretKey}, nil
		})})
	if _, err := client.PutBucketPolicy(t.Context(), &s3.PutBucketPolicyInput{Bucket: &bucket, Policy: aws.String(string(text))}); err != nil {
		t.Fatalf("setting the bucket's policy: %v\n%s", err, text)
	}
}

// TestStorageCommandsOnObjectStores checks, shows and verifies what a stack left in GCS, and checks
// a store that ignores conditions.
func TestStorageCommandsOnObjectStores(t *testing.T) {
	work := t.TempDir()
	store := "s3://bucket/log?endpoint=" + url.QueryEscape(storagetest.S3rver(t, "bucket"))
	s3rver := &page{dir: work, env: cleanEnv(t, "AWS_ACCESS_KEY_ID=S3RVER", "AWS_SECRET_ACCESS_KEY=S3RVER")}
	out, code := s3rver.try(t, "tallywood storage check '"+store+"'")
	if code != 1 || !strings.Contains(out, "FAILS    create-only writes (If-None-Match) never overwrite (a second create-only write") ||
		!strings.Contains(out, "error: the store does not guarantee that ") {
		t.Errorf("of a store that ignores conditions the check says, with exit code %d:\n%s", code, out)
	}

	endpoint := storagetest.FakeGCSServer(t)
	res, err := http.Post(endpoint+"/storage/v1/b?project=test", "application/json", strings.NewReader(`{"name":"bucket"}`))
	if err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("creating a bucket: %v, %v", res, err)
	}
	res.Body.Close()
	store = "gs://bucket/log?endpoint=" + url.QueryEscape(endpoint)
	if out, code := command(t, work, "tallywood", "storage", "check", store); code != 0 || !strings.Contains(out, "warning  strangers cannot read state/") {
		t.Errorf("of an emulator the check says, with exit code %d:\n%s", code, out)
	}
	key := must(t, work, "tallywood", "key", "generate", "log.pem", "--origin", "log.example.org")
	writeFile(t, work, "policy.txt", "log "+(&page{}).vkey(t, key)+"\nquorum none\n")
	log := serveLog(t, writeFile(t, work, "config.yaml", "address: 127.0.0.1:0\nstorage: "+store+"\nlogs:\n"+
		"  - {name: signatures, kind: rekor, origin: log.example.org, key: file:log.pem, policy: policy.txt}\n"))
	addEntry(t, log.url)
	log.stop(t)
	if out := must(t, work, "tallywood", "storage", "state", store); !strings.Contains(out, "checkpoint  size 1, written ") {
		t.Errorf("state says:\n%s", out)
	}
	if out := must(t, work, "tallywood", "storage", "fsck", store); !strings.Contains(out, "checkpoint of size 1 ") {
		t.Errorf("fsck says:\n%s", out)
	}
}
