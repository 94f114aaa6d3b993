package main

import (
	"bufio"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"filippo.io/torchwood/bastion"

	"tallywood/internal/loopback"
)

// deadline bounds what happens at once on an idle machine.
const deadline = time.Minute

// newBastion starts a bastion of torchwood's that takes every backend, and returns it and the file of
// its authority.
func newBastion(t *testing.T) (srv *httptest.Server, ca string) {
	t.Helper()
	b, err := bastion.New(&bastion.Config{
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &srv.TLS.Certificates[0], nil },
		AllowedBackend: func([sha256.Size]byte) bool { return true },
		Log:            slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	srv = httptest.NewUnstartedServer(b)
	if err := b.ConfigureServer(srv.Config); err != nil {
		t.Fatal(err)
	}
	srv.TLS = srv.Config.TLSConfig
	srv.StartTLS()
	t.Cleanup(srv.Close)
	ca = filepath.Join(t.TempDir(), "ca.pem")
	putFile(t, ca, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw})))
	return srv, ca
}

func putFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// edit replaces a text in DIR/config.yaml.
func edit(t *testing.T, dir, old, text string) {
	t.Helper()
	path := filepath.Join(dir, configFile)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(data), old) {
		t.Fatalf("no %q in\n%s", old, data)
	}
	putFile(t, path, strings.Replace(string(data), old, text, 1))
}

// create makes a witness that knows log.example.org.
func create(t *testing.T, args ...string) (dir string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "w")
	if code := run(append([]string{"init", "--dir", dir, "--name", "witness.example.org"}, args...), io.Discard, t.Output()); code != 0 {
		t.Fatalf("init: exit code %d", code)
	}
	putFile(t, filepath.Join(dir, "logs.txt"), logList("log.example.org"))
	edit(t, dir, "logs: []", "logs: [logs.txt]")
	return dir
}

// start has a witness serve until the test ends, and returns it and the URL that it prints.
func start(t *testing.T, f serveFlags) (s *service, url string) {
	t.Helper()
	s, err := openService(f, slog.New(slog.NewTextHandler(t.Output(), nil)))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.openReach(&f); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	stdout, ready := io.Pipe()
	ended := make(chan error, 1)
	go func() { ended <- s.run(ctx, f, ready) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("run = %v", err)
		}
	})
	line, err := bufio.NewReader(stdout).ReadString('\n')
	url, ok := strings.CutPrefix(strings.TrimSpace(line), "ready ")
	if err != nil || !ok {
		t.Fatalf("it printed %q (%v)", line, err)
	}
	return s, url
}

// fetch sends a request and returns its answer.
func fetch(t *testing.T, client *http.Client, method, url, body string) (status int, answer string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(data)
}

