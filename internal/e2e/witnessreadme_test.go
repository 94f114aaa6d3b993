package e2e_test

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"tallywood/internal/loopback"
	"tallywood/witness/policy"
)

// witnessReadme is the page of the witness alone.
const witnessReadme = "cmd/tallywood-witness/README.md"

// The public bastion that the tests install and use unmodified.
const (
	litebastionPackage = "filippo.io/torchwood/cmd/litebastion"
	litebastionVersion = "v0.9.1-0.20260706112420-c22a68158d96"
)

// A litebastion is a running bastion, of torchwood's authors.
type litebastion struct {
	address  string
	dir      string // of its certificate and of the key hashes that it allows
	cmd      *exec.Cmd
	log      *lockedBuffer
	exited   chan struct{}
	accepted []string // key hashes
}

// startLitebastion starts a bastion with a certificate of ca for 127.0.0.1.
func startLitebastion(t *testing.T, ca *privateCA) *litebastion {
	t.Helper()
	b := &litebastion{address: loopback.Address(t), dir: t.TempDir()}
	ca.renew(t, b.dir)
	b.start(t)
	t.Cleanup(func() {
		b.kill()
		if t.Failed() {
			t.Logf("the bastion at %s said:\n%s", b.address, b.log)
		}
	})
	return b
}

// start starts it, from the second time on at the same address.
func (b *litebastion) start(t *testing.T) {
	t.Helper()
	writeFile(t, b.dir, "backends", strings.Join(append(b.accepted, ""), "\n"))
	b.cmd = exec.Command(install(t, litebastionPackage, litebastionVersion), "-listen", b.address,
		"-tls-cert", filepath.Join(b.dir, "tls.pem"), "-tls-key", filepath.Join(b.dir, "tls-key.pem"), "-backends", filepath.Join(b.dir, "backends"))
	b.log, b.exited = &lockedBuffer{}, make(chan struct{})
	b.cmd.Stderr = b.log
	if err := b.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func(cmd *exec.Cmd, exited chan struct{}) {
		defer close(exited)
		_ = cmd.Wait() // says that it was killed
	}(b.cmd, b.exited)
	eventually(t, "bastion", func() bool { return strings.Contains(b.log.String(), "msg=listening") })
}

// kill is kill -9.
func (b *litebastion) kill() {
	_ = b.cmd.Process.Kill() // it may be gone
	<-b.exited
}

// allow has it allow a key hash, without a restart.
func (b *litebastion) allow(t *testing.T, hash string) {
	t.Helper()
	b.accepted = append(b.accepted, hash)
	writeFile(t, b.dir, "backends", strings.Join(append(b.accepted, ""), "\n"))
	if err := b.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
}

// trust makes the programs that a test starts trust ca as if it were a public one.
func (ca *privateCA) trust(t *testing.T) {
	t.Helper()
	t.Setenv("SSL_CERT_FILE", ca.file)
}

// keyHash finds what init says about the bastion at an address.
func keyHash(t *testing.T, out, address string) string {
	t.Helper()
	m := regexp.MustCompile(regexp.QuoteMeta(address) + ` allow the key hash ([0-9a-f]{64})\n`).FindStringSubmatch(out)
	if m == nil {
		t.Fatalf("no key hash for %s in:\n%s", address, out)
	}
	return m[1]
}

