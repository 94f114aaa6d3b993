package yamlerror_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v4"

	"tallywood/internal/yamlerror"
)

type file struct {
	Name  string            `yaml:"name"`
	Count int               `yaml:"count"`
	On    bool              `yaml:"on"`
	List  []string          `yaml:"list"`
	Parts []part            `yaml:"parts"`
	Part  *part             `yaml:"part"`
	Map   map[string]string `yaml:"map"`
	At    time.Time         `yaml:"at"`
	Own   own               `yaml:"own"`
}

type part struct {
	Key string `yaml:"key"`
}

type own string

func (*own) UnmarshalYAML(n *yaml.Node) error { return errors.New("line 1: not what is wanted") }

func TestPlainSaysLineAndWhatIsWanted(t *testing.T) {
	for text, want := range map[string]string{
		"\nnmae: x":               `line 2: unknown key "nmae"`,
		"parts: [{kye: x}]":       `line 1: unknown key "kye"`,
		"name: [x]":               "line 1: a list; want a text",
		"count: many":             `line 1: "many", a text; want a whole number`,
		"on: 3":                   `line 1: "3", a number; want true or false`,
		"list: none":              `line 1: "none", a text; want a list of texts, such as [a, b]`,
		"parts: {key: x}":         "line 1: keys with values; want a list",
		"part: x":                 `line 1: "x", a text; want keys with values, such as {key: value}`,
		"map: [x]":                "line 1: a list; want keys with values, such as {key: value}",
		"at: soon":                `line 1: "soon" is not a time; want one such as 2026-12-01T00:00:00Z`,
		"own: x":                  "line 1: not what is wanted",
		"name: a\nname: b":        `line 2: mapping key "name" already defined at line 1`,
		"name: x\n\tcount: 3":     "line 2: found a tab character that violates indentation; indent with spaces",
		"name: @x":                "line 1: found a character that nothing begins with",
		"name: \"x\xff\"":         "the file is not UTF-8 text",
		"name: 'x":                "line 1: found unexpected end of stream",
		"nmae: x\ncount: many\nx": "line 4: could not find expected ':'",
		"nmae: x\ncount: many":    "line 1: unknown key \"nmae\"\nline 2: \"many\", a text; want a whole number",
	} {
		var f file
		err := yamlerror.Plain(yaml.Load([]byte(text), &f, yaml.WithKnownFields()))
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%q: %v; want an error that begins %q", text, err, want)
			continue
		}
		for _, jargon := range []string{"yaml", "!!", "yamlerror", "construct"} {
			if strings.Contains(err.Error(), jargon) {
				t.Errorf("%q: the error says %q: %v", text, jargon, err)
			}
		}
	}
	if other := errors.New("another"); yamlerror.Plain(other) != other || yamlerror.Plain(nil) != nil {
		t.Error("an error that is not of the library was changed")
	}
}
