package config

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"tallywood/witness/policy"
)

// A Peer is another instance: the witnesses of this one cosign its logs, and its witness those of this
// one. Its keys stand here, so that nobody who answers at its URL later can be taken for it.
type Peer struct {
	// Base URL of the other instance, without a slash at the end.
	URL string `yaml:"url"`
	// vkeys of its logs, which all witnesses of this process cosign.
	Logs []string `yaml:"logs,omitempty"`
	// vkey of its witness, Ed25519 or ML-DSA-44, that cosigns the logs of this process. Default: none; it
	// takes, and gives nothing.
	Witness string `yaml:"witness,omitempty"`
	// Submission prefix of its witness. Default: url/witness/1.
	WitnessURL string `yaml:"witness_url,omitempty"`
	// Requests per day that each of its logs may make. Default: 0; there is no limit.
	QPD int64 `yaml:"qpd,omitempty"`
	// Its witness is asked, and not waited for: the quorum does without it.
	Optional bool `yaml:"optional,omitempty"`
}

// LogKeys returns the parsed vkeys of the peer's logs.
func (p Peer) LogKeys() ([]policy.Key, error) {
	var out []policy.Key
	for _, vkey := range p.Logs {
		k, err := policy.ParseVKey(vkey)
		if err != nil {
			return nil, err
		}
		if k.Alg() == policy.AlgCosignatureV1 {
			return nil, fmt.Errorf("vkey of %s is a witness's, not a log's", k.Name())
		}
		out = append(out, k)
	}
	return out, nil
}

// WitnessKey returns the parsed vkey of the peer's witness.
func (p Peer) WitnessKey() (policy.Key, error) {
	k, err := policy.ParseVKey(p.Witness)
	if err == nil && k.Alg() != policy.AlgCosignatureV1 && k.Alg() != policy.AlgMLDSA44 {
		return policy.Key{}, fmt.Errorf("vkey of %s is a log's, not a witness's", k.Name())
	}
	return k, err
}

// RequiredPeers returns the peers whose witnesses count for the quorum.
func (c *Config) RequiredPeers() []Peer {
	var out []Peer
	for _, p := range c.Peers {
		if p.Witness != "" && !p.Optional {
			out = append(out, p)
		}
	}
	return out
}

// setPeers fills in the defaults of the peers.
func (c *Config) setPeers() {
	for i := range c.Peers {
		if p := &c.Peers[i]; p.Witness != "" && p.WitnessURL == "" {
			p.WitnessURL = p.URL + "/witness/1"
		}
	}
	if n := len(c.RequiredPeers()); c.PeerQuorum == 0 && n > 0 {
		c.PeerQuorum = n/2 + 1
	}
}

func (c *Config) checkPeers() error {
	var errs []error
	if len(c.Peers) > 0 && len(c.Witnesses) == 0 && slices.ContainsFunc(c.Peers, func(p Peer) bool { return len(p.Logs) > 0 }) {
		errs = append(errs, errors.New("peers: no witness of this process could cosign their logs; want witnesses: with one, such as {name: witness.example.org, seed: file:witness/seed}"))
	}
	if n := len(c.RequiredPeers()); c.PeerQuorum < 0 || c.PeerQuorum > n {
		errs = append(errs, fmt.Errorf("peer_quorum %d is not from 1 to %d, the number of peers with a witness that are not optional", c.PeerQuorum, n))
	}
	seen := map[string]string{}
	for _, l := range c.Logs {
		seen["log "+l.Origin] = "a log of this process"
	}
	for _, w := range c.Witnesses {
		seen["witness "+w.Name] = "a witness of this process"
	}
	for i, p := range c.Peers {
		if err := p.check(seen); err != nil {
			errs = append(errs, within(fmt.Sprintf("peer %d (%s)", i+1, p.URL), err))
		}
	}
	return errors.Join(errs...)
}

