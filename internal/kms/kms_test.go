package kms_test

import (
	"context"
	"crypto"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/kms/types"

	"tallywood/internal/bubble"
	"tallywood/internal/kms"
)

// bin is a directory for programs.
var bin string

// program builds the program under test, once.
var program = sync.OnceValues(func() (string, error) {
	path := filepath.Join(bin, "tallywood")
	build := exec.Command("go", "build", "-o", path, "tallywood/cmd/tallywood")
	build.Env = append(os.Environ(), "CGO_ENABLED=0") // as it is built for use
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building the program under test: %w\n%s", err, out)
	}
	return path, nil
})

// TestMain makes this process, and none that it starts, trust the certificate of package httptest.
func TestMain(m *testing.M) { os.Exit(testMain(m)) }

func testMain(m *testing.M) int {
	dir, err := os.MkdirTemp("", "tallywood-kms-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	bin = dir
	s := httptest.NewTLSServer(nil)
	s.Close()
	file := filepath.Join(dir, "roots.pem")
	err = os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}), 0o600)
	err = errors.Join(err, os.Setenv("SSL_CERT_FILE", file))
	_, rerr := x509.SystemCertPool() // reads it, once
	if err := errors.Join(err, rerr, os.Unsetenv("SSL_CERT_FILE")); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// TestAKMSThatHangsIsGivenUp asks a service that takes requests and never answers.
func TestAKMSThatHangsIsGivenUp(t *testing.T) {
	awsCredentials(t)
	d := newAWSDouble(t)
	d.set("alias/log", "ECC_NIST_P256", newECDSA(t, elliptic.P256()))
	hang, released := make(chan struct{}), make(chan struct{})
	gate := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-hang:
			<-released
		default:
			d.Config.Handler.ServeHTTP(w, r)
		}
	}))
	defer gate.Close()
	defer close(released)
	const attempt, call = 200 * time.Millisecond, time.Second
	uri := "awskms:///alias/log?region=" + doubleRegion + "&endpoint=" + gate.URL
	k, err := kms.OpenWithin(t.Context(), uri, time.Minute, time.Minute, 1)
	if err != nil {
		t.Fatal(err)
	}
	kms.Limit(k, attempt, call)
	close(hang)
	digest := sha256.Sum256([]byte("to be signed"))
	began := time.Now()
	_, err = k.Sign(rand.Reader, digest[:], crypto.SHA256)
	wantFault(t, "hangs", err, "no answer in time", "did not answer", true)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v does not wrap the deadline", err)
	}
	if took := time.Since(began); took > time.Minute { // a machine may be busy
		t.Errorf("it was given up after %v; want about %v", took, call)
	}
	// Who waits for his turn waits no longer.
	kms.Occupy(k)
	_, err = k.Sign(rand.Reader, digest[:], crypto.SHA256)
	wantFault(t, "busy", err, "too many signatures are under way", "quota", true)
	_, err = kms.OpenWithin(t.Context(), uri, attempt, call, 1)
	wantFault(t, "opened while it hangs", err, "no answer in time", "did not answer", true)
}

// TestAnAttemptCutShortIsNotWhatIsTold has each request refused after a while, and no time left for most of the
// last, as chance has it.
func TestAnAttemptCutShortIsNotWhatIsTold(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		for range 1000 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			err := kms.Retry(ctx, time.Second, func(ctx context.Context) error {
				select {
				case <-time.After(20 * time.Millisecond):
					return kms.Temporary("connection refused")
				case <-ctx.Done():
					return kms.Temporary("no answer in time")
				}
			})
			cancel()
			if err.Error() != "connection refused" {
				t.Fatal(err)
			}
		}
	})
}

// TestSignaturesRunSideBySide lets the emulator answer nobody before many have asked, and then
// measures.
func TestSignaturesRunSideBySide(t *testing.T) {
	awsCredentials(t)
	e := startLocalKMS(t)
	e.signer(t, "ct", types.KeySpecEccNistP256)
	target, err := url.Parse(e.endpoint)
	if err != nil {
		t.Fatal(err)
	}
	const together = 32
	g := &gate{proxy: httputil.NewSingleHostReverseProxy(target), want: 1, open: make(chan struct{})}
	server := httptest.NewServer(g)
	defer server.Close()
	k, err := kms.OpenWithin(t.Context(), "awskms:///alias/ct?region="+localRegion+"&endpoint="+server.URL, time.Minute, 2*time.Minute, 64)
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256([]byte("to be signed"))
	sign := func(n int) []time.Duration {
		var wait sync.WaitGroup
		took := make([]time.Duration, n)
		for i := range took {
			wait.Go(func() {
				began := time.Now()
				if _, err := k.Sign(rand.Reader, digest[:], crypto.SHA256); err != nil {
					t.Error(err)
				}
				took[i] = time.Since(began)
			})
		}
		wait.Wait()
		slices.Sort(took)
		return took
	}
	g.hold(together)
	sign(together) // would never end if they came one after another
	g.hold(1)
	alone := sign(1)[0]
	took := sign(together)
	t.Logf("a signature of the emulator: alone %v, of %d at a time the median %v and the last %v",
		alone, together, took[together/2], took[together-1])
	if want := 1 + together + 1 + together; g.asked != want { // the first at opening
		t.Errorf("%d signatures took %d requests", want, g.asked)
	}
}

// A gate lets signatures through to a service when enough of them have come.
type gate struct {
	proxy http.Handler

	mu      sync.Mutex
	want    int
	waiting int
	asked   int
	open    chan struct{} // closed when those that wait may go
}

func (g *gate) hold(n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.want = n
}

func (g *gate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if strings.HasSuffix(r.Header.Get("X-Amz-Target"), ".Sign") {
		g.mu.Lock()
		g.asked++
		mine := g.open
		if g.waiting++; g.waiting >= g.want {
			close(g.open)
			g.open, g.waiting = make(chan struct{}), 0
		}
		g.mu.Unlock()
		<-mine
	}
	g.proxy.ServeHTTP(w, r)
}
