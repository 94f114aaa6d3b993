package stack

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"tallywood/internal/config"
	"tallywood/witness/policy"
)

// maxPeerInfo bounds what a peer publishes, in bytes, and its logs and witnesses.
const (
	maxPeerInfo = 1 << 20
	maxPeerKeys = 100
)

// FetchPeer asks the instance at url for its keys, and returns the peer that a configuration would
// name: all its logs, and its first witness by its first key. Whether they are its operator's is for a
// person to find out.
func FetchPeer(ctx context.Context, url string) (config.Peer, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+peerPath, nil)
	if err != nil {
		return config.Peer{}, fmt.Errorf("asking peer: %w", err)
	}
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(req)
	if err != nil {
		return config.Peer{}, fmt.Errorf("asking peer: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return config.Peer{}, fmt.Errorf("asking peer: %s%s: %s", url, peerPath, resp.Status)
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxPeerInfo+1))
	switch {
	case err != nil:
		return config.Peer{}, fmt.Errorf("asking peer: %w", err)
	case len(data) > maxPeerInfo:
		return config.Peer{}, fmt.Errorf("asking peer: its answer is larger than %d bytes", maxPeerInfo)
	}
	return parsePeer(data, url)
}

// parsePeer parses what an instance at url has published.
func parsePeer(data []byte, url string) (config.Peer, error) {
	var info PeerInfo
	if err := json.NewDecoder(bytes.NewReader(data)).Decode(&info); err != nil {
		return config.Peer{}, fmt.Errorf("what the peer publishes is not JSON of this kind: %w", err)
	}
	if len(info.Logs) > maxPeerKeys || len(info.Witnesses) > maxPeerKeys {
		return config.Peer{}, fmt.Errorf("the peer names more than %d logs or witnesses", maxPeerKeys)
	}
	p := config.Peer{URL: url}
	for _, l := range info.Logs {
		k, err := policy.ParseVKey(l.VKey)
		if err != nil {
			return config.Peer{}, fmt.Errorf("a log of the peer: %w", err)
		}
		if k.Name() != l.Origin {
			return config.Peer{}, fmt.Errorf("a log of the peer has the origin %q and a key of %q", l.Origin, k.Name())
		}
		p.Logs = append(p.Logs, k.String())
	}
	if _, err := p.LogKeys(); err != nil {
		return config.Peer{}, err
	}
	if len(info.Witnesses) > 0 {
		w := info.Witnesses[0]
		if len(w.VKeys) == 0 || !strings.HasPrefix(w.Path, "/") || strings.ContainsAny(w.Path, "?# \t\r\n") {
			return config.Peer{}, errors.New("the peer's witness has no key, or no path")
		}
		p.Witness, p.WitnessURL = w.VKeys[0], url+strings.TrimRight(w.Path, "/")
		k, err := p.WitnessKey()
		if err != nil {
			return config.Peer{}, fmt.Errorf("the peer's witness: %w", err)
		}
		p.Witness = k.String()
	}
	if len(p.Logs) == 0 && p.Witness == "" {
		return config.Peer{}, errors.New("the peer has neither a log nor a witness")
	}
	return p, nil
}

// AddPeer puts a peer into the configuration at path, where all else stays as its owner wrote it, once
// confirm has returned nil. It returns the configuration with the peer.
func AddPeer(path string, p config.Peer, confirm func() error) (*config.Config, error) {
	before, err := config.Load(path)
	if err != nil {
		return nil, err
	}
	for _, o := range before.Peers {
		if o.URL == p.URL {
			return nil, fmt.Errorf("%s names %s already, and its keys stay what they are there", path, p.URL)
		}
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading configuration: %w", err)
	}
	next, err := config.AddPeer(text, p)
	if err != nil {
		return nil, fmt.Errorf("editing %s: %w", path, err)
	}
	after, err := config.Parse(next, before.Dir, os.LookupEnv)
	if err == nil && len(after.Peers) != len(before.Peers)+1 {
		err = config.ErrForm
	}
	if err == nil {
		err = Check(after)
	}
	if err != nil {
		return nil, fmt.Errorf("editing %s: %w", path, err)
	}
	if err := confirm(); err != nil {
		return nil, err
	}
	// Whoever confirms may take his time, and have an editor open.
	if err := replaceUnchanged(path, text, next); err != nil {
		return nil, err
	}
	return after, nil
}
