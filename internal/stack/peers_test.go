package stack

import (
	"crypto/ed25519"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tallywood/internal/config"
	"tallywood/internal/keys"
	"tallywood/witness/policy"
)

// peerOf is a peer whose keys follow from its host.
func peerOf(t testing.TB, host string) config.Peer {
	t.Helper()
	var seed [32]byte
	copy(seed[:], host)
	w, err := keys.WitnessFromSeed("w."+host, seed)
	if err != nil {
		t.Fatal(err)
	}
	log := keys.VKey(host, keys.AlgEd25519, w.Ed25519.Public().(ed25519.PublicKey))
	return config.Peer{URL: "https://" + host, Logs: []string{log}, Witness: w.VKeys()[0], WitnessURL: "https://" + host + "/witness/1"}
}

// TestPeersCountBesideTheQuorum tries which witnesses satisfy a policy with those of peers.
func TestPeersCountBesideTheQuorum(t *testing.T) {
	a, b, c := peerOf(t, "a.example.org"), peerOf(t, "b.example.org"), peerOf(t, "c.example.org")
	log := "log " + peerOf(t, "log.example.org").Logs[0] + "\n"
	own := peerOf(t, "own.example.org")
	with := func(peers ...config.Peer) *config.Config {
		return &config.Config{Peers: peers, PeerQuorum: len(peers)/2 + 1}
	}
	optional := c
	optional.Optional = true
	for name, tc := range map[string]struct {
		text    string
		c       *config.Config
		enough  []string // names of witnesses, separated by spaces
		tooFew  []string
		witness int
	}{
		"no quorum, one peer":    {log + "quorum none\n", with(a), []string{"w.a.example.org"}, []string{""}, 1},
		"no quorum, three peers": {log + "quorum none", with(a, b, c), []string{"w.a.example.org w.c.example.org"}, []string{"w.a.example.org"}, 3},
		"a quorum and a peer": {log + "witness own " + own.Witness + " https://own\n# quorum later\nquorum own\n", with(a),
			[]string{"own w.a.example.org"}, []string{"own", "w.a.example.org"}, 2},
		"an optional peer": {log + "quorum none\n", &config.Config{Peers: []config.Peer{a, optional}, PeerQuorum: 1},
			[]string{"w.a.example.org"}, []string{"w.c.example.org"}, 2},
		"optional peers alone": {log + "witness own " + own.Witness + " https://own\nquorum own\n", &config.Config{Peers: []config.Peer{optional}},
			[]string{"own"}, []string{"w.c.example.org"}, 2},
	} {
		text, err := withPeers([]byte(tc.text), tc.c)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		p, err := policy.Parse(text)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if len(p.Witnesses()) != tc.witness || p.None() {
			t.Errorf("%s: %d witnesses in\n%s", name, len(p.Witnesses()), text)
		}
		for want, sets := range map[bool][]string{true: tc.enough, false: tc.tooFew} {
			for _, set := range sets {
				if got := p.Satisfied(func(name string) bool { return strings.Contains(" "+set+" ", " "+name+" ") }); got != want {
					t.Errorf("%s: %q suffices: %t in\n%s", name, set, got, text)
				}
			}
		}
	}
	// Nothing changes without peers, and what is in the policy already is said.
	if text, err := withPeers([]byte(log+"quorum none"), &config.Config{}); err != nil || string(text) != log+"quorum none" {
		t.Errorf("without peers: %v\n%s", err, text)
	}
	if _, err := withPeers([]byte(log+"witness w "+a.Witness+"\nquorum w\n"), with(a)); err == nil || !strings.Contains(err.Error(), "already listed as witness") {
		t.Errorf("a peer that the policy names: %v", err)
	}
	if _, err := withPeers([]byte("junk\n"), with(a)); err == nil || !strings.Contains(err.Error(), "policy line 1") {
		t.Errorf("a policy that does not parse: %v", err)
	}
}

