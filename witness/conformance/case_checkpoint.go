package conformance

import (
	"context"
	"strings"
)

// checkpointCases are about the text of the checkpoint. The log signs each as it is sent.
func checkpointCases() []testCase {
	return append(append(append(sizeLineCases(), rootLineCases()...), originCases()...), extensionCases()...)
}

func sizeLineCases() []testCase {
	var rows []caser
	for _, c := range []struct{ id, size, about string }{
		{"leading-zero", "08", "a leading zero"},
		{"leading-zeros", "00000000000000000000000008", "many leading zeroes"},
		{"plus", "+8", "a plus sign"},
		{"minus", "-8", "a minus sign"},
		{"hex", "0x8", "hexadecimal"},
		{"octal", "0o10", "octal"},
		{"underscore", "0_8", "an underscore between digits"},
		{"fraction", "8.0", "a decimal fraction"},
		{"exponent", "8e0", "an exponent"},
		{"leading-space", " 8", "a space before the number"},
		{"trailing-space", "8 ", "a space after the number"},
		{"trailing-letter", "8x", "a letter after the number"},
		{"two-numbers", "8 8", "two numbers"},
		{"arabic-digit", "\u0668", "an Arabic-Indic digit"},
		{"fullwidth-digit", "\uff18", "a full-width digit"},
		{"word", "eight", "a number in words"},
		{"2-to-64-and-8", "18446744073709551624", "2^64+8, which is 8 in 64 bits"},
		{"2-to-64", "18446744073709551616", "2^64"},
		{"hundred-digits", strings.Repeat("8", 100), "a hundred digits"},
	} {
		rows = append(rows, refusal{id: "size-" + c.id, about: "size line: " + c.about, rule: ruleTreeSize,
			edit: func(_ *testLog, r *request) { r.size = c.size }, want: refused(400)})
	}
	for _, c := range []struct{ id, size, about string }{
		{"05", "05", "a leading zero"}, {"plus-5", "+5", "a plus sign"}, {"00", "00", "00"}, {"minus-0", "-0", "-0"},
	} {
		rows = append(rows, refusal{id: "first-size-" + c.id, about: "size line of a first checkpoint: " + c.about, rule: ruleTreeSize, at: never, to: 5,
			edit: func(_ *testLog, r *request) { r.size = c.size }, want: refused(400)})
	}
	for _, c := range []struct{ id, size, about string }{
		{"2-to-63", "9223372036854775808", "2^63"}, {"2-to-64-less-1", "18446744073709551615", "2^64-1"},
	} {
		rows = append(rows, refusal{id: "size-" + c.id, about: "size line: " + c.about + ", with a proof that cannot verify", rule: ruleProof,
			edit: func(_ *testLog, r *request) { r.size = c.size }, want: either(400, 422)})
	}
	return table(rows...)
}

// rootLineCases spoil the root hash, of a checkpoint with a proof and of a first one, where nothing
// but the form can be checked.
func rootLineCases() []testCase {
	var rows []caser
	for _, h := range hashLines {
		rule := ruleRoot
		switch {
		case h.rule != nil && h.id == "pad-bits":
			rule = *h.rule
		case strings.Contains(h.id, "cr") || h.id == "nul":
			rule = ruleControl
		}
		edit := func(_ *testLog, r *request) { r.root = h.spoil(r.root) }
		rows = append(rows,
			refusal{id: "root-" + h.id, about: "root hash line: " + h.about, level: h.level, rule: rule, edit: edit, want: refused(400)},
			refusal{id: "first-root-" + h.id, about: "root hash line of a first checkpoint: " + h.about, level: h.level, rule: rule, at: never, edit: edit, want: refused(400)})
	}
	text := func(lines ...string) func(*testLog, *request) {
		return func(l *testLog, r *request) {
			r.text = strings.NewReplacer("ORIGIN", l.Origin, "ROOT", r.root).Replace(strings.Join(lines, "\n")) + "\n"
		}
	}
	return table(append(rows,
		refusal{id: "only-origin", about: "no line but the origin", rule: ruleThreeLines, edit: text("ORIGIN"), want: refused(400)},
		refusal{id: "no-root", about: "no root hash line", rule: ruleThreeLines, edit: text("ORIGIN", "8"), want: refused(400)},
		refusal{id: "no-size", about: "no size line", rule: ruleThreeLines, edit: text("ORIGIN", "ROOT"), want: refused(400)},
		refusal{id: "size-and-root-swapped", about: "the root hash before the size", rule: ruleThreeLines, edit: text("ORIGIN", "ROOT", "8"), want: refused(400)},
		refusal{id: "empty-size", about: "an empty size line", rule: ruleThreeLines, edit: text("ORIGIN", "", "ROOT"), want: refused(400)},
		refusal{id: "empty-root", about: "an empty root hash line", rule: ruleThreeLines, edit: text("ORIGIN", "8", ""), want: refused(400)},
		refusal{id: "one-line", about: "all three in one line", rule: ruleThreeLines, edit: text("ORIGIN 8 ROOT"), want: refused(404)},
	)...)
}

