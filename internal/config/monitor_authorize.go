package config

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
)

// Authorize says where the owner of an identity lists what is meant to be signed with it.
type Authorize struct {
	// Whether a signature that nothing in the manifests explains is an alert (id.unauthorized). Default:
	// false; then they serve id.missing alone.
	Required bool `yaml:"required,omitempty"`
	// How long a signature may be ahead of what explains it. Default: 15m.
	Grace Duration `yaml:"grace,omitempty"`
	// Whether entries of certificate logs must be explained too. They have no digest: their run, or their
	// commit and tag, must be listed. Default: false.
	Certificates bool `yaml:"certificates,omitempty"`
	// Files and URLs of manifests, of which any may explain an entry.
	From []string `yaml:"from"`
	// Files with the verifier keys (vkeys, one a line) of which one must have signed each manifest.
	Keys []string `yaml:"keys,omitempty"`
	// Who must have signed each manifest if it has no signature in itself: the Sigstore bundle is beside
	// it, with .sigstore.json after its name.
	Bundle *AuthorizeBundle `yaml:"bundle,omitempty"`
}

// AuthorizeBundle says whose Sigstore bundle counts on a manifest.
type AuthorizeBundle struct {
	// The subject alternative name in the certificate, exactly.
	Identity string `yaml:"identity"`
	// The OpenID Connect issuer in it, exactly.
	Issuer string `yaml:"issuer"`
	// File with the trusted root (trusted_root.json) that the bundle is verified against.
	TrustedRoot string `yaml:"trusted_root"`
	// The tlog-policy that the bundle's checkpoint must satisfy; the word none is one without witnesses.
	Policy string `yaml:"policy"`
}

// missingRule is the rule that tells of what was authorized and never came.
const missingRule = "id.missing"

// checkAuthorize checks the authorizations of all identities, and resolves their paths.
func (m *Monitor) checkAuthorize() error {
	var errs []error
	for i := range m.Identities {
		id := &m.Identities[i]
		a := id.Expect.Authorize
		here, named := id.Rules[missingRule]
		everywhere, namedForAll := m.Rules[missingRule]
		missing := named && !here.Off || !named && namedForAll && !everywhere.Off
		if a == nil {
			if named && !here.Off {
				errs = append(errs, fmt.Errorf("identity %d (%q): rule id.missing needs expect.authorize, which says what is to be there", i+1, id.Name))
			}
			continue
		}
		if !a.Required && !missing {
			errs = append(errs, fmt.Errorf("identity %d (%q): authorize does nothing: want \"required: true\", or the rule id.missing", i+1, id.Name))
		}
		if (a.Required && !a.Certificates || missing) && len(m.Logs) > 0 && !slices.ContainsFunc(m.Logs, func(l MonitorLog) bool { return l.Kind != "ct" }) {
			errs = append(errs, fmt.Errorf("identity %d (%q): authorize: all logs are certificate logs, in which nothing is signed; \"certificates: true\" has certificates explained", i+1, id.Name))
		}
		if err := a.check(); err != nil {
			errs = append(errs, fmt.Errorf("identity %d (%q): authorize: %w", i+1, id.Name, err))
		}
		a.resolve(m.Dir)
	}
	return errors.Join(errs...)
}

func (a *Authorize) check() error {
	var errs []error
	if len(a.From) == 0 {
		errs = append(errs, errors.New("from is empty; want files or URLs of manifests"))
	}
	if (len(a.Keys) == 0) == (a.Bundle == nil) {
		errs = append(errs, errors.New("want either keys or bundle: whose signature counts"))
	}
	if !a.Required && (a.Grace != 0 || a.Certificates) {
		errs = append(errs, errors.New("grace and certificates are for what is required; id.missing has a grace of its own"))
	}
	for _, from := range a.From {
		u, err := url.Parse(from)
		if from == "" || strings.Contains(from, "://") && (err != nil || u.Scheme != "https" && (u.Scheme != "http" || !Loopback(u.Hostname()))) {
			errs = append(errs, fmt.Errorf("from: %q is neither a file nor an https URL, nor an http URL of this machine", from))
		}
	}
	if b := a.Bundle; b != nil && (b.Identity == "" || b.Issuer == "" || b.TrustedRoot == "" || b.Policy == "") {
		errs = append(errs, errors.New("bundle: want identity, issuer, trusted_root and policy (the word none is one without witnesses)"))
	}
	return errors.Join(errs...)
}

func (a *Authorize) resolve(dir string) {
	for i, from := range a.From {
		if !strings.Contains(from, "://") {
			a.From[i] = resolve(dir, from)
		}
	}
	for i, path := range a.Keys {
		a.Keys[i] = resolve(dir, path)
	}
	if b := a.Bundle; b != nil {
		b.TrustedRoot = resolve(dir, b.TrustedRoot)
		if b.Policy != "none" {
			b.Policy = resolve(dir, b.Policy)
		}
	}
}
