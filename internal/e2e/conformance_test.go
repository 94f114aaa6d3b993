package e2e_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	fnote "github.com/transparency-dev/formats/note"
	"golang.org/x/crypto/ssh"

	"tallywood/internal/keys"
	"tallywood/internal/loopback"
	"tallywood/witness/conformance"
)

// A judged is a witness program that the conformance suite is run against.
type judged struct {
	command []string
	env     []string
	address string
	vkeys   []string
	kinds   []conformance.Kind
	timeout time.Duration // for one request; 0: the suite's default, for programs that never answer some
	cmd     *exec.Cmd
}

// start starts the program and waits until it answers.
func (j *judged) start(ctx context.Context, out *lockedBuffer) error {
	j.cmd = exec.Command(j.command[0], j.command[1:]...)
	j.cmd.Env, j.cmd.Stdout, j.cmd.Stderr = j.env, out, out
	if err := j.cmd.Start(); err != nil {
		return err
	}
	for ctx.Err() == nil {
		resp, err := http.Get("http://" + j.address + "/")
		if err == nil {
			return resp.Body.Close()
		}
		time.Sleep(10 * time.Millisecond)
	}
	return ctx.Err()
}

// kill is kill -9.
func (j *judged) kill() {
	_ = j.cmd.Process.Kill() // it may have ended by itself
	_ = j.cmd.Wait()
}

// judge runs the whole suite against a program, which it kills and starts again too.
func judge(t *testing.T, logs *conformance.Logs, j *judged) conformance.Report {
	t.Helper()
	out := &lockedBuffer{}
	starting, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := j.start(starting, out); err != nil {
		t.Fatalf("starting %v: %v\n%s", j.command, err, out)
	}
	defer func() { j.kill() }()
	report, err := conformance.Run(t.Context(), conformance.Options{
		URL: "http://" + j.address, VKeys: j.vkeys, Logs: logs, Kinds: j.kinds, Timeout: j.timeout,
		Restart: func(ctx context.Context) error {
			j.kill()
			ctx, cancel := context.WithTimeout(ctx, patience)
			defer cancel()
			return j.start(ctx, out)
		},
	})
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return report
}

func newThrowAway(t *testing.T) *conformance.Logs {
	t.Helper()
	var seed [32]byte
	_, _ = rand.Read(seed[:]) // never fails
	logs, err := conformance.NewLogs("conformance.invalid", seed)
	if err != nil {
		t.Fatal(err)
	}
	return logs
}

// judgedOurs is our program, told about the logs by a list as others are.
func judgedOurs(t *testing.T, logs *conformance.Logs) *judged {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "w")
	vkeys := strings.SplitN(must(t, filepath.Dir(dir), "tallywood-witness", "init", "--dir", dir, "--name", "witness.example.org"), "\n", 3)
	j := &judged{address: loopback.Address(t), vkeys: vkeys[:2], kinds: conformance.Listed(), timeout: patience, env: cleanEnv(t)}
	j.command = []string{filepath.Join(bin, "tallywood-witness"), "serve", "--dir", dir, "--listen", j.address,
		"--logs", writeFile(t, filepath.Dir(dir), "logs.txt", string(logs.List()))}
	return j
}

// TestOurWitnessConforms asks our program every question, and kills it with requests under way.
func TestOurWitnessConforms(t *testing.T) {
	logs := newThrowAway(t)
	report := judge(t, logs, judgedOurs(t, logs))
	if err := report.WriteText(t.Output()); err != nil {
		t.Fatal(err)
	}
	if report.Count(conformance.Failed)+report.Count(conformance.Differs) > 0 {
		t.Error("our witness fails, or is not as the suite says that it is")
	}
	for _, r := range report.With(conformance.Skipped) {
		if !strings.HasPrefix(r.ID, "signature/ml-dsa") { // no list names such logs; the package's own test does
			t.Errorf("%s was skipped: %s", r.ID, r.Detail)
		}
	}
}

// judgedOmniwitness has both kinds of keys; it knows one key per log.
func judgedOmniwitness(t *testing.T, logs *conformance.Logs) *judged {
	t.Helper()
	install(t, omniwitnessPackage, omniwitnessVersion)
	const name = "omni.example.org"
	dir := t.TempDir()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	skey := fmt.Sprintf("PRIVATE+KEY+%s+%08x+%s", name, keys.KeyID(name, keys.AlgEd25519, public),
		base64.StdEncoding.EncodeToString(append([]byte{keys.AlgEd25519}, private.Seed()...)))
	mldsaSkey, mldsaVKey, err := fnote.GenerateMLDSAKey(name)
	if err != nil {
		t.Fatal(err)
	}
	list := "Logs:\n"
	for _, l := range logs.All(conformance.Plain, conformance.Renamed) {
		list += fmt.Sprintf("  - Origin: %s\n    URL: https://log.invalid/\n    PublicKey: %s\n    Feeder: none\n", l.Origin, l.VKeys[0])
	}
	j := &judged{
		address: loopback.Address(t), vkeys: []string{keys.VKey(name, keys.AlgCosignatureV1, public), mldsaVKey},
		kinds: []conformance.Kind{conformance.Plain, conformance.Renamed},
		// Its way to the public logs that it knows of is a closed port: it is to ask nobody.
		env: cleanEnv(t, "HTTP_PROXY=http://127.0.0.1:9", "HTTPS_PROXY=http://127.0.0.1:9"),
	}
	j.command = []string{filepath.Join(bin, "omniwitness"), "--listen", j.address, "--metrics_listen", "", "--db_file", filepath.Join(dir, "omni.db"),
		"--private_key_path", writeFile(t, dir, "ed25519.skey", skey), "--private_key_path", writeFile(t, dir, "mldsa.skey", mldsaSkey),
		"--additional_logs", writeFile(t, dir, "logs.yaml", list)}
	return j
}

// judgedLitewitness has an Ed25519 key in an ssh-agent, which is the test's own.
func judgedLitewitness(t *testing.T, logs *conformance.Logs) *judged {
	t.Helper()
	install(t, litewitnessPackage, litewitnessVersion)
	const name = "lite.example.org"
	dir := t.TempDir()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	sshKey, err := ssh.NewPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	db := filepath.Join(dir, "lite.db")
	listed := map[string][]string{}
	for _, l := range logs.All(conformance.Listed()...) {
		listed[l.Origin] = l.VKeys
	}
	tellLitewitness(t, db, listed)
	j := &judged{address: loopback.Address(t), vkeys: []string{keys.VKey(name, keys.AlgCosignatureV1, public)}, kinds: conformance.Listed(), env: cleanEnv(t)}
	j.command = []string{filepath.Join(bin, "litewitness"), "-listen", j.address, "-name", name, "-db", db, "-ssh-agent", serveAgent(t, private), "-key", ssh.FingerprintSHA256(sshKey)}
	return j
}
