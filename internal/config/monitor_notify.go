package config

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"
)

// Notify is one sink: exactly one of jsonl, webhook, smtp, github, exec and atom.
type Notify struct {
	// A file to which each event is appended as one line of JSON.
	JSONL string `yaml:"jsonl,omitempty"`
	// A URL to which each event is posted.
	Webhook *Webhook `yaml:"webhook,omitempty"`
	// A mail server that sends each event as a mail.
	SMTP *SMTP `yaml:"smtp,omitempty"`
	// A repository in which events become issues.
	GitHub *GitHub `yaml:"github,omitempty"`
	// A program that is run for each event.
	Exec *Exec `yaml:"exec,omitempty"`
	// A feed file of the newest events.
	Atom *Atom `yaml:"atom,omitempty"`
	// info, warning or critical. Default: info.
	MinSeverity string `yaml:"min_severity,omitempty"`
	// Events of severity info are sent as one: hourly, daily (at midnight UTC), weekly (on Mondays), or
	// by a time span such as 6h. Default: each on its own.
	Digest Period `yaml:"digest,omitempty"`
	// How many events of one identity are sent one by one; the others follow as one. Critical ones are
	// always sent at once. Default: 10 in 1h for smtp, github and chat templates, else no limit.
	Limit *Limit `yaml:"limit,omitempty"`
}

// Limit is how many events of one identity are sent one by one.
type Limit struct {
	// So many.
	Max int `yaml:"max,omitempty"`
	// In a time that begins with the first of them. Default: 1h.
	Window Duration `yaml:"window,omitempty"`
	// Whether there is no limit.
	Off bool `yaml:"off,omitempty"`
}

// A Period is a time span, or one of the words hourly, daily and weekly.
type Period time.Duration

var periods = map[string]time.Duration{"hourly": time.Hour, "daily": 24 * time.Hour, "weekly": 7 * 24 * time.Hour}

// UnmarshalYAML reads the word or the time span.
func (p *Period) UnmarshalYAML(n *yaml.Node) error {
	v, ok := periods[n.Value]
	if !ok {
		var err error
		if v, err = time.ParseDuration(n.Value); err != nil || v < time.Minute || v > periods["weekly"] {
			return fmt.Errorf("line %d: %q is not hourly, daily, weekly or a time span from 1m to 168h", n.Line, n.Value)
		}
	}
	*p = Period(v)
	return nil
}

// MarshalYAML writes the time span.
func (p Period) MarshalYAML() (any, error) { return time.Duration(p).String(), nil }

// Webhook is a URL that takes events (Standard Webhooks).
type Webhook struct {
	// Where to post.
	URL string `yaml:"url,omitempty"`
	// File with that URL, where it is a secret.
	URLFile string `yaml:"url_file,omitempty"`
	// File with the secret that signs the requests. Default: unsigned.
	SecretFile string `yaml:"secret_file,omitempty"`
	// Environment variable with that secret.
	SecretEnv string `yaml:"secret_env,omitempty"`
	// slack, mattermost, rocketchat, discord, teams or matrix: the body is what their incoming
	// webhooks take. Default: the event as JSON.
	Template string `yaml:"template,omitempty"`
	// File with a template of one's own, in the language of Go's text/template, that makes JSON.
	TemplateFile string `yaml:"template_file,omitempty"`
	// Whether the URL may lie in a private network. Loopback is always allowed. Default: false.
	AllowPrivate bool `yaml:"allow_private,omitempty"`

	Secret string `yaml:"-"` // that of SecretEnv
}

// SMTP is a mail server and who is to get mail.
type SMTP struct {
	// HOST:PORT.
	Server string `yaml:"server"`
	// starttls, tls (from the first byte) or none (to loopback addresses alone). Default: starttls.
	TLS string `yaml:"tls,omitempty"`
	// PEM file of the authorities that may certify the server. Default: those of the system.
	CAFile string `yaml:"ca_file,omitempty"`
	// Whom to log in as. Default: no login.
	User string `yaml:"user,omitempty"`
	// File with the user's password.
	PasswordFile string `yaml:"password_file,omitempty"`
	// Environment variable with it.
	PasswordEnv string `yaml:"password_env,omitempty"`
	// The sender's address.
	From string `yaml:"from"`
	// The recipients' addresses.
	To []string `yaml:"to"`

	Password string `yaml:"-"` // that of PasswordEnv
}

