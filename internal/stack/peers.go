package stack

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"tallywood/internal/config"
	"tallywood/witness"
	"tallywood/witness/policy"
)

// peerPath is where an instance publishes what peers need to know of it.
const peerPath = "/peer.json"

// PeerInfo is what an instance publishes at /peer.json. It is nobody's word but that of whoever
// answers there: it has to be compared with what the operator says.
type PeerInfo struct {
	Logs      []PeerLog     `json:"logs"`
	Witnesses []PeerWitness `json:"witnesses"`
}

// PeerLog is a log of an instance that takes entries.
type PeerLog struct {
	Origin string `json:"origin"`
	VKey   string `json:"vkey"`
}

// PeerWitness is a witness of an instance.
type PeerWitness struct {
	Name  string   `json:"name"`
	VKeys []string `json:"vkeys"` // that sign now: Ed25519 first, of each type those first that sign longest
	Path  string   `json:"path"`  // of its submission prefix, below the instance's URL
}

// servePeer serves what peers need to know.
func (s *Stack) servePeer(w http.ResponseWriter, _ *http.Request) {
	info := PeerInfo{Logs: []PeerLog{}, Witnesses: []PeerWitness{}}
	for _, l := range s.parts() {
		if l.log.Frozen() == nil {
			info.Logs = append(info.Logs, PeerLog{l.cfg.Origin, l.vkey})
		}
	}
	for _, p := range s.witnesses {
		info.Witnesses = append(info.Witnesses, PeerWitness{p.cfg.Name, p.vkeys(now()), p.path})
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_ = json.NewEncoder(w).Encode(info) // the client may be gone
}

// peerLogs are the logs of peers, as the witnesses of this process know them.
func peerLogs(c *config.Config) ([]witness.Log, error) {
	var out []witness.Log
	for _, p := range c.Peers {
		keys, err := p.LogKeys()
		if err != nil {
			return nil, fmt.Errorf("logs of peer %s: %w", p.URL, err)
		}
		for _, k := range keys {
			out = append(out, witness.Log{Origin: k.Name(), Keys: []policy.Key{k}, QPD: p.QPD, Source: "peer " + p.URL})
		}
	}
	return out, nil
}

// Names of groups in a policy with the witnesses of peers.
const (
	peerGroup = "peers"
	bothGroup = "own-quorum-and-peers"
)

// withPeers returns a log's policy with the witnesses of the peers: so many of them are needed as the
// configuration says, beside the policy's own quorum. Without peers that have witnesses it is text.
func withPeers(text []byte, c *config.Config) ([]byte, error) {
	var lines, members strings.Builder
	for _, p := range c.Peers {
		if p.Witness == "" {
			continue
		}
		key, err := p.WitnessKey()
		if err != nil {
			return nil, fmt.Errorf("witness of peer %s: %w", p.URL, err)
		}
		fmt.Fprintf(&lines, "witness %s %s %s\n", key.Name(), p.Witness, p.WitnessURL)
		if !p.Optional {
			members.WriteString(" " + key.Name())
		}
	}
	if lines.Len() == 0 {
		return text, nil
	}
	if _, err := policy.Parse(text); err != nil { // say what is wrong with it in its own lines
		return nil, err
	}
	rest, quorum := cutQuorum(string(text))
	switch {
	case members.Len() == 0:
		fmt.Fprintf(&lines, "quorum %s\n", quorum)
	case quorum == "none":
		fmt.Fprintf(&lines, "group %s %d%s\nquorum %s\n", peerGroup, c.PeerQuorum, members.String(), peerGroup)
	default:
		fmt.Fprintf(&lines, "group %s %d%s\ngroup %s all %s %s\nquorum %s\n", peerGroup, c.PeerQuorum, members.String(),
			bothGroup, quorum, peerGroup, bothGroup)
	}
	out := []byte(rest + "# The witnesses of peers, by the configuration.\n" + lines.String())
	if _, err := policy.Parse(out); err != nil {
		return nil, fmt.Errorf("with the witnesses of peers, which it need not name: %w in\n%s", err, out)
	}
	return out, nil
}

// cutQuorum takes the quorum line out of a policy that parses.
func cutQuorum(text string) (rest, quorum string) {
	var out strings.Builder
	for line := range strings.Lines(text) {
		if f := strings.FieldsFunc(line, func(r rune) bool { return r == ' ' || r == '\t' || r == '\n' }); len(f) == 2 && f[0] == "quorum" {
			quorum = f[1]
			continue
		}
		out.WriteString(strings.TrimSuffix(line, "\n") + "\n")
	}
	return out.String(), quorum
}

// ExplainPeers says what the peers of a configuration mean, a line each.
func ExplainPeers(c *config.Config) []string {
	var out []string
	var witnesses []string
	for _, w := range c.Witnesses {
		witnesses = append(witnesses, w.Name)
	}
	n := len(c.RequiredPeers())
	for _, p := range c.Peers {
		var takes, gives string
		if logs, err := p.LogKeys(); err == nil && len(logs) > 0 {
			var origins []string
			for _, k := range logs {
				origins = append(origins, k.Name())
			}
			takes = fmt.Sprintf("; %s cosigns %s", strings.Join(witnesses, " and "), strings.Join(origins, ", "))
		}
		if key, err := p.WitnessKey(); err == nil {
			gives = fmt.Sprintf("; its witness %s cosigns every log here, and is one of %d of which %d must", key.Name(), n, c.PeerQuorum)
			if p.Optional {
				gives = fmt.Sprintf("; its witness %s is asked to cosign every log here, and not waited for", key.Name())
			}
		}
		out = append(out, "peer "+p.URL+takes+gives)
	}
	return out
}
