package main

import (
	"log/slog"
	"strconv"
	"strings"
	"text/template"

	"tallywood/internal/keys"
)

// aboutFile is the page that tells others about the witness.
const aboutFile = "about.md"

// gaps are what the page lacks.
func (f *initFlags) gaps() []string {
	var out []string
	for _, part := range []struct {
		name    string
		missing bool
	}{
		{"operator", f.operator == ""}, {"contact", f.contact == ""}, {"URL", f.url == "" && len(f.bastions) == 0}, {"log lists", len(f.lists) == 0},
	} {
		if part.missing {
			out = append(out, part.name)
		}
	}
	return out
}

// prefixes are the URLs at which logs reach the witness.
func (f *initFlags) prefixes() ([]string, error) {
	if f.url != "" {
		return []string{f.url}, nil
	}
	var out []string
	for _, address := range f.bastions {
		b, err := openBastion(f.dir, bastionConfig{Address: address}, slog.New(slog.DiscardHandler))
		if err != nil {
			return nil, err
		}
		out = append(out, b.Prefix())
	}
	return out, nil
}

// about renders the page. What it has is what the witness network asks of a witness's about page
// (witness-network.org/participate): the key, the add-checkpoint URL, the log lists, and how often they
// are applied.
func (f *initFlags) about(w keys.Witness) (string, error) {
	prefixes, err := f.prefixes()
	if err != nil {
		return "", err
	}
	vkeys := append(w.VKeys(), "")
	cell := func(text string) string { return strings.ReplaceAll(text, "|", `\|`) }
	return render(aboutTemplate, map[string]any{
		"Name": f.name, "Operator": cell(f.operator), "Contact": cell(f.contact), "Prefixes": prefixes, "Lists": f.lists,
		"Ed25519": vkeys[0], "MLDSA": vkeys[1], "InAgent": f.agentKey != "", "Bastions": f.bastions,
	})
}

var aboutTemplate = template.Must(template.New(aboutFile).Parse(`# About the witness {{.Name}}

| | |
| --- | --- |
| Operator | {{or .Operator "(your name, or your organization's)"}} |
| Contact | {{or .Contact "(how to reach you)"}} |
{{range .Prefixes}}| add-checkpoint | {{.}}/add-checkpoint |
| Submission and monitoring prefix | {{.}} |
{{else}}| add-checkpoint | (the URL that reaches this witness)/add-checkpoint |
| Submission and monitoring prefix | (the URL that reaches this witness) |
{{end}}| Log lists | {{range $i, $l := .Lists}}{{if $i}}, {{end}}{{$l}}{{else}}(the lists you configure, or how a log applies){{end}} |
| Reconfiguration | lists are read every hour; every new log is added, and none is removed or changed because of a list |

## Public keys

For a witness line of a policy (c2sp.org/tlog-policy).

Ed25519, cosignature/v1:

    {{.Ed25519}}
{{if .MLDSA}}
ML-DSA-44:

    {{.MLDSA}}
{{end}}
## How it is run

Software: tallywood-witness. It implements c2sp.org/tlog-witness and c2sp.org/tlog-cosignature{{if .Bastions}}, and is
reached through bastions (c2sp.org/https-bastion){{end}}. The submission prefix is a page with its state and its logs.
{{if .InAgent}}The Ed25519 key is held by an ssh-agent, not by the program.
{{end}}`))

// config renders the configuration.
func (f *initFlags) config(keys.Witness) (string, error) {
	about := f.operator
	if f.contact != "" {
		about = strings.TrimPrefix(about+". Contact: "+f.contact, ". ")
	}
	seed, agentKey := f.seedFile(), ""
	if f.ed25519Only {
		seed = ""
	}
	if f.agentKey != "" {
		agentKey = agentScheme + f.agentKey
	}
	return render(configTemplate, map[string]any{
		"Name": f.name, "Seed": seed, "Encrypted": f.encrypt, "AgentKey": agentKey, "About": about,
		"Listen": f.listen, "Bastions": f.bastions, "Lists": f.lists,
	})
}

// render fills in a template.
func render(t *template.Template, data any) (string, error) {
	var b strings.Builder
	if err := t.Execute(&b, data); err != nil {
		return "", err
	}
	return b.String(), nil
}

// configTemplate is the configuration that init writes. Double quotes of Go are double quotes of YAML.
var configTemplate = template.Must(template.New(configFile).Funcs(template.FuncMap{"quote": strconv.Quote}).Parse(
	`# Configuration of a Tallywood witness. Paths are relative to this file.

# The name in its keys. A witness keeps its name for ever: with another one it has other keys.
name: {{quote .Name}}
{{if .Seed}}
# The secret {{if .AgentKey}}the ML-DSA-44 key is{{else}}both keys are{{end}} derived from. Keep a copy offline; never run two witnesses with it.
seed: {{.Seed}}
{{if .Encrypted}}# The file with its passphrase (also: --passphrase-file FILE, systemd's credential
# tallywood-witness.passphrase). Without one serve asks at the terminal.
# passphrase_file: FILE
{{end}}{{end}}{{if .AgentKey}}
# The Ed25519 key, which the ssh-agent at $SSH_AUTH_SOCK (or agent_socket: PATH) holds.
ed25519: {{quote .AgentKey}}
{{end}}
# What the witness remembers. Never restore an old copy of it, and never share it with another
# seed: a witness that forgets can be made to sign a fork.
state: objects

# Where to copy what is published, for a web server or another machine, best on another disk: a state
# that was restored, and another instance with this seed, are noticed by it.
# export: /srv/witness

# Shown on the status page: who runs this witness, how to reach them.
about: {{quote .About}}
{{if .Listen}}
# Address to listen on (also: --listen HOST:PORT). It speaks plain HTTP, for a proxy before it, unless
# it has a certificate, which is read again when its files change:
#   tls: {certificate: cert.pem, key: key.pem}
listen: {{quote .Listen}}
{{else}}
# No listener: it is reached through bastions alone. To have one too: listen: 127.0.0.1:7380
{{end}}
# Bastions to be reached through (also: --bastion ADDR). Each has a key of ours, in bastions/. SIGHUP
# reads this again. A bastion may have url: (where clients reach it, if not at https://ADDRESS),
# key: and ca: (files).
bastions:{{range .Bastions}}
  - address: {{quote .}}{{else}} []{{end}}

# Address of Prometheus metrics at /metrics (also: --metrics-address A); default none.
# metrics_address: 127.0.0.1:7381

# Logs to cosign, in the witness network's format logs/v0 (also: --logs FILE, --list URL).
logs: []
lists:{{range .Lists}}
  - {{quote .}}{{else}} []{{end}}
`))
