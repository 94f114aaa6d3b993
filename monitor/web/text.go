package web

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// maxMarks is how many combining marks may follow each other: more make towers over the lines above.
const maxMarks = 2

// visible returns text with what cannot be seen spelled out as in a Go string: control and format
// characters, and combining marks by the dozen.
func visible(text string) string {
	var b strings.Builder
	marks := 0
	for _, r := range text {
		if unicode.Is(unicode.Mn, r) || unicode.Is(unicode.Me, r) {
			marks++
		} else {
			marks = 0
		}
		if strconv.IsPrint(r) && r != unicode.ReplacementChar && marks <= maxMarks {
			b.WriteRune(r)
			continue
		}
		quoted := strconv.QuoteRuneToASCII(r)
		b.WriteString(quoted[1 : len(quoted)-1])
	}
	return b.String()
}

// foreign says which characters of text look like others may, because they are not ASCII; empty if
// all are.
func foreign(text string) string {
	var list []string
	for _, r := range text {
		name := fmt.Sprintf("U+%04X", r)
		if r > unicode.MaxASCII && !contains(list, name) {
			list = append(list, name)
		}
	}
	const most = 8
	if len(list) > most {
		list = append(list[:most], "…")
	}
	return strings.Join(list, " ")
}

func contains(list []string, s string) bool {
	for _, l := range list {
		if l == s {
			return true
		}
	}
	return false
}

// fileName returns a name for the page of something that is called name: readable where it can be,
// and of no other name.
func fileName(name string) string {
	sum := sha256.Sum256([]byte(name))
	var b strings.Builder
	for _, r := range strings.ToLower(name) {
		switch {
		case r >= 'a' && r <= 'z' || r >= '0' && r <= '9':
			b.WriteRune(r)
		case b.Len() > 0 && !strings.HasSuffix(b.String(), "-"):
			b.WriteByte('-')
		}
		if b.Len() >= 40 {
			break
		}
	}
	return strings.Trim(b.String()+"-"+hex.EncodeToString(sum[:4]), "-") + ".html"
}

// clock writes a time for people.
func clock(t time.Time) string {
	if t.IsZero() {
		return "not known"
	}
	return t.UTC().Format("2 January 2006, 15:04:05 UTC")
}

// stamp writes a time for programs.
func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// ago says how long before now t was.
func ago(now, t time.Time) string {
	d := max(0, now.Sub(t))
	switch {
	case d < 2*time.Minute:
		return fmt.Sprintf("%d s ago", int(d.Seconds()))
	case d < 2*time.Hour:
		return fmt.Sprintf("%d min ago", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h ago", int(d.Hours()))
	}
	return fmt.Sprintf("%d days ago", int(d.Hours()/24))
}

// count writes n of something.
func count(n int64, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return thousands(n) + " " + many
}

// thousands writes n with a thin space before each three digits.
func thousands(n int64) string {
	text := strconv.FormatInt(n, 10)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "\u202f" + text[i:]
	}
	return text
}

// bytesText writes a number of bytes.
func bytesText(n int64) string {
	switch {
	case n < 10_000:
		return count(n, "byte", "bytes")
	case n < 10_000_000:
		return fmt.Sprintf("%s kB", thousands((n+500)/1000))
	}
	return fmt.Sprintf("%s MB", thousands((n+500_000)/1_000_000))
}

// version returns what people call a branch or tag: its last part for a tag, "branch NAME" for one.
func version(ref string) string {
	if tag, ok := strings.CutPrefix(ref, "refs/tags/"); ok {
		return tag
	}
	if branch, ok := strings.CutPrefix(ref, "refs/heads/"); ok {
		return "branch " + branch
	}
	return ref
}
