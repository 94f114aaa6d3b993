package kms_test

import (
	"bytes"
	"context"
	"net"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"tallywood/storage/storagetest"
)

// localKMS is an emulator of the KMS of AWS by others, installed as a program. It has ECDSA and RSA
// keys. Of its published versions none has Ed25519 yet; see awsDouble.
const localKMS = "github.com/nsmithuk/local-kms@v0.0.0-20260228092603-2a5e92d09ab6"

const localRegion = "eu-west-2" // the emulator's

// An emulator is a running localKMS. It may be killed and started again; its keys stay.
type emulator struct {
	program, port, dir string
	endpoint           string
	client             *awskms.Client

	cmd    *exec.Cmd
	out    *lockedBuffer
	exited chan struct{}
}

// startLocalKMS starts an emulator that ends with the test.
func startLocalKMS(t testing.TB) *emulator {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, err := net.SplitHostPort(ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if err := ln.Close(); err != nil {
		t.Fatal(err)
	}
	e := &emulator{program: storagetest.Install(t, localKMS, "-gcflags=all=-N -l"), port: port, dir: t.TempDir(),
		endpoint: "http://127.0.0.1:" + port, out: new(lockedBuffer)}
	e.client = awskms.New(awskms.Options{Region: localRegion, BaseEndpoint: &e.endpoint,
		Credentials: awssdk.CredentialsProviderFunc(func(context.Context) (awssdk.Credentials, error) {
			return awssdk.Credentials{AccessKeyID: "test", SecretAccessKey: "test"}, nil
		})})
	e.start(t)
	t.Cleanup(func() {
		e.kill()
		if t.Failed() {
			t.Logf("the emulator said:\n%s", e.out)
		}
	})
	return e
}

// start starts the program and waits until it answers.
func (e *emulator) start(t testing.TB) {
	t.Helper()
	e.cmd, e.exited = exec.Command(e.program), make(chan struct{})
	e.cmd.Env = append(os.Environ(), "PORT="+e.port, "KMS_REGION="+localRegion, "KMS_DATA_PATH="+e.dir, "KMS_SEED_PATH="+e.dir+"/none")
	e.cmd.Stdout, e.cmd.Stderr = e.out, e.out
	if err := e.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func(cmd *exec.Cmd, exited chan struct{}) {
		defer close(exited)
		_ = cmd.Wait() // says that it was killed
	}(e.cmd, e.exited)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for {
		_, err := e.client.ListKeys(ctx, &awskms.ListKeysInput{})
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("the emulator does not answer: %v\n%s", err, e.out)
		case <-e.exited:
			t.Fatalf("the emulator ended before it answered\n%s", e.out)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// kill is kill -9.
func (e *emulator) kill() {
	_ = e.cmd.Process.Kill() // it may be gone
	<-e.exited
}

// create makes a key and returns its ID and ARN.
func (e *emulator) create(t testing.TB, spec types.KeySpec, usage types.KeyUsageType) (id, arn string) {
	t.Helper()
	out, err := e.client.CreateKey(t.Context(), &awskms.CreateKeyInput{KeySpec: spec, KeyUsage: usage})
	if err != nil {
		t.Fatal(err)
	}
	return *out.KeyMetadata.KeyId, *out.KeyMetadata.Arn
}

// signer makes a key for signatures with an alias and returns its ID.
func (e *emulator) signer(t testing.TB, alias string, spec types.KeySpec) string {
	t.Helper()
	id, _ := e.create(t, spec, types.KeyUsageTypeSignVerify)
	_, err := e.client.CreateAlias(t.Context(), &awskms.CreateAliasInput{AliasName: awssdk.String("alias/" + alias), TargetKeyId: &id})
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// point gives an alias to another key.
func (e *emulator) point(t testing.TB, alias, id string) {
	t.Helper()
	_, err := e.client.UpdateAlias(t.Context(), &awskms.UpdateAliasInput{AliasName: awssdk.String("alias/" + alias), TargetKeyId: &id})
	if err != nil {
		t.Fatal(err)
	}
}

// uri names a key, by ID, alias or ARN.
func (e *emulator) uri(key string) string {
	return "awskms:///" + key + "?region=" + localRegion + "&endpoint=" + e.endpoint
}

// lockedBuffer is a bytes.Buffer for several goroutines.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
