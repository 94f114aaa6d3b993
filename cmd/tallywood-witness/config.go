package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"go.yaml.in/yaml/v4"

	"tallywood/internal/keys"
	"tallywood/internal/yamlerror"
)

// Names in the directory of a witness that init made.
const (
	configFile = "config.yaml"
	stateDir   = "objects" // as configTemplate has it
)

// config is DIR/config.yaml. Relative paths are relative to DIR.
type config struct {
	Name  string   `yaml:"name"`            // key name of the witness: one key, one name, ever
	Seed  string   `yaml:"seed,omitempty"`  // file of the 32-byte seed both keys derive from
	State string   `yaml:"state"`           // directory of what the witness must not forget; outside DIR it must exist
	About string   `yaml:"about,omitempty"` // who runs it and how to reach them, for the status page
	Logs  []string `yaml:"logs,omitempty"`  // files of logs, like --logs
	Lists []string `yaml:"lists,omitempty"` // URLs of log lists, like --list

	// How it is reached: see reach.go.
	Listen   string          `yaml:"listen,omitempty"`          // HOST:PORT to listen on, like --listen
	Metrics  string          `yaml:"metrics_address,omitempty"` // HOST:PORT of the metrics, like --metrics-address
	TLS      *tlsConfig      `yaml:"tls,omitempty"`             // of the listener; default: plain HTTP
	Bastions []bastionConfig `yaml:"bastions,omitempty"`        // read again at SIGHUP

	// Where its keys are: see keys.go.
	PassphraseFile string `yaml:"passphrase_file,omitempty"` // with the passphrase of an encrypted seed, like --passphrase-file
	Ed25519        string `yaml:"ed25519,omitempty"`         // agent:KEY of an ssh-agent; default: derived from the seed
	AgentSocket    string `yaml:"agent_socket,omitempty"`    // of that agent; default $SSH_AUTH_SOCK

	// Directory that what is published is copied to, and the lease; it must not be in that of the state,
	// and better on another disk: see export.go.
	Export string `yaml:"export,omitempty"`

	rotationConfig `yaml:",inline"` // how keys follow each other: see rotation.go
}

// readConfig reads DIR/config.yaml strictly: an unknown key is an error.
func readConfig(dir string) (config, error) {
	path := filepath.Join(dir, configFile)
	data, err := readFile(path, maxConfig)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return config{}, usageError("make it with: tallywood-witness init --dir "+dir+" --name NAME", "there is no witness in %s: %w", dir, err)
	case err != nil:
		return config{}, usageError("", "reading configuration: %w", err)
	}
	var c config
	if err := c.parse(data); err != nil {
		return config{}, usageError("", "reading %s: %w", path, err)
	}
	if filepath.IsAbs(c.State) {
		if _, err := os.Stat(c.State); err != nil {
			return config{}, usageError("make it if this witness is new; if it is not, perhaps its disk is not mounted",
				"reading %s: there is no state: %w", path, err)
		}
	}
	c.State = within(dir, c.State)
	for _, path := range []*string{&c.Seed, &c.PassphraseFile, &c.AgentSocket} {
		if *path != "" {
			*path = within(dir, *path)
		}
	}
	for i := range c.Logs {
		c.Logs[i] = within(dir, c.Logs[i])
	}
	return c, nil
}

// parse parses and checks a configuration.
func (c *config) parse(data []byte) error {
	l, err := yaml.NewLoader(bytes.NewReader(data), yaml.WithKnownFields())
	if err != nil {
		return yamlerror.Plain(err)
	}
	if err := l.Load(c); errors.Is(err, io.EOF) {
		return errors.New("the file is empty")
	} else if err != nil {
		return yamlerror.Plain(err)
	}
	if err := l.Load(new(config)); !errors.Is(err, io.EOF) {
		return errors.New("it holds more than one document")
	}
	return c.check()
}

func (c config) check() error {
	var errs []error
	if err := keys.CheckName(c.Name); err != nil {
		errs = append(errs, fmt.Errorf("name: %w", err))
	}
	switch {
	case c.Seed == "" && c.Ed25519 == "":
		errs = append(errs, errors.New("seed: no file given"))
	case c.Ed25519 != "" && !strings.HasPrefix(c.Ed25519, agentScheme):
		errs = append(errs, fmt.Errorf("ed25519: %q is not agent:KEY; KEY is ssh-ed25519 AAAA… or SHA256:…", c.Ed25519))
	}
	if c.State == "" {
		errs = append(errs, errors.New("state: no directory given"))
	}
	return errors.Join(append(errs, c.checkReach(), c.rotationConfig.check())...)
}

// Limits of files that are read, in bytes. A list of 40,000 logs has 8 MB.
const (
	maxConfig   = 1 << 20
	maxLogsFile = 32 << 20
)

// readFile reads the file at path, which must not be larger than limit.
func readFile(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("%s is larger than %d bytes", path, limit)
	}
	return data, err
}

func within(dir, path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}
