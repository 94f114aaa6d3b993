package web_test

import (
	"crypto/sha256"
	"strings"
	"testing"
	"unicode/utf8"

	"tallywood/monitor/web"
)

func sha(text string) [32]byte { return sha256.Sum256([]byte(text)) }

func TestVisible(t *testing.T) {
	for text, want := range map[string]string{
		"alice@example.org": "alice@example.org", "пример": "пример", "a\nb": `a\nb`, "a\u202eb": `a\u202eb`, "a\x00b": `a\x00b`, "\u200b": `\u200b`,
		"a\xffb": `a\ufffdb`, "e\u0301": "e\u0301", "e\u0301\u0301\u0301": "e\u0301\u0301\\u0301", "\U000e0001": `\U000e0001`, "": "",
	} {
		if got := web.Visible(text); got != want {
			t.Errorf("%q is shown as %q; want %q", text, got, want)
		}
	}
}

func TestFileNamesDoNotMeet(t *testing.T) {
	seen := map[string]string{}
	for _, name := range []string{"", "a", "A", "a b", "a-b", "../a", "a/../b", "ä", strings.Repeat("x", 500), strings.Repeat("x", 501), "index", ".htaccess", "a\x00"} {
		got := web.FileName(name)
		if was, ok := seen[got]; ok {
			t.Errorf("%q and %q have the page %s", was, name, got)
		}
		seen[got] = name
		if strings.ContainsAny(got, "/\\\x00") || strings.HasPrefix(got, ".") || len(got) > 60 || !strings.HasSuffix(got, ".html") {
			t.Errorf("the page of %q is %q", name, got)
		}
	}
}

func FuzzVisible(f *testing.F) {
	for _, seed := range []string{"", "alice", "<script>\x00\u202e", "e\u0301\u0301\u0301\u0301", "\xff\xfe", "\ud7ff\ue000"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got := web.Visible(text)
		if !utf8.ValidString(got) || strings.ContainsAny(got, "\x00\n\r\u202a\u202e\u2066\u2069\u200b\u200f\ufeff") {
			t.Errorf("%q is shown as %q", text, got)
		}
		if again := web.Visible(got); again != got {
			t.Errorf("%q is shown as %q, and that as %q", text, got, again)
		}
		if name := web.FileName(text); strings.ContainsAny(name, "/\\\x00") {
			t.Errorf("the page of %q is %q", text, name)
		}
	})
}
