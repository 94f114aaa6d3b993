package rule

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"
)

// What is kept of an identity, at most; of each the one not met for longest is forgotten first.
const (
	maxRefs       = 256 // tags and what they stood for: id.ref-drift
	maxVisibility = 256 // repositories: id.visibility-change
	maxSigned     = 256 // entries: entry.duplicate
	maxKept       = 128 // keys that are kept: id.new-key
	maxOnce       = 64  // keys that were used with one certificate: id.new-key
	maxSubjects   = 256 // keys of all identities and whose they were: id.key-reuse
	maxValue      = 64  // bytes kept of a text to compare with
	shownKeys     = 3   // keys named as those that would have been expected
)

// firstUseAfter is the default of id.first-use.
const firstUseAfter = 90 * 24 * time.Hour

// refDrift is id.ref-drift: a tag (1.14) of a repository stands for another commit (1.13) than when
// it was last met. Branches move; that is what they are for.
func refDrift(j *judging) {
	c := j.signer.Certificate
	if c == nil {
		return
	}
	ref, commit := c.Extensions[14], c.Extensions[13]
	if ref == "" {
		ref, commit = c.Extensions[6], c.Extensions[3]
	}
	if !strings.HasPrefix(ref, "refs/tags/") || commit == "" {
		return
	}
	key := keyOf(strings.ToLower(repositoryOf(c)), ref)
	was, known := j.memory.Refs.get(key)
	j.memory.Refs.put(key, cut(commit), maxRefs)
	if known && was != cut(commit) {
		j.add(Reason{Rule: IDRefDrift, Text: fmt.Sprintf("%s was commit %s before, now it is %s", quoted(ref), quoted(was), quoted(commit)),
			Field: "commit", Expected: []string{was}, Seen: Clip(commit)})
	}
}

// visibilityChange is id.visibility-change: a repository (1.12) was public and is private (1.22), or
// the other way round.
func visibilityChange(j *judging) {
	c := j.signer.Certificate
	if c == nil || c.Extensions[22] == "" || repositoryOf(c) == "" {
		return
	}
	key, now := keyOf(strings.ToLower(repositoryOf(c))), c.Extensions[22]
	was, known := j.memory.Visibility.get(key)
	j.memory.Visibility.put(key, cut(now), maxVisibility)
	if known && was != cut(now) {
		j.add(Reason{Rule: IDVisibilityChange, Text: fmt.Sprintf("%s was %s before, now it is %s", quoted(repositoryOf(c)), quoted(was), quoted(now)),
			Field: "visibility", Expected: []string{was}, Seen: Clip(now)})
	}
}

// duplicate is entry.duplicate: the same digest under the same certificate or key, or in a
// certificate log the same certificate again.
func duplicate(j *judging) {
	var by [32]byte
	switch c := j.signer.Certificate; {
	case c != nil && j.entry.Certified:
		by = tbsHash(c)
	case c != nil:
		by = c.Fingerprint()
	default:
		by = j.signer.KeyHash
	}
	key := keyOf(string(j.entry.Digest), string(by[:]))
	_, known := j.memory.Signed.get(key)
	j.memory.Signed.put(key, "", maxSigned)
	if !known {
		return
	}
	what := "the same digest was logged before, signed with the same certificate or key"
	if j.entry.Certified {
		what = "the same certificate was logged before"
	}
	j.add(Reason{Rule: EntryDuplicate, Text: fmt.Sprintf("%s: %s", quoted(j.verdict.Subject), what)})
}

