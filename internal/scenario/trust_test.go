package scenario_test

import (
	"crypto"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/theupdateframework/go-tuf/v2/metadata"

	catrust "tallywood/ca/trust"
	"tallywood/internal/mint"
	"tallywood/monitor/rule"
	"tallywood/witness/policy"
)

// trusted are the rules about trust material, all of them.
const trusted = nobody + "rules: {tuf.root-changed: {}, tuf.log-added: {}, tuf.log-removed: {}, tuf.expiring: {window: 24h}}\n"

var trustScenarios = []scenario{
	{rule: rule.TUFRootChanged, settings: trusted, beside: []rule.ID{rule.TUFLogRemoved},
		trigger: func(s *stage) { s.trusts([]int{0, 1}, []int{0}) },
		near:    func(s *stage) { s.trusts([]int{0, 1}, []int{0, 1}) }},
	{rule: rule.TUFLogAdded, settings: trusted, beside: []rule.ID{rule.TUFRootChanged},
		trigger: func(s *stage) { s.trusts([]int{0}, []int{0, 1}) },
		near:    func(s *stage) { s.trusts([]int{0}, []int{0}) }},
	{rule: rule.TUFLogRemoved, settings: trusted, beside: []rule.ID{rule.TUFRootChanged},
		trigger: func(s *stage) { s.trusts([]int{0, 1}, []int{1}) },
		near:    func(s *stage) { s.trusts([]int{1}, []int{1}) }},
	{rule: rule.TUFExpiring, settings: trusted,
		trigger: func(s *stage) { s.expires(20 * time.Hour) },
		near:    func(s *stage) { s.expires(28 * time.Hour) }},
}

// trusts has the trusted root, a file, name some logs, and later others.
func (s *stage) trusts(first, then []int) {
	s.t.Helper()
	s.moreLogs = s.shards("trusted_root: trusted_root.json")
	for _, numbers := range [][]int{first, then} {
		s.write("trusted_root.json", s.trustedRoot(numbers))
		s.look()
		time.Sleep(time.Minute)
		s.publishShards()
	}
}

// shards makes two logs that a trusted root may name, and returns the line of the configuration.
func (s *stage) shards(from string) string {
	s.t.Helper()
	urls := ""
	for n := range 2 {
		l := must(s.world.Log(shardName(n), mint.Rekor, below{&s.extra.files, fmt.Sprint(n)}))(s.t)
		s.listed = append(s.listed, l)
		urls += fmt.Sprintf("%s: %q, ", l.Origin, fmt.Sprint(s.extra.url, "/", n))
	}
	s.write("shards.policy", []byte(s.listed[0].Policy()))
	s.publishShards()
	return fmt.Sprintf("  - {%s, urls: {%s}, policy: shards.policy, freshness: {warn: 100h, critical: 100h}}\n", from, urls[:len(urls)-2])
}

func (s *stage) publishShards() {
	s.t.Helper()
	for _, l := range s.listed {
		if err := l.Publish(time.Now()); err != nil {
			s.t.Fatal(err)
		}
	}
}

// trustedRoot names some of the shards.
func (s *stage) trustedRoot(numbers []int) []byte {
	s.t.Helper()
	var root catrust.Root
	for _, n := range numbers {
		key := must(policy.ParseVKey(s.listed[n].VKey))(s.t)
		root.Logs = append(root.Logs, catrust.Log{Origin: shardName(n), Public: ed25519.PublicKey(key.Public()), Start: begin.Add(-time.Hour)})
	}
	return must(root.TrustedRoot())(s.t)
}

// expires has a TUF repository whose timestamp expires after so long.
func (s *stage) expires(after time.Duration) {
	s.t.Helper()
	line := s.shards(fmt.Sprintf("tuf: {url: %q, root: root.json}", s.extra.url+"/tuf"))
	root := s.repository(s.trustedRoot([]int{0}), time.Now().Add(after))
	s.write("root.json", root)
	s.moreLogs = line
	s.look()
}

// repository publishes a TUF repository with a trusted root, and returns its first root. All roles have
// one key.
func (s *stage) repository(trustedRoot []byte, expires time.Time) []byte {
	s.t.Helper()
	seed := sha256.Sum256([]byte("tuf"))
	private := ed25519.NewKeyFromSeed(seed[:])
	signer := must(signature.LoadSigner(private, crypto.Hash(0)))(s.t)
	key := must(metadata.KeyFromPublicKey(private.Public()))(s.t)
	late := time.Now().Add(1000 * time.Hour).UTC().Truncate(time.Second)
	root, targets, snapshot := metadata.Root(late), metadata.Targets(late), metadata.Snapshot(late)
	timestamp := metadata.Timestamp(expires.UTC().Truncate(time.Second))
	for _, role := range []string{metadata.ROOT, metadata.TARGETS, metadata.SNAPSHOT, metadata.TIMESTAMP} {
		if err := root.Signed.AddKey(key, role); err != nil {
			s.t.Fatal(err)
		}
	}
	target := must(metadata.TargetFile().FromBytes("trusted_root.json", trustedRoot, "sha256"))(s.t)
	targets.Signed.Targets["trusted_root.json"] = target
	snapshot.Signed.Meta["targets.json"] = metadata.MetaFile(1)
	timestamp.Signed.Meta["snapshot.json"] = metadata.MetaFile(1)
	put := func(name string, data []byte) []byte {
		if err := s.extra.files.Put("tuf/"+name, data); err != nil {
			s.t.Fatal(err)
		}
		return data
	}
	put("targets/"+hex.EncodeToString(target.Hashes["sha256"])+".trusted_root.json", trustedRoot)
	put("1.targets.json", signedRole(s, targets, signer))
	put("1.snapshot.json", signedRole(s, snapshot, signer))
	put("timestamp.json", signedRole(s, timestamp, signer))
	return put("1.root.json", signedRole(s, root, signer))
}

func signedRole[T metadata.Roles](s *stage, m *metadata.Metadata[T], signer signature.Signer) []byte {
	s.t.Helper()
	if _, err := m.Sign(signer); err != nil {
		s.t.Fatal(err)
	}
	return must(m.ToBytes(true))(s.t)
}
