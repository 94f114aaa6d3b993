package conformance

import (
	"encoding/base64"
	"encoding/hex"
	"strings"
)

// requestCases are about the form of what precedes the checkpoint.
func requestCases() []testCase {
	return append(append(oldLineCases(), framingCases()...), proofLineCases()...)
}

// oldLines are first lines that are no old size line.
var oldLines = []struct {
	id, line, about string
	rule            Rule
}{
	{"old-missing", "", "an empty first line", ruleOldLine},
	{"old-word-only", "old", "only the word", ruleOldLine},
	{"old-no-number", "old ", "no number", ruleOldLine},
	{"old-uppercase", "OLD 5", "the word in capitals", ruleOldLine},
	{"old-capital", "Old 5", "the word with a capital", ruleOldLine},
	{"old-other-word", "size 5", "another word", ruleOldLine},
	{"old-longer-word", "older 5", "a longer word", ruleOldLine},
	{"old-no-space", "old5", "no space", ruleOldLine},
	{"old-two-spaces", "old  5", "two spaces", ruleOldLine},
	{"old-tab", "old\t5", "a tab instead of the space", ruleOldLine},
	{"old-no-break-space", "old\u00a05", "a no-break space instead of the space", ruleOldLine},
	{"old-equals", "old=5", "an equals sign instead of the space", ruleOldLine},
	{"old-leading-space", " old 5", "a space before the word", ruleOldLine},
	{"old-trailing-space", "old 5 ", "a space after the number", ruleOldLine},
	{"old-trailing-tab", "old 5\t", "a tab after the number", ruleOldLine},
	{"old-trailing-text", "old 5 8", "a second number", ruleOldLine},
	{"old-trailing-letter", "old 5x", "a letter after the number", ruleOldLine},
	{"old-cr", "old 5\r", "CR LF at the end of the line", ruleLF},
	{"old-nul", "old 5\x00", "a NUL after the number", ruleOldLine},
	{"old-leading-zero", "old 05", "a leading zero", ruleOldSize},
	{"old-leading-zeros", "old 0000000000000000000000000000005", "thirty leading zeroes", ruleOldSize},
	{"old-plus", "old +5", "a plus sign", ruleOldSize},
	{"old-minus", "old -5", "a minus sign", ruleOldSize},
	{"old-hex", "old 0x5", "hexadecimal", ruleOldSize},
	{"old-octal", "old 0o5", "octal", ruleOldSize},
	{"old-binary", "old 0b101", "binary", ruleOldSize},
	{"old-underscore", "old 0_5", "an underscore between digits", ruleOldSize},
	{"old-fraction", "old 5.0", "a decimal fraction", ruleOldSize},
	{"old-exponent", "old 5e0", "an exponent", ruleOldSize},
	{"old-arabic-digit", "old \u0665", "an Arabic-Indic digit", ruleOldSize},
	{"old-fullwidth-digit", "old \uff15", "a full-width digit", ruleOldSize},
	{"old-quoted", `old "5"`, "a quoted number", ruleOldSize},
	{"old-word-number", "old five", "a number in words", ruleOldSize},
	{"old-base64", "old NQ==", "base64 of the number", ruleOldSize},
	{"old-2-to-64-and-5", "old 18446744073709551621", "2^64+5, which is 5 in 64 bits", ruleOldSize},
	{"old-2-to-32-and-5-octal", "old 040000000005", "2^32+5 in octal", ruleOldSize},
	{"old-hundred-digits", "old " + strings.Repeat("5", 100), "a hundred digits", ruleOldSize},
}

// oldLineCases spoil the old size line of a request that goes from 5 to 8.
func oldLineCases() []testCase {
	var rows []caser
	for _, c := range oldLines {
		rows = append(rows, refusal{id: c.id, about: "old size line: " + c.about, rule: c.rule, edit: first(c.line), want: refused(400)})
	}
	for _, c := range []struct{ id, line, about string }{
		{"old-2-to-63", "old 9223372036854775808", "2^63, more than the checkpoint's size"},
		{"old-2-to-64-less-1", "old 18446744073709551615", "2^64-1, more than the checkpoint's size"},
		{"old-2-to-64", "old 18446744073709551616", "2^64, more than the checkpoint's size"},
	} {
		rows = append(rows, refusal{id: c.id, about: "old size line: " + c.about, rule: rule400, edit: first(c.line), want: only(400)})
	}
	for _, c := range []struct{ id, line, about string }{
		{"old-00", "old 00", "00 on a log never cosigned"},
		{"old-minus-0", "old -0", "-0 on a log never cosigned"},
		{"old-plus-0", "old +0", "+0 on a log never cosigned"},
		{"old-nothing-for-0", "old ", "nothing for 0 on a log never cosigned"},
	} {
		rows = append(rows, refusal{id: c.id, about: "old size line: " + c.about, rule: ruleOldSize, at: never, edit: first(c.line), want: refused(400)})
	}
	rows = append(rows, refusal{id: "old-100-kilobytes", about: "old size line: 100 kB of digits", level: Ours, rule: ruleClientErr,
		edit: first("old 5" + strings.Repeat("5", 100_000)), want: refused(400)})
	return table(rows...)
}

