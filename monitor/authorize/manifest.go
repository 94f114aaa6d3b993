// Package authorize reads and writes what the owner of an identity meant to sign: a manifest that
// lists digests, runs of a build, commits and tags, signed as a note (c2sp.org/signed-note) or by a
// Sigstore bundle beside it. docs/monitor-authorize.md has the format.
//
// In go files and URLs with manifests and whose signature counts on them; out comes whether one of
// them explains an entry ([Set]). [Append] is the other side: it adds statements to a manifest.
//
// A manifest only grows: one that is older than the newest seen, or has lost a statement that has not
// expired, counts for nothing. So the caller must keep the state that it gives to [New].
package authorize

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Limits of a manifest.
const (
	MaxManifest   = 1 << 20 // bytes, with signatures
	MaxStatements = 4096
	maxValue      = 1024 // bytes
)

const (
	header     = "tallywood authorizations v1"
	timeLayout = "2006-01-02T15:04:05Z"
)

// A Kind says what a statement is about.
type Kind string

// The kinds of statements. A commit explains an entry only together with a tag: whoever can push can
// give a tag to any commit, and a commit may be built for many reasons.
const (
	Digest Kind = "digest" // of what is signed, "sha256:" and hexadecimal digits
	Run    Kind = "run"    // of a build: its run invocation URI
	Commit Kind = "commit" // of the source, hexadecimal
	Tag    Kind = "tag"    // or another ref: refs/tags/v1.0.0
)

// A Statement is something that its owner meant to happen.
type Statement struct {
	Kind    Kind      `json:"kind"`
	Value   string    `json:"value"`
	Added   time.Time `json:"added"`            // whole seconds, UTC
	Expires time.Time `json:"expires,omitzero"` // it explains nothing that was logged later; zero: never
}

// A Manifest is a list of statements. By itself nothing in it is verified; see [Verified].
type Manifest struct {
	Serial     int64 // grows with every change; the first is 1
	Signed     time.Time
	Statements []Statement
}

// Check says what is wrong with a statement.
func (s Statement) Check() error {
	if len(s.Value) > maxValue {
		return fmt.Errorf("%s of %d bytes is longer than %d", s.Kind, len(s.Value), maxValue)
	}
	check, ok := map[Kind]func(string) error{Digest: checkDigest, Run: checkRun, Commit: checkCommit, Tag: checkTag}[s.Kind]
	if !ok {
		return fmt.Errorf("%q is none of digest, run, commit, tag", s.Kind)
	}
	if err := check(s.Value); err != nil {
		return err
	}
	switch {
	case s.Added != whole(s.Added) || s.Expires != whole(s.Expires):
		return fmt.Errorf("%s %s: a time is not in whole seconds of UTC", s.Kind, s.Value)
	case s.Added.IsZero():
		return fmt.Errorf("%s %s: no time at which it was added", s.Kind, s.Value)
	case !s.Expires.IsZero() && s.Expires.Before(s.Added):
		return fmt.Errorf("%s %s: it expires before it was added", s.Kind, s.Value)
	}
	return nil
}

// whole returns t in the precision that manifests have.
func whole(t time.Time) time.Time { return t.UTC().Truncate(time.Second) }

func checkDigest(v string) error {
	name, digits, _ := strings.Cut(v, ":")
	length, ok := map[string]int{"sha256": 64, "sha384": 96, "sha512": 128}[name]
	if !ok || len(digits) != length || !isHex(digits) {
		return fmt.Errorf("digest %q: want sha256: and 64 lower-case hexadecimal digits, sha384: and 96, or sha512: and 128", v)
	}
	return nil
}

func checkRun(v string) error {
	u, err := url.Parse(v)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || !plain(v) {
		return fmt.Errorf("run %q: want the URL of a run, such as https://github.com/owner/repository/actions/runs/1/attempts/1", v)
	}
	return nil
}

func checkCommit(v string) error {
	if len(v) != 40 && len(v) != 64 || !isHex(v) {
		return fmt.Errorf("commit %q: want 40 or 64 lower-case hexadecimal digits", v)
	}
	return nil
}

func checkTag(v string) error {
	rest, ok := strings.CutPrefix(v, "refs/")
	if !ok || rest == "" || !plain(v) {
		return fmt.Errorf("tag %q: want a whole ref such as refs/tags/v1.0.0", v)
	}
	return nil
}

func isHex(v string) bool {
	_, err := hex.DecodeString(v)
	return err == nil && v == strings.ToLower(v)
}

// plain reports whether v has neither spaces nor what a terminal would act on.
func plain(v string) bool {
	return utf8.ValidString(v) && !strings.ContainsFunc(v, func(r rune) bool { return unicode.IsSpace(r) || !unicode.IsPrint(r) })
}

