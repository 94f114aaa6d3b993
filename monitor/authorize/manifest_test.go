package authorize_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"tallywood/monitor/authorize"
)

const example = `tallywood authorizations v1
serial 3
signed 2026-11-28T09:00:00Z
digest sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08 added 2026-11-28T09:00:00Z
run https://github.com/example/tool/actions/runs/7/attempts/1 added 2026-11-27T09:00:00Z expires 2026-12-27T09:00:00Z
commit 2fd4e1c67a2d28fced849ee1bb76e7391b93eb12 added 2026-11-27T09:00:00Z
tag refs/tags/v1.0.0 added 2026-11-27T09:00:00Z
`

func TestManifestIsWrittenAsItWasRead(t *testing.T) {
	m, err := authorize.Parse(example)
	if err != nil {
		t.Fatal(err)
	}
	if m.Text() != example || m.Serial != 3 || len(m.Statements) != 4 {
		t.Errorf("%+v is written as\n%s", m, m.Text())
	}
	if s := m.Statements[1]; s.Kind != authorize.Run || s.Expires.Sub(s.Added) != 30*24*time.Hour {
		t.Errorf("got %+v", s)
	}
}

func TestMalformedManifestsAreRefused(t *testing.T) {
	line := "digest sha256:" + strings.Repeat("0", 64) + " added 2026-11-28T09:00:00Z\n"
	many := ""
	for i := range authorize.MaxStatements + 1 {
		many += fmt.Sprintf("tag refs/tags/v%d added 2026-11-28T09:00:00Z\n", i)
	}
	head := example[:strings.Index(example, "digest")]
	for what, c := range map[string]struct{ text, want string }{
		"nothing":              {"", "cut short"},
		"cut":                  {example[:len(example)-1], "cut short"},
		"another format":       {"log.example.org\n3\nAAAA\n", "first line"},
		"another version":      {strings.Replace(example, "v1", "v2", 1), "first line"},
		"serial 0":             {strings.Replace(example, "serial 3", "serial 0", 1), "line 2"},
		"serial +3":            {strings.Replace(example, "serial 3", "serial +3", 1), "form"},
		"no serial":            {strings.Replace(example, "serial 3\n", "3\n", 1), "form"},
		"time zone":            {strings.Replace(example, "signed 2026-11-28T09:00:00Z", "signed 2026-11-28T09:00:00+01:00", 1), "line 3"},
		"empty line":           {example + "\n", "line 8"},
		"two spaces":           {head + strings.Replace(line, " added", "  added", 1), "line 4"},
		"unknown kind":         {head + "owner me added 2026-11-28T09:00:00Z\n", `"owner" is none of`},
		"no time":              {head + "tag refs/tags/v1\n", "line 4"},
		"something after":      {head + strings.TrimSuffix(line, "\n") + " always\n", "line 4"},
		"expires at no time":   {head + strings.TrimSuffix(line, "\n") + " expires never\n", `"never" is not a time`},
		"expires first":        {head + strings.TrimSuffix(line, "\n") + " expires 2026-11-28T08:00:00Z\n", "before it was added"},
		"twice":                {head + line + line, "twice"},
		"too many":             {head + many, "more than 4096"},
		"short digest":         {head + "digest sha256:00 added 2026-11-28T09:00:00Z\n", "64 lower-case"},
		"digest in capitals":   {head + strings.ReplaceAll(line, "0000", "AAAA"), "line 4"},
		"digest of MD5":        {head + "digest md5:" + strings.Repeat("0", 32) + " added 2026-11-28T09:00:00Z\n", "sha384: and 96"},
		"short commit":         {head + "commit 2fd4e1c added 2026-11-28T09:00:00Z\n", "40 or 64"},
		"tag without refs":     {head + "tag v1 added 2026-11-28T09:00:00Z\n", "refs/tags/v1.0.0"},
		"run that is a number": {head + "run 7 added 2026-11-28T09:00:00Z\n", "the URL of a run"},
		"run of another kind":  {head + "run javascript://x added 2026-11-28T09:00:00Z\n", "the URL of a run"},
		"terminal control":     {head + "tag refs/tags/\x1b[2J added 2026-11-28T09:00:00Z\n", "whole ref"},
		"long value":           {head + "tag refs/" + strings.Repeat("x", 2000) + " added 2026-11-28T09:00:00Z\n", "longer than"},
	} {
		if _, err := authorize.Parse(c.text); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want one with %q", what, err, c.want)
		}
	}
}

// FuzzParse: what is accepted is written again byte for byte, and each line of it is a statement
// that checks.
func FuzzParse(f *testing.F) {
	f.Add(example)
	f.Add(example[:90])
	f.Add(strings.ReplaceAll(example, "sha256", "sha512"))
	f.Add("tallywood authorizations v1\nserial 1\nsigned 2026-11-28T09:00:00Z\n")
	f.Add("tallywood authorizations v1\nserial 01\nsigned 1969-11-28T09:00:00Z\ntag refs/x added 2026-11-28T09:00:00Z expires\n")
	f.Fuzz(func(t *testing.T, text string) {
		m, err := authorize.Parse(text)
		if err != nil {
			return
		}
		if m.Text() != text {
			t.Errorf("%q is written as %q", text, m.Text())
		}
		for _, s := range m.Statements {
			if err := s.Check(); err != nil {
				t.Errorf("%v: %v", s, err)
			}
		}
	})
}
