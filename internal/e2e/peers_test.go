package e2e_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tallywood/internal/loopback"
	"tallywood/log/verify"
	"tallywood/witness/policy"
)

// A peerServer is a server with a log and a witness, which follows docs/network.md.
type peerServer struct {
	*page
	*process
	host, address string
}

// newPeer works through the page until the server is up, as the operator of host.
func newPeer(t *testing.T, host, other string, addresses map[string]string) *peerServer {
	t.Helper()
	s := &peerServer{page: openPage(t, "docs/network.md"), host: host, address: addresses[host]}
	// The page is a's; for b the names are the other way round.
	s.swap = strings.NewReplacer("https://a.example.org", "http://"+addresses[host], "https://b.example.org", "http://"+addresses[other],
		"a.example.org", host, "b.example.org", other, "127.0.0.1:8092", addresses[host])
	s.shell(t, s.next(t, "sh", "tallywood key generate"))
	s.file(t, "config.yaml", "yaml", "address: ")
	if got, want := s.next(t, "sh", "tallywood serve"), "tallywood serve --config config.yaml\n"; got != want {
		t.Errorf("the page serves with %q", got)
	}
	return s
}

// begin starts the server without waiting until its log takes entries, which may take the other one.
func (s *peerServer) begin(t *testing.T) <-chan error {
	t.Helper()
	ended := make(chan error, 1)
	go func() {
		var err error
		s.process, err = tryStart(0, "tallywood", "serve", "--config", filepath.Join(s.dir, "config.yaml"))
		ended <- err
	}()
	return ended
}

// await waits for servers that have begun.
func await(t *testing.T, begun ...<-chan error) {
	t.Helper()
	for _, b := range begun {
		if err := <-b; err != nil {
			t.Fatal(err)
		}
	}
}

// name has the operator add the peer, and answers the question with y.
func (s *peerServer) name(t *testing.T, other *peerServer) {
	t.Helper()
	commands := s.next(t, "sh", "tallywood peer add")
	if _, code := commandIn(t, s.dir, s.env, strings.Fields(strings.Split(commands, "\n")[0])...); code != 2 {
		t.Errorf("nobody answered, and peer add ended with %d", code)
	}
	out := s.shell(t, "echo y | "+commands)
	line := s.next(t, "", "peers:\n")
	for _, want := range []string{"log      " + other.host + "+", "witness  w." + other.host + "+", "Are these the keys", "config.yaml is a valid configuration",
		fmt.Sprintf("peer http://%s; w.%s cosigns %s; its witness w.%s cosigns every log here, and is one of 1 of which 1 must", other.address, s.host, other.host, other.host)} {
		if !strings.Contains(out, want) {
			t.Errorf("peer add and config check do not say %q:\n%s", want, out)
		}
	}
	if config := readFile(t, s.dir, "config.yaml"); !strings.Contains(config, strings.Split(line, "…")[0]) || strings.Count(config, "\n  - {url: ") != 1 {
		t.Errorf("the page's line is not what is in\n%s", config)
	}
}

// add adds an entry and returns the names of those who have cosigned it by the policy that clients get.
func (s *peerServer) add(t *testing.T, entry string) {
	t.Helper()
	pol, err := policy.Parse([]byte(readFile(t, s.dir, "client/policy.txt")))
	if err != nil {
		t.Fatal(err)
	}
	if pol.None() {
		t.Fatalf("clients of %s demand no witness", s.host)
	}
	eventually(t, "proof of "+s.host, func() bool {
		status, _, body, err := post("http://"+s.address+"/logs/log/add", "", "", entry)
		if err != nil || status != http.StatusCreated {
			return false
		}
		if _, err := verify.Proof([]byte(body), strings.NewReader(entry), pol); err != nil {
			t.Fatalf("%s: %v in\n%s", s.host, err, body)
		}
		return true
	})
}

