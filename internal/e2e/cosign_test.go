package e2e_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/sigstore/sigstore-go/pkg/bundle"
	"github.com/sigstore/sigstore-go/pkg/root"
	"github.com/sigstore/sigstore-go/pkg/verify"
)

// The cosign that the tests install and use unmodified.
const (
	cosignPackage = "github.com/sigstore/cosign/v3/cmd/cosign"
	cosignVersion = "v3.1.3"
)

// cosign runs cosign in dir in a home of its own and returns its output.
func cosign(t *testing.T, dir string, args ...string) (string, int) {
	t.Helper()
	install(t, cosignPackage, cosignVersion)
	return command(t, dir, append([]string{"cosign"}, args...)...)
}

// cosignVerify has cosign verify a bundle over file, with every check it knows.
func cosignVerify(t *testing.T, s *stack, dir, bundle, file, identity string) (string, int) {
	t.Helper()
	return cosign(t, dir, "verify-blob", "--trusted-root", filepath.Join(s.client, "trusted_root.json"), "--bundle", bundle,
		"--certificate-identity", identity, "--certificate-oidc-issuer", s.issuer(), file)
}

func TestCosignSignsAndVerifies(t *testing.T) {
	work := t.TempDir()
	s := up(t, filepath.Join(work, "data"))
	file := writeFile(t, work, "artifact.tar", "the artifact")
	out, code := cosign(t, work, "sign-blob", "--yes", "--signing-config", filepath.Join(s.client, "signing_config.v0.2.json"),
		"--trusted-root", filepath.Join(s.client, "trusted_root.json"), "--identity-token", s.token(t, "alice@example.com"),
		"--bundle", "artifact.bundle", file)
	if code != 0 {
		t.Fatalf("cosign sign-blob: exit code %d\n%s", code, out)
	}
	if out, code := cosignVerify(t, s, work, "artifact.bundle", file, "alice@example.com"); code != 0 {
		t.Fatalf("cosign verify-blob: exit code %d\n%s", code, out)
	}
	out = must(t, work, "tallywood", "verify", file, "--bundle", "artifact.bundle", "--trust", s.client,
		"--certificate-identity", "alice@example.com", "--certificate-oidc-issuer", s.issuer())
	if !strings.Contains(out, "verified: signed by alice@example.com") || !strings.Contains(out, "cosigned by witness-") {
		t.Errorf("tallywood verify printed:\n%s", out)
	}
	verifyWithLibrary(t, s, filepath.Join(work, "artifact.bundle"), file, "alice@example.com")
	refusals(t, s, work, file)
}

// refusals checks that what must not verify does not.
func refusals(t *testing.T, s *stack, work, file string) {
	t.Helper()
	other := writeFile(t, work, "other.tar", "another artifact")
	if out, code := cosignVerify(t, s, work, "artifact.bundle", other, "alice@example.com"); code == 0 {
		t.Errorf("cosign verified another artifact:\n%s", out)
	}
	for name, args := range map[string][]string{
		"another artifact": {other, "--certificate-identity", "alice@example.com", "--certificate-oidc-issuer", s.issuer()},
		"another identity": {file, "--certificate-identity", "bob@example.com", "--certificate-oidc-issuer", s.issuer()},
		"another issuer":   {file, "--certificate-identity", "alice@example.com", "--certificate-oidc-issuer", "https://accounts.example.com"},
	} {
		out, code := command(t, work, append([]string{"tallywood", "verify", "--bundle", "artifact.bundle", "--trust", s.client}, args...)...)
		if code != 1 || !strings.Contains(out, "does not verify") {
			t.Errorf("%s: exit code %d\n%s", name, code, out)
		}
	}
}

