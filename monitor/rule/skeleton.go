package rule

import (
	"strings"
	"unicode"

	"golang.org/x/net/idna"
	"golang.org/x/text/unicode/norm"
)

// homoglyphs are letters that look like one of ASCII, or like several, in usual fonts; those that
// differ by marks or width alone, such as é and ｅ, are found by decomposing. Of each kind that is
// confused within ASCII, such as 0 and o, one stands for all.
var homoglyphs = func() map[rune]string {
	m := map[rune]string{}
	for ascii, letters := range map[string]string{
		"a": "аαɑ", "b": "ЬВβƅь", "c": "сϲᴄⅽ", "d": "ԁɗⅾ", "e": "еҽєɛε", "f": "ƒſ", "g": "ɡցƍ", "h": "һհнℎ",
		"i": "іıɩιӏ|!", "j": "јʝϳ", "k": "кκᴋ", "l": "1ⅼǀⵏİӀ", "m": "мⅿṃ", "n": "пոηɴ", "o": "0оοօσס०৹ဝ○", "p": "рρϱ",
		"q": "ԛգզ", "r": "гᴦɼ", "s": "ѕꜱƽ5", "t": "тτᴛ", "u": "υսʋᴜ", "v": "ѵνᴠⅴ", "w": "ԝωѡшա", "x": "хχ×ⅹ",
		"y": "уγүʏ", "z": "ᴢʐ2", "-": "‐‑‒–—−_", ".": "․。｡",
	} {
		for _, r := range letters {
			m[unicode.ToLower(r)] = ascii
		}
	}
	m['i'] = "l" // and I, in lower case
	for r, ascii := range m {
		if ascii == "i" {
			m[r] = "l"
		}
	}
	return m
}()

// pairs are letters that together look like one.
var pairs = strings.NewReplacer("rn", "m", "vv", "w", "cl", "d")

// skeleton returns what all names have in common that people take for one another: without case and
// marks, and each character replaced by one that looks like it.
func skeleton(name string) string {
	if !isASCII(name) {
		name = norm.NFKD.String(name)
	}
	var b strings.Builder
	for _, r := range name {
		r = unicode.ToLower(r)
		switch ascii, ok := homoglyphs[r]; {
		case ok:
			b.WriteString(ascii)
		case unicode.In(r, unicode.Mn, unicode.Cf): // marks, and what is not to be seen
		default:
			b.WriteRune(r)
		}
	}
	return pairs.Replace(b.String())
}

func isASCII(v string) bool {
	return strings.IndexFunc(v, func(r rune) bool { return r >= 0x80 }) < 0
}

// decodeIDN returns a domain as people see it.
func decodeIDN(domain string) string {
	if !strings.Contains(domain, "xn--") {
		return domain
	}
	if text, err := idna.Punycode.ToUnicode(domain); err == nil {
		return text
	}
	return domain
}