// request is an add-checkpoint request of log.example.org.
func request(t *testing.T, old, size int64) string {
	t.Helper()
	var b strings.Builder
	if err := writeRequest(&b, "log.example.org", logKey("log.example.org"), old, size); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// wantCosigned has a tree cosigned, and wants so many lines.
func wantCosigned(t *testing.T, client *http.Client, url string, old, size int64, lines int) {
	t.Helper()
	status, body := fetch(t, client, "POST", url+"/add-checkpoint", request(t, old, size))
	if status != 200 || strings.Count(body, "— witness.example.org ") != lines {
		t.Errorf("from %d to %d: %d %s", old, size, status, body)
	}
}

// reached waits until the witness is reached at url. A bastion passes requests on a little after it uses the
// connection: first it sends a ping, and waits for the answer.
func reached(t *testing.T, client *http.Client, url string) {
	t.Helper()
	for end := time.Now().Add(deadline); ; time.Sleep(10 * time.Millisecond) {
		if status, body := fetch(t, client, "GET", url+"/status.json", ""); status == 200 {
			return
		} else if time.Now().After(end) {
			t.Fatalf("%s is not reached: %d %s", url, status, body)
		}
	}
}

// TestServeThroughABastionAlone has no listener but that of the metrics, and changes its bastion.
func TestServeThroughABastionAlone(t *testing.T) {
	one, ca := newBastion(t)
	address := one.Listener.Addr().String()
	dir := create(t, "--bastion", address)
	edit(t, dir, fmt.Sprintf("- address: %q", address), fmt.Sprintf("- {address: %q, ca: %q}", address, ca))
	metrics := loopback.Address(t)
	edit(t, dir, "# metrics_address: 127.0.0.1:7381", "metrics_address: "+metrics)
	s, url := start(t, serveFlags{dir: dir})
	if !strings.HasPrefix(url, one.URL+"/") || len(url) != len(one.URL)+1+64 {
		t.Fatalf("ready at %s", url)
	}
	reached(t, one.Client(), url)
	wantCosigned(t, one.Client(), url, 0, 5, 2)

	// It says so to everyone who may want to know.
	var status struct {
		Bastions []struct {
			Bastion, URL string
			Up           bool
		}
	}
	_, body := fetch(t, one.Client(), "GET", url+"/status.json", "")
	if err := json.Unmarshal([]byte(body), &status); err != nil || len(status.Bastions) != 1 || status.Bastions[0].URL != url || !status.Bastions[0].Up {
		t.Errorf("status.json (%v):\n%s", err, body)
	}
	if _, body := fetch(t, one.Client(), "GET", url+"/", ""); !strings.Contains(body, url) {
		t.Errorf("the page does not say where it is reached:\n%s", body)
	}
	if status, body := fetch(t, http.DefaultClient, "GET", "http://"+metrics+"/readyz", ""); status != 200 || body != "{\"ready\":true}\n" {
		t.Errorf("readyz: %d %s", status, body)
	}
	if _, body := fetch(t, http.DefaultClient, "GET", "http://"+metrics+"/metrics", ""); !strings.Contains(body, fmt.Sprintf("\ntallywood_witness_bastion_up{bastion=%q} 1\n", address)) ||
		!strings.Contains(body, "\ntallywood_witness_log_size{origin=\"log.example.org\"} 5\n") {
		t.Errorf("metrics:\n%s", body)
	}

	// Another bastion takes its place without a restart.
	two, ca2 := newBastion(t)
	edit(t, dir, fmt.Sprintf("{address: %q, ca: %q}", address, ca), fmt.Sprintf("{address: %q, ca: %q}", two.Listener.Addr(), ca2))
	s.rereadBastions()
	var second string
	for end := time.Now().Add(deadline); second == ""; time.Sleep(10 * time.Millisecond) {
		if all := s.reaches(); len(all) == 1 && all[0].Up && strings.HasPrefix(all[0].URL, two.URL) {
			second = all[0].URL
		} else if time.Now().After(end) {
			t.Fatalf("the other bastion is not connected: %+v", all)
		}
	}
	reached(t, two.Client(), second)
	wantCosigned(t, two.Client(), second, 5, 9, 2)
	if strings.TrimPrefix(second, two.URL) == strings.TrimPrefix(url, one.URL) {
		t.Error("two bastions were given one key")
	}

	// What cannot be used changes nothing.
	for old, text := range map[string]string{fmt.Sprintf("ca: %q", ca2): "ca: none.pem", "bastions:": "bastion:", "name:": "nome:"} {
		before, err := os.ReadFile(filepath.Join(dir, configFile))
		if err != nil {
			t.Fatal(err)
		}
		edit(t, dir, old, text)
		s.rereadBastions()
		if all := s.reaches(); len(all) != 1 || !all[0].Up || all[0].URL != second {
			t.Errorf("%s: %+v", text, all)
		}
		putFile(t, filepath.Join(dir, configFile), string(before))
	}

	// And without its bastion it is not ready.
	two.CloseClientConnections()
	two.Close()
	for end := time.Now().Add(deadline); ; time.Sleep(10 * time.Millisecond) {
		status, body := fetch(t, http.DefaultClient, "GET", "http://"+metrics+"/readyz", "")
		if status == 503 && strings.Contains(body, "no bastion is connected") {
			break
		} else if time.Now().After(end) {
			t.Fatalf("readyz: %d %s", status, body)
		}
	}
}

// TestServeTakesWhatAProxyBrings has a proxy with more clients than one client may have connections.
func TestServeTakesWhatAProxyBrings(t *testing.T) {
	dir := create(t, "--listen", "127.0.0.1:0")
	_, url := start(t, serveFlags{dir: dir})
	for range 1100 {
		conn, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
	}
	wantCosigned(t, http.DefaultClient, url, 0, 5, 2)
}

// TestServeTLS has a certificate in files, of another server.
func TestServeTLS(t *testing.T) {
	dir := create(t, "--listen", "127.0.0.1:0")
	other := httptest.NewTLSServer(http.NotFoundHandler())
	defer other.Close()
	key, err := x509.MarshalPKCS8PrivateKey(other.TLS.Certificates[0].PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	putFile(t, filepath.Join(dir, "cert.pem"), string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: other.Certificate().Raw})))
	putFile(t, filepath.Join(dir, "key.pem"), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})))
	edit(t, dir, "listen: \"", "tls: {certificate: cert.pem, key: key.pem}\nlisten: \"")
	_, url := start(t, serveFlags{dir: dir})
	if !strings.HasPrefix(url, "https://127.0.0.1:") {
		t.Fatalf("ready at %s", url)
	}
	wantCosigned(t, other.Client(), url, 0, 5, 2)
	for path, want := range map[string]string{"/healthz": "ok\n", "/readyz": "{\"ready\":true}\n"} {
		if status, body := fetch(t, other.Client(), "GET", url+path, ""); status != 200 || body != want {
			t.Errorf("%s: %d %q", path, status, body)
		}
	}

	// It is asked over HTTP/2, whose connections are counted as well.
	selftest := exec.Command("tallywood-witness", "selftest", "--dir", dir, "--url", url, "--only", "http/")
	selftest.Env = append(os.Environ(), "SSL_CERT_FILE="+filepath.Join(dir, "cert.pem"))
	if out, err := selftest.CombinedOutput(); err != nil {
		t.Errorf("selftest: %v\n%s", err, out)
	}

	// Its files are written anew, as certificate clients do.
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	const serial = 99
	template := &x509.Certificate{SerialNumber: big.NewInt(serial), DNSNames: []string{"localhost"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	if key, err = x509.MarshalPKCS8PrivateKey(private); err != nil {
		t.Fatal(err)
	}
	putFile(t, filepath.Join(dir, "cert.pem"), string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	putFile(t, filepath.Join(dir, "key.pem"), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})))
	for end := time.Now().Add(deadline); ; time.Sleep(100 * time.Millisecond) {
		conn, err := tls.Dial("tcp", strings.TrimPrefix(url, "https://"), &tls.Config{InsecureSkipVerify: true}) // only its certificate is looked at
		if err != nil {
			t.Fatal(err)
		}
		got := conn.ConnectionState().PeerCertificates[0].SerialNumber.Int64()
		conn.Close()
		if got == serial {
			break
		} else if time.Now().After(end) {
			t.Fatalf("it still serves certificate %d", got)
		}
	}
}

