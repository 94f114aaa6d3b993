// Package rekormonitor turns a configuration of rekor-monitor
// (https://github.com/sigstore/rekor-monitor) into one of `tallywood monitor`.
//
// In goes its YAML, and what its flags say; out come our configuration, the files that go beside it,
// such as secrets that were inline, and warnings. What is imported reports at least what
// rekor-monitor would have reported: whatever cannot be said exactly is widened, with a warning, and
// what cannot be said at all, or is not known, is an error. Nothing is fetched.
package rekormonitor

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"

	"tallywood/internal/yamlerror"
)

// maxConfig bounds a configuration, in bytes.
const maxConfig = 1 << 20

// Options are what to import.
type Options struct {
	Config []byte // rekor-monitor's; empty: it had none
	Logs   Logs
	State  []byte // its checkpoint file; empty: none. It can give the first index of a single log

	Interval                time.Duration // between two looks; 0: not said
	CARoots, CAIntermediate string        // files, as its flags have them: before those of Config

	// ReadFile reads a file that Config or the flags name.
	ReadFile func(path string) ([]byte, error)
	// Path returns how our configuration, which is read elsewhere, names a file that Config names; nil:
	// as it is.
	Path func(path string) string
}

// Logs say which logs are followed: one that is named by its key, or those of a trusted root.
type Logs struct {
	URL, VKey, Policy string // one log; Policy is a path, or the word none

	TrustedRoot string // a file
	TUFURL      string // a TUF repository,
	TUFRoot     string // and the file with its root.json
}

// A File goes beside the configuration.
type File struct {
	Name   string
	Data   []byte
	Secret bool // nobody else may read it
}

// A Result is what was imported.
type Result struct {
	Config   []byte // for `tallywood monitor`
	Files    []File // that Config names
	Warnings []string
}

// An importer is on its way.
type importer struct {
	o      Options
	peer   peerConfig
	out    Result
	names  map[string]bool // of identities
	errs   []error
	single bool // one log is followed, so that it has an index to begin at
}

// Import imports. Its error joins all that cannot be imported.
func Import(o Options) (*Result, error) {
	if o.Path == nil {
		o.Path = func(path string) string { return path }
	}
	i := &importer{o: o, names: map[string]bool{}, single: o.Logs.VKey != ""}
	if err := i.decode(); err != nil {
		return nil, err
	}
	identities := i.identities()
	notify := i.sinks()
	cas := i.authorities()
	logs := i.logs()
	i.unused()
	var b strings.Builder
	b.WriteString("# Imported from a configuration of rekor-monitor. Each match is told of, as it did. To hear of the\n" +
		"# unexplained ones alone, say with \"expect\" what explains the others: docs/monitor.md.\n")
	b.WriteString("state: ./monitor-state\n")
	if o.Interval > 0 {
		fmt.Fprintf(&b, "poll: %s\n", o.Interval)
	}
	fmt.Fprintf(&b, "logs:\n%s", logs)
	if cas != "" {
		fmt.Fprintf(&b, "cas: %s\n", quoted(cas))
	}
	if identities == "" {
		b.WriteString("identities: []\n")
	} else {
		fmt.Fprintf(&b, "identities:\n%s", identities)
	}
	fmt.Fprintf(&b, "notify:\n%s", notify)
	i.out.Config = []byte(b.String())
	if variable.Match(i.out.Config) {
		i.refuse("%q: in our configurations ${NAME} stands for a variable of the environment; it cannot be imported", variable.Find(i.out.Config))
	}
	if err := errors.Join(i.errs...); err != nil {
		return nil, err
	}
	return &i.out, nil
}

// variable is what our configurations replace from the environment.
var variable = regexp.MustCompile(`\$\{[A-Za-z_][A-Za-z0-9_]*\}`)

func (i *importer) warn(format string, args ...any) {
	i.out.Warnings = append(i.out.Warnings, fmt.Sprintf(format, args...))
}

func (i *importer) refuse(format string, args ...any) {
	i.errs = append(i.errs, fmt.Errorf(format, args...))
}

// decode reads the configuration strictly: a key that is not known may be one that watches something.
func (i *importer) decode() error {
	if len(i.o.Config) > maxConfig {
		return fmt.Errorf("reading configuration of rekor-monitor: %d bytes are more than %d", len(i.o.Config), maxConfig)
	}
	loader, err := yaml.NewLoader(bytes.NewReader(i.o.Config))
	if err != nil {
		return fmt.Errorf("reading configuration of rekor-monitor: %w", yamlerror.Plain(err))
	}
	var doc, second yaml.Node
	if err = loader.Load(&doc); errors.Is(err, io.EOF) {
		return nil
	}
	if err == nil {
		err = doc.Load(&i.peer, yaml.WithKnownFields())
	}
	if err != nil {
		return fmt.Errorf("reading configuration of rekor-monitor: %w", yamlerror.Plain(err))
	}
	if err := loader.Load(&second); !errors.Is(err, io.EOF) {
		return errors.New("reading configuration of rekor-monitor: a second YAML document follows the first")
	}
	return nil
}

// quoted returns text as a YAML scalar.
func quoted(text string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range text {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\t':
			b.WriteString(`\t`)
		case r < 0x20 || r >= 0x7f && r < 0xa0 || r == 0x2028 || r == 0x2029 || r == 0xfeff:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}