// verifyWithLibrary verifies with sigstore-go, all thresholds at one.
func verifyWithLibrary(t *testing.T, s *stack, bundlePath, file, identity string) {
	t.Helper()
	tr, err := root.NewTrustedRootFromPath(filepath.Join(s.client, "trusted_root.json"))
	if err != nil {
		t.Fatal(err)
	}
	v, err := verify.NewVerifier(tr, verify.WithSignedCertificateTimestamps(1), verify.WithTransparencyLog(1), verify.WithObserverTimestamps(1))
	if err != nil {
		t.Fatal(err)
	}
	b, err := bundle.LoadJSONFromPath(bundlePath)
	if err != nil {
		t.Fatal(err)
	}
	id, err := verify.NewShortCertificateIdentity(s.issuer(), "", identity, "")
	if err != nil {
		t.Fatal(err)
	}
	artifact, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := v.Verify(b, verify.NewPolicy(verify.WithArtifact(bytes.NewReader(artifact)), verify.WithCertificateIdentity(id))); err != nil {
		t.Errorf("sigstore-go: %v", err)
	}
}

func TestCosignVerifiesWhatTallywoodSigned(t *testing.T) {
	work := t.TempDir()
	s := up(t, filepath.Join(work, "data"))
	file := writeFile(t, work, "sbom.json", `{"bomFormat":"CycloneDX"}`)
	out := must(t, work, "tallywood", "sign", file, "--yes", "--trust", s.client, "--identity-token", s.token(t, "bob@example.com"))
	if !strings.Contains(out, "PUBLIC FOR EVER") {
		t.Errorf("the first use was not announced:\n%s", out)
	}
	if out, code := cosignVerify(t, s, work, file+".sigstore.json", file, "bob@example.com"); code != 0 {
		t.Errorf("cosign verify-blob: exit code %d\n%s", code, out)
	}
	verifyWithLibrary(t, s, file+".sigstore.json", file, "bob@example.com")
}

func TestSigningWantsAYes(t *testing.T) {
	work := t.TempDir()
	s := up(t, filepath.Join(work, "data"))
	file := writeFile(t, work, "f", "x")
	home := cleanEnv(t)
	run := func(answer string) (string, int) {
		cmd := exec.Command(filepath.Join(bin, "tallywood"), "sign", file, "--trust", s.client, "--identity-token", s.token(t, "carol@example.com"))
		cmd.Dir, cmd.Env, cmd.Stdin = work, home, strings.NewReader(answer)
		out, _ := cmd.CombinedOutput() // the exit code is what counts
		return string(out), cmd.ProcessState.ExitCode()
	}
	if out, code := run(""); code != 2 || !strings.Contains(out, "nothing was signed") {
		t.Errorf("without an answer: exit code %d\n%s", code, out)
	}
	if out, code := run("n\n"); code != 1 || !strings.Contains(out, "nothing was signed") {
		t.Errorf("after a no: exit code %d\n%s", code, out)
	}
	if tree := get(t, s.url+"/checkpoint", 200); !strings.HasPrefix(tree, "log.localhost\n0\n") {
		t.Errorf("something was signed:\n%s", tree)
	}
	if out, code := run("y\n"); code != 0 {
		t.Errorf("after a yes: exit code %d\n%s", code, out)
	}
	if out, code := run(""); code != 0 || strings.Contains(out, "PUBLIC FOR EVER") {
		t.Errorf("the second use asked again: exit code %d\n%s", code, out)
	}
}

