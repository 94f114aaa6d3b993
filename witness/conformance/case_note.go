package conformance

import (
	"encoding/base64"
	"fmt"
	"strings"
)

// noteCases are about the form of the signed note. The log's own signature is good in each.
func noteCases() []testCase {
	return append(append(lineFormCases(), blankLineCases()...), countCases()...)
}

// stranger is a key that no witness knows, which signs by itself.
func stranger(n int) signer {
	return newEd25519Signer(fmt.Sprintf("stranger.invalid/%d", n), [32]byte{2, byte(n >> 8), byte(n)})
}

// strangers returns n lines of keys that nobody knows, with signatures of the given length.
func strangers(n, length int) []string {
	var lines []string
	for i := range n {
		sig := make([]byte, length)
		for j := range sig {
			sig[j] = byte(i + j*j)
		}
		lines = append(lines, signatureLine(stranger(i).name, stranger(i).id(), sig))
	}
	return lines
}

// also returns an edit that appends lines to those the log signs.
func also(lines ...string) func(*testLog, *request) {
	return func(_ *testLog, r *request) { r.lines = append(r.signed(), lines...) }
}

// A malformedLine is a signature line that is none.
type malformedLine struct {
	id, about, line string
	rule            Rule
	level           Level
}

func malformedLines() []malformedLine {
	name, b64 := stranger(0).name, strings.Fields(strangers(1, 64)[0])[2]
	return []malformedLine{
		{"hyphen", "a hyphen instead of the em dash", "- " + name + " " + b64, ruleLineForm, ""},
		{"two-hyphens", "two hyphens instead of the em dash", "-- " + name + " " + b64, ruleLineForm, ""},
		{"en-dash", "an en dash instead of the em dash", "\u2013 " + name + " " + b64, ruleLineForm, ""},
		{"horizontal-bar", "U+2015 instead of the em dash", "\u2015 " + name + " " + b64, ruleLineForm, ""},
		{"no-dash", "no em dash", name + " " + b64, ruleLineForm, ""},
		{"two-dashes", "two em dashes", "\u2014" + emDash + name + " " + b64, ruleLineForm, ""},
		{"leading-space", "a space before the em dash", " " + emDash + name + " " + b64, ruleLineForm, ""},
		{"no-space-after-dash", "no space after the em dash", "\u2014" + name + " " + b64, ruleLineForm, ""},
		{"no-break-space-after-dash", "a no-break space after the em dash", "\u2014\u00a0" + name + " " + b64, ruleLineForm, ""},
		{"only-dash", "an em dash and a space", emDash, ruleLineForm, ""},
		{"no-signature", "no signature", emDash + name, ruleLineForm, ""},
		{"empty-signature", "a space and no signature", emDash + name + " ", ruleLineForm, ""},
		{"two-spaces", "two spaces before the signature", emDash + name + "  " + b64, ruleLineForm, ""},
		{"trailing-space", "a space after the signature", emDash + name + " " + b64 + " ", ruleLineForm, ""},
		{"trailing-word", "a word after the signature", emDash + name + " " + b64 + " x", ruleLineForm, ""},
		{"comment", "a comment", "# comment", ruleLineForm, ""},
		{"text", "any text", "text", ruleLineForm, ""},
		{"tab", "a tab before the signature", emDash + name + "\t" + b64, ruleControl, ""},
		{"cr", "CR LF at its end", emDash + name + " " + b64 + "\r", ruleControl, ""},
		{"nul", "a NUL in the key name", emDash + "a\x00b " + b64, ruleControl, ""},
		{"control", "U+0001 in the key name", emDash + "a\x01b " + b64, ruleControl, ""},
		{"invalid-utf-8", "the byte 0xff in the key name", emDash + "a\xffb " + b64, ruleUTF8, ""},
		{"empty-name", "an empty key name", emDash + " " + b64, ruleKeyName, ""},
		{"name-with-plus", "a plus in the key name", emDash + "a+b " + b64, ruleKeyName, ""},
		{"name-with-no-break-space", "U+00A0 in the key name", emDash + "a\u00a0b " + b64, ruleKeyName, ""},
		{"name-with-next-line", "U+0085 in the key name", emDash + "a\u0085b " + b64, ruleKeyName, ""},
		{"name-with-ogham-space", "U+1680 in the key name", emDash + "a\u1680b " + b64, ruleKeyName, ""},
		{"name-with-em-space", "U+2003 in the key name", emDash + "a\u2003b " + b64, ruleKeyName, ""},
		{"name-with-line-separator", "U+2028 in the key name", emDash + "a\u2028b " + b64, ruleKeyName, ""},
		{"name-with-ideographic-space", "U+3000 in the key name", emDash + "a\u3000b " + b64, ruleKeyName, ""},
		{"not-base64", "a signature that is not base64", emDash + name + " !" + b64[1:], ruleBlob, ""},
		{"url-alphabet", "a signature in the URL alphabet", emDash + name + " -_-_" + b64[4:], ruleBlob, ""},
		{"no-padding", "a signature without padding", emDash + name + " " + strings.TrimRight(b64, "="), ruleBlob, ""},
		{"odd-length", "a signature of 137 characters", emDash + name + " " + strings.Repeat("0a", 68) + "a", ruleBlob, ""},
		{"0-bytes", "a signature of no bytes", emDash + name + " ====", ruleBlob, ""},
		{"3-bytes", "a signature of 3 bytes", emDash + name + " AAAA", ruleBlob, ""},
		{"pad-bits", "a signature whose pad bits are not zero", emDash + name + " " + padBits(b64), rulePadBits, Ours},
		{"only-key-id", "a key ID and nothing else", emDash + name + " " + base64.StdEncoding.EncodeToString([]byte{1, 2, 3, 4}), ruleBlob, ""},
	}
}