// TestServeWithAnAgent has the Ed25519 key in OpenSSH's agent, which goes away and comes back.
func TestServeWithAnAgent(t *testing.T) {
	socketDir, err := os.MkdirTemp("", "agent") // the path of a socket must be short
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(socketDir)
	socket := filepath.Join(socketDir, "s")
	file := filepath.Join(t.TempDir(), "key")
	if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", file).CombinedOutput(); err != nil {
		t.Fatalf("ssh-keygen, of the Debian package openssh-client: %v\n%s", err, out)
	}
	startAgent := func() (kill func()) {
		_ = os.Remove(socket) // of one that was killed
		agent := exec.Command("ssh-agent", "-D", "-a", socket)
		if err := agent.Start(); err != nil {
			t.Fatal(err)
		}
		kill = func() { _ = agent.Process.Kill(); _ = agent.Wait() }
		t.Cleanup(kill)
		for end := time.Now().Add(deadline); ; time.Sleep(10 * time.Millisecond) {
			add := exec.Command("ssh-add", "-q", file)
			add.Env = append(os.Environ(), "SSH_AUTH_SOCK="+socket)
			if out, err := add.CombinedOutput(); err == nil {
				return kill
			} else if time.Now().After(end) {
				t.Fatalf("ssh-add: %v\n%s", err, out)
			}
		}
	}
	kill := startAgent()
	t.Setenv("SSH_AUTH_SOCK", socket)
	public, err := os.ReadFile(file + ".pub")
	if err != nil {
		t.Fatal(err)
	}
	words := strings.Fields(string(public))
	for name, tc := range map[string]struct {
		args  []string
		lines int
	}{"with ML-DSA": {nil, 2}, "alone": {[]string{"--ed25519-only"}, 1}} {
		dir := create(t, append([]string{"--listen", "127.0.0.1:0", "--agent-key", words[0] + " " + words[1]}, tc.args...)...)
		if _, err := os.Stat(filepath.Join(dir, "seed")); (err == nil) != (tc.lines == 2) {
			t.Errorf("%s: the seed: %v", name, err)
		}
		_, url := start(t, serveFlags{dir: dir})
		wantCosigned(t, http.DefaultClient, url, 0, 5, tc.lines)
		kill()
		status, body := fetch(t, http.DefaultClient, "POST", url+"/add-checkpoint", request(t, 5, 9))
		if status != 503 || !strings.Contains(body, "cannot use its Ed25519 key") {
			t.Errorf("%s: without the agent: %d %s", name, status, body)
		}
		if status, body := fetch(t, http.DefaultClient, "GET", url+"/readyz", ""); status != 503 || !strings.Contains(body, "Ed25519 key") {
			t.Errorf("%s: readyz without the agent: %d %s", name, status, body)
		}
		if status, body := fetch(t, http.DefaultClient, "GET", url+"/status.json", ""); status != 200 || !strings.Contains(body, `"size": 5,`) {
			t.Errorf("%s: status without the agent: %d %s", name, status, body)
		}
		kill = startAgent()
		wantCosigned(t, http.DefaultClient, url, 5, 9, tc.lines)
		if status, _ := fetch(t, http.DefaultClient, "GET", url+"/readyz", ""); status != 200 {
			t.Errorf("%s: readyz: %d after the agent came back", name, status)
		}
	}
	// A witness starts while its agent is away, and notices by itself when it comes.
	dir := create(t, "--listen", "127.0.0.1:0", "--agent-key", words[0]+" "+words[1])
	kill()
	_, url := start(t, serveFlags{dir: dir})
	if status, _ := fetch(t, http.DefaultClient, "POST", url+"/add-checkpoint", request(t, 0, 5)); status != 503 {
		t.Errorf("without the agent: %d", status)
	}
	startAgent()
	for end := time.Now().Add(deadline); ; time.Sleep(100 * time.Millisecond) {
		status, body := fetch(t, http.DefaultClient, "GET", url+"/readyz", "")
		if status == 200 {
			break
		} else if time.Now().After(end) {
			t.Fatalf("readyz: %d %s after the agent came", status, body)
		}
	}
}
