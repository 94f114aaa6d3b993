package stack

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"tallywood/witness/policy"
)

// clientPolicies returns the policies that clients need to demand the witnesses that the signature logs
// demand themselves, or without one the logs of kind tlog, by file name.
//
// policy.txt is the policy of the log in charge, with a line for each other log of its kind that has the same witnesses and quorum. One file cannot say that two logs have different ones: its
// quorum goes for all logs in it, so that a weaker one would be enough for the log with the stronger.
// The others have a file of their own each, policy-NAME.txt.
func (s *Stack) clientPolicies() map[string][]byte {
	set := s.current()
	first := set.signatures()
	if first == nil {
		if first = set.anything(); first == nil {
			return nil
		}
	}
	files := map[string][]byte{}
	text := bytes.Clone(first.policyText())
	for _, l := range set.logs {
		switch {
		case l.cfg.Kind != first.cfg.Kind || listed(first.policy(), l.vkey):
		case sameWitnesses(first.policy(), l.policy()):
			text = addLogLine(text, fmt.Sprintf("log %s %s", l.vkey, s.cfg.LogURL(l.want())))
		default:
			files["policy-"+l.cfg.Name+".txt"] = l.policyText()
		}
	}
	files["policy.txt"] = text
	return files
}

// listed reports whether p has a log with that vkey.
func listed(p *policy.Policy, vkey string) bool {
	return slices.ContainsFunc(p.Logs(), func(l policy.LogLine) bool { return l.Key.String() == vkey })
}

// sameWitnesses reports whether two policies have witnesses with the same names and keys, and quorums
// that the same sets of them meet. Of more than maxCompared witnesses it does not try all sets, and
// says no.
func sameWitnesses(a, b *policy.Policy) bool {
	if a.None() || b.None() {
		return a.None() && b.None()
	}
	ws, others := a.Witnesses(), b.Witnesses()
	if len(ws) != len(others) || len(ws) > maxCompared {
		return false
	}
	names := map[string]string{} // in b, of the witnesses of a
	for _, w := range ws {
		i := slices.IndexFunc(others, func(o policy.Witness) bool { return o.Key.Equal(w.Key) })
		if i < 0 {
			return false
		}
		names[others[i].Name] = w.Name
	}
	for subset := range 1 << len(ws) {
		has := map[string]bool{}
		for i, w := range ws {
			has[w.Name] = subset>>i&1 == 1
		}
		if a.Satisfied(func(name string) bool { return has[name] }) != b.Satisfied(func(name string) bool { return has[names[name]] }) {
			return false
		}
	}
	return true
}

// maxCompared is how many witnesses sameWitnesses compares by trying.
const maxCompared = 12

// addLogLine adds a line below the last log line of a policy, or at its beginning.
func addLogLine(text []byte, line string) []byte {
	lines := strings.SplitAfter(string(text), "\n")
	at := 0
	for i, l := range lines {
		if f := strings.Fields(l); len(f) > 0 && f[0] == "log" {
			at = i + 1
		}
	}
	if at > 0 && !strings.HasSuffix(lines[at-1], "\n") {
		lines[at-1] += "\n"
	}
	return []byte(strings.Join(slices.Insert(lines, at, line+"\n"), ""))
}

// ownPolicy reports whether path is a log's own policy: that one is the operator's, not ours to write.
func (s *Stack) ownPolicy(path string) bool {
	there, err := os.Stat(path)
	for _, l := range s.parts() {
		policy := l.rules.Load().path
		if filepath.Clean(policy) == path {
			return true
		}
		if own, oerr := os.Stat(policy); err == nil && oerr == nil && os.SameFile(there, own) {
			return true
		}
	}
	return false
}
