package config

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"
)

// An Edit changes the list of logs in the text of a configuration, a server's or a monitor's. All else
// stays as its owner wrote it: order, comments, variables, line breaks. What it cannot change so is an
// error that wraps ErrForm.
type Edit struct {
	text string
	key  string // by which the logs are told apart: name or origin
}

// ErrForm reports YAML of a form that is not edited here: it means what it should, and is for a person
// to change.
var ErrForm = errors.New("this form of YAML cannot be edited here; change it by hand")

// A Field is a key of a log with its value.
type Field struct{ Key, Value string }

var plain = regexp.MustCompile(`^[A-Za-z0-9./][A-Za-z0-9./:+=@%_-]*$`)

// written is the value as it stands in a file: a value with variables stays a text.
func (f Field) written() string {
	if plain.MatchString(f.Value) && !strings.HasSuffix(f.Value, ":") {
		return f.Value
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(f.Value) + `"`
}

// NewEdit begins an edit of a configuration whose logs are told apart by key.
func NewEdit(text []byte, key string) *Edit { return &Edit{string(text), key} }

// Text returns the text so far.
func (e *Edit) Text() []byte { return []byte(e.text) }

// Set gives a log other values, and new ones for keys that it does not have.
func (e *Edit) Set(log string, fields ...Field) error {
	for _, f := range fields {
		m, err := e.log(log)
		if err != nil {
			return err
		}
		if e.text, err = setField(e.text, m, f); err != nil {
			return fmt.Errorf("setting %s of log %q: %w", f.Key, log, err)
		}
	}
	return nil
}

// Remove takes keys from a log, if it has them.
func (e *Edit) Remove(log string, keys ...string) error {
	for _, key := range keys {
		m, err := e.log(log)
		if err != nil {
			return err
		}
		if e.text, err = removeField(e.text, m, key); err != nil {
			return fmt.Errorf("removing %s of log %q: %w", key, log, err)
		}
	}
	return nil
}

// Copy puts a copy of a log, with other values, below it.
func (e *Edit) Copy(log string, fields ...Field) error {
	m, err := e.log(log)
	if err != nil {
		return err
	}
	start, end, err := itemRange(e.text, m)
	if err != nil {
		return fmt.Errorf("copying log %q: %w", log, err)
	}
	item := e.text[start:end]
	for _, f := range fields {
		root, err := parseText(item)
		if err != nil {
			return err
		}
		if root.Kind != yaml.SequenceNode || len(root.Content) != 1 {
			return fmt.Errorf("copying log %q: %w", log, ErrForm)
		}
		if item, err = setField(item, root.Content[0], f); err != nil {
			return fmt.Errorf("copying log %q: %w", log, err)
		}
	}
	if !strings.HasSuffix(item, "\n") { // the last line of the file
		item = "\n" + item
	}
	e.text = e.text[:end] + item + e.text[end:]
	return nil
}

// SetIn gives a key of a section another value, which both must have.
func (e *Edit) SetIn(section, key, value string) error {
	root, err := parseText(e.text)
	if err != nil {
		return err
	}
	_, m := lookUp(root, section)
	if m == nil || m.Kind != yaml.MappingNode {
		return fmt.Errorf("setting %s.%s: %w", section, key, ErrForm)
	}
	if _, v := lookUp(m, key); v == nil {
		return fmt.Errorf("setting %s.%s: %w", section, key, ErrForm)
	}
	if e.text, err = setField(e.text, m, Field{key, value}); err != nil {
		return fmt.Errorf("setting %s.%s: %w", section, key, err)
	}
	return nil
}

// Value returns the value of a key of a log as it stands in the file, and whether it has the key.
func (e *Edit) Value(log, key string) (string, bool) {
	m, err := e.log(log)
	if err != nil {
		return "", false
	}
	_, v := lookUp(m, key)
	if v == nil {
		return "", false
	}
	return v.Value, true
}

// log returns the mapping of a log.
func (e *Edit) log(name string) (*yaml.Node, error) {
	root, err := parseText(e.text)
	if err != nil {
		return nil, err
	}
	if _, logs := lookUp(root, "logs"); logs != nil && logs.Kind == yaml.SequenceNode {
		for _, m := range logs.Content {
			if _, v := lookUp(m, e.key); v != nil && v.Value == name {
				return m, nil
			}
		}
	}
	return nil, fmt.Errorf("log with %s %q: %w", e.key, name, ErrForm)
}

func parseText(text string) (*yaml.Node, error) {
	var doc yaml.Node
	if err := yaml.Load([]byte(text), &doc); err != nil {
		return nil, fmt.Errorf("parsing YAML: %w", err)
	}
	if doc.Kind != yaml.DocumentNode || len(doc.Content) != 1 {
		return nil, ErrForm
	}
	return doc.Content[0], nil
}

// lookUp returns the key and the value of a mapping's key, nil if it has none.
func lookUp(m *yaml.Node, key string) (k, v *yaml.Node) {
	if m.Kind != yaml.MappingNode {
		return nil, nil
	}
	for i := 0; i+1 < len(m.Content); i += 2 {
		if m.Content[i].Value == key {
			return m.Content[i], m.Content[i+1]
		}
	}
	return nil, nil
}

// setField replaces the value of a key, or puts the key behind the last one.
func setField(text string, m *yaml.Node, f Field) (string, error) {
	if _, v := lookUp(m, f.Key); v != nil {
		start, end, err := span(text, v)
		if err != nil {
			return "", err
		}
		return text[:start] + f.written() + text[end:], nil
	}
	if m.Kind != yaml.MappingNode || len(m.Content) == 0 {
		return "", ErrForm
	}
	_, end, err := span(text, m.Content[len(m.Content)-1])
	if err != nil {
		return "", err
	}
	if m.Style&yaml.FlowStyle != 0 {
		return text[:end] + ", " + f.Key + ": " + f.written() + text[end:], nil
	}
	end = lineEnd(text, end)
	line := strings.Repeat(" ", m.Content[0].Column-1) + f.Key + ": " + f.written() + "\n"
	if end > 0 && text[end-1] != '\n' {
		line = "\n" + line
	}
	return text[:end] + line + text[end:], nil
}

// removeField removes a key that is not the first one of its mapping.
func removeField(text string, m *yaml.Node, key string) (string, error) {
	k, v := lookUp(m, key)
	if k == nil {
		return text, nil
	}
	i := slices.Index(m.Content, k)
	if i < 2 {
		return "", ErrForm
	}
	_, before, err := span(text, m.Content[i-1])
	if err != nil {
		return "", err
	}
	_, end, err := span(text, v)
	if err != nil {
		return "", err
	}
	if m.Style&yaml.FlowStyle != 0 {
		return text[:before] + text[end:], nil
	}
	start, _, err := span(text, k)
	if err != nil {
		return "", err
	}
	start -= k.Column - 1
	return text[:start] + text[lineEnd(text, end):], nil
}

var dash = regexp.MustCompile(`^ *- +$`)

// itemRange returns the lines of a mapping that is an item of a sequence.
func itemRange(text string, m *yaml.Node) (start, end int, err error) {
	if m.Kind != yaml.MappingNode || len(m.Content) == 0 {
		return 0, 0, ErrForm
	}
	at, err := offset(text, m)
	if err != nil {
		return 0, 0, err
	}
	start = strings.LastIndexByte(text[:at], '\n') + 1
	if !dash.MatchString(text[start:at]) {
		return 0, 0, ErrForm
	}
	if _, end, err = span(text, m.Content[len(m.Content)-1]); err != nil {
		return 0, 0, err
	}
	if m.Style&yaml.FlowStyle != 0 {
		closing := strings.TrimLeft(text[end:], " \n,")
		if !strings.HasPrefix(closing, "}") {
			return 0, 0, ErrForm
		}
		end = len(text) - len(closing)
	}
	return start, lineEnd(text, end), nil
}

// lineEnd returns where the line at an offset ends, its line feed included.
func lineEnd(text string, at int) int {
	if i := strings.IndexByte(text[at:], '\n'); i >= 0 {
		return at + i + 1
	}
	return len(text)
}

// offset returns where a node begins.
func offset(text string, n *yaml.Node) (int, error) {
	at := 0
	for line := 1; line < n.Line; line++ {
		i := strings.IndexByte(text[at:], '\n')
		if i < 0 {
			return 0, ErrForm
		}
		at += i + 1
	}
	for column := 1; column < n.Column; column++ {
		if at >= len(text) {
			return 0, ErrForm
		}
		_, size := utf8.DecodeRuneInString(text[at:])
		at += size
	}
	return at, nil
}

// span returns where a scalar of one line begins and ends.
func span(text string, n *yaml.Node) (start, end int, err error) {
	if n.Kind != yaml.ScalarNode || n.Anchor != "" {
		return 0, 0, ErrForm
	}
	if start, err = offset(text, n); err != nil {
		return 0, 0, err
	}
	rest := text[start:]
	switch {
	case n.Style&yaml.DoubleQuotedStyle != 0:
		m := regexp.MustCompile(`^"(?:[^"\\\n]|\\[^\n])*"`).FindString(rest)
		end = start + len(m)
	case n.Style&yaml.SingleQuotedStyle != 0:
		m := regexp.MustCompile(`^'(?:[^'\n]|'')*'`).FindString(rest)
		end = start + len(m)
	case n.Style&(yaml.LiteralStyle|yaml.FoldedStyle|yaml.TaggedStyle) == 0 && strings.HasPrefix(rest, n.Value):
		end = start + len(n.Value)
	}
	if end <= start {
		return 0, 0, ErrForm
	}
	return start, end, nil
}