// framingCases are about which lines there are, and how they end.
func framingCases() []testCase {
	var rows []caser
	for _, c := range []struct {
		id, about string
		rule      Rule
		edit      func(*testLog, *request)
	}{
		{"empty-body", "an empty body", ruleSequence, instead("")},
		{"only-newline", "a body of one newline", ruleSequence, instead("\n")},
		{"only-newlines", "a body of three newlines", ruleSequence, instead("\n\n\n")},
		{"no-newline", "a body without any newline", ruleSequence, instead("old 5")},
		{"only-old-line", "nothing but the old size line", ruleSequence, instead("old 5\n")},
		{"json", "a body of JSON", ruleSequence, instead(`{"old": 5, "proof": [], "checkpoint": ""}`)},
		{"binary", "a body of all byte values", ruleSequence, instead(allBytes())},
		{"only-checkpoint", "nothing but the checkpoint", ruleSequence, mangled(func(b string) string { _, note, _ := strings.Cut(b, "\n\n"); return note })},
		{"no-checkpoint", "no checkpoint after the empty line", ruleSequence, mangled(func(b string) string { head, _, _ := strings.Cut(b, "\n\n"); return head + "\n\n" })},
		{"no-old-line", "the body begins with the proof", ruleSequence, mangled(func(b string) string { _, rest, _ := strings.Cut(b, "\n"); return rest })},
		{"two-old-lines", "the old size line twice", ruleSequence, mangled(func(b string) string { return "old 5\n" + b })},
		{"old-line-last", "the old size line after the proof", ruleSequence, func(_ *testLog, r *request) {
			r.proof, r.first = append(r.proof[1:], r.first), r.proof[0]
		}},
		{"no-empty-line", "no empty line before the checkpoint", ruleSequence, func(_ *testLog, r *request) { r.gap = "" }},
		{"two-empty-lines", "two empty lines before the checkpoint", ruleOrigin, func(_ *testLog, r *request) { r.gap = "\n\n" }},
		{"empty-line-crlf", "CR LF instead of the empty line", ruleSequence, func(_ *testLog, r *request) { r.gap = "\r\n" }},
		{"empty-line-space", "a space instead of the empty line", ruleSequence, func(_ *testLog, r *request) { r.gap = " \n" }},
		{"leading-empty-line", "an empty line at the beginning", ruleSequence, mangled(func(b string) string { return "\n" + b })},
		{"leading-space", "a space at the beginning", ruleSequence, mangled(func(b string) string { return " " + b })},
		{"byte-order-mark", "a byte order mark at the beginning", ruleSequence, mangled(func(b string) string { return "\ufeff" + b })},
		{"crlf", "CR LF at the end of all lines", ruleLF, mangled(func(b string) string { return strings.ReplaceAll(b, "\n", "\r\n") })},
		{"crlf-header", "CR LF at the end of all lines before the checkpoint", ruleLF, mangled(func(b string) string {
			head, note, _ := strings.Cut(b, "\n\n")
			return strings.ReplaceAll(head, "\n", "\r\n") + "\r\n\r\n" + note
		})},
		{"cr", "CR instead of LF", ruleLF, mangled(func(b string) string { return strings.ReplaceAll(b, "\n", "\r") })},
		{"line-separator", "U+2028 instead of LF", ruleLF, mangled(func(b string) string { return strings.ReplaceAll(b, "\n", "\u2028") })},
		{"utf-16", "the whole body in UTF-16", ruleSequence, mangled(utf16)},
		{"cut-in-checkpoint", "the body ends inside the checkpoint's text", ruleSequence, mangled(func(b string) string {
			head, note, _ := strings.Cut(b, "\n\n")
			return head + "\n\n" + note[:len(note)/4]
		})},
		{"comment-line", "a comment before the proof", ruleSequence, func(_ *testLog, r *request) {
			r.proof = append([]string{"# proof"}, r.proof...)
		}},
	} {
		rows = append(rows, refusal{id: c.id, about: c.about, rule: c.rule, edit: c.edit, want: refused(400)})
	}
	// What follows the first empty line is the checkpoint, and its first line an unknown origin.
	return table(append(rows,
		refusal{id: "empty-line-early", about: "an empty line before the proof", rule: ruleSequence, want: refused(404),
			edit: func(_ *testLog, r *request) { r.proof = append([]string{""}, r.proof...) }},
		refusal{id: "empty-line-in-proof", about: "an empty line inside the proof", rule: ruleSequence, want: refused(404),
			edit: func(_ *testLog, r *request) { r.proof = append([]string{r.proof[0], ""}, r.proof[1:]...) }},
	)...)
}

func allBytes() string {
	b := make([]byte, 256)
	for i := range b {
		b[i] = byte(i)
	}
	return string(b)
}

func utf16(s string) string {
	var b strings.Builder
	for _, r := range s {
		b.WriteByte(byte(r >> 8))
		b.WriteByte(byte(r))
	}
	return b.String()
}

