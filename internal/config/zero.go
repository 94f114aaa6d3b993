package config

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"go.yaml.in/yaml/v4"
)

// amounts are the keys of a monitor's configuration that say how much or how long.
var amounts = []string{"poll", "warn", "critical", "grace", "max", "window", "after", "timeout", "every", "entries", "alerts"}

// refuseZeros refuses an amount that is written out as nothing: as what is left out has a default, that
// would be taken instead.
func refuseZeros(n *yaml.Node) error {
	var errs []error
	for i, c := range n.Content {
		if n.Kind == yaml.MappingNode && i%2 == 1 && slices.Contains(amounts, n.Content[i-1].Value) && isZero(c) {
			errs = append(errs, fmt.Errorf("line %d: %s: want more than %s; what is left out has its default", c.Line, n.Content[i-1].Value, c.Value))
		}
		errs = append(errs, refuseZeros(c))
	}
	return errors.Join(errs...)
}

func isZero(n *yaml.Node) bool {
	d, err := time.ParseDuration(n.Value)
	return n.Kind == yaml.ScalarNode && err == nil && d == 0
}
