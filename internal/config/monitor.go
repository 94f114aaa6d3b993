package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
)

// Monitor is the monitor's configuration file.
type Monitor struct {
	// The monitor's state: a directory, which may be written file:DIR.
	State string `yaml:"state"`
	// Directory of the evidence that events point to. Default: evidence below the state.
	Evidence string `yaml:"evidence,omitempty"`
	// How often to look, 168h at most. Default: 2s if every log is on a loopback address, else 10s.
	Poll Duration `yaml:"poll,omitempty"`
	// HOST:PORT of a listener for Prometheus, of "tallywood monitor run"; a server that runs the monitor
	// has its own. Default: no listener.
	MetricsAddress string `yaml:"metrics_address,omitempty"`
	// The logs to follow.
	Logs []MonitorLog `yaml:"logs"`
	// URLs of the pages of other monitors: the checkpoints that they show are compared with ours.
	Peers []string `yaml:"peers,omitempty"`
	// What to watch for. An empty list, written out, checks the logs alone.
	Identities []Identity `yaml:"identities"`
	// Rules of all identities, but where one names the same rule itself; and rules about logs.
	Rules map[string]RuleParams `yaml:"rules,omitempty"`
	// Whether the rules cert.* and entry.* that are on look at entries of all identities, watched or
	// not. Default: at those of watched ones.
	Audit bool `yaml:"audit,omitempty"`
	// File of the certificate authorities that may certify the identities, PEM or a client's
	// trusted_root.json; a matching certificate of another one is an alert. Default: any authority may.
	CAs string `yaml:"cas,omitempty"`
	// Files with the public keys of the certificate logs whose timestamps in certificates are
	// believed, PEM or a client's trusted_root.json. Needed by cert.bad-sct and cert.sct-unknown-log.
	CTKeys []string `yaml:"ct_keys,omitempty"`
	// Who is told, by name.
	Notify map[string]Notify `yaml:"notify"`
	// A dead-man's switch that is told while all is well. Default: none.
	Heartbeat *Heartbeat `yaml:"heartbeat,omitempty"`
	// Pages for people. Default: none are written.
	Pages *MonitorPages `yaml:"pages,omitempty"`

	// Dir is the directory of the file; relative paths have been resolved against it.
	Dir string `yaml:"-"`
}

// LoadMonitor reads and checks the monitor configuration at path.
func LoadMonitor(path string) (*Monitor, error) {
	data, err := readFile(path)
	if err != nil {
		return nil, err
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("locating configuration: %w", err)
	}
	m, err := ParseMonitor(data, filepath.Dir(abs), os.LookupEnv)
	if err != nil {
		return nil, fmt.Errorf("configuration %s: %w", path, err)
	}
	return m, nil
}

// ParseMonitor reads and checks a monitor configuration whose relative paths are relative to dir.
func ParseMonitor(data []byte, dir string, getenv func(string) (string, bool)) (*Monitor, error) {
	m := &Monitor{Dir: dir}
	if err := decode(data, getenv, m, refuseZeros(amounts)); err != nil {
		return nil, err
	}
	if err := errors.Join(m.checkLogs(), m.checkWatch(), m.checkAuthorize(), m.checkNotify(getenv), m.checkPages(), m.resolve(), m.resolvePages()); err != nil {
		return nil, err
	}
	return m, nil
}

// ruleSets returns the rules of the whole configuration, and those of each identity.
func (m *Monitor) ruleSets() []map[string]RuleParams {
	sets := []map[string]RuleParams{m.Rules}
	for _, id := range m.Identities {
		sets = append(sets, id.Rules)
	}
	return sets
}

// urlScheme is what makes a state a URL; a directory of such a name is written with ./ before it.
var urlScheme = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9+.-]*:`)

func (m *Monitor) resolve() error {
	if urlScheme.MatchString(m.State) {
		path, err := resolveFile(m.Dir, m.State)
		if err != nil {
			return fmt.Errorf("state: %w", err)
		}
		m.State = path
	}
	m.State = resolve(m.Dir, m.State)
	if m.Evidence == "" {
		m.Evidence = filepath.Join(m.State, "evidence")
	}
	m.Evidence = resolve(m.Dir, m.Evidence)
	m.CAs = resolve(m.Dir, m.CAs)
	for i, file := range m.CTKeys {
		m.CTKeys[i] = resolve(m.Dir, file)
	}
	for _, rules := range m.ruleSets() {
		for id, p := range rules {
			p.File = resolve(m.Dir, p.File)
			rules[id] = p
		}
	}
	for i := range m.Logs {
		m.Logs[i].resolve(m.Dir)
		if m.Logs[i].Policy != "none" {
			m.Logs[i].Policy = resolve(m.Dir, m.Logs[i].Policy)
		}
	}
	m.resolveNotify()
	return nil
}