// TestWitnessReadme does what the README of the witness says, once with a listener and once through a
// bastion, and has a log cosigned each time.
func TestWitnessReadme(t *testing.T) {
	p := openPage(t, witnessReadme)
	ca := newPrivateCA(t, t.TempDir())
	ca.trust(t)
	p.env = append(p.env, "SSL_CERT_FILE="+ca.file)
	p.install(t, p.next(t, "sh", "go install ./cmd/tallywood-witness"))
	address, bastion := loopback.Address(t), startLitebastion(t, ca)
	vkey := p.vkey(t, p.shell(t, "tallywood key generate log.pem --origin log.example.org"))
	swap := []string{"127.0.0.1:7380", address, exampleLog, vkey, "bastion.example.org", bastion.address}
	p.swap = strings.NewReplacer(swap...)

	began := time.Now()
	initialize, serve, _ := strings.Cut(p.next(t, "sh", "tallywood-witness init"), "\ntallywood-witness serve")
	out := p.shell(t, initialize)
	p.server(t, "tallywood-witness serve"+serve, 0)
	p.swap = strings.NewReplacer(append(swap, exampleWitness, p.vkey(t, out))...)
	p.wantLogCosigned(t, "one", p.next(t, "", "log log.example.org+"), began)
	if status := p.shell(t, p.next(t, "sh", "curl -s")); !strings.Contains(status, `"origin": "log.example.org"`) || !strings.Contains(status, `"size": 1`) {
		t.Errorf("status.json:\n%s", status)
	}
	if about := readFile(t, p.dir, "witness/about.md"); strings.Contains(about, "(the URL") || strings.Contains(about, "(how to") || !strings.Contains(about, "https://witness.example.org/add-checkpoint") {
		t.Errorf("about.md has gaps that were filled in:\n%s", about)
	}

	began = time.Now()
	out = p.shell(t, p.next(t, "sh", "tallywood-witness init --dir ./behind"))
	bastion.allow(t, keyHash(t, out, bastion.address))
	lines, _ := p.server(t, p.next(t, "sh", "tallywood-witness serve --dir ./behind"), 0)
	url := strings.TrimPrefix(lines[0], "ready ")
	if want := "https://" + bastion.address + "/" + keyHash(t, out, bastion.address); url != want {
		t.Errorf("ready at %s; want %s", url, want)
	}
	p.wantLogCosigned(t, "two", fmt.Sprintf("log %s\nwitness w1 %s %s\nquorum w1\n", vkey, p.vkey(t, out), url), began)
	if ports := listening(t, p.dir, "./behind"); len(ports) != 0 {
		t.Errorf("behind a bastion it listens at %q", ports)
	}
	if ports := listening(t, p.dir, "./witness"); len(ports) != 1 {
		t.Errorf("with a listener it listens at %q; the test does not see sockets", ports)
	}
	p.done(t)
}

// wantLogCosigned runs the page's log with a policy, adds an entry, and wants its checkpoint cosigned
// within a minute after the reader began.
func (p *page) wantLogCosigned(t *testing.T, name, text string, began time.Time) {
	t.Helper()
	pol, err := policy.Parse([]byte(text))
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	writeFile(t, p.dir, name+".txt", text)
	config := writeFile(t, p.dir, name+".yaml", "address: 127.0.0.1:0\nstorage: file:./objects-"+name+"\nlogs:\n"+
		"  - {name: signatures, kind: rekor, origin: log.example.org, key: file:log.pem, policy: "+name+".txt}\n")
	wantCosigned(t, pol, addEntry(t, serveLog(t, config).url), 1)
	if took := time.Since(began); took > time.Minute {
		t.Errorf("from init to a cosignature it took %v", took)
	} else {
		t.Logf("from init to a cosignature: %v", took)
	}
}

// listening returns the TCP addresses, as /proc has them, at which the witness of a directory listens
// that was started in dir.
func listening(t *testing.T, dir, witness string) []string {
	t.Helper()
	var out []string
	processes, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	for _, proc := range processes {
		cwd, _ := os.Readlink(proc + "/cwd") // fails for processes that end
		args, _ := os.ReadFile(proc + "/cmdline")
		if cwd != dir || !strings.Contains(string(args), "tallywood-witness\x00serve\x00--dir\x00"+witness+"\x00") {
			continue
		}
		sockets := map[string]bool{}
		fds, _ := filepath.Glob(proc + "/fd/*")
		for _, fd := range fds {
			if target, err := os.Readlink(fd); err == nil {
				if inode, ok := strings.CutPrefix(target, "socket:["); ok {
					sockets[strings.TrimSuffix(inode, "]")] = true
				}
			}
		}
		for _, table := range []string{"/net/tcp", "/net/tcp6"} {
			f, err := os.Open(proc + table)
			if err != nil {
				t.Fatal(err)
			}
			for sc := bufio.NewScanner(f); sc.Scan(); {
				if c := strings.Fields(sc.Text()); len(c) > 9 && c[3] == "0A" && sockets[c[9]] { // LISTEN
					out = append(out, c[1])
				}
			}
			f.Close()
		}
	}
	return out
}