// check checks a peer whose names are not in seen, and notes them there.
func (p Peer) check(seen map[string]string) error {
	var errs []error
	take := func(kind, name string) {
		if who, ok := seen[kind+" "+name]; ok {
			errs = append(errs, fmt.Errorf("%s %q has the name of %s", kind, name, who))
		}
		seen[kind+" "+name] = "one of peer " + p.URL
	}
	if !baseURL(p.URL) {
		errs = append(errs, fmt.Errorf("url %q is not http(s)://HOST[:PORT] without a slash at the end", p.URL))
	}
	if len(p.Logs) == 0 && p.Witness == "" {
		errs = append(errs, fmt.Errorf("neither logs nor a witness; \"tallywood peer show %s\" prints the line with both", p.URL))
	}
	logs, err := p.LogKeys()
	if err != nil {
		errs = append(errs, fmt.Errorf("logs: %w", err))
	}
	for _, k := range logs {
		take("log", k.Name())
	}
	if p.Witness != "" {
		k, err := p.WitnessKey()
		if err != nil {
			errs = append(errs, fmt.Errorf("witness: %w", err))
		}
		take("witness", k.Name())
		if u, err := url.Parse(p.WitnessURL); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.RawQuery != "" || u.Fragment != "" {
			errs = append(errs, fmt.Errorf("witness_url %q is not an http(s) URL", p.WitnessURL))
		}
	} else if p.Optional || p.WitnessURL != "" {
		errs = append(errs, errors.New("optional and witness_url are for a witness, and there is none"))
	}
	if p.QPD < 0 || p.QPD > 1<<31-1 {
		errs = append(errs, fmt.Errorf("qpd %d is not from 0 to 2^31-1", p.QPD))
	}
	return errors.Join(errs...)
}

// baseURL reports whether s is an http or https URL of a host, and nothing more.
func baseURL(s string) bool {
	u, err := url.Parse(s)
	return err == nil && u.Hostname() != "" && (u.Scheme == "http" || u.Scheme == "https") && u.Path == "" && u.RawQuery == "" && u.Fragment == "" && u.User == nil
}

// within says of each error that err joins where it was found.
func within(where string, err error) error {
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return fmt.Errorf("%s: %w", where, err)
	}
	var errs []error
	for _, e := range joined.Unwrap() {
		errs = append(errs, fmt.Errorf("%s: %w", where, e))
	}
	return errors.Join(errs...)
}

// Line returns a peer as it stands in a configuration: one item of the list.
func (p Peer) Line() string {
	var b strings.Builder
	field := func(key, value string) {
		if value != "" {
			fmt.Fprintf(&b, ", %s: %s", key, Field{key, value}.written())
		}
	}
	fmt.Fprintf(&b, "{url: %s", Field{"url", p.URL}.written())
	if len(p.Logs) > 0 {
		logs := make([]string, len(p.Logs))
		for i, l := range p.Logs {
			logs[i] = Field{"logs", l}.written()
		}
		b.WriteString(", logs: [" + strings.Join(logs, ", ") + "]")
	}
	field("witness", p.Witness)
	if p.WitnessURL != p.URL+"/witness/1" {
		field("witness_url", p.WitnessURL)
	}
	if p.Optional {
		field("optional", "true")
	}
	return b.String() + "}"
}

// AddPeer returns the text of a configuration with one more peer; all else stays as its owner wrote it.
func AddPeer(text []byte, p Peer) ([]byte, error) {
	if strings.Contains(p.Line(), "${") { // which Parse would replace from our environment
		return nil, errors.New("a key or path of the peer has a variable in it")
	}
	root, err := parseText(string(text))
	if err != nil {
		return nil, err
	}
	out, line := string(text), "- "+p.Line()+"\n"
	switch k, peers := lookUp(root, "peers"); {
	case peers == nil:
		if out != "" && !strings.HasSuffix(out, "\n") {
			out += "\n"
		}
		out += "peers:\n  " + line
	case peers.Kind == 0 || len(peers.Content) == 0 || peers.Line == k.Line:
		return nil, fmt.Errorf("adding to peers: %w", ErrForm)
	default: // a list, an item a line
		at, err := offset(out, peers)
		if err != nil {
			return nil, err
		}
		at = strings.LastIndexByte(out[:at], '\n') + 1
		out = out[:at] + strings.Repeat(" ", peers.Column-1) + line + out[at:]
	}
	return []byte(out), nil
}
