package config

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"go.yaml.in/yaml/v4"
)

// amounts are the keys of a monitor's configuration that say how much or how long; serverAmounts those
// of a server's for which nothing would be no value.
var (
	amounts       = []string{"poll", "warn", "critical", "grace", "max", "window", "after", "timeout", "every", "entries", "alerts"}
	serverAmounts = []string{"quorum_timeout", "peer_quorum", "requests_per_second", "burst", "connections", "all_connections", "queue_age"}
)

// refuseZeros refuses an amount of those keys that is written out as nothing: as what is left out has a
// default, that would be taken instead.
func refuseZeros(keys []string) func(*yaml.Node) error {
	return func(n *yaml.Node) error { return refuseZerosBelow(n, keys) }
}

func refuseZerosBelow(n *yaml.Node, keys []string) error {
	var errs []error
	for i, c := range n.Content {
		if n.Kind == yaml.MappingNode && i%2 == 1 && slices.Contains(keys, n.Content[i-1].Value) && isZero(c) {
			errs = append(errs, fmt.Errorf("line %d: %s: want more than %s; what is left out has its default", c.Line, n.Content[i-1].Value, c.Value))
		}
		errs = append(errs, refuseZerosBelow(c, keys))
	}
	return errors.Join(errs...)
}

func isZero(n *yaml.Node) bool {
	if d, err := time.ParseDuration(n.Value); n.Kind != yaml.ScalarNode || err == nil {
		return n.Kind == yaml.ScalarNode && d == 0
	}
	f, err := strconv.ParseFloat(n.Value, 64)
	return err == nil && f == 0
}
