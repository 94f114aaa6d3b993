// Package config reads the YAML files of Tallywood: the server's (Config) and the monitor's
// (Monitor).
//
// Decoding is strict. An unknown or repeated key, a second document, a value of the wrong type,
// an unset variable or a missing file is an error that names the place and what would be right;
// nothing falls back to a default because it could not be read. ${NAME} inside a value is
// replaced from the environment, and the result read as a value of its own, a text if there are
// quotes around it; there is no other environment magic. Relative paths are relative to the file.
package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"

	"tallywood/internal/yamlerror"
)

// maxFile bounds a configuration file, in bytes.
const maxFile = 1 << 20

var variable = regexp.MustCompile(`\$\{([A-Za-z_][A-Za-z0-9_]*)\}`)

// decode parses data strictly into out, which is a pointer to a struct, with variables replaced
// by what getenv gives for their names. What the checks refuse is an error too.
func decode(data []byte, getenv func(string) (string, bool), out any, checks ...func(*yaml.Node) error) error {
	if len(data) > maxFile {
		return fmt.Errorf("the file is larger than %d bytes", maxFile)
	}
	loader, err := yaml.NewLoader(bytes.NewReader(data))
	if err != nil {
		return yamlerror.Plain(err)
	}
	var doc, second yaml.Node
	if err := loader.Load(&doc); errors.Is(err, io.EOF) {
		return errors.New("the file is empty")
	} else if err != nil {
		return yamlerror.Plain(err)
	}
	if err := loader.Load(&second); !errors.Is(err, io.EOF) {
		return errors.New("a second YAML document follows the first; want one")
	}
	if err := expand(&doc, getenv); err != nil {
		return err
	}
	if err := doc.Load(out, yaml.WithKnownFields()); err != nil {
		return yamlerror.Plain(err)
	}
	for _, check := range checks {
		if err := check(&doc); err != nil {
			return err
		}
	}
	return nil
}

// expand replaces the variables in all scalar values below n; keys stay as they are.
func expand(n *yaml.Node, getenv func(string) (string, bool)) error {
	var errs []error
	switch n.Kind {
	case yaml.ScalarNode:
		errs = append(errs, expandScalar(n, getenv))
	case yaml.MappingNode:
		for i := 1; i < len(n.Content); i += 2 {
			errs = append(errs, expand(n.Content[i], getenv))
		}
	default:
		for _, c := range n.Content {
			errs = append(errs, expand(c, getenv))
		}
	}
	return errors.Join(errs...)
}

// expandScalar replaces the variables in one value. What is written in quotes stays a text; a
// plain value may become a number or a boolean, as if it had been written there. It never becomes
// more than one value: what the variables hold is not parsed for structure, comments or tags.
func expandScalar(n *yaml.Node, getenv func(string) (string, bool)) error {
	var errs []error
	value := variable.ReplaceAllStringFunc(n.Value, func(m string) string {
		name := m[2 : len(m)-1]
		value, ok := getenv(name)
		if !ok {
			errs = append(errs, fmt.Errorf("line %d: environment variable %s is not set", n.Line, name))
		}
		return value
	})
	if value != n.Value && n.Style == 0 {
		n.Tag = plainTag(value)
	}
	n.Value = value
	return errors.Join(errs...)
}

// plainTag returns the YAML tag of a number or boolean, and that of a text for anything else: an
// empty variable is an empty text, not a null, for which a default would be taken.
func plainTag(value string) string {
	const text = "!!str"
	var doc yaml.Node
	if err := yaml.Load([]byte(value), &doc); err != nil || len(doc.Content) != 1 {
		return text
	}
	n := doc.Content[0]
	if n.Kind != yaml.ScalarNode || n.Style != 0 || n.Value != value {
		return text
	}
	switch n.Tag {
	case "!!int", "!!float", "!!bool":
		return n.Tag
	}
	return text
}

// readFile reads the file at path, and no more of it than shows that it is too large.
func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("reading configuration: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("reading configuration: %w", err)
	}
	return data, nil
}

// resolve makes path absolute against dir, the directory of the file it was written in.
func resolve(dir, path string) string {
	if path == "" || filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}

// resolveFile does the same for a file: URL such as a key's, and returns the path.
func resolveFile(dir, url string) (string, error) {
	path, ok := strings.CutPrefix(url, "file:")
	switch {
	case !ok && strings.Contains(url, ":"):
		scheme, _, _ := strings.Cut(url, ":")
		return "", fmt.Errorf("scheme %q is not one of this version; want file:PATH", scheme)
	case !ok:
		return "", fmt.Errorf("%q has no scheme; want file:%s", url, url)
	case path == "":
		return "", errors.New("file: without a path; want file:PATH")
	}
	return resolve(dir, path), nil
}

// A Duration is a time span written as in Go: 200ms, 3s, 1h30m. It is of a hundred years at most, so
// that sums of some are one too.
type Duration time.Duration

const longestDuration = 100 * 365 * 24 * time.Hour

// UnmarshalYAML reads the text form.
func (d *Duration) UnmarshalYAML(n *yaml.Node) error {
	v, err := time.ParseDuration(n.Value)
	if err != nil || v < 0 {
		return fmt.Errorf("line %d: %q is not a duration; want one such as 200ms, 3s or 1h", n.Line, n.Value)
	}
	if v > longestDuration {
		return fmt.Errorf("line %d: %s is longer than a hundred years; want at most %s", n.Line, n.Value, longestDuration)
	}
	*d = Duration(v)
	return nil
}

// MarshalYAML writes the text form.
func (d Duration) MarshalYAML() (any, error) { return time.Duration(d).String(), nil }

// Format renders a configuration with its effective values as YAML.
func Format(c any) ([]byte, error) {
	out, err := yaml.Dump(c, yaml.WithIndent(2))
	if err != nil {
		return nil, fmt.Errorf("rendering configuration: %w", err)
	}
	return out, nil
}
