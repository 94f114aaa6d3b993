package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"go.yaml.in/yaml/v4"

	"tallywood/internal/keys"
)

// Names in the directory of a witness that init made.
const (
	configFile = "config.yaml"
	stateDir   = "objects" // as configTemplate has it
)

// config is DIR/config.yaml. Relative paths are relative to DIR.
type config struct {
	Name  string   `yaml:"name"`            // key name of the witness: one key, one name, ever
	Seed  string   `yaml:"seed"`            // file of the 32-byte seed both keys derive from
	State string   `yaml:"state"`           // directory of what the witness must not forget
	About string   `yaml:"about,omitempty"` // who runs it and how to reach them, for the status page
	Logs  []string `yaml:"logs,omitempty"`  // files of logs, like --logs
	Lists []string `yaml:"lists,omitempty"` // URLs of log lists, like --list
}

// configTemplate is what init writes; its verb is the name.
const configTemplate = `# Configuration of a Tallywood witness. Paths are relative to this file.

# The name in its keys. A witness keeps its name for ever: with another one it has other keys.
name: %s

# The secret both keys are derived from. Keep a copy offline; never run two witnesses with it.
seed: seed

# What the witness remembers. Never restore an old copy of it, and never share it with another
# seed: a witness that forgets can be made to sign a fork.
state: objects

# Shown on the status page: who runs this witness, how to reach them.
about: ""

# Logs to cosign, in the witness network's format logs/v0 (also: --logs FILE, --list URL).
logs: []
lists: []
`

// readConfig reads DIR/config.yaml strictly: an unknown key is an error.
func readConfig(dir string) (config, error) {
	path := filepath.Join(dir, configFile)
	data, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return config{}, usageError("make it with: tallywood-witness init --dir "+dir+" --name NAME", "there is no witness in %s: %w", dir, err)
	case err != nil:
		return config{}, usageError("", "reading configuration: %w", err)
	}
	l, err := yaml.NewLoader(bytes.NewReader(data), yaml.WithKnownFields())
	if err != nil {
		return config{}, usageError("", "reading %s: %w", path, err)
	}
	var c config
	if err := l.Load(&c); err != nil && !errors.Is(err, io.EOF) {
		return config{}, usageError("", "reading %s: %w", path, err)
	}
	if err := l.Load(new(config)); !errors.Is(err, io.EOF) {
		return config{}, usageError("", "reading %s: it holds more than one document", path)
	}
	if err := c.check(); err != nil {
		return config{}, usageError("", "reading %s: %w", path, err)
	}
	c.Seed, c.State = within(dir, c.Seed), within(dir, c.State)
	for i := range c.Logs {
		c.Logs[i] = within(dir, c.Logs[i])
	}
	return c, nil
}

func (c config) check() error {
	var errs []error
	if err := keys.CheckName(c.Name); err != nil {
		errs = append(errs, fmt.Errorf("name: %w", err))
	}
	if c.Seed == "" {
		errs = append(errs, errors.New("seed: no file given"))
	}
	if c.State == "" {
		errs = append(errs, errors.New("state: no directory given"))
	}
	return errors.Join(errs...)
}

func within(dir, path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}
