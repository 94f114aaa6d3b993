package config

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"time"
)

// Monitor is the monitor's configuration file.
type Monitor struct {
	// The monitor's state: a directory, which may be written file:DIR.
	State string `yaml:"state"`
	// Directory of the evidence that events point to. Default: evidence below the state.
	Evidence string `yaml:"evidence,omitempty"`
	// How often to look. Default: 2s if every log is on a loopback address, else 10s.
	Poll Duration `yaml:"poll,omitempty"`
	// The logs to follow.
	Logs []MonitorLog `yaml:"logs"`
	// What to watch for. An empty list, written out, checks the logs alone.
	Identities []Identity `yaml:"identities"`
	// PEM file of the certificate authorities that may certify the identities; a matching
	// certificate of another one is an alert. Default: any authority may.
	CAs string `yaml:"cas,omitempty"`
	// Who is told, by name.
	Notify map[string]Notify `yaml:"notify"`

	// Dir is the directory of the file; relative paths have been resolved against it.
	Dir string `yaml:"-"`
}

// MonitorLog is a log that the monitor follows.
type MonitorLog struct {
	// First line of its checkpoints.
	Origin string `yaml:"origin"`
	// Where its checkpoint and tiles are read.
	URL string `yaml:"url"`
	// rekor, ct or tlog. Default: rekor.
	Kind string `yaml:"kind,omitempty"`
	// Its verifier key.
	VKey string `yaml:"vkey"`
	// The tlog-policy its checkpoints must satisfy; the word none is a log without witnesses.
	Policy string `yaml:"policy"`
	// Index of the first entry to look at. Default: 0.
	Start int64 `yaml:"start,omitempty"`
	// When the log was frozen, or is to be: from then on its newest cosignature may be old. Default:
	// none; it must be fresh.
	End Time `yaml:"end,omitempty"`
}

// Identity is what to watch for: exactly one of the matching keys, and what explains a match.
type Identity struct {
	// Shown in alerts.
	Name string `yaml:"name"`
	// A mail address.
	Email string `yaml:"email,omitempty"`
	// A domain and everything below it.
	Domain string `yaml:"domain,omitempty"`
	// A subject alternative name; * stands for any run of characters.
	SAN string `yaml:"san,omitempty"`
	// An RE2 expression that a whole subject alternative name must match.
	Regex string `yaml:"regex,omitempty"`
	// owner/repository or owner/*.
	GitHub string `yaml:"github,omitempty"`
	// group/project, or the URL of a project elsewhere than gitlab.com.
	GitLab string `yaml:"gitlab,omitempty"`
	// Hexadecimal SHA-256 of a public key (SubjectPublicKeyInfo) or certificate.
	Key string `yaml:"key,omitempty"`
	// namespace/service-account.
	Kubernetes string `yaml:"kubernetes,omitempty"`
	// What explains an entry. Default: nothing is expected, and every match is reported as info.
	Expect Expect `yaml:"expect,omitempty"`
	// Rules to switch on for this identity, such as id.seen.
	Rules map[string]struct{} `yaml:"rules,omitempty"`
	// Names below notify. Default: all.
	Notify []string `yaml:"notify,omitempty"`
}

// Expect says what explains an entry.
type Expect struct {
	// The OpenID Connect issuers that may vouch for the identity.
	Issuers []string `yaml:"issuers,omitempty"`
}

// Notify is one sink.
type Notify struct {
	// A file to which each event is appended as one line of JSON.
	JSONL string `yaml:"jsonl,omitempty"`
	// A URL to which each event is posted.
	Webhook *Webhook `yaml:"webhook,omitempty"`
	// info, warning or critical. Default: info.
	MinSeverity string `yaml:"min_severity,omitempty"`
}

// Webhook is a URL that takes events (Standard Webhooks).
type Webhook struct {
	// Where to post.
	URL string `yaml:"url"`
	// File with the secret that signs the requests. Default: unsigned.
	SecretFile string `yaml:"secret_file,omitempty"`
	// Whether the URL may lie in a private network. Loopback is always allowed. Default: false.
	AllowPrivate bool `yaml:"allow_private,omitempty"`
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
	if err := decode(data, getenv, m); err != nil {
		return nil, err
	}
	if err := errors.Join(m.checkLogs(), m.checkWatch(), m.checkNotify(), m.resolve()); err != nil {
		return nil, err
	}
	return m, nil
}

func (m *Monitor) checkLogs() error {
	var errs []error
	if m.State == "" {
		errs = append(errs, errors.New("state is missing"))
	}
	if len(m.Logs) == 0 {
		errs = append(errs, errors.New("logs is empty: there is nothing to follow"))
	}
	local := true
	for i := range m.Logs {
		l := &m.Logs[i]
		u, err := url.Parse(l.URL)
		if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
			errs = append(errs, fmt.Errorf("log %d (%q): url %q is not an http(s) URL", i+1, l.Origin, l.URL))
			continue
		}
		local = local && Loopback(u.Hostname())
		if l.Kind == "" {
			l.Kind = "rekor"
		}
		if l.Policy == "" {
			errs = append(errs, fmt.Errorf("log %d (%q): policy is missing; a log without witnesses says so with \"policy: none\"", i+1, l.Origin))
		}
		if l.Start < 0 {
			errs = append(errs, fmt.Errorf("log %d (%q): start %d is negative", i+1, l.Origin, l.Start))
		}
	}
	if m.Poll == 0 {
		m.Poll = Duration(10 * time.Second)
		if local {
			m.Poll = Duration(2 * time.Second)
		}
	}
	return errors.Join(errs...)
}

func (m *Monitor) checkWatch() error {
	var errs []error
	if m.Identities == nil {
		errs = append(errs, errors.New("identities is missing: nothing would be watched (\"identities: []\" checks the logs alone)"))
	}
	for i, id := range m.Identities {
		for _, name := range id.Notify {
			if _, ok := m.Notify[name]; !ok {
				errs = append(errs, fmt.Errorf("identity %d (%q): notify %q is not defined below notify", i+1, id.Name, name))
			}
		}
	}
	return errors.Join(errs...)
}

func (m *Monitor) checkNotify() error {
	var errs []error
	if len(m.Notify) == 0 {
		errs = append(errs, errors.New("notify is empty: nobody would be told"))
	}
	for name, n := range m.Notify {
		if (n.JSONL == "") == (n.Webhook == nil) {
			errs = append(errs, fmt.Errorf("notify %q: want exactly one of jsonl and webhook", name))
		}
		if n.Webhook != nil && n.Webhook.URL == "" {
			errs = append(errs, fmt.Errorf("notify %q: the webhook has no url", name))
		}
		switch n.MinSeverity {
		case "", "info", "warning", "critical":
		default:
			errs = append(errs, fmt.Errorf("notify %q: min_severity %q is not info, warning or critical", name, n.MinSeverity))
		}
	}
	return errors.Join(errs...)
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
	for i := range m.Logs {
		if m.Logs[i].Policy != "none" {
			m.Logs[i].Policy = resolve(m.Dir, m.Logs[i].Policy)
		}
	}
	for name, n := range m.Notify {
		n.JSONL = resolve(m.Dir, n.JSONL)
		if n.Webhook != nil {
			n.Webhook.SecretFile = resolve(m.Dir, n.Webhook.SecretFile)
		}
		m.Notify[name] = n
	}
	return nil
}