// TestInteractiveLogin signs through the login page: cosign and tallywood open a browser, which
// here is a script that hands the address to the test, and the test fills in the form.
func TestInteractiveLogin(t *testing.T) {
	install(t, cosignPackage, cosignVersion)
	work := t.TempDir()
	s := up(t, filepath.Join(work, "data"))
	file := writeFile(t, work, "artifact", "the artifact")
	for name, args := range map[string][]string{
		"cosign": {"cosign", "sign-blob", "--yes", "--fulcio-auth-flow", "normal", "--signing-config", filepath.Join(s.client, "signing_config.v0.2.json"),
			"--trusted-root", filepath.Join(s.client, "trusted_root.json"), "--bundle", "cosign.bundle", file},
		"tallywood": {"tallywood", "sign", file, "--yes", "--trust", s.client, "--bundle", "tallywood.bundle"},
	} {
		address := filepath.Join(t.TempDir(), "address")
		cmd := exec.Command(filepath.Join(bin, args[0]), args[1:]...)
		cmd.Dir = work
		cmd.Env = cleanEnv(t, "DISPLAY=:99")
		browser := fakeBrowser(t, address)
		for i, e := range cmd.Env {
			if rest, ok := strings.CutPrefix(e, "PATH="); ok {
				cmd.Env[i] = "PATH=" + browser + ":" + rest
			}
		}
		out := &lockedBuffer{}
		cmd.Stdout, cmd.Stderr = out, out
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() { done <- cmd.Wait() }()
		logIn(t, awaitAddress(t, address, out), "dora@example.com")
		select {
		case err := <-done:
			if err != nil {
				t.Fatalf("%s: %v\n%s", name, err, out)
			}
		case <-time.After(patience):
			t.Errorf("%s did not end: %v\n%s", name, cmd.Process.Kill(), out)
			continue
		}
		if out, code := cosignVerify(t, s, work, name+".bundle", file, "dora@example.com"); code != 0 {
			t.Errorf("%s: cosign verify-blob: exit code %d\n%s", name, code, out)
		}
	}
}

// fakeBrowser returns a directory with an xdg-open that writes its argument to address.
func fakeBrowser(t *testing.T, address string) string {
	t.Helper()
	dir := t.TempDir()
	script := fmt.Sprintf("#!/bin/sh\nprintf '%%s' \"$1\" > '%s.part' && mv '%s.part' '%s'\n", address, address, address)
	for _, name := range []string{"xdg-open", "x-www-browser", "www-browser"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func awaitAddress(t *testing.T, path string, out *lockedBuffer) string {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		if data, err := os.ReadFile(path); err == nil {
			return string(data)
		}
		if time.Now().After(deadline) {
			t.Fatalf("no browser was opened\n%s", out)
		}
	}
}

var formField = regexp.MustCompile(`<input[^>]*name="([^"]+)"[^>]*>`)

// logIn opens the login page, fills in its form as a browser would, and follows where it leads.
func logIn(t *testing.T, address, email string) {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Jar: jar, Timeout: patience}
	resp, err := client.Get(address)
	if err != nil {
		t.Fatal(err)
	}
	page, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if err != nil || resp.StatusCode != 200 {
		t.Fatalf("login page: %s, %v\n%s", resp.Status, err, page)
	}
	form := url.Values{}
	for _, m := range formField.FindAllStringSubmatch(string(page), -1) {
		value := ""
		if v := regexp.MustCompile(`value="([^"]*)"`).FindStringSubmatch(m[0]); v != nil {
			value = strings.NewReplacer("&amp;", "&", "&#43;", "+", "&#34;", `"`).Replace(v[1])
		}
		form.Set(m[1], value)
	}
	if !form.Has("email") {
		t.Fatalf("the login page has no field for an email address:\n%s", page)
	}
	form.Set("email", email)
	action := resp.Request.URL
	if m := regexp.MustCompile(`<form[^>]*action="([^"]+)"`).FindStringSubmatch(string(page)); m != nil {
		if action, err = action.Parse(strings.ReplaceAll(m[1], "&amp;", "&")); err != nil {
			t.Fatal(err)
		}
	}
	resp, err = client.PostForm(action.String(), form)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != 200 {
		t.Fatalf("after the login: %s, %v\n%s", resp.Status, err, body)
	}
}

