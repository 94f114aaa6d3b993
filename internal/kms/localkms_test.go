package kms_test

import (
	"bytes"
	"context"
	"net"
	"os"
	"os/exec"
	"regexp"
	"sync"
	"testing"
	"time"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	awskms "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"tallywood/internal/loopback"
	"tallywood/storage/storagetest"
)

// localKMS is an emulator of the KMS of AWS by others, installed as a program. It has ECDSA and RSA
// keys. Of its published versions none has Ed25519 yet; see awsDouble.
const localKMS = "github.com/nsmithuk/local-kms@v0.0.0-20260228092603-2a5e92d09ab6"

const localRegion = "eu-west-2" // the emulator's

// An emulator is a running localKMS. It may be killed and started again; its keys stay.
type emulator struct {
	program, dir string
	port         string
	endpoint     string
	client       *awskms.Client

	cmd    *exec.Cmd
	out    *lockedBuffer
	exited chan struct{}
}

// startLocalKMS starts an emulator that ends with the test.
func startLocalKMS(t testing.TB) *emulator {
	t.Helper()
	_, port, err := net.SplitHostPort(loopback.Address(t))
	if err != nil {
		t.Fatal(err)
	}
	e := &emulator{program: storagetest.Install(t, localKMS), port: port, dir: t.TempDir(), out: new(lockedBuffer)}
	e.start(t)
	e.endpoint = "http://127.0.0.1:" + e.port
	e.client = awskms.New(awskms.Options{Region: localRegion, BaseEndpoint: &e.endpoint,
		Credentials: awssdk.CredentialsProviderFunc(func(context.Context) (awssdk.Credentials, error) {
			return awssdk.Credentials{AccessKeyID: "test", SecretAccessKey: "test"}, nil
		})})
	t.Cleanup(func() {
		e.kill()
		if t.Failed() {
			t.Logf("the emulator said:\n%s", e.out)
		}
	})
	return e
}

var started = regexp.MustCompile(`Local KMS started on \S*:([0-9]+)`)

// start starts the program and waits until it listens: at first on a port of its own choice, later on
// the same, which somebody may have for a moment.
func (e *emulator) start(t testing.TB) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !e.tryStart(t); {
		if time.Now().After(deadline) {
			t.Fatalf("the emulator does not start\n%s", e.out)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// tryStart reports whether the program, once started, listens.
func (e *emulator) tryStart(t testing.TB) bool {
	t.Helper()
	e.cmd, e.exited, e.out = exec.Command(e.program), make(chan struct{}), new(lockedBuffer)
	e.cmd.Env = append(os.Environ(), "PORT="+e.port, "KMS_REGION="+localRegion, "KMS_DATA_PATH="+e.dir, "KMS_SEED_PATH="+e.dir+"/none")
	e.cmd.Stdout, e.cmd.Stderr = e.out, e.out
	if err := e.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func(cmd *exec.Cmd, exited chan struct{}) {
		defer close(exited)
		_ = cmd.Wait() // says that it was killed
	}(e.cmd, e.exited)
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		if m := started.FindStringSubmatch(e.out.String()); m != nil && m[1] != "0" {
			e.port = m[1]
			return true
		}
		select {
		case <-e.exited:
			return false
		default:
		}
		if time.Now().After(deadline) {
			e.kill()
			t.Fatalf("the emulator does not listen\n%s", e.out)
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
