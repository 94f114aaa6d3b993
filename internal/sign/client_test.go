package sign_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
	"testing/iotest"
	"time"

	"tallywood/internal/bubble"
	"tallywood/internal/sign"
)

// signingConfig names one service of each kind, all below base.
func signingConfig(t *testing.T, base string) []byte {
	t.Helper()
	service := func(path string, version int) []map[string]any {
		return []map[string]any{{"url": base + path, "majorApiVersion": version, "operator": "example",
			"validFor": map[string]string{"start": "2000-01-01T00:00:00Z"}}}
	}
	data, err := json.Marshal(map[string]any{
		"mediaType": "application/vnd.dev.sigstore.signingconfig.v0.2+json",
		"caUrls":    service("", 1), "oidcUrls": service("/dev/oidc", 1),
		"rekorTlogUrls": service("", 2), "rekorTlogConfig": map[string]string{"selector": "ANY"},
		"tsaUrls": service("/api/v1/timestamp", 1), "tsaConfig": map[string]string{"selector": "ANY"},
	})
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// trustsNobody is a trusted root that is one.
const trustsNobody = `{"mediaType":"application/vnd.dev.sigstore.trustedroot+json;version=0.1"}`

// A script answers requests without a network, so that time can be pretended.
type script func(n int, r *http.Request) (*http.Response, error)

// signWith signs something with services that answer by script, which sees requests counted from 1.
func signWith(t *testing.T, ctx context.Context, s script) (requests int, err error) {
	t.Helper()
	transport := roundTripper(func(r *http.Request) (*http.Response, error) {
		requests++
		return s(requests, r)
	})
	_, _, err = sign.Sign(ctx, sign.Options{
		Artifact: strings.NewReader("hello"), Token: aliceToken(t), NoPolicy: true,
		SigningConfig: signingConfig(t, "https://stack.example.com"), TrustedRoot: []byte(trustsNobody),
		HTTP: &http.Client{Transport: transport},
	})
	return requests, err
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func answer(status int, body string, header ...string) (*http.Response, error) {
	res := &http.Response{StatusCode: status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body))}
	for i := 0; i < len(header); i += 2 {
		res.Header.Set(header[i], header[i+1])
	}
	return res, nil
}

func TestWaitsAsLongAsTheServiceAsks(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		start := time.Now()
		requests, err := signWith(t, t.Context(), func(n int, r *http.Request) (*http.Response, error) {
			switch n {
			case 1:
				return answer(503, `{"code":14,"message":"no quorum"}`, "Retry-After", "7")
			case 2:
				return answer(429, ``, "Retry-After", time.Now().Add(11*time.Second).UTC().Format(http.TimeFormat))
			}
			return answer(400, `{"code":3,"message":"that was enough"}`)
		})
		if requests != 3 {
			t.Errorf("%d requests, want 3", requests)
		}
		if waited := time.Since(start); waited < 17*time.Second || waited > 18*time.Second { // dates have whole seconds
			t.Errorf("waited %s, want the 7 s and 11 s that were asked for", waited)
		}
		wantServiceError(t, err, 400, "that was enough")
	})
}

func wantServiceError(t *testing.T, err error, status int, message string) {
	t.Helper()
	var refusal *sign.ServiceError
	if !errors.As(err, &refusal) || refusal.Status != status || refusal.Message != message {
		t.Fatalf("got %v, want status %d with %q", err, status, message)
	}
	if refusal.URL == "" || refusal.Service == "" || !strings.Contains(err.Error(), refusal.URL) || !strings.Contains(err.Error(), message) {
		t.Errorf("error %q does not say who answered what", err)
	}
}

func TestPatienceEnds(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		start := time.Now()
		requests, err := signWith(t, t.Context(), func(int, *http.Request) (*http.Response, error) {
			return answer(503, `{"code":14,"message":"no quorum"}`, "Retry-After", "9")
		})
		wantServiceError(t, err, 503, "no quorum")
		if waited := time.Since(start); waited != 54*time.Second || requests != 7 {
			t.Errorf("%d requests in %s, want 7 within the minute", requests, waited)
		}
	})
}