// hashLines are ways to spoil the base64 of a hash.
var hashLines = []struct {
	id, about string
	level     Level
	rule      *Rule // nil: that the line is the base64 of a hash
	spoil     func(line string) string
}{
	{"empty-base64", "four padding characters", "", nil, func(string) string { return "====" }},
	{"31-bytes", "31 bytes", "", nil, func(s string) string { return rebase(s, func(b []byte) []byte { return b[:31] }) }},
	{"33-bytes", "33 bytes", "", nil, func(s string) string { return rebase(s, func(b []byte) []byte { return append(b, 0) }) }},
	{"64-bytes", "64 bytes", "", nil, func(s string) string { return rebase(s, func(b []byte) []byte { return append(b, b...) }) }},
	{"1-byte", "one byte", "", nil, func(string) string { return "AA==" }},
	{"not-base64", "characters that are not base64", "", nil, func(s string) string { return "!" + s[1:] }},
	{"url-alphabet", "the URL alphabet of base64", "", nil, func(s string) string {
		return strings.NewReplacer("+", "-", "/", "_").Replace("+/+/" + s[4:])
	}},
	{"no-padding", "base64 without padding", "", nil, func(s string) string { return strings.TrimRight(s, "=") }},
	{"more-padding", "a padding character too many", "", nil, func(s string) string { return s + "=" }},
	{"hex", "hexadecimal", "", nil, func(s string) string { b, _ := base64.StdEncoding.DecodeString(s); return hex.EncodeToString(b) }},
	{"leading-space", "a space before the base64", "", nil, func(s string) string { return " " + s }},
	{"trailing-space", "a space after the base64", "", nil, func(s string) string { return s + " " }},
	{"trailing-cr", "CR LF at the end of the line", "", &ruleLF, func(s string) string { return s + "\r" }},
	{"inner-cr", "a CR inside the base64", "", nil, func(s string) string { return s[:20] + "\r" + s[20:] }},
	{"inner-space", "a space inside the base64", "", nil, func(s string) string { return s[:20] + " " + s[20:] }},
	{"nul", "a NUL after the base64", "", nil, func(s string) string { return s + "\x00" }},
	{"pad-bits", "base64 whose pad bits are not zero", Ours, &rulePadBits, padBits},
}

func rebase(s string, f func([]byte) []byte) string {
	b, _ := base64.StdEncoding.DecodeString(s)
	return base64.StdEncoding.EncodeToString(f(b))
}

// padBits sets an unused bit of the last character: a lenient decoder finds the same hash.
func padBits(s string) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	last := strings.TrimRight(s, "=")
	i := strings.IndexByte(alphabet, last[len(last)-1])
	return last[:len(last)-1] + alphabet[i+1:i+2] + s[len(last):]
}

// proofLineCases spoil a line of a proof.
func proofLineCases() []testCase {
	var rows []caser
	for _, h := range hashLines {
		rule := ruleProofLine
		if h.rule != nil {
			rule = *h.rule
		}
		rows = append(rows, refusal{
			id: "proof-line-" + h.id, about: "proof line: " + h.about, level: h.level, rule: rule, want: refused(400),
			edit: func(_ *testLog, r *request) { r.proof[len(r.proof)-1] = h.spoil(r.proof[len(r.proof)-1]) },
		})
	}
	repeated := func(n int) func(*testLog, *request) {
		return func(_ *testLog, r *request) {
			r.proof = strings.Split(strings.Repeat(r.proof[0]+"\n", n-1)+r.proof[0], "\n")
		}
	}
	return table(append(rows,
		refusal{id: "proof-lines-joined", about: "two hashes in one line", rule: ruleProofLine, want: refused(400),
			edit: func(_ *testLog, r *request) { r.proof = []string{strings.Join(r.proof, "")} }},
		refusal{id: "proof-lines-with-space", about: "two hashes in one line, with a space", rule: ruleProofLine, want: refused(400),
			edit: func(_ *testLog, r *request) { r.proof = []string{strings.Join(r.proof, " ")} }},
		refusal{id: "proof-63-lines", about: "63 proof lines, which are allowed but no proof", rule: ruleProof, edit: repeated(63), want: only(422)},
		refusal{id: "proof-64-lines", about: "64 proof lines", rule: rule63, edit: repeated(64), want: refused(400)},
		refusal{id: "proof-1000-lines", about: "1000 proof lines", rule: rule63, edit: repeated(1000), want: refused(400)},
		refusal{id: "proof-64-lines-old-0", about: "64 proof lines with old size 0", rule: rule63, at: never,
			edit: func(_ *testLog, r *request) { r.proof = strings.Split(strings.Repeat(r.root+"\n", 63)+r.root, "\n") }, want: refused(400)},
		refusal{id: "proof-line-100-kilobytes", about: "a proof line of 100 kB", level: Ours, rule: ruleClientErr, want: refused(400),
			edit: func(_ *testLog, r *request) { r.proof[0] += strings.Repeat("A", 100_000) }},
	)...)
}