// GitHub is a repository in which events become issues.
type GitHub struct {
	// owner/name.
	Repository string `yaml:"repository"`
	// File with a token that may read and write issues there.
	TokenFile string `yaml:"token_file,omitempty"`
	// Environment variable with it.
	TokenEnv string `yaml:"token_env,omitempty"`
	// Base URL of the API; https://HOST/api/v3 for GitHub Enterprise Server. Default:
	// https://api.github.com.
	API string `yaml:"api,omitempty"`
	// Label of the issues. Default: tallywood.
	Label string `yaml:"label,omitempty"`
	// Whether the API may lie in a private network. Default: false.
	AllowPrivate bool `yaml:"allow_private,omitempty"`

	Token string `yaml:"-"` // that of TokenEnv
}

// Exec is a program that is run for each event, without a shell.
type Exec struct {
	// Path of the program, relative to this file or absolute, and its arguments.
	Command []string `yaml:"command"`
	// How long it may take. Default, and most: 20s.
	Timeout Duration `yaml:"timeout,omitempty"`
	// Names of further environment variables that it gets.
	Env []string `yaml:"env,omitempty"`
}

// Atom is a feed file; the path alone may be written instead.
type Atom struct {
	// The file.
	Path string `yaml:"path"`
	// Where readers get it. Default: the feed does not say.
	URL string `yaml:"url,omitempty"`
	// How many of the newest events it has. Default: 100.
	Entries int `yaml:"entries,omitempty"`
}

// UnmarshalYAML reads a path, or all of it.
func (a *Atom) UnmarshalYAML(n *yaml.Node) error {
	if n.Kind == yaml.ScalarNode {
		*a = Atom{Path: n.Value}
		return nil
	}
	if n.Kind != yaml.MappingNode {
		return fmt.Errorf("line %d: atom is neither a path nor keys; want the path of a file", n.Line)
	}
	type whole Atom
	return n.Load((*whole)(a), yaml.WithKnownFields())
}

// Heartbeat is a URL that is asked while all logs are verified and fresh and nothing is stuck on its
// way to a sink.
type Heartbeat struct {
	// What to ask.
	URL string `yaml:"url,omitempty"`
	// File with that URL, where it is a secret.
	URLFile string `yaml:"url_file,omitempty"`
	// GET or POST. Default: GET.
	Method string `yaml:"method,omitempty"`
	// How often. Default: 5m.
	Every Duration `yaml:"every,omitempty"`
	// Whether the URL may lie in a private network. Loopback is always allowed. Default: false.
	AllowPrivate bool `yaml:"allow_private,omitempty"`
}

func (m *Monitor) checkHeartbeat() error {
	h := m.Heartbeat
	switch {
	case h == nil:
		return nil
	case (h.URL == "") == (h.URLFile == ""):
		return errors.New("heartbeat: want one of url and url_file")
	case h.Every != 0 && time.Duration(h.Every) < time.Second:
		return fmt.Errorf("heartbeat: every %s is less than 1s", time.Duration(h.Every))
	case h.Method != "" && h.Method != "GET" && h.Method != "POST":
		return fmt.Errorf("heartbeat: method %q is neither GET nor POST", h.Method)
	}
	return nil
}

// kinds returns the names of the sinks that are set.
func (n Notify) kinds() []string {
	var kinds []string
	for _, k := range []struct {
		name string
		is   bool
	}{{"jsonl", n.JSONL != ""}, {"webhook", n.Webhook != nil}, {"smtp", n.SMTP != nil}, {"github", n.GitHub != nil},
		{"exec", n.Exec != nil}, {"atom", n.Atom != nil}} {
		if k.is {
			kinds = append(kinds, k.name)
		}
	}
	return kinds
}