func TestPatienceIsNotWastedOnHopelessWaits(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		start := time.Now()
		requests, err := signWith(t, t.Context(), func(int, *http.Request) (*http.Response, error) {
			return answer(503, ``, "Retry-After", "86400")
		})
		if requests != 1 || time.Since(start) != 0 || err == nil {
			t.Errorf("%d requests in %s, %v", requests, time.Since(start), err)
		}
	})
}

func TestBrokenConnectionsAreRetried(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		requests, err := signWith(t, t.Context(), func(n int, _ *http.Request) (*http.Response, error) {
			switch n {
			case 1:
				return nil, io.ErrUnexpectedEOF
			case 2:
				return &http.Response{StatusCode: 200, Body: io.NopCloser(iotest.ErrReader(io.ErrUnexpectedEOF))}, nil
			case 3:
				return answer(500, "oops")
			}
			return answer(401, "who are you?\nsecond line")
		})
		if requests != 4 {
			t.Errorf("%d requests, want 4", requests)
		}
		wantServiceError(t, err, 401, "who are you?")
	})
}

func TestServiceThatDoesNotListenIsReportedAtOnce(t *testing.T) {
	requests, err := signWith(t, t.Context(), func(int, *http.Request) (*http.Response, error) {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	})
	if requests != 1 || !errors.Is(err, syscall.ECONNREFUSED) || !strings.Contains(err.Error(), "certificate authority") {
		t.Errorf("%d requests, %v", requests, err)
	}
}

func TestWaitingStopsWithTheContext(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := signWith(t, ctx, func(int, *http.Request) (*http.Response, error) {
			return answer(503, ``, "Retry-After", "30")
		})
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
	})
}

func TestServicesCannotWriteToTheTerminal(t *testing.T) {
	for body, want := range map[string]string{
		`{"message":"red \u001b[31m alert\u0007"}`:             "red  [31m alert ",
		"<html><body>Bad gateway</body></html>":                "",
		`{"message":"` + strings.Repeat("x", 2000) + `"}`:      strings.Repeat("x", 500) + "…",
		`{"error":"invalid_request","error_description":"no"}`: "invalid_request: no",
		`{"error":{"code":1}}`:                                 "",
		"\xff":                                                 "?",
	} {
		header := []string{"Content-Type", "application/json"}
		if strings.HasPrefix(body, "<") {
			header[1] = "text/html"
		}
		_, err := signWith(t, t.Context(), func(int, *http.Request) (*http.Response, error) { return answer(404, body, header...) })
		var refusal *sign.ServiceError
		if !errors.As(err, &refusal) || refusal.Message != want {
			t.Errorf("%.40q: got %v, want %.40q", body, err, want)
		}
	}
}

func TestTokenIsNotCarriedToARedirectsTarget(t *testing.T) {
	evil := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("the redirect's target was asked, with %q", r.Header)
	}))
	defer evil.Close()
	stack := httptest.NewServer(http.RedirectHandler(evil.URL, http.StatusTemporaryRedirect))
	defer stack.Close()
	_, _, err := sign.Sign(t.Context(), sign.Options{
		Artifact: strings.NewReader("hello"), Token: aliceToken(t), NoPolicy: true,
		SigningConfig: signingConfig(t, stack.URL), TrustedRoot: []byte(trustsNobody),
	})
	wantServiceError(t, err, http.StatusTemporaryRedirect, "redirected to "+evil.URL)
}

func TestRefusesEndlessAnswer(t *testing.T) {
	_, err := signWith(t, t.Context(), func(int, *http.Request) (*http.Response, error) {
		return answer(200, strings.Repeat(" ", 1<<21))
	})
	if err == nil || !strings.Contains(err.Error(), "more than") {
		t.Errorf("got %v", err)
	}
}

func TestRefusesAnswersThatAreNoCertificate(t *testing.T) {
	for body, want := range map[string]string{
		``:   "decoding answer",
		`{}`: "no certificate",
		`{"signedCertificateDetachedSct":{"chain":{"certificates":["x"]}}}`:                                                              "no SCT inside",
		`{"signedCertificateEmbeddedSct":{"chain":{"certificates":["x"]}}}`:                                                              "not PEM",
		`{"signedCertificateEmbeddedSct":{"chain":{"certificates":["-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n"]}}}`: "parsing certificate",
	} {
		_, err := signWith(t, t.Context(), func(int, *http.Request) (*http.Response, error) { return answer(200, body) })
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", body, err, want)
		}
	}
}