// TestABundleWithAnyPartChangedIsRefused changes one part of a bundle that cosign made at a time.
// Package log/verify has a test for each check; this is the whole program with a real bundle.
func TestABundleWithAnyPartChangedIsRefused(t *testing.T) {
	work := t.TempDir()
	s := up(t, filepath.Join(work, "data"))
	file := writeFile(t, work, "f", "x")
	for range 3 { // so that the proof of the last has hashes
		must(t, work, "tallywood", "sign", file, "--yes", "--trust", s.client, "--identity-token", s.token(t, "eve@example.com"))
	}
	text := readFile(t, work, "f.sigstore.json")
	for name, change := range bundleChanges() {
		var b map[string]any
		if err := json.Unmarshal([]byte(text), &b); err != nil {
			t.Fatal(err)
		}
		change(t, b)
		spoilt, err := json.Marshal(b)
		if err != nil {
			t.Fatal(err)
		}
		bad := writeFile(t, work, "bad.json", string(spoilt))
		out, code := command(t, work, "tallywood", "verify", file, "--bundle", bad, "--trust", s.client,
			"--certificate-identity", "eve@example.com", "--certificate-oidc-issuer", s.issuer())
		if code != 1 || !strings.Contains(out, "does not verify") {
			t.Errorf("%s changed: exit code %d\n%s", name, code, out)
		}
	}
}

// bundleChanges are the parts of a bundle, each with a function that changes it a little.
func bundleChanges() map[string]func(*testing.T, map[string]any) {
	in := func(path ...string) func(*testing.T, map[string]any) {
		return func(t *testing.T, b map[string]any) { flip(t, b, path) }
	}
	entry := []string{"verificationMaterial", "tlogEntries", "0"}
	at := func(path ...string) func(*testing.T, map[string]any) {
		return in(append(append([]string{}, entry...), path...)...)
	}
	return map[string]func(*testing.T, map[string]any){
		"certificate":       in("verificationMaterial", "certificate", "rawBytes"),
		"signature":         in("messageSignature", "signature"),
		"digest":            in("messageSignature", "messageDigest", "digest"),
		"timestamp":         in("verificationMaterial", "timestampVerificationData", "rfc3161Timestamps", "0", "signedTimestamp"),
		"canonicalizedBody": at("canonicalizedBody"),
		"proof hash":        at("inclusionProof", "hashes", "0"),
		"root hash":         at("inclusionProof", "rootHash"),
		"tree size":         at("inclusionProof", "treeSize"),
		"index":             at("inclusionProof", "logIndex"),
		"tree head":         at("inclusionProof", "checkpoint", "envelope"),
		"log signature": func(t *testing.T, b map[string]any) {
			editNote(t, b, func(lines []string) []string { lines[4] = flipBase64(lines[4]); return lines })
		},
		"one cosignature short": func(t *testing.T, b map[string]any) {
			editNote(t, b, func(lines []string) []string { return append(lines[:5], "") })
		},
	}
}

var deviceAddress = regexp.MustCompile(`in your browser at: (\S+)`)

// TestDeviceLogin signs with cosign on a machine without a browser: it prints an address, which
// is opened elsewhere.
func TestDeviceLogin(t *testing.T) {
	install(t, cosignPackage, cosignVersion)
	work := t.TempDir()
	s := up(t, filepath.Join(work, "data"))
	file := writeFile(t, work, "artifact", "the artifact")
	cmd := exec.Command(filepath.Join(bin, "cosign"), "sign-blob", "--yes", "--signing-config", filepath.Join(s.client, "signing_config.v0.2.json"),
		"--trusted-root", filepath.Join(s.client, "trusted_root.json"), "--bundle", "device.bundle", file)
	cmd.Dir, cmd.Env = work, cleanEnv(t)
	out := &lockedBuffer{}
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	var address string
	eventually(t, "address to open", func() bool {
		m := deviceAddress.FindStringSubmatch(out.String())
		if m != nil {
			address = m[1]
		}
		return m != nil
	})
	logIn(t, address, "erin@example.com")
	select {
	case err := <-done:
		if err != nil {
			t.Fatalf("cosign: %v\n%s", err, out)
		}
	case <-time.After(patience):
		t.Fatalf("cosign did not end: %v\n%s", cmd.Process.Kill(), out)
	}
	if out, code := cosignVerify(t, s, work, "device.bundle", file, "erin@example.com"); code != 0 {
		t.Errorf("cosign verify-blob: exit code %d\n%s", code, out)
	}
}
