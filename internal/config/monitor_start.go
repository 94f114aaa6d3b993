package config

import (
	"fmt"
	"strconv"
	"time"

	"go.yaml.in/yaml/v4"
)

// A Start is where in a log the monitor begins: an index, the word head, or a time. The zero Start is
// entry 0.
type Start struct {
	Index int64
	Head  bool      // with the next entry that is logged
	Time  time.Time // what was logged since, and a little before
}

// UnmarshalYAML reads the text form.
func (s *Start) UnmarshalYAML(n *yaml.Node) error {
	if n.Kind == yaml.ScalarNode && n.Value == "head" {
		*s = Start{Head: true}
		return nil
	}
	if index, err := strconv.ParseInt(n.Value, 10, 64); err == nil && index >= 0 && n.ShortTag() == "!!int" {
		*s = Start{Index: index}
		return nil
	}
	if at, err := time.Parse(time.RFC3339, n.Value); err == nil && at.Year() >= 2000 {
		*s = Start{Time: at.UTC()}
		return nil
	}
	return fmt.Errorf("line %d: start %q is not the number of an entry, the word head, or a time such as 2026-12-01T00:00:00Z", n.Line, n.Value)
}

// MarshalYAML writes the text form.
func (s Start) MarshalYAML() (any, error) {
	switch {
	case s.Head:
		return "head", nil
	case !s.Time.IsZero():
		return s.Time.Format(time.RFC3339), nil
	}
	return s.Index, nil
}

// IsZero reports whether s is entry 0.
func (s Start) IsZero() bool { return s == Start{} }
