package e2e_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/registry"
)

// TestCosignSignsImages signs an image in a registry and attests to it, where the registry can
// list what refers to an image and where cosign must keep the list in a tag.
func TestCosignSignsImages(t *testing.T) {
	install(t, cosignPackage, cosignVersion)
	work := t.TempDir()
	s := up(t, filepath.Join(work, "data"))
	predicate := writeFile(t, work, "predicate.json", predicateText)
	for name, referrers := range map[string]bool{"referrers": true, "tag": false} {
		t.Run(name, func(t *testing.T) {
			requests := &lockedBuffer{}
			server := httptest.NewServer(registry.New(registry.WithReferrersSupport(referrers),
				registry.Logger(slog.NewLogLogger(slog.NewTextHandler(requests, nil), slog.LevelInfo))))
			defer server.Close()
			digest := pushImage(t, server.URL+"/v2/app/")
			image := strings.TrimPrefix(server.URL, "http://") + "/app@" + digest
			trusted := []string{"--trusted-root", filepath.Join(s.client, "trusted_root.json")}
			run := func(want int, args ...string) string {
				t.Helper()
				out, code := command(t, work, append(append([]string{"cosign"}, args...), append(trusted, image)...)...)
				if code == 0 && want != 0 || code != 0 && want == 0 {
					t.Fatalf("cosign %s: exit code %d; want %d\n%s", args[0], code, want, out)
				}
				return out
			}
			sign := []string{"--yes", "--signing-config", filepath.Join(s.client, "signing_config.v0.2.json"), "--identity-token", s.token(t, "alice@example.com")}
			by := func(identity string) []string {
				return []string{"--certificate-identity", identity, "--certificate-oidc-issuer", s.issuer()}
			}
			with := func(name string, more ...[]string) []string {
				args := []string{name}
				for _, m := range more {
					args = append(args, m...)
				}
				return args
			}
			attested := []string{"--type", predicateType}
			run(1, with("verify", by("alice@example.com"))...)
			run(0, with("sign", sign)...)
			run(0, with("attest", sign, attested, []string{"--predicate", predicate})...)
			run(0, with("verify", by("alice@example.com"))...)
			run(0, with("verify-attestation", by("alice@example.com"), attested)...)
			for _, verify := range [][]string{with("verify", by("mallory@example.com")), with("verify-attestation", by("mallory@example.com"), attested)} {
				if out := run(1, verify...); !regexp.MustCompile(`expected SAN value "mallory@example\.com", got "alice@example\.com"|none of the expected identities matched`).MatchString(out) {
					t.Errorf("cosign %s does not refuse for the identity:\n%s", verify[0], out)
				}
			}
			if !strings.Contains(requests.String(), "GET /v2/app/referrers/"+digest) {
				t.Errorf("cosign did not ask for what refers to the image:\n%s", requests)
			}
			if tagged := strings.Contains(requests.String(), "PUT /v2/app/manifests/"+strings.Replace(digest, ":", "-", 1)); tagged == referrers {
				t.Errorf("cosign kept the list in a tag: %v\n%s", tagged, requests)
			}
		})
	}
}

// pushImage pushes an image of one small layer to the repository below base and returns its digest.
func pushImage(t *testing.T, base string) string {
	t.Helper()
	layer := pushBlob(t, base, []byte("a layer"))
	config := `{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":["` + layer + `"]}}`
	manifest := fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json",`+
		`"config":{"mediaType":"application/vnd.oci.image.config.v1+json","size":%d,"digest":%q},`+
		`"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar","size":7,"digest":%q}]}`,
		len(config), pushBlob(t, base, []byte(config)), layer)
	digest := digestOf(manifest)
	push(t, http.MethodPut, base+"manifests/"+digest, "application/vnd.oci.image.manifest.v1+json", manifest)
	return digest
}

func pushBlob(t *testing.T, base string, blob []byte) string {
	t.Helper()
	digest := digestOf(blob)
	push(t, http.MethodPost, base+"blobs/uploads/?digest="+digest, "application/octet-stream", blob)
	return digest
}

func digestOf(data []byte) string { return fmt.Sprintf("sha256:%x", sha256.Sum256(data)) }

func push(t *testing.T, method, url, contentType string, data []byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", contentType)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != http.StatusCreated {
		t.Fatalf("%s %s: %s, %v\n%s", method, url, resp.Status, err, body)
	}
}
