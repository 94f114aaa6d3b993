package config

import (
	"errors"
	"fmt"
)

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
	// An extension of the certificate and the values that are watched for, whoever it is for.
	Extension *Extension `yaml:"extension,omitempty"`
	// Number of the repository (extension 1.15 of its certificates), which stays what it is when the
	// name is deleted and registered again. Default: not compared.
	RepositoryID string `yaml:"repository_id,omitempty"`
	// Number of its owner (extension 1.17). Default: not compared.
	OwnerID string `yaml:"owner_id,omitempty"`
	// What explains an entry. Default: nothing is expected, and every match is reported as info.
	Expect Expect `yaml:"expect,omitempty"`
	// Rules to switch on or off for this identity, such as id.seen, with their parameters.
	Rules map[string]RuleParams `yaml:"rules,omitempty"`
	// Names below notify. Default: all.
	Notify []string `yaml:"notify,omitempty"`
}

// Extension is a certificate extension.
type Extension struct {
	// Its object identifier, such as 1.3.6.1.4.1.57264.1.18.
	ID string `yaml:"id"`
	// Texts of which it must be one, exactly.
	Values []string `yaml:"values"`
}

// Expect says what explains an entry.
type Expect struct {
	// The OpenID Connect issuers that may vouch for the identity.
	Issuers []string `yaml:"issuers,omitempty"`
	// Paths of workflows in the repository, such as .github/workflows/release.yml, or their whole
	// URIs; * stands for any run of characters.
	Workflows []string `yaml:"workflows,omitempty"`
	// Branches and tags, such as refs/tags/v*. An entry that does not say its ref is unexpected; so it
	// is with all that is expected.
	Refs []string `yaml:"refs,omitempty"`
	// Events that start the workflow, such as push.
	Triggers []string `yaml:"triggers,omitempty"`
	// github-hosted or self-hosted.
	Runner string `yaml:"runner,omitempty"`
	// Deployment environments.
	Environments []string `yaml:"environments,omitempty"`
	// Where the owner lists what is meant to be signed.
	Authorize *Authorize `yaml:"authorize,omitempty"`
}

// RuleParams is what a rule is told. Which rule takes which is in docs/monitor.md.
type RuleParams struct {
	// Switches off a rule that is on by default.
	Off bool `yaml:"off,omitempty"`
	// How many are still usual.
	Max int `yaml:"max,omitempty"`
	// In which they are counted; or a tolerance.
	Window Duration `yaml:"window,omitempty"`
	// How long something must last, or must have been silent.
	After Duration `yaml:"after,omitempty"`
	// How long something may be late.
	Grace Duration `yaml:"grace,omitempty"`
	// What is usual all the same.
	Allow []string `yaml:"allow,omitempty"`
	// Hexadecimal SHA-256 of public keys or certificates.
	Keys []string `yaml:"keys,omitempty"`
	// Names of witnesses.
	Witnesses []string `yaml:"witnesses,omitempty"`
	// A file to compare with.
	File string `yaml:"file,omitempty"`
	// Hours of the day, such as "09:00-18:00".
	Hours string `yaml:"hours,omitempty"`
	// Days of the week: mon to sun.
	Days []string `yaml:"days,omitempty"`
	// Time zone of the hours. Default: UTC.
	Zone string `yaml:"zone,omitempty"`
}

func (m *Monitor) checkWatch() error {
	var errs []error
	if m.Identities == nil {
		errs = append(errs, errors.New("identities is missing: nothing would be watched (\"identities: []\" checks the logs alone)"))
	}
	for i, file := range m.CTKeys {
		if file == "" {
			errs = append(errs, fmt.Errorf("ct_keys: file %d has no name", i+1))
		}
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
