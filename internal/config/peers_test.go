package config_test

import (
	"crypto/ed25519"
	"crypto/sha256"
	"strings"
	"testing"

	"tallywood/internal/config"
	"tallywood/internal/keys"
)

// vkeyOf derives a vkey of a type from its name.
func vkeyOf(name string, alg byte) string {
	seed := sha256.Sum256([]byte(name))
	return keys.VKey(name, alg, ed25519.NewKeyFromSeed(seed[:]).Public().(ed25519.PublicKey))
}

const peerBase = "address: 127.0.0.1:0\nstorage: file:./objects\nlogs:\n" +
	"  - {name: a, kind: rekor, origin: a.example.org, key: file:a.pem, policy: policy.txt}\n"

const ownWitness = "witnesses:\n  - {name: w.a.example.org, seed: file:w.seed}\n"

func parsePeers(text string) (*config.Config, error) {
	return config.Parse([]byte(text), "/etc/tallywood", func(string) (string, bool) { return "", false })
}

func testPeer(host string) config.Peer {
	return config.Peer{URL: "https://" + host, Logs: []string{vkeyOf(host, keys.AlgEd25519)}, Witness: vkeyOf("w."+host, keys.AlgCosignatureV1)}
}

func TestPeersTakeOneLineEach(t *testing.T) {
	b, c := testPeer("b.example.org"), testPeer("c.example.org")
	c.WitnessURL, c.Optional = "https://w.c.example.org:8443", true
	conf, err := parsePeers(peerBase + ownWitness + "peers:\n  - " + b.Line() + "\n  - " + c.Line() + "\n")
	if err != nil {
		t.Fatal(err)
	}
	if len(conf.Peers) != 2 || conf.PeerQuorum != 1 || conf.Peers[0].WitnessURL != "https://b.example.org/witness/1" ||
		conf.Peers[1].WitnessURL != c.WitnessURL || !conf.Peers[1].Optional {
		t.Errorf("peers %+v, quorum %d", conf.Peers, conf.PeerQuorum)
	}
	logs, err := conf.Peers[0].LogKeys()
	if err != nil || len(logs) != 1 || logs[0].Name() != "b.example.org" {
		t.Errorf("logs %v, %v", logs, err)
	}
	text, err := config.Format(conf)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := parsePeers(string(text)); err != nil || len(again.Peers) != 2 {
		t.Errorf("printed and read again: %v\n%s", err, text)
	}
}

func TestPeersRefused(t *testing.T) {
	b := testPeer("b.example.org")
	with := func(change func(*config.Peer)) string {
		p := b
		change(&p)
		return peerBase + ownWitness + "peers:\n  - " + p.Line() + "\n"
	}
	for want, text := range map[string]string{
		"no witness of this process":            peerBase + "peers:\n  - " + b.Line() + "\n",
		"neither logs nor a witness":            with(func(p *config.Peer) { p.Logs, p.Witness = nil, "" }),
		"url \"b.example.org\" is not http":     with(func(p *config.Peer) { p.URL = "b.example.org" }),
		"without a slash at the end":            with(func(p *config.Peer) { p.URL += "/" }),
		"has the name of a log of this process": with(func(p *config.Peer) { p.Logs = []string{vkeyOf("a.example.org", keys.AlgEd25519)} }),
		"has the name of a witness of this":     with(func(p *config.Peer) { p.Witness = vkeyOf("w.a.example.org", keys.AlgCosignatureV1) }),
		"is a witness's, not a log's":           with(func(p *config.Peer) { p.Logs = []string{b.Witness} }),
		"is a log's, not a witness's":           with(func(p *config.Peer) { p.Witness = b.Logs[0] }),
		"vkey is not of the form":               with(func(p *config.Peer) { p.Witness = "nonsense" }),
		"witness_url":                           with(func(p *config.Peer) { p.WitnessURL = "ftp://x" }),
		"peer_quorum 2 is not from 1 to 1":      with(func(*config.Peer) {}) + "peer_quorum: 2\n",
		"has the name of one of peer":           with(func(*config.Peer) {}) + "  - " + strings.Replace(b.Line(), "https://b", "https://c", 1) + "\n",
		"unknown key \"vkey\"":                  peerBase + ownWitness + "peers:\n  - {url: https://b.example.org, vkey: x}\n",
	} {
		if _, err := parsePeers(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v; want %q of\n%s", err, want, text)
		}
	}
}

func TestAddPeerKeepsTheFile(t *testing.T) {
	b, c := testPeer("b.example.org"), testPeer("c.example.org")
	first := "# mine\n" + peerBase + ownWitness + "# end"
	one, err := config.AddPeer([]byte(first), b)
	if err != nil {
		t.Fatal(err)
	}
	two, err := config.AddPeer(one, c)
	if err != nil {
		t.Fatal(err)
	}
	want := first + "\npeers:\n  - " + c.Line() + "\n  - " + b.Line() + "\n"
	if string(two) != want {
		t.Errorf("it wrote\n%s\nwant\n%s", two, want)
	}
	if conf, err := parsePeers(string(two)); err != nil || len(conf.Peers) != 2 || conf.PeerQuorum != 2 {
		t.Errorf("parsed: %v", err)
	}
	for _, form := range []string{"peers: []\n", "peers: [" + b.Line() + "]\n", "peers:\n"} {
		if out, err := config.AddPeer([]byte(peerBase+form), c); err == nil {
			t.Errorf("%q was edited:\n%s", form, out)
		}
	}
}