// lineFormCases add a line of a key that nobody knows, and that has not the form of one.
func lineFormCases() []testCase {
	var rows []caser
	for _, c := range malformedLines() {
		rows = append(rows,
			refusal{id: "line-" + c.id, about: "a second signature line with " + c.about, level: c.level, rule: c.rule, edit: also(c.line), want: refused(400)})
	}
	name := stranger(0).name
	before := func(line string) func(*testLog, *request) {
		return func(_ *testLog, r *request) { r.lines = append([]string{line}, r.signed()...) }
	}
	return table(append(rows,
		refusal{id: "first-line-text", about: "text before the log's signature line", rule: ruleLineForm, edit: before("text"), want: refused(400)},
		refusal{id: "first-line-not-base64", about: "a line that is not base64 before the log's", rule: ruleBlob, edit: before(emDash + name + " !!!!"), want: refused(400)},
		refusal{id: "own-line-cr", about: "CR LF at the end of the log's signature line", rule: ruleControl, want: refused(400),
			edit: func(_ *testLog, r *request) { r.lines = []string{r.signed()[0] + "\r"} }},
		refusal{id: "own-line-trailing-space", about: "a space after the log's signature", rule: ruleLineForm, want: refused(400),
			edit: func(_ *testLog, r *request) { r.lines = []string{r.signed()[0] + " "} }},
		refusal{id: "own-line-hyphen", about: "a hyphen instead of the em dash of the log's line", rule: ruleLineForm, want: refused(400),
			edit: func(_ *testLog, r *request) { r.lines = []string{strings.Replace(r.signed()[0], "\u2014", "-", 1)} }},
		refusal{id: "own-line-no-padding", about: "the log's signature without padding", rule: ruleBlob, want: refused(400),
			edit: func(_ *testLog, r *request) { r.lines = []string{strings.TrimRight(r.signed()[0], "=")} }},
		refusal{id: "own-line-pad-bits", about: "the log's signature with pad bits that are not zero", level: Ours, rule: rulePadBits, want: refused(400),
			edit: func(_ *testLog, r *request) { r.lines = []string{padBits(r.signed()[0])} }},
	)...)
}

