package stack

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"tallywood/internal/config"
	"tallywood/storage"
	"tallywood/storage/driver"
)

// A LogStatus is what a configuration and a bucket say of a log.
type LogStatus struct {
	Name      string     `json:"name"`
	Kind      string     `json:"kind"`
	Origin    string     `json:"origin"`
	URL       string     `json:"url"`
	State     string     `json:"state"` // active, freezing, frozen; absent: the storage has no such log yet
	Start     *time.Time `json:"start,omitempty"`
	End       *time.Time `json:"end,omitempty"`       // frozen: when; else when it is to be
	Successor string     `json:"successor,omitempty"` // its name
	Size      int64      `json:"size"`                // of the checkpoint
	Age       *float64   `json:"checkpoint_age_seconds,omitempty"`
	Leader    string     `json:"leader_url,omitempty"`
	Error     string     `json:"error,omitempty"` // why it could not be read

	Err error `json:"-"` // Error, if there is one
}

// LogStatuses returns the status of each log of c, whose bucket is b. It only reads.
func LogStatuses(ctx context.Context, c *config.Config, b storage.Bucket) []LogStatus {
	var out []LogStatus
	for _, l := range c.Logs {
		s := LogStatus{Name: l.Name, Kind: l.Kind, Origin: l.Origin, URL: c.LogURL(l), State: l.State, Successor: l.Successor}
		if l.State == config.StateFrozen {
			s.State = "freezing"
			s.End = when(l.End.Time)
		}
		if s.Err = s.read(ctx, l, b); s.Err != nil {
			s.Error = s.Err.Error()
		}
		out = append(out, s)
	}
	return out
}

// read adds what the bucket says.
func (s *LogStatus) read(ctx context.Context, l config.Log, b storage.Bucket) error {
	st, err := driver.Inspect(ctx, b, l.Name)
	if errors.Is(err, driver.ErrNoLog) {
		s.State = "absent"
		return nil
	}
	if err != nil {
		return err
	}
	start, err := logStart(ctx, b, l.Name)
	if err != nil {
		return err
	}
	if !l.Start.IsZero() && l.Start.Before(start) {
		start = l.Start.Time
	}
	s.Start = when(start)
	if cp := st.Checkpoint; cp != nil {
		s.Size = cp.Size
		if cp.Written != nil {
			age := max(0, now().Sub(*cp.Written)).Seconds()
			s.Age = &age
		}
	}
	switch {
	case st.Frozen != nil:
		s.State, s.End = config.StateFrozen, when(st.Frozen.Time)
	case st.Freezing:
		s.State = "freezing"
	}
	if !st.Released && st.Frozen == nil {
		s.Leader = st.Leader
	}
	return nil
}

func when(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// SetFrozen gives the log of that name state: frozen in the configuration file at path, from now on, or
// state: active. It reports whether that changed the file, and returns what is in it then.
func SetFrozen(path, name string, frozen bool) (*config.Config, bool, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, false, fmt.Errorf("reading configuration: %w", err)
	}
	c, err := config.Load(path)
	if err != nil {
		return nil, false, err
	}
	l, ok := c.LogNamed(name)
	if !ok {
		return nil, false, fmt.Errorf("there is no log %q in the configuration", name)
	}
	if (l.State == config.StateFrozen) == frozen {
		return c, false, nil
	}
	e := config.NewEdit(text, "name")
	if frozen {
		err = e.Set(name, config.Field{Key: "state", Value: config.StateFrozen},
			config.Field{Key: "end", Value: now().UTC().Format(time.RFC3339)})
	} else {
		err = errors.Join(e.Set(name, config.Field{Key: "state", Value: config.StateActive}), e.Remove(name, "end", "successor"))
	}
	if err != nil {
		return nil, false, fmt.Errorf("editing %s: %w", path, err)
	}
	if c, err = config.Parse(e.Text(), c.Dir, os.LookupEnv); err != nil {
		return nil, false, fmt.Errorf("editing %s: the result would be refused: %w", path, err)
	}
	return c, true, replaceUnchanged(path, text, e.Text())
}

// FreezeLog asks that the log of that name in b be frozen, as c has it.
func FreezeLog(ctx context.Context, c *config.Config, b storage.Bucket, name string) error {
	l, _ := c.LogNamed(name)
	next := driver.Successor{}
	if s, ok := c.LogNamed(l.Successor); ok {
		next = driver.Successor{Origin: s.Origin, URL: c.LogURL(s)}
	}
	return driver.Freeze(ctx, b, name, next)
}