// String returns the line of a manifest, without its LF.
func (s Statement) String() string {
	line := fmt.Sprintf("%s %s added %s", s.Kind, s.Value, s.Added.Format(timeLayout))
	if !s.Expires.IsZero() {
		line += " expires " + s.Expires.Format(timeLayout)
	}
	return line
}

// Text returns the text of a manifest: what is signed.
func (m Manifest) Text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\nserial %d\nsigned %s\n", header, m.Serial, m.Signed.Format(timeLayout))
	for _, s := range m.Statements {
		b.WriteString(s.String() + "\n")
	}
	return b.String()
}

// Parse reads the text of a manifest. There is one way to write each, the one of [Manifest.Text].
func Parse(text string) (Manifest, error) {
	var m Manifest
	lines := strings.Split(text, "\n")
	if len(lines) < 4 || lines[len(lines)-1] != "" {
		return m, errors.New("it is cut short: want a header of three lines, and a line feed at the end of each")
	}
	if lines[0] != header {
		return m, fmt.Errorf("its first line is not %q", header)
	}
	if err := m.head(lines[1], lines[2]); err != nil {
		return m, err
	}
	lines = lines[3 : len(lines)-1]
	if len(lines) > MaxStatements {
		return m, fmt.Errorf("%d statements are more than %d", len(lines), MaxStatements)
	}
	seen := map[string]bool{}
	for i, line := range lines {
		s, err := parseStatement(line)
		if err != nil {
			return m, fmt.Errorf("line %d: %w", i+4, err)
		}
		if key := s.key(); seen[key] {
			return m, fmt.Errorf("line %d: %s is there twice", i+4, key)
		}
		seen[s.key()] = true
		m.Statements = append(m.Statements, s)
	}
	if m.Text() != text {
		return m, errors.New("it is not in the form that its content has")
	}
	return m, nil
}

// key tells statements apart.
func (s Statement) key() string { return string(s.Kind) + " " + s.Value }

func (m *Manifest) head(serial, signed string) error {
	var err error
	if m.Serial, err = strconv.ParseInt(strings.TrimPrefix(serial, "serial "), 10, 64); err != nil || m.Serial < 1 {
		return fmt.Errorf("line 2 is %.80q; want serial and a number from 1 on", serial)
	}
	if m.Signed, err = parseTime(strings.TrimPrefix(signed, "signed ")); err != nil {
		return fmt.Errorf("line 3 is %.80q; want signed and a time such as 2026-12-01T00:00:00Z", signed)
	}
	return nil
}

func parseStatement(line string) (Statement, error) {
	f := strings.Split(line, " ")
	if len(f) != 4 && len(f) != 6 || f[2] != "added" || len(f) == 6 && f[4] != "expires" {
		return Statement{}, fmt.Errorf("%.80q is not KIND VALUE added TIME [expires TIME]", line)
	}
	s := Statement{Kind: Kind(f[0]), Value: f[1]}
	var err error
	if s.Added, err = parseTime(f[3]); err != nil {
		return s, err
	}
	if len(f) == 6 {
		if s.Expires, err = parseTime(f[5]); err != nil {
			return s, err
		}
	}
	return s, s.Check()
}

func parseTime(v string) (time.Time, error) {
	t, err := time.Parse(timeLayout, v)
	if err != nil || t.IsZero() || t.Year() < 1970 {
		return t, fmt.Errorf("%.40q is not a time such as 2026-12-01T00:00:00Z", v)
	}
	return t, nil
}

// in reports whether s counts for what was logged at t.
func (s Statement) in(t time.Time) bool { return s.Expires.IsZero() || !t.After(s.Expires) }

// follows says why m cannot come after old, of which each statement counts until it expires.
func (m Manifest) follows(old Manifest, now time.Time) error {
	switch {
	case m.Serial < old.Serial:
		return fmt.Errorf("it went back: serial %d after %d, signed %s", m.Serial, old.Serial, m.Signed.Format(timeLayout))
	case m.Serial == old.Serial && m.Text() != old.Text():
		return fmt.Errorf("it is another one of serial %d than before", m.Serial)
	}
	keys := map[string]bool{}
	for _, s := range m.Statements {
		keys[s.key()] = true
	}
	i := slices.IndexFunc(old.Statements, func(s Statement) bool { return s.in(now) && !keys[s.key()] })
	if i >= 0 {
		return fmt.Errorf("it lacks what serial %d had and has not expired: %s", old.Serial, old.Statements[i].key())
	}
	return nil
}