// newKey is id.new-key: a key that the identity has not used before, where it uses keys that are
// kept. A bare key is kept, and so is that of a certificate which is valid for more than a day, and
// one that is met in a second certificate. All others are taken for keys that are used once, as
// keyless signing makes them: that these are new says nothing, and as long as an identity has no
// other, the rule is silent. Nor is the first key that is met a new one.
func newKey(j *judging) {
	m, key := j.memory, j.signer.key()
	short := keyOf(string(key[:]))
	kept, certificate := true, ""
	if c := j.signer.Certificate; c != nil {
		from, until, ok := c.validity()
		kept = !ok || until.Sub(from) > shortLived
		sum := tbsHash(c)
		certificate = string(sum[:8])
	}
	was, once := m.Once.get(short)
	_, known := m.Kept.get(short)
	isNew := !once && !known && len(m.Kept) > 0
	if isNew {
		j.add(Reason{Rule: IDNewKey, Text: fmt.Sprintf("%s was used with key sha256:%x, which is new", quoted(j.verdict.Subject), key),
			Field: "key", Expected: m.keptKeys(), Seen: fmt.Sprintf("sha256:%x", key)})
	}
	// A key that was told of is not told of again, one-time or not.
	if kept || known || isNew || once && was != certificate {
		m.Once.drop(short)
		m.Kept.put(short, string(key[:8]), maxKept)
		return
	}
	m.Once.put(short, certificate, maxOnce)
}

// keptKeys returns what there is of the keys last used, to show.
func (m *memory) keptKeys() []string {
	var out []string
	for _, x := range slices.Backward(m.Kept) {
		if len(out) < shownKeys {
			out = append(out, "sha256:"+hex.EncodeToString([]byte(x.value))+"…")
		}
	}
	return out
}

// keyReuse is id.key-reuse: the key of a certificate that is valid for a day at most, made to be used
// once, in a certificate for another subject. Only entries of watched identities with this rule are
// compared, with each other; the ref at the end of a workflow's name does not make it another one.
func keyReuse(j *judging) {
	c := j.signer.Certificate
	if c == nil || len(c.Names) == 0 {
		return
	}
	from, until, ok := c.validity()
	if !ok || until.Sub(from) > shortLived {
		return
	}
	key, subject := j.signer.key(), subjectOf(c)
	short := keyOf(string(key[:]))
	all := j.book.of(everyone)
	mark := string(binary.BigEndian.AppendUint64(nil, keyOf(subject)))
	was, known := all.Subjects.get(short)
	if known && len(was) > len(mark) && was[:len(mark)] != mark {
		j.add(Reason{Rule: IDKeyReuse, Text: fmt.Sprintf("one-time key sha256:%x of %s was used for %s before", key, quoted(subject), quoted(was[len(mark):])),
			Field: "subject", Expected: []string{Clip(was[len(mark):])}, Seen: Clip(subject)})
	}
	all.Subjects.put(short, mark+cut(subject), maxSubjects)
}

// subjectOf returns whom a certificate is for: its names, and who vouches for them.
func subjectOf(c *Certificate) string {
	names := make([]string, len(c.Names))
	for i, n := range c.Names {
		names[i] = n.Value
		if n.Type == URI {
			if name, ref, ok := cutLast(n.Value, "@"); ok && strings.HasPrefix(ref, "refs/") {
				names[i] = name
			}
		}
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}

// newFirstUse returns id.first-use: an entry after so long without any, or the first one at all if
// the log was read from its beginning.
func newFirstUse(p Params) (func(*judging), error) {
	after := p.After
	if after == 0 {
		after = firstUseAfter
	}
	return func(j *judging) {
		last := j.memory.Last
		silence := j.time.Sub(time.Unix(last, 0))
		switch {
		case last == 0 && j.memory.Whole:
			j.add(Reason{Rule: IDFirstUse, Text: fmt.Sprintf("the first entry of %s in this log", quoted(j.watch.Name))})
		case last > 1 && !j.time.IsZero() && silence >= after:
			j.add(Reason{Rule: IDFirstUse, Text: fmt.Sprintf("the first entry of %s for %d days, the last one was of %s", quoted(j.watch.Name),
				int(silence/(24*time.Hour)), time.Unix(last, 0).UTC().Format(time.DateOnly)),
				Field: "days of silence", Expected: []string{fmt.Sprintf("less than %s", after)}, Seen: fmt.Sprint(int(silence / (24 * time.Hour)))})
		}
	}, nil
}

// key returns the SHA-256 of the key's SubjectPublicKeyInfo.
func (s *Signer) key() [32]byte {
	if s.Certificate != nil {
		return s.Certificate.KeyHash()
	}
	return s.KeyHash
}

// cut returns as much of a text as is kept to compare with.
func cut(text string) string {
	if len(text) <= maxValue {
		return text
	}
	return strings.ToValidUTF8(text[:maxValue], "")
}
