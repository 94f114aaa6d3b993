package stack

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"tallywood/internal/config"
	"tallywood/internal/keys"
	"tallywood/witness/policy"
)

// testVKey returns a vkey of the given name and type that is always the same.
func testVKey(name string, alg byte) string {
	key := make([]byte, 32)
	copy(key, name)
	return keys.VKey(name, alg, key)
}

// testPart is a log as clientPolicies sees it, with a policy of its own line and rest.
func testPart(t *testing.T, l config.Log, rest string) *logPart {
	t.Helper()
	vkey := testVKey(l.Origin, keys.AlgEd25519)
	text := "# of " + l.Name + "\nlog " + vkey + "\n" + rest
	p, err := policy.Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	part := &logPart{cfg: l, vkey: vkey, shard: newShardState(l)}
	part.rules.Store(&logRules{policy: p, text: []byte(text)})
	return part
}

func testWitnesses(group, quorum string, names ...string) string {
	var out strings.Builder
	for _, n := range names {
		fmt.Fprintf(&out, "witness %s %s https://%s\n", n, testVKey(strings.TrimPrefix(n, "our-"), keys.AlgCosignatureV1), n)
	}
	fmt.Fprintf(&out, "group g %s %s\nquorum %s\n", group, strings.Join(names, " "), quorum)
	return out.String()
}

// TestClientPolicyHasAllShardsItCanSpeakOf: one policy verifies the logs that want the same of the same
// witnesses; a log that wants less, or other ones, would weaken it, and has a policy of its own.
func TestClientPolicyHasAllShardsItCanSpeakOf(t *testing.T) {
	same := testWitnesses("2", "g", "w1", "w2", "w3")
	frozen := func(name string) config.Log {
		return config.Log{Name: name, Kind: "rekor", Origin: name + ".example.org", State: config.StateFrozen, Successor: "now"}
	}
	old := map[string]string{
		"same":    same,
		"renamed": testWitnesses("2", "g", "our-w3", "our-w1", "our-w2"),
		"weaker":  testWitnesses("1", "g", "w1", "w2", "w3"),
		"other":   testWitnesses("2", "g", "w1", "w2", "w4"),
		"fewer":   testWitnesses("2", "g", "w1", "w2"),
		"none":    "quorum none\n",
	}
	set := &logSet{logs: []*logPart{
		testPart(t, config.Log{Name: "now", Kind: "rekor", Origin: "now.example.org", State: config.StateActive}, same),
		testPart(t, config.Log{Name: "ct", Kind: "ct", Origin: "ct.example.org", State: config.StateActive}, same),
	}}
	for _, name := range []string{"same", "renamed", "weaker", "other", "fewer", "none"} {
		l := testPart(t, frozen(name), old[name])
		l.shard.superseded.Store(true)
		set.logs = append(set.logs, l)
	}
	s := &Stack{cfg: &config.Config{URL: "https://example.org"}}
	s.set.Store(set)
	files := s.clientPolicies()
	var own []string
	for name := range files {
		own = append(own, name)
	}
	slices.Sort(own)
	if want := []string{"policy-fewer.txt", "policy-none.txt", "policy-other.txt", "policy-weaker.txt", "policy.txt"}; !slices.Equal(own, want) {
		t.Errorf("files %v; want %v", own, want)
	}
	p, err := policy.Parse(files["policy.txt"])
	if err != nil {
		t.Fatalf("%v\n%s", err, files["policy.txt"])
	}
	var logs []string
	for _, l := range p.Logs() {
		logs = append(logs, l.Key.Name())
	}
	slices.Sort(logs)
	if want := []string{"now.example.org", "renamed.example.org", "same.example.org"}; !slices.Equal(logs, want) {
		t.Errorf("policy.txt has the logs %v; want %v\n%s", logs, want, files["policy.txt"])
	}
	if text := string(files["policy.txt"]); !strings.HasPrefix(text, "# of now\n") || !strings.Contains(text, " https://example.org/logs/same\n") {
		t.Errorf("policy.txt is\n%s", text)
	}
	if string(files["policy-weaker.txt"]) != string(set.named("weaker").policyText()) {
		t.Errorf("policy-weaker.txt is\n%s", files["policy-weaker.txt"])
	}
}

func TestAddLogLine(t *testing.T) {
	for text, want := range map[string]string{
		"log a\n# c\nlog b u\nquorum none\n": "log a\n# c\nlog b u\nlog n\nquorum none\n",
		"quorum none\nlog a":                 "quorum none\nlog a\nlog n\n",
		"# logs follow\nquorum none\n":       "log n\n# logs follow\nquorum none\n",
	} {
		if got := string(addLogLine([]byte(text), "log n")); got != want {
			t.Errorf("%q becomes %q; want %q", text, got, want)
		}
	}
}

func TestFollowing(t *testing.T) {
	for name, want := range map[string]string{
		"log2026": "log2027", "signatures": "signatures-2", "signatures-2": "signatures-3", "log-09": "log-10",
		"log-99": "log-100", "2026": "2027", "ct999999999": "ct1000000000",
	} {
		if got := following(name); got != want {
			t.Errorf("after %s comes %s; want %s", name, got, want)
		}
	}
}