// Kind returns the name of the sink's key, such as webhook.
func (n Notify) Kind() string { return strings.Join(n.kinds(), " and ") }

func (m *Monitor) checkNotify(getenv func(string) (string, bool)) error {
	var errs []error
	if len(m.Notify) == 0 {
		errs = append(errs, errors.New("notify is empty: nobody would be told"))
	}
	errs = append(errs, m.checkHeartbeat())
	for _, name := range slices.Sorted(maps.Keys(m.Notify)) {
		for _, err := range m.Notify[name].check(getenv) {
			errs = append(errs, fmt.Errorf("notify %q: %w", name, err))
		}
	}
	return errors.Join(errs...)
}

// check says what is wrong with a sink, and reads the secrets of the environment.
func (n Notify) check(getenv func(string) (string, bool)) (errs []error) {
	want := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	secret := func(what, file, env string, value *string) {
		want(file == "" || env == "", "both %s_file and %s_env; want one", what, what)
		if env != "" {
			var ok bool
			*value, ok = getenv(env)
			want(ok && *value != "", "environment variable %s is not set or empty", env)
		}
	}
	want(len(n.kinds()) == 1, "want exactly one of jsonl, webhook, smtp, github, exec and atom, has %s", orNothing(n.Kind()))
	want(slices.Contains([]string{"", "info", "warning", "critical"}, n.MinSeverity),
		"min_severity %q is not info, warning or critical", n.MinSeverity)
	if l := n.Limit; l != nil {
		want(l.Off != (l.Max > 0), "limit wants a max above 0, or off: true")
		want(!l.Off || l.Window == 0, "limit is off, and has a window")
	}
	if w := n.Webhook; w != nil {
		want(w.URL != "" || w.URLFile != "", "the webhook has no url")
		want(w.URL == "" || w.URLFile == "", "both url and url_file; want one")
		want(w.Template == "" || w.TemplateFile == "", "both template and template_file; want one")
		secret("secret", w.SecretFile, w.SecretEnv, &w.Secret)
	}
	if s := n.SMTP; s != nil {
		want(s.Server != "", "smtp has no server")
		want(s.From != "", "smtp has no from")
		want(len(s.To) > 0, "smtp has no to: nobody would get mail")
		secret("password", s.PasswordFile, s.PasswordEnv, &s.Password)
	}
	if g := n.GitHub; g != nil {
		want(g.Repository != "", "github has no repository")
		want(g.TokenFile != "" || g.TokenEnv != "", "github has neither token_file nor token_env")
		secret("token", g.TokenFile, g.TokenEnv, &g.Token)
	}
	if n.Exec != nil {
		want(len(n.Exec.Command) > 0, "exec has no command")
	}
	if n.Atom != nil {
		want(n.Atom.Path != "", "atom has no path")
	}
	return errs
}

func orNothing(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

// resolveNotify makes the paths in notify and heartbeat absolute.
func (m *Monitor) resolveNotify() {
	if m.Heartbeat != nil {
		m.Heartbeat.URLFile = resolve(m.Dir, m.Heartbeat.URLFile)
	}
	for name, n := range m.Notify {
		paths := []*string{&n.JSONL}
		if w := n.Webhook; w != nil {
			paths = append(paths, &w.URLFile, &w.SecretFile, &w.TemplateFile)
		}
		if s := n.SMTP; s != nil {
			paths = append(paths, &s.CAFile, &s.PasswordFile)
		}
		if n.GitHub != nil {
			paths = append(paths, &n.GitHub.TokenFile)
		}
		if n.Exec != nil && len(n.Exec.Command) > 0 {
			paths = append(paths, &n.Exec.Command[0])
		}
		if n.Atom != nil {
			paths = append(paths, &n.Atom.Path)
		}
		for _, p := range paths {
			*p = resolve(m.Dir, *p)
		}
		m.Notify[name] = n
	}
}