func TestParsePeerTakesWhatIsPublished(t *testing.T) {
	b := peerOf(t, "b.example.org")
	good := `{"logs": [{"origin": "b.example.org", "vkey": "` + b.Logs[0] + `"}], "witnesses": [{"name": "w.b.example.org", "vkeys": ["` + b.Witness + `"], "path": "/witness/1"}]}`
	p, err := parsePeer([]byte(good), b.URL)
	if err != nil || p.Line() != b.Line() {
		t.Errorf("%s, %v", p.Line(), err)
	}
	for name, c := range map[string]struct{ old, new, want string }{
		"no JSON":               {good, "<html>", "not JSON"},
		"another origin":        {`"origin": "b.`, `"origin": "x.`, "has the origin"},
		"a witness as a log":    {b.Logs[0], b.Witness, "is a witness's"},
		"a log as a witness":    {b.Witness, b.Logs[0], "is a log's"},
		"a path to elsewhere":   {`"/witness/1"`, `"https://evil.example.org"`, "no path"},
		"a path that is a line": {`"/witness/1"`, `"/w\nquorum none"`, "no path"},
		"nothing":               {good, "{}", "neither a log nor a witness"},
		"too much":              {good, `{"logs": [` + strings.TrimSuffix(strings.Repeat(`{},`, 101), ",") + `]}`, "more than 100"},
	} {
		text := strings.Replace(strings.ReplaceAll(good, c.old, c.new), `"origin": "w.b.example.org"`, `"origin": "b.example.org"`, 1)
		if name == "a witness as a log" {
			text = strings.Replace(text, `"origin": "b.example.org"`, `"origin": "w.b.example.org"`, 1)
		}
		if _, err := parsePeer([]byte(text), b.URL); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v; want %q", name, err, c.want)
		}
	}
}

// TestAddPeerOverwritesNoEdit has somebody edit the configuration while a peer waits to be confirmed.
func TestAddPeerOverwritesNoEdit(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "config.yaml")
	text := "address: 127.0.0.1:0\nstorage: file:./objects\nwitnesses:\n  - {name: w.own.example.org, seed: file:w.seed}\n"
	if err := errors.Join(keys.WriteSeed(filepath.Join(dir, "w.seed"), [32]byte{1}), os.WriteFile(path, []byte(text), 0o600)); err != nil {
		t.Fatal(err)
	}
	p := peerOf(t, "b.example.org")
	p.Witness, p.WitnessURL = "", ""
	edited := text + "# edited\n"
	_, err := AddPeer(path, p, func() error { return os.WriteFile(path, []byte(edited), 0o600) })
	if err == nil || !strings.Contains(err.Error(), "changed meanwhile") {
		t.Errorf("AddPeer = %v", err)
	}
	if now, err := os.ReadFile(path); err != nil || string(now) != edited {
		t.Errorf("the edit is gone: %v\n%s", err, now)
	}
	if c, err := AddPeer(path, p, func() error { return nil }); err != nil || len(c.Peers) != 1 {
		t.Errorf("once more: %v", err)
	}
}

// FuzzParsePeer looks for answers of a peer that would write something else into a configuration.
func FuzzParsePeer(f *testing.F) {
	b := peerOf(f, "b.example.org")
	f.Add([]byte(`{"logs": [{"origin": "b.example.org", "vkey": "` + b.Logs[0] + `"}], "witnesses": [{"name": "w", "vkeys": ["` + b.Witness + `"], "path": "/witness/1"}]}`))
	f.Add([]byte(`{"witnesses": [{"vkeys": [""], "path": "/"}]}`))
	base := "address: 127.0.0.1:0\nstorage: file:./objects\nwitnesses:\n  - {name: w.own.example.org, seed: file:w.seed}\n"
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := parsePeer(data, b.URL)
		if err != nil {
			return
		}
		text, err := config.AddPeer([]byte(base), p)
		if err != nil {
			t.Fatal(err)
		}
		c, err := config.Parse(text, "/", func(string) (string, bool) { return "", false })
		if err != nil {
			return // such as two logs of one name: it is refused, and not written
		}
		if len(c.Peers) != 1 || c.Peers[0].Line() != p.Line() || len(c.Witnesses) != 1 || len(c.Logs) != 0 {
			t.Errorf("%s became\n%s", p.Line(), text)
		}
	})
}
