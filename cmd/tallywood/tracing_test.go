package main

import (
	"bytes"
	"compress/gzip"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// A receiver takes spans as OTLP over HTTP brings them.
type receiver struct {
	*httptest.Server
	mu      sync.Mutex
	spans   []*tracepb.Span
	names   map[string]bool // of services
	headers http.Header     // of the last request
}

func newReceiver(t *testing.T) *receiver {
	t.Helper()
	r := &receiver{names: map[string]bool{}}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if err := r.take(req); err != nil || req.URL.Path != "/v1/traces" {
			t.Errorf("%s: %v", req.URL, err)
		}
		w.Header().Set("Content-Type", "application/x-protobuf")
	}))
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) take(req *http.Request) error {
	body := io.Reader(req.Body)
	if req.Header.Get("Content-Encoding") == "gzip" {
		var err error
		if body, err = gzip.NewReader(body); err != nil {
			return err
		}
	}
	data, err := io.ReadAll(body)
	if err != nil {
		return err
	}
	var message collector.ExportTraceServiceRequest
	if err := proto.Unmarshal(data, &message); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.headers = req.Header
	for _, rs := range message.ResourceSpans {
		for _, a := range rs.Resource.Attributes {
			if a.Key == "service.name" {
				r.names[a.Value.GetStringValue()] = true
			}
		}
		for _, ss := range rs.ScopeSpans {
			r.spans = append(r.spans, ss.Spans...)
		}
	}
	return nil
}

func vars(pairs ...string) func(string) string {
	return func(name string) string {
		for i := 0; i < len(pairs); i += 2 {
			if pairs[i] == name {
				return pairs[i+1]
			}
		}
		return ""
	}
}

func TestTracingIsOffUnlessAskedFor(t *testing.T) {
	for _, env := range [][]string{
		nil,
		{"OTEL_SERVICE_NAME", "x", "OTEL_TRACES_SAMPLER", "always_on"},
		{"OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1", "OTEL_TRACES_EXPORTER", "none"},
		{"OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1", "OTEL_SDK_DISABLED", "true"},
	} {
		tracer, stop, err := startTracing(t.Context(), vars(env...), slog.New(slog.DiscardHandler))
		if tracer != nil || err != nil {
			t.Errorf("%v: %v, %v", env, tracer, err)
		}
		stop()
	}
}