// TestPeersWitnessEachOther has two servers, in a process each, follow docs/network.md; then one of
// them is killed, and stopped, and started again.
func TestPeersWitnessEachOther(t *testing.T) {
	addresses := map[string]string{"a.example.org": loopback.Address(t), "b.example.org": loopback.Address(t)}
	a := newPeer(t, "a.example.org", "b.example.org", addresses)
	b := newPeer(t, "b.example.org", "a.example.org", addresses)
	await(t, a.begin(t), b.begin(t))
	t.Cleanup(func() { a.process.stop(t); b.process.stop(t) })
	a.name(t, b)
	b.name(t, a)
	a.process.stop(t)
	began := a.begin(t) // its log is not ready before the other side has its line
	b.process.stop(t)
	await(t, began, b.begin(t))

	if out := a.shell(t, a.next(t, "sh", "date > hello.txt")); !strings.Contains(out, "verified: entry 0 of a.example.org") || !strings.Contains(out, "w.b.example.org") {
		t.Errorf("verify printed %q", out)
	}
	a.done(t)
	b.add(t, "first of b")

	// Neither log goes on without the other's witness, and both do when it is back, where it was.
	b.process.kill()
	if status, _, body, err := post("http://"+a.address+"/logs/log/add", "", "", "while b is away"); err != nil || status != http.StatusServiceUnavailable {
		t.Errorf("without the peer: %d %s, %v", status, body, err)
	}
	await(t, b.begin(t))
	a.add(t, "while b is away")
	b.add(t, "second of b")
	a.process.stop(t)
	await(t, a.begin(t))
	b.add(t, "third of b")
	a.add(t, "third of a")
	status := get(t, "http://"+a.address+"/witness/1/status.json", 200)
	if !strings.Contains(status, `"origin": "b.example.org"`) || !strings.Contains(status, `"source": "peer http://`+b.address) {
		t.Errorf("the witness of a says:\n%s", status)
	}
}

// TestPeerSaysWhatIsWrong tries what an operator gets wrong.
func TestPeerSaysWhatIsWrong(t *testing.T) {
	dir := t.TempDir()
	addresses := map[string]string{"a.example.org": loopback.Address(t), "b.example.org": loopback.Address(t)}
	a := newPeer(t, "a.example.org", "b.example.org", addresses)
	await(t, a.begin(t))
	t.Cleanup(func() { a.process.stop(t) })
	url := "http://" + a.address
	if out := must(t, dir, "tallywood", "peer", "show", url+"/"); !strings.Contains(out, "peers:\n  - {url: \""+url) && !strings.Contains(out, "peers:\n  - {url: "+url) {
		t.Errorf("peer show printed:\n%s", out)
	}
	before := readFile(t, a.dir, "config.yaml")
	for want, args := range map[string][]string{
		"has the name of a log of this process": {"peer", "add", url, "--config", filepath.Join(a.dir, "config.yaml"), "--yes"}, // itself
		"needs --config":                        {"peer", "add", url},
		"belong to \"peer add\"":                {"peer", "show", url, "--yes"},
		"want show or add":                      {"peer", "remove", url},
		"no such file":                          {"peer", "add", url, "--config", filepath.Join(dir, "lost.yaml"), "--yes"},
	} {
		if out, code := command(t, dir, append([]string{"tallywood"}, args...)...); code != 2 || !strings.Contains(out, want) {
			t.Errorf("%v: exit code %d; want 2 and %q\n%s", args, code, want, out)
		}
	}
	if out, code := command(t, dir, "tallywood", "peer", "show", "http://"+addresses["b.example.org"]); code != 5 {
		t.Errorf("nobody answers, and the exit code is %d\n%s", code, out)
	}
	if after := readFile(t, a.dir, "config.yaml"); after != before {
		t.Errorf("the configuration became\n%s", after)
	}
	if _, err := os.Stat(filepath.Join(a.dir, "client", "policy-with-peers.txt")); err == nil {
		t.Error("a policy with peers was written without peers")
	}
}