// TestWitnessBehindBastions has a log whose only witness is reached through bastions alone, which are
// killed, started again, and changed.
func TestWitnessBehindBastions(t *testing.T) {
	dir := t.TempDir()
	ca := newPrivateCA(t, dir)
	ca.trust(t)
	one, two := startLitebastion(t, ca), startLitebastion(t, ca)
	vkey := generateKey(t, dir, "log.pem", "log.example.org")
	out := must(t, dir, "tallywood-witness", "init", "--dir", "w", "--name", "witness.example.org", "--bastion", one.address, "--bastion", two.address)
	must(t, dir, "tallywood-witness", "logs", "add", "--dir", "w", "--vkey", vkey, "--contact", "x")
	witnessVKey, _, _ := strings.Cut(out, "\n")

	// At first no bastion knows the witness.
	cmd := exec.Command(filepath.Join(bin, "tallywood-witness"), "serve", "--dir", filepath.Join(dir, "w"))
	stderr, stdout := &lockedBuffer{}, &lockedBuffer{}
	cmd.Stderr, cmd.Stdout = stderr, stdout
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		if err := <-ended; err != nil {
			t.Errorf("the witness ended with %v", err)
		}
		if t.Failed() {
			t.Logf("the witness said:\n%s", stderr)
		}
	})
	for _, b := range []*litebastion{one, two} {
		eventually(t, "refusal", func() bool {
			return strings.Contains(stderr.String(), "it refuses our key; its operator must allow the key hash "+keyHash(t, out, b.address))
		})
	}
	if got := stdout.String(); got != "" {
		t.Errorf("it said %q while no bastion takes it", got)
	}
	one.allow(t, keyHash(t, out, one.address))
	two.allow(t, keyHash(t, out, two.address))
	url := func(b *litebastion) string { return "https://" + b.address + "/" + keyHash(t, out, b.address) }
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: ca.pool()}}, Timeout: time.Minute}
	reached := func(b *litebastion) func() bool {
		return func() bool {
			resp, err := client.Get(url(b) + "/status.json")
			if err != nil {
				return false
			}
			resp.Body.Close()
			return resp.StatusCode == 200
		}
	}
	eventually(t, "witness behind the first bastion", reached(one))
	eventually(t, "witness behind the second bastion", reached(two))
	eventually(t, "line that says that it is ready", func() bool { return strings.HasSuffix(stdout.String(), "\n") }) // it is reached before
	if got := stdout.String(); got != "ready "+url(one)+"\n" && got != "ready "+url(two)+"\n" {
		t.Errorf("it said %q", got)
	}

	text := fmt.Sprintf("log %s\nwitness w1 %s %s\nquorum w1\n", vkey, witnessVKey, url(one))
	pol, err := policy.Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, dir, "policy.txt", text)
	log := serveLog(t, writeFile(t, dir, "config.yaml", "address: 127.0.0.1:0\nstorage: file:./objects\nlogs:\n"+
		"  - {name: signatures, kind: rekor, origin: log.example.org, key: file:log.pem, policy: policy.txt}\n"))
	wantCosigned(t, pol, addEntry(t, log.url), 1)

	// The log's bastion is killed: adds stop, the witness is there for others, and they go on when the
	// bastion is back.
	one.kill()
	if status, _, body := postEntry(t, log.url); status != http.StatusServiceUnavailable {
		t.Errorf("without the witness an entry is answered %d\n%s", status, body)
	}
	if !reached(two)() {
		t.Error("the other bastion does not reach the witness")
	}
	one.start(t)
	eventually(t, "witness after the bastion's restart", reached(one))
	eventually(t, "entry after the bastion's restart", func() bool {
		status, _, _ := postEntry(t, log.url)
		return status == http.StatusCreated
	})

	// Without the second bastion in its configuration the witness leaves that, and nothing else changes.
	config := readFile(t, dir, "w/config.yaml")
	writeFile(t, filepath.Join(dir, "w"), "config.yaml", strings.Replace(config, fmt.Sprintf("  - address: %q\n", two.address), "", 1))
	if err := cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	eventually(t, "end of the second bastion", func() bool { return !reached(two)() })
	if !reached(one)() {
		t.Error("the bastion that stays does not reach the witness")
	}
	if _, err := pol.Open([]byte(addEntry(t, log.url))); err != nil {
		t.Error(err)
	}
}
