package e2e_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"tallywood/witness/policy"
)

// TestARequestMayBeSentAgain sends requests of every form again: after the answer, after their
// clients gave up without one, and 64 times at once. Each is one entry of the log.
func TestARequestMayBeSentAgain(t *testing.T) {
	s := up(t, filepath.Join(t.TempDir(), "data"))
	p, err := policy.Parse([]byte(readFile(t, s.client, "policy.txt")))
	if err != nil {
		t.Fatal(err)
	}
	var logged [][]byte
	for _, form := range []struct{ envelope, certificate bool }{{false, false}, {false, true}, {true, false}, {true, true}} {
		for name, before := range map[string]func(*testing.T, string, signedEntry){
			"after its answer": func(t *testing.T, base string, e signedEntry) {
				if _, err := insistOnAdding(t.Context(), http.DefaultClient, base, 0, e); err != nil {
					t.Error(err)
				}
			},
			"after its client left": abandon,
			"after an answer got lost": func(t *testing.T, base string, e signedEntry) {
				impatient := &http.Client{Timeout: time.Second}
				if _, err := add(t.Context(), impatient, proxyLog(t, base, 1).url, 0, e); err == nil {
					t.Error("the answer came through")
				}
			},
			"at once": func(*testing.T, string, signedEntry) {},
		} {
			t.Run(fmt.Sprintf("envelope %v, certificate %v, %s", form.envelope, form.certificate, name), func(t *testing.T) {
				e := freshEntry(t, form.envelope, form.certificate)
				logged = append(logged, e.canonical)
				before(t, s.url, e)
				sendAgain(t, s.url, p, e)
			})
		}
	}
	wantEntries(t, s, p, logged)
}

// abandon sends a request and leaves before its answer.
func abandon(t *testing.T, base string, e signedEntry) {
	t.Helper()
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{WroteRequest: func(httptrace.WroteRequestInfo) { leave() }})
	// The answer may win the race all the same; then this is one more repetition.
	if _, err := add(ctx, &http.Client{Transport: &http.Transport{}}, base, 0, e); err == nil {
		t.Log("the answer was faster")
	}
}

// sendAgain sends e 64 times at once and once more, and wants valid receipts of one index, which
// it returns.
func sendAgain(t *testing.T, base string, p *policy.Policy, e signedEntry) int64 {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
	receipts, errs := make([]receipt, 65), make([]error, 65)
	var group sync.WaitGroup
	begin := make(chan struct{})
	for i := range 64 {
		group.Go(func() {
			<-begin
			receipts[i], errs[i] = insistOnAdding(t.Context(), client, base, int64(i), e)
		})
	}
	close(begin)
	group.Wait()
	receipts[64], errs[64] = insistOnAdding(t.Context(), client, base, 64, e)
	for i, r := range receipts {
		if errs[i] != nil {
			t.Fatalf("repetition %d: %v", i, errs[i])
		}
		if r.index != receipts[0].index {
			t.Errorf("repetition %d has index %d; another has %d", i, r.index, receipts[0].index)
		}
		if err := r.verify(); err != nil {
			t.Error(err)
		}
		if _, err := p.Open([]byte(r.note)); err != nil {
			t.Errorf("repetition %d: %v", i, err)
		}
	}
	return receipts[0].index
}

// wantEntries checks that the log of s holds the entries of logged, each once, and nothing else,
// by one more entry: it comes after them.
func wantEntries(t *testing.T, s *stack, p *policy.Policy, logged [][]byte) {
	t.Helper()
	end := freshEntry(t, false, false)
	r, err := insistOnAdding(t.Context(), http.DefaultClient, s.url, 0, end)
	if err != nil {
		t.Fatal(err)
	}
	if r.index != int64(len(logged)) {
		t.Errorf("the next entry has index %d; want %d", r.index, len(logged))
	}
	logged = append(slices.Clone(logged), end.canonical)
	awaitSize(t, s.url, r.index+1)
	v, err := look(http.DefaultClient, s.url, p)
	if err != nil {
		t.Fatal(err)
	}
	got, want := slices.Clone(v.entries), slices.Clone(logged)
	slices.SortFunc(got, bytes.Compare)
	slices.SortFunc(want, bytes.Compare)
	if !slices.EqualFunc(got, want, bytes.Equal) {
		t.Errorf("the log has %d entries; want the %d that were sent, each once", len(got), len(want))
	}
}

// freshEntry makes a request that nobody has sent before, and what the log must make of it: an
// envelope becomes the digest of what it signs (DSSE's pre-authentication encoding).
func freshEntry(t *testing.T, envelope, certificate bool) signedEntry {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	form, raw := "publicKey", []byte(nil)
	if certificate {
		form = "x509Certificate"
		template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "signer"},
			NotBefore: time.Now(), NotAfter: time.Now().Add(time.Hour)}
		raw, err = x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	} else {
		raw, err = x509.MarshalPKIXPublicKey(key.Public())
	}
	if err != nil {
		t.Fatal(err)
	}
	payload := fmt.Appendf(nil, `{"_type":"https://in-toto.io/Statement/v1","nonce":%q}`, rand.Text())
	digest := sha256.Sum256(payload)
	if envelope {
		digest = sha256.Sum256(fmt.Appendf(nil, "DSSEv1 %d %s %d %s", len(statementMediaType), statementMediaType, len(payload), payload))
	}
	sig, err := key.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	b64 := base64.StdEncoding.EncodeToString
	verifier := fmt.Sprintf(`{%q:{"rawBytes":%q},"keyDetails":"PKIX_ECDSA_P256_SHA_256"}`, form, b64(raw))
	e := signedEntry{request: fmt.Sprintf(`{"hashedRekordRequestV002":{"digest":%q,"signature":{"content":%q,"verifier":%s}}}`, b64(digest[:]), b64(sig), verifier)}
	if envelope {
		e.request = fmt.Sprintf(`{"dsseRequestV002":{"envelope":{"payload":%q,"payloadType":%q,"signatures":[{"sig":%q}]},"verifiers":[%s]}}`,
			b64(payload), statementMediaType, b64(sig), verifier)
	}
	canonical := fmt.Sprintf(`{"keyDetails":"PKIX_ECDSA_P256_SHA_256",%q:{"rawBytes":%q}}`, form, b64(raw)) // keys in order
	e.canonical = fmt.Appendf(nil, `{"apiVersion":"0.0.2","kind":"hashedrekord","spec":{"hashedRekordV002":{"data":{"algorithm":"SHA2_256","digest":%q},`+
		`"signature":{"content":%q,"verifier":%s}}}}`, b64(digest[:]), b64(sig), canonical)
	return e
}