func TestTracingRefusesWhatItCannotDo(t *testing.T) {
	for _, c := range []struct {
		env  []string
		want string
	}{
		{[]string{"OTEL_TRACES_EXPORTER", "zipkin"}, "OTEL_TRACES_EXPORTER"},
		{[]string{"OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1", "OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"}, "http/protobuf"},
		{[]string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://127.0.0.1:1", "OTEL_TRACES_SAMPLER", "sometimes"}, "OTEL_TRACES_SAMPLER"},
	} {
		if _, _, err := startTracing(t.Context(), vars(c.env...), slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v: %v; want %q in it", c.env, err, c.want)
		}
	}
}

// TestTracingSends has spans arrive, with what the environment says of them.
func TestTracingSends(t *testing.T) {
	r := newReceiver(t)
	for name, value := range map[string]string{
		"OTEL_EXPORTER_OTLP_ENDPOINT": r.URL, "OTEL_EXPORTER_OTLP_HEADERS": "x-token=secret", "OTEL_SERVICE_NAME": "log-1",
		"OTEL_EXPORTER_OTLP_COMPRESSION": "gzip",
	} {
		t.Setenv(name, value) // the exporter reads it there
	}
	tracer, stop, err := startTracing(t.Context(), vars("OTEL_EXPORTER_OTLP_ENDPOINT", r.URL), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	_, s := tracer.Start(t.Context(), "one")
	s.End()
	stop()
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.spans) != 1 || r.spans[0].Name != "one" || !r.names["log-1"] || r.headers.Get("x-token") != "secret" {
		t.Errorf("%v of %v with %v", r.spans, r.names, r.headers)
	}
}

// TestTracingTellsOfAReceiverThatIsAway wants a line in the log, and not one for each attempt.
func TestTracingTellsOfAReceiverThatIsAway(t *testing.T) {
	var text bytes.Buffer
	h := newRareErrors(slog.New(slog.NewTextHandler(&text, nil)))
	for range 10 {
		h.Handle(io.ErrUnexpectedEOF)
	}
	if n := strings.Count(text.String(), "exporting traces"); n != 1 {
		t.Errorf("%d lines:\n%s", n, &text)
	}
}

// TestTraceOfAnEntry logs an entry with a whole stack and looks at what of it comes to a receiver.
func TestTraceOfAnEntry(t *testing.T) {
	r := newReceiver(t)
	p := startSelf(t, func(cmd *exec.Cmd) {
		cmd.Env = append(os.Environ(), "OTEL_EXPORTER_OTLP_ENDPOINT="+r.URL, "OTEL_BSP_SCHEDULE_DELAY=100")
	}, "up", "--data", filepath.Join(t.TempDir(), "data"), "--address", "127.0.0.1:0")
	const trace, parent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
	post := func(traceparent string) (status int) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, p.url+"/api/v2/log/entries", strings.NewReader(newRequest(t)))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("traceparent", traceparent)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	for _, traceparent := range []string{
		"00-" + trace + "-" + parent + "-01",
		"00-11111111111111111111111111111111-" + parent + "-00", // not to be traced
	} {
		began := time.Now()
		status := post(traceparent)
		for ; status == http.StatusServiceUnavailable && time.Since(began) < time.Minute; status = post(traceparent) {
			time.Sleep(100 * time.Millisecond) // its witnesses are late
		}
		if status != http.StatusCreated {
			t.Fatalf("an entry is answered %d", status)
		}
	}
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	p.ends(t) // it sends what is left first

	r.mu.Lock()
	defer r.mu.Unlock()
	paths := map[string]int{} // from the request down, with how many spans there are
	byID := map[string]*tracepb.Span{}
	for _, s := range r.spans {
		if fmt.Sprintf("%x", s.TraceId) == trace {
			byID[string(s.SpanId)] = s
		}
		if fmt.Sprintf("%x", s.TraceId) == strings.Repeat("1", 32) {
			t.Errorf("%s is of a trace that its client does not keep", s.Name)
		}
	}
	for _, s := range byID {
		path := s.Name
		for top := s; ; {
			up, ok := byID[string(top.ParentSpanId)]
			if !ok {
				if fmt.Sprintf("%x", top.ParentSpanId) != parent {
					t.Errorf("%s has the parent %x", path, top.ParentSpanId)
				}
				break
			}
			path, top = up.Name+"/"+path, up
		}
		paths[path]++
	}
	const root = "POST rekor"
	for path, least := range map[string]int{
		root: 1, root + "/sequence": 1, root + "/await publication": 1, root + "/sequence/commit": 1,
		root + "/sequence/commit/storage put": 1, root + "/sequence/publish": 1,
		root + "/sequence/publish/storage put": 2, root + "/sequence/publish/cosign": 1,
		root + "/sequence/publish/cosign/witness": 2, root + "/sequence/publish/swap": 1,
		root + "/sequence/publish/swap/storage put": 1,
	} {
		if paths[path] < least {
			t.Errorf("%d spans %s; want at least %d of all\n%v", paths[path], path, least, paths)
		}
	}
	added := 0
	for _, s := range byID {
		if s.Name == root {
			status := ""
			for _, a := range s.Attributes {
				if a.Key == "http.response.status_code" {
					status = fmt.Sprint(a.Value.GetIntValue())
				}
			}
			if status == "201" {
				added++
			} else if status != "503" {
				t.Errorf("%v", s)
			}
			if s.Kind != tracepb.Span_SPAN_KIND_SERVER {
				t.Errorf("%v", s)
			}
		}
	}
	if added != 1 {
		t.Errorf("%d requests were answered 201", added)
	}
}

// newRequest returns a request to log a signature that nobody made before.
func newRequest(t *testing.T) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256(spki)
	sig, err := ecdsa.SignASN1(rand.Reader, key, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	b64 := base64.StdEncoding.EncodeToString
	return fmt.Sprintf(`{"hashedRekordRequestV002":{"digest":%q,"signature":{"content":%q,"verifier":{"publicKey":{"rawBytes":%q},"keyDetails":"PKIX_ECDSA_P256_SHA_256"}}}}`,
		b64(digest[:]), b64(sig), b64(spki))
}
