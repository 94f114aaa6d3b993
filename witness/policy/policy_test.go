package policy_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"tallywood/witness/policy"
)

// vkeyOf returns an Ed25519 cosigner's vkey.
func vkeyOf(t testing.TB, name string) string {
	t.Helper()
	_, vkey := cosigner(t, name, false)
	return vkey
}

func TestParsePolicy(t *testing.T) {
	_, logVKey := logSigner(t, origin)
	_, pqVKey := cosigner(t, "w2.example.org", true)
	text := "# comment\n \t# comment after blanks\n\n" +
		"log " + logVKey + "\thttps://log.example.org/\n" +
		"log " + romeVKey + "\n" +
		"witness w1 " + vkeyOf(t, "w1.example.org") + " https://w1.example.org/prefix\n" +
		"witness w2 " + vkeyOf(t, "w2.example.org") + "\n" +
		"witness w2-pq#1 " + pqVKey + "\n" +
		"group  w2-both  any w2 w2-pq#1\n" +
		"group all-of-them 2 w1 w2-both\n" +
		"quorum all-of-them"
	p := mustPolicy(t, text)
	if logs := p.Logs(); len(logs) != 2 || logs[0].Key.Name() != origin || logs[0].URL != "https://log.example.org/" || logs[1].URL != "" {
		t.Errorf("Logs = %+v", logs)
	}
	ws := p.Witnesses()
	if len(ws) != 3 || ws[0].URL != "https://w1.example.org/prefix" || ws[1].URL != "" || ws[2].Key.Alg() != policy.AlgMLDSA44 {
		t.Errorf("Witnesses = %+v", ws)
	}
	for have, want := range map[string]bool{
		"": false, "w1": false, "w2": false, "w2 w2-pq#1": false, "w1 w2": true, "w1 w2-pq#1": true, "w1 w2 w2-pq#1": true,
		"all-of-them": false, "w2-both w1": false, // a group's name is nobody's cosignature
	} {
		got := p.Satisfied(func(name string) bool { return strings.Contains(" "+have+" ", " "+name+" ") })
		if got != want {
			t.Errorf("Satisfied with %q = %t", have, got)
		}
	}
}

func TestPolicyQuorumNoneIsAnExplicitWord(t *testing.T) {
	if _, err := policy.Parse(nil); err == nil {
		t.Error("an empty policy is taken")
	}
	p := mustPolicy(t, "quorum none\n")
	if !p.None() || !p.Satisfied(func(string) bool { return false }) {
		t.Error("quorum none is not satisfied")
	}
}

// TestParsePolicyReadsALastLineWithoutNewline has it mean the same as with one, right or wrong.
func TestParsePolicyReadsALastLineWithoutNewline(t *testing.T) {
	t.Parallel()
	a := vkeyOf(t, "a")
	for _, text := range []string{"quorum none", "witness a " + a + "\nquorum a", "quorum none\nwitness a " + a + " https://a.example.org/w", "quorum none\n# comment", "quorum none\n\t"} {
		bare, ended := mustPolicy(t, text), mustPolicy(t, text+"\n")
		same := func(a, b policy.Witness) bool { return a.Name == b.Name && a.Key.Equal(b.Key) && a.URL == b.URL }
		if bare.None() != ended.None() || !slices.EqualFunc(bare.Witnesses(), ended.Witnesses(), same) {
			t.Errorf("%q is another policy with a newline at its end: %+v, %+v", text, bare, ended)
		}
	}
	for _, text := range []string{"quorum none\nquorum none", "quorum", "quorum none\ngroup", "quorum none\r", "quorum none\n# \x00"} {
		_, bare := policy.Parse([]byte(text))
		_, ended := policy.Parse([]byte(text + "\n"))
		if bare == nil || ended == nil || bare.Error() != ended.Error() {
			t.Errorf("%q: %v; with a newline at its end %v", text, bare, ended)
		}
	}
}

func TestParsePolicyTakesManyLines(t *testing.T) {
	var b strings.Builder
	for i := range 40 {
		name := fmt.Sprintf("n%d", i)
		_, logVKey := logSigner(t, name+".example.org")
		fmt.Fprintf(&b, "log %s\nwitness %s %s\ngroup g%d 1 %s\n", logVKey, name, vkeyOf(t, name), i, name)
	}
	b.WriteString("quorum g39\n")
	p := mustPolicy(t, b.String())
	if len(p.Logs()) != 40 || len(p.Witnesses()) != 40 {
		t.Errorf("%d logs, %d witnesses", len(p.Logs()), len(p.Witnesses()))
	}
}

