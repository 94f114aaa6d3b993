package stack

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"tallywood/internal/config"
	"tallywood/storage"
	"tallywood/witness"
	"tallywood/witness/policy"
)

// ErrUnknownLog is wrapped by the errors of [Floors.Set] about a log that the witness was not given.
var ErrUnknownLog = witness.ErrUnknownLog

// A FloorError is the error of [Floors.Set] about a floor that is refused.
type FloorError = witness.FloorError

// Floors sets the floors of one witness of a configuration: the operator's word on where it goes on with
// logs that it has lost state of. Processes that serve the witness may run meanwhile.
type Floors struct{ lists *witness.Lists }

// OpenFloors opens the witness of that name; where there is one alone, the name may be empty. The storage
// of the configuration is b.
func OpenFloors(ctx context.Context, c *config.Config, b storage.Bucket, name string, log *slog.Logger) (*Floors, error) {
	cfg, err := witnessNamed(c, name)
	if err != nil {
		return nil, err
	}
	s := &Stack{cfg: c, log: log, bucket: b}
	s.openKeys(ctx, true)
	var parts []*logPart
	for _, l := range c.Logs {
		k, err := s.logKeys(l)
		if err != nil {
			return nil, fmt.Errorf("log %q: %w", l.Name, err)
		}
		parts = append(parts, &logPart{cfg: l, vkey: k.vkey(l.Origin)})
	}
	known, err := knownLogs(c, parts)
	if err == nil {
		_, err = s.openWitness(cfg, known)
	}
	if err != nil {
		return nil, fmt.Errorf("opening witness %q: %w", cfg.Name, err)
	}
	return &Floors{s.lists[0]}, nil
}

// witnessNamed returns the witness of that name, or the only one for the empty name.
func witnessNamed(c *config.Config, name string) (config.Witness, error) {
	if name == "" && len(c.Witnesses) == 1 {
		return c.Witnesses[0], nil
	}
	i := slices.IndexFunc(c.Witnesses, func(w config.Witness) bool { return w.Name == name })
	if i >= 0 {
		return c.Witnesses[i], nil
	}
	var names []string
	for _, w := range c.Witnesses {
		names = append(names, w.Name)
	}
	switch {
	case len(names) == 0:
		return config.Witness{}, errors.New("the configuration has no witnesses")
	case name == "":
		return config.Witness{}, fmt.Errorf("the configuration has several witnesses: want one of %s", strings.Join(names, ", "))
	}
	return config.Witness{}, fmt.Errorf("the configuration has no witness %q: want one of %s", name, strings.Join(names, ", "))
}

// Set sets the floor of a log to the tree of a checkpoint, or, without one, to the largest tree that the
// witness is known to have cosigned. It is the [witness.Witness.SetFloor] of that witness.
func (f *Floors) Set(ctx context.Context, origin string, checkpoint []byte) (policy.Tree, error) {
	if err := f.lists.Restore(ctx); err != nil { // what lists have named
		return policy.Tree{}, fmt.Errorf("setting floor of %q: %w", origin, err)
	}
	return f.lists.SetFloor(ctx, origin, checkpoint)
}