func originCases() []testCase {
	var rows []caser
	for _, c := range []struct {
		id, about string
		edit      func(origin string) string
	}{
		{"trailing-space", "with a space after it", func(s string) string { return s + " " }},
		{"leading-space", "with a space before it", func(s string) string { return " " + s }},
		{"uppercase", "in capitals", strings.ToUpper},
		{"parent", "without its last part", func(s string) string { return s[:strings.LastIndexByte(s, '/')] }},
		{"other-end", "with another last character", func(s string) string { return s[:len(s)-1] + "x" }},
		{"longer", "with one more character", func(s string) string { return s + "x" }},
		{"slash", "with a slash after it", func(s string) string { return s + "/" }},
		{"scheme", "with a scheme before it", func(s string) string { return "https://" + s }},
		{"dot", "with a dot after it", func(s string) string { return s + "." }},
		{"zero-width", "with a zero-width space after it", func(s string) string { return s + "\u200b" }},
		{"percent", "percent-encoded", func(s string) string { return strings.ReplaceAll(s, "/", "%2F") }},
	} {
		rows = append(rows, testCase{id: "origin-" + c.id, about: "an origin that is a known one " + c.about + ", signed by the known log's key", rule: rule404,
			run: func(ctx context.Context, t *trial) error {
				l, err := t.at(ctx, defaultAt)
				if err != nil {
					return err
				}
				r := newRequest(l, defaultAt, defaultTo)
				r.origin = c.edit(l.Origin)
				return t.refuse(ctx, l, r.body(), only(404))
			}})
	}
	return table(append(rows,
		refusal{id: "origin-empty", about: "an empty origin line", rule: ruleOrigin, edit: func(_ *testLog, r *request) { r.origin = "" }, want: refused(400)},
		refusal{id: "origin-space", about: "an origin line of one space", rule: rule404, edit: func(_ *testLog, r *request) { r.origin = " " }, want: refused(404)},
		refusal{id: "origin-long", about: "an origin of 10 kB", rule: rule404, edit: func(_ *testLog, r *request) { r.origin = strings.Repeat("a", 10_000) }, want: refused(404)},
		refusal{id: "origin-strange", about: "an unknown origin with spaces, a plus and quotes", rule: rule404,
			edit: func(_ *testLog, r *request) { r.origin = `a+b "c" <d> – e` }, want: only(404)},
		acceptance{id: "origin-is-not-the-key-name", about: "the first checkpoint of a log whose origin is not its key's name", rule: ruleAnyOrigin, kind: Renamed, at: never, to: 3},
	)...)
}

func extensionCases() []testCase {
	extra := func(lines ...string) func(*testLog, *request) {
		return func(_ *testLog, r *request) { r.extra = lines }
	}
	rows := []caser{
		acceptance{id: "extension-grows", about: "an extension line in a checkpoint of a larger tree", rule: ruleExtensions, kind: Plain, at: 5, to: 9, edit: extra("extension")},
		acceptance{id: "extension-first", about: "an extension line in a first checkpoint", rule: ruleExtensions, kind: Plain, at: never, to: 9, edit: extra("extension")},
	}
	for _, c := range []struct {
		id, about string
		level     Level
		lines     []string
	}{
		{"one", "one extension line", "", []string{"some extension"}},
		{"several", "five extension lines", "", []string{"a", "b", "c", "d", "e"}},
		{"number", "an extension line that looks like a size", "", []string{"00"}},
		{"spaces", "an extension line of spaces", "", []string{"   "}},
		{"like-a-signature", "an extension line in the form of a signature line", "", []string{emDash + "example.com/x AAAAAAAAAAAA"}},
		{"unicode", "an extension line with characters of many scripts", "", []string{"ünï – 漢字 🌲 \ufeff"}},
		{"replacement-character", "an extension line with U+FFFD, which is valid UTF-8", "", []string{"\ufffd"}},
		{"delete-and-c1", "an extension line with U+007F and U+0085, which are not below U+0020", "", []string{"a\u007fb\u0085c"}},
		{"1-kilobyte", "an extension line of 1 kB", "", []string{strings.Repeat("x", 1000)}},
		{"30-kilobytes", "an extension line of 30 kB", Ours, []string{strings.Repeat("x", 30_000)}},
	} {
		rule := ruleExtensions
		if c.level == Ours {
			rule = ruleSilent
		}
		rows = append(rows, acceptance{id: "extension-" + c.id, about: c.about, level: c.level, rule: rule, edit: extra(c.lines...)})
	}
	for _, c := range []struct {
		id, about string
		rule      Rule
		lines     []string
	}{
		{"empty", "an empty extension line", ruleExtensions, []string{""}},
		{"empty-before", "an empty extension line before another one", ruleExtensions, []string{"", "extension"}},
		{"empty-after", "an empty extension line after another one", ruleExtensions, []string{"extension", ""}},
		{"two-empty", "two empty extension lines", ruleExtensions, []string{"", ""}},
		{"tab", "an extension line with a tab", ruleControl, []string{"a\tb"}},
		{"cr", "an extension line that ends in CR", ruleControl, []string{"a\r"}},
		{"nul", "an extension line with a NUL", ruleControl, []string{"a\x00b"}},
		{"escape", "an extension line with U+001B", ruleControl, []string{"a\x1b[0mb"}},
		{"unit-separator", "an extension line with U+001F", ruleControl, []string{"a\x1fb"}},
		{"invalid-utf-8", "an extension line with the byte 0xff", ruleUTF8, []string{"a\xffb"}},
		{"overlong-utf-8", "an extension line with an overlong encoding", ruleUTF8, []string{"a\xc0\xafb"}},
		{"surrogate", "an extension line with an encoded surrogate", ruleUTF8, []string{"a\xed\xa0\x80b"}},
		{"cut-utf-8", "an extension line that ends inside a character", ruleUTF8, []string{"a\xe2\x80"}},
	} {
		rows = append(rows, refusal{id: "extension-" + c.id, about: c.about + ", with the log's signature over it", rule: c.rule, edit: extra(c.lines...), want: refused(400)})
	}
	return table(append(rows, refusal{id: "first-extension-empty", about: "an empty extension line in a first checkpoint", rule: ruleExtensions,
		at: never, edit: extra(""), want: refused(400)})...)
}