func TestParsePolicyRefuses(t *testing.T) {
	_, logVKey := logSigner(t, origin)
	a, b := vkeyOf(t, "a"), vkeyOf(t, "b")
	// The same Ed25519 key under another name: another vkey and key ID, but the same witness.
	renamed := policyVKey("other", policy.AlgCosignatureV1, mustKey(t, a).Public())
	ab := "witness a " + a + "\nwitness b " + b + "\n"
	for name, text := range map[string]string{
		"no quorum":                "log " + logVKey + "\n",
		"two quorums":              "quorum none\nquorum none\n",
		"undefined quorum":         "quorum a\n",
		"quorum before its name":   "quorum a\nwitness a " + a + "\n",
		"quorum of nothing":        "quorum\n",
		"quorum of two":            ab + "quorum a b\n",
		"carriage return":          "quorum none\r\n",
		"NUL":                      "# \x00\nquorum none\n",
		"DEL":                      "# \x7f\nquorum none\n",
		"form feed as space":       "quorum\fnone\n",
		"no-break space":           "quorum\u00a0none\n",
		"unknown keyword":          "logs " + logVKey + "\nquorum none\n",
		"upper case keyword":       "Quorum none\n",
		"comment after a line":     "quorum none # comment\n",
		"log without vkey":         "log\nquorum none\n",
		"log with surplus field":   "log " + logVKey + " https://a https://b\nquorum none\n",
		"log with bad URL":         "log " + logVKey + " log.example.org\nquorum none\n",
		"log with witness key":     "log " + a + "\nquorum none\n",
		"duplicate log":            "log " + logVKey + "\nlog " + logVKey + " https://a.example\nquorum none\n",
		"witness with log key":     "witness a " + logVKey + "\nquorum none\n",
		"witness with 0x05 key":    "witness a " + romeVKey + "\nquorum none\n",
		"witness without vkey":     "witness a\nquorum none\n",
		"witness with ftp URL":     "witness a " + a + " ftp://a.example\nquorum none\n",
		"witness key twice":        "witness a " + a + "\nwitness b " + a + "\nquorum none\n",
		"witness key renamed":      "witness a " + a + "\nwitness b " + renamed + "\nquorum none\n",
		"witness name twice":       "witness a " + a + "\nwitness a " + b + "\nquorum none\n",
		"witness called none":      "witness none " + a + "\nquorum none\n",
		"group called none":        ab + "group none any a b\nquorum none\n",
		"group with witness name":  ab + "group a any b\nquorum none\n",
		"group of none":            ab + "group g any none\nquorum g\n",
		"group without members":    ab + "group g any\nquorum none\n",
		"group of itself":          ab + "group g any g\nquorum g\n",
		"group of undefined":       ab + "group g any a c\nquorum g\n",
		"member twice in a group":  ab + "group g 2 a a\nquorum g\n",
		"member of two groups":     ab + "group g any a\ngroup h any a b\nquorum h\n",
		"threshold 0":              ab + "group g 0 a b\nquorum g\n",
		"threshold above members":  ab + "group g 3 a b\nquorum g\n",
		"threshold with plus":      ab + "group g +1 a b\nquorum g\n",
		"threshold with zero":      ab + "group g 01 a b\nquorum g\n",
		"negative threshold":       ab + "group g -1 a b\nquorum g\n",
		"huge threshold":           ab + "group g 18446744073709551617 a b\nquorum g\n",
		"threshold in another way": ab + "group g most a b\nquorum g\n",
	} {
		p, err := policy.Parse([]byte(text))
		if err == nil {
			t.Errorf("%s: parsed as %+v", name, p)
		}
		if err != nil && name != "no quorum" && !strings.Contains(err.Error(), "policy line ") {
			t.Errorf("%s: error without line number: %v", name, err)
		}
	}
}

func TestParsePolicyNamesTheLine(t *testing.T) {
	_, err := policy.Parse([]byte("# one\n\nquorum none\nbogus\n"))
	if err == nil || !strings.Contains(err.Error(), "line 4") {
		t.Errorf("err = %v, want line 4", err)
	}
	_, logVKey := logSigner(t, origin)
	if _, err = policy.Parse([]byte("witness w " + logVKey + "\n")); err == nil || !strings.Contains(err.Error(), "0x04") {
		t.Errorf("err = %v, want a hint at type 0x04", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("quorum none\n"))
	f.Add([]byte("# c\nwitness a " + vkeyOf(f, "a") + " https://a.example\ngroup g 1 a\nquorum g\n"))
	f.Add([]byte("log " + romeVKey + "\nquorum none"))
	f.Fuzz(func(t *testing.T, text []byte) {
		p, err := policy.Parse(text)
		if err != nil {
			return
		}
		if !p.Satisfied(func(string) bool { return true }) {
			t.Error("all witnesses together do not satisfy the policy")
		}
		if !p.None() && p.Satisfied(func(string) bool { return false }) {
			t.Error("no witness at all satisfies the policy")
		}
		_, _ = p.Open([]byte(romeNote))
	})
}