// blankLineCases are about what separates text and signatures, and the end.
func blankLineCases() []testCase {
	return table(
		refusal{id: "no-final-newline", about: "no newline after the last signature line", rule: ruleBlankLine, want: refused(400),
			edit: mangled(func(b string) string { return strings.TrimSuffix(b, "\n") })},
		refusal{id: "two-final-newlines", about: "an empty line after the last signature line", rule: ruleLastEmpty, want: refused(403),
			edit: mangled(func(b string) string { return b + "\n" })},
		refusal{id: "three-final-newlines", about: "two empty lines after the last signature line", rule: ruleLastEmpty, want: refused(403),
			edit: mangled(func(b string) string { return b + "\n\n" })},
		refusal{id: "trailing-text", about: "text after the last signature line", rule: ruleLineForm, want: refused(400),
			edit: mangled(func(b string) string { return b + "text\n" })},
		refusal{id: "trailing-nul", about: "a NUL at the end", rule: ruleControl, want: refused(400),
			edit: mangled(func(b string) string { return b + "\x00" })},
		refusal{id: "second-note", about: "the whole note once more", rule: ruleLastEmpty, want: refused(403),
			edit: mangled(func(b string) string { _, note, _ := strings.Cut(b, "\n\n"); return b + "\n" + note })},
		refusal{id: "no-blank-line", about: "no blank line before the signature lines", rule: ruleBlankLine, want: refused(400),
			edit: func(_ *testLog, r *request) { r.signed(); r.gap2 = "" }},
		refusal{id: "blank-line-space", about: "a space instead of the blank line", rule: ruleBlankLine, want: refused(400),
			edit: func(_ *testLog, r *request) { r.signed(); r.gap2 = " \n" }},
		refusal{id: "blank-line-crlf", about: "CR LF instead of the blank line", rule: ruleControl, want: refused(400),
			edit: func(_ *testLog, r *request) { r.signed(); r.gap2 = "\r\n" }},
		refusal{id: "two-blank-lines", about: "two blank lines before the signature lines, the first of which is text nobody signed", rule: ruleLastEmpty, want: either(403, 400),
			edit: func(_ *testLog, r *request) { r.signed(); r.gap2 = "\n\n" }},
		refusal{id: "blank-line-between", about: "a blank line between two signature lines, so that the first is text nobody signed", rule: ruleLastEmpty, want: either(403, 400),
			edit: func(l *testLog, r *request) {
				r.lines = []string{r.signed()[0], "", strings.TrimSuffix(l.signers[0].line(r.note()), "\n")}
			}},
		refusal{id: "no-signature-lines", about: "a text, a blank line, and nothing", rule: rule403, want: either(403, 400),
			edit: func(_ *testLog, r *request) { r.lines = []string{} }},
		refusal{id: "no-signature-block", about: "a text and nothing", rule: rule403, want: either(403, 400),
			edit: func(_ *testLog, r *request) { r.lines, r.gap2 = []string{}, "" }},
	)
}

// countCases are about how many signatures there may be.
func countCases() []testCase {
	surrounded := func(lines []string, at int) func(*testLog, *request) {
		return func(_ *testLog, r *request) {
			r.lines = append(append(append([]string{}, lines[:at]...), r.signed()...), lines[at:]...)
		}
	}
	return table(
		acceptance{id: "16-signatures", about: "the log's signature line, then 15 of unknown Ed25519 keys", rule: rule16, edit: surrounded(strangers(15, 72), 0)},
		acceptance{id: "16-signatures-own-last", about: "15 signature lines of unknown Ed25519 keys, then the log's", rule: rule16, edit: surrounded(strangers(15, 72), 15)},
		acceptance{id: "16-signatures-mldsa", about: "the log's signature line and 15 of unknown ML-DSA-44 keys, 50 kB", rule: rule16, edit: surrounded(strangers(15, 2428), 7)},
		acceptance{id: "16-signatures-5-kilobytes", about: "the log's signature line and 15 unknown ones of nearly 5 kB each", rule: rule16, edit: surrounded(strangers(15, 4900), 15)},
		acceptance{id: "33-signatures", about: "33 signature lines, as of 16 witnesses with two keys", level: Ours, rule: ruleMany, edit: surrounded(strangers(32, 72), 16)},
		acceptance{id: "33-signatures-half-mldsa", about: "33 signature lines, half of them of ML-DSA-44", level: Ours, rule: ruleMany,
			edit: surrounded(append(strangers(16, 72), strangers(32, 2428)[16:]...), 0)},
		refusal{id: "1000-signatures", about: "1000 signature lines", level: Should, rule: ruleLimit, edit: surrounded(strangers(999, 5), 0), want: refused(400)},
		acceptance{id: "16-signatures-grows", about: "16 signature lines of a larger tree", rule: rule16, kind: Plain, at: 3, to: 6, edit: surrounded(strangers(15, 72), 15)},
	)
}