// TestRequestsOfClientsMayBeSentAgain catches what clients send to the log and sends it again.
func TestRequestsOfClientsMayBeSentAgain(t *testing.T) {
	installClients(t)
	work := t.TempDir()
	s := up(t, filepath.Join(work, "data"))
	p, err := policy.Parse([]byte(readFile(t, s.client, "policy.txt")))
	if err != nil {
		t.Fatal(err)
	}
	between := proxyLog(t, s.url, 0)
	config := signingConfigVia(t, s, work, between.url)
	var logged [][]byte
	for _, c := range clients() {
		for kind, sign := range map[string]func(*testing.T, *stack, signing){"blob": c.sign, "attestation": c.attest} {
			if sign == nil || c.name == "tallywood" { // which has no flag for another signing config
				continue
			}
			t.Run(strings.ReplaceAll(c.name, " ", "-")+" "+kind, func(t *testing.T) {
				g := signing{dir: t.TempDir(), file: writeFile(t, work, "artifact.tar", "the artifact"), bundle: filepath.Join(work, "bundle.json"),
					config: config, token: s.token(t, "alice@example.com")}
				before := len(between.seen())
				sign(t, s, g)
				requests := between.seen()[before:]
				if len(slices.Compact(requests)) != 1 { // some are impatient, and send it again
					t.Fatalf("the client sent the requests %q; want one", requests)
				}
				index, canonical := loggedEntry(t, g.bundle)
				logged = append(logged, canonical)
				if got := sendAgain(t, s.url, p, signedEntry{requests[0], canonical}); got != index {
					t.Errorf("sent again the entry has index %d; the bundle says %d", got, index)
				}
			})
		}
	}
	wantEntries(t, s, p, logged)
}

// loggedEntry reads from a bundle where its entry is logged, and the entry.
func loggedEntry(t *testing.T, path string) (index int64, canonical []byte) {
	t.Helper()
	var b struct {
		VerificationMaterial struct {
			TlogEntries []struct {
				LogIndex          string
				CanonicalizedBody []byte
			}
		}
	}
	if err := json.Unmarshal([]byte(readFile(t, "", path)), &b); err != nil || len(b.VerificationMaterial.TlogEntries) != 1 {
		t.Fatalf("reading bundle: %v, %d log entries", err, len(b.VerificationMaterial.TlogEntries))
	}
	entry := b.VerificationMaterial.TlogEntries[0]
	if entry.LogIndex == "" { // as Go leaves out what is zero
		return 0, entry.CanonicalizedBody
	}
	index, err := strconv.ParseInt(entry.LogIndex, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return index, entry.CanonicalizedBody
}

// A logProxy stands in front of a log, remembers the requests, and keeps the first answers to
// itself until their clients have given up.
type logProxy struct {
	url string

	mu     sync.Mutex
	left   int
	bodies []string
}

func proxyLog(t *testing.T, target string, withheld int) *logProxy {
	t.Helper()
	to, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	p, closing := &logProxy{left: withheld}, make(chan struct{})
	proxy := httputil.NewSingleHostReverseProxy(to)
	proxy.ModifyResponse = func(r *http.Response) error {
		p.mu.Lock()
		held := p.left > 0
		p.left--
		p.mu.Unlock()
		if held {
			select {
			case <-r.Request.Context().Done(): // the client went away
			case <-closing:
			}
		}
		return nil
	}
	proxy.ErrorHandler = func(rw http.ResponseWriter, _ *http.Request, _ error) { rw.WriteHeader(http.StatusBadGateway) }
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			rw.WriteHeader(http.StatusBadRequest)
			return
		}
		p.mu.Lock()
		p.bodies = append(p.bodies, string(body))
		p.mu.Unlock()
		r.Body = io.NopCloser(bytes.NewReader(body))
		proxy.ServeHTTP(rw, r)
	}))
	t.Cleanup(func() { close(closing); server.Close() })
	p.url = server.URL
	return p
}

// seen returns the requests that came.
func (p *logProxy) seen() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string(nil), p.bodies...)
}

// signingConfigVia writes the signing config of s into dir with another URL of the log.
func signingConfigVia(t *testing.T, s *stack, dir, log string) string {
	t.Helper()
	var config map[string]any
	if err := json.Unmarshal([]byte(readFile(t, s.client, "signing_config.v0.2.json")), &config); err != nil {
		t.Fatal(err)
	}
	logs, ok := config["rekorTlogUrls"].([]any)
	if !ok || len(logs) != 1 {
		t.Fatalf("the signing config names %d logs; want one", len(logs))
	}
	logs[0].(map[string]any)["url"] = log
	out, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	return writeFile(t, dir, "signing_config.json", string(out))
}
