// Package yamlerror says what is wrong with a YAML file to who wrote it: in which line, what stands
// there, and what would be right. The library's own texts name its stages, its tags and our Go types.
package yamlerror

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v4"
)

// Plain returns an error of package yaml in plain words, and any other as it is. Several are joined.
func Plain(err error) error {
	if all, ok := errors.AsType[*yaml.LoadErrors](err); ok {
		out := make([]error, len(all.Errors))
		for i, e := range all.Errors {
			out[i] = plain(e)
		}
		return errors.Join(out...)
	}
	if one, ok := errors.AsType[*yaml.LoadError](err); ok {
		return plain(one)
	}
	return err
}

func plain(e *yaml.LoadError) error {
	text := reword(e.Message)
	if e.Mark.Line == 0 || strings.HasPrefix(text, fmt.Sprintf("line %d: ", e.Mark.Line)) {
		return errors.New(text)
	}
	return fmt.Errorf("line %d: %s", e.Mark.Line, text)
}

var (
	unknown   = regexp.MustCompile(`^field (\S+) not found in type \S+$`)
	wrongKind = regexp.MustCompile("(?s)^cannot construct !!(\\w+)(?: `(.*)`)? into (\\S+)$")
	noTime    = regexp.MustCompile(`^parsing time ("[^"]*") as `)
)

// reword returns one message of the library in plain words.
func reword(text string) string {
	if m := unknown.FindStringSubmatch(text); m != nil {
		return fmt.Sprintf("unknown key %q", m[1])
	}
	if m := wrongKind.FindStringSubmatch(text); m != nil {
		what := kinds[m[1]]
		if what == "" {
			what = m[1]
		}
		if m[2] != "" {
			what = fmt.Sprintf("%q, %s", m[2], what)
		}
		return what + "; want " + wanted(m[3])
	}
	if m := noTime.FindStringSubmatch(text); m != nil {
		return m[1] + " is not a time; want one such as 2026-12-01T00:00:00Z"
	}
	switch {
	case text == "found character that cannot start any token":
		return "found a character that nothing begins with, such as a tab; indent with spaces, and put quotes around @ and `"
	case text == "found a tab character that violates indentation":
		return text + "; indent with spaces"
	case strings.Contains(text, "UTF-8 octet"):
		return "the file is not UTF-8 text: " + text
	}
	return text
}

// kinds are the library's tags, as people call them.
var kinds = map[string]string{"str": "a text", "seq": "a list", "map": "keys with values", "int": "a number", "float": "a number",
	"bool": "true or false", "null": "nothing", "timestamp": "a time", "binary": "binary data"}

// wanted says what a Go type is in a file.
func wanted(goType string) string {
	goType = strings.TrimLeft(goType, "*")
	switch element, list := strings.CutPrefix(goType, "[]"); {
	case list && element == "string":
		return "a list of texts, such as [a, b]"
	case list:
		return "a list"
	case goType == "string":
		return "a text"
	case goType == "bool":
		return "true or false"
	case goType == "time.Time":
		return "a time such as 2026-12-01T00:00:00Z"
	case strings.HasPrefix(goType, "int"), strings.HasPrefix(goType, "uint"):
		return "a whole number"
	case strings.HasPrefix(goType, "float"):
		return "a number"
	}
	return "keys with values, such as {key: value}"
}
