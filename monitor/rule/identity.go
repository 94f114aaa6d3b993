package rule

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// An Identity is something to watch for. Exactly one of Email to Extension is set.
type Identity struct {
	Name string // shown in events; unique, not empty

	Email      string    // a mail address, without regard to case
	Domain     string    // a domain and all below it: in mail addresses, DNS names and URIs
	SAN        string    // any subject alternative name; * stands for any run of characters; case ignored
	Regex      string    // RE2 over the whole of a subject alternative name
	GitHub     string    // owner/repository or owner/*
	GitLab     string    // group/project on gitlab.com, or the URL of a project elsewhere
	Key        string    // hex SHA-256 of a SubjectPublicKeyInfo or certificate; "sha256:" may precede it
	Kubernetes string    // namespace/service-account; each part may be *
	Extension  Extension // an extension of the certificate, whoever it is for

	RepositoryID string // of the source repository (1.15); empty: not compared
	OwnerID      string // of its owner (1.17); likewise

	Expect Expect        // what explains an entry; zero: nothing is expected
	Rules  map[ID]Params // opt-in rules that are on, and others that are off; before those of Options
	Notify []string      // names of the sinks that are told; empty: all
}

// Expect says which entries of an identity are explained. An empty field explains anything; of one
// that is not, an entry that does not say is not explained.
type Expect struct {
	Issuers      []string // OpenID Connect issuers, compared exactly
	Workflows    []string // paths in the repository, or URIs; * stands for any run of characters
	Refs         []string // likewise
	Triggers     []string // names of events
	Runner       string   // "github-hosted", "self-hosted"
	Environments []string // deployment environments

	Authorize    bool          // an authorization must explain a signature
	Grace        time.Duration // within which it must be there; 0: 15 minutes
	Certificates bool          // it must explain entries of certificate logs too, which have no digest
}

// An identity ready to be matched.
type watch struct {
	Identity                              // its Rules with those of Options that it does not name
	scope    func(ID) bool                // rules that can be on; nil: all
	match    func(*Signer) (string, bool) // the name or key that matched
	inBytes  func([]byte) bool            // whether lower-cased bytes hold what cannot but be there
	needle   needle
	project  *project // nil if it is none
	expected []string // issuers
	expects  []expectation
	likeness *likeness         // nil if id.lookalike is off
	retired  map[[32]byte]bool // keys and certificates of id.fingerprint-used
	foreign  bool              // used by whoever it is

	remembers []func(*judging) // the rules that need more than the entry, in order
	crossed   bool             // some of them compare logs

	// The same for entries of foreign repositories that called a workflow of the project, of which
	// nothing but the issuer is expected; and for entries that are not the identity's.
	called, muted *watch
}

// check says what is wrong with the authorizations that are expected.
func (e Expect) check() error {
	switch {
	case e.Grace < 0:
		return fmt.Errorf("grace %v for authorizations is negative", e.Grace)
	case !e.Authorize && (e.Grace != 0 || e.Certificates):
		return errors.New("authorizations have a grace time or are for certificates, and are not required")
	}
	return nil
}

// compile checks the identity and returns it ready for use; rules are for all identities.
func (i Identity) compile(rules map[ID]Params) (*watch, error) {
	var errs []error
	w := &watch{Identity: i, expected: slices.Clone(i.Expect.Issuers)}
	if i.Name == "" {
		errs = append(errs, errors.New("identity without name"))
	}
	w.Rules = maps.Clone(rules)
	if w.Rules == nil {
		w.Rules = map[ID]Params{}
	}
	maps.Copy(w.Rules, i.Rules)
	if _, named := w.Rules[IDSeen]; !named && i.Expect.empty() {
		w.Rules[IDSeen] = Params{} // else the identity would be watched for nothing
	}
	_, lookalikes := i.Rules[IDLookalike]
	if i.Expect.Authorize && w.Rules[IDUnauthorized].Off {
		errs = append(errs, fmt.Errorf("authorizations are required, and rule %q is off", IDUnauthorized))
	}
	errs = append(errs, i.checkRules(), i.Expect.check(), w.selector(), w.expectations(), w.resemble(lookalikes), w.remember())
	_, own := i.Rules[IDFingerprintUsed]
	w.retire(own)
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("identity %q: %w", i.Name, err)
	}
	var err error
	if w.called, err = w.scoped(ofCallers); err != nil {
		return nil, err
	}
	w.muted, err = w.scoped(func(ID) bool { return false })
	return w, err
}

// checkRules says what is wrong with the rules that the identity itself names.
func (i Identity) checkRules() error {
	var errs []error
	kind, _ := i.kind()
	for _, id := range slices.Sorted(maps.Keys(i.Rules)) {
		errs = append(errs, i.Rules[id].check(id, false))
		if kind != "" && !i.Rules[id].Off && slices.Contains(ofBuilds, id) && !slices.Contains(builds, kind) {
			errs = append(errs, fmt.Errorf("rule %q compares what certificates for %s identities never have", id, kind))
		}
	}
	return errors.Join(errs...)
}

// scoped returns w with no rules but those of a scope, and nothing expected.
func (w *watch) scoped(scope func(ID) bool) (*watch, error) {
	c := *w
	c.scope, c.Expect = scope, Expect{}
	return &c, c.remember()
}

// audited reports whether a rule runs on all entries in an audit.
func audited(id ID) bool {
	return strings.HasPrefix(string(id), "cert.") || strings.HasPrefix(string(id), "entry.")
}

// ofCallers reports whether a rule means something for the entry of a foreign repository that called
// a reusable workflow: its refs, commits, keys and numbers are not the identity's.
func ofCallers(id ID) bool { return audited(id) || id == IDSeen }

// rule returns the parameters of rule id for w, and whether it is on.
func (w *watch) rule(id ID) (Params, bool) {
	p, named := w.Rules[id]
	return p, !p.Off && (named || catalogue[id].Mode != OptIn) && (w.scope == nil || w.scope(id))
}

// on reports whether rule id is on for w.
func (w *watch) on(id ID) bool {
	_, on := w.rule(id)
	return on
}

// empty reports whether nothing is expected.
func (e Expect) empty() bool {
	return len(e.Issuers)+len(e.Workflows)+len(e.Refs)+len(e.Triggers)+len(e.Environments) == 0 && e.Runner == "" && !e.Authorize
}

// kind returns the name of the one selector that is set.
func (i Identity) kind() (string, error) {
	set := map[string]string{"email": i.Email, "domain": i.Domain, "san": i.SAN, "regex": i.Regex,
		"github": i.GitHub, "gitlab": i.GitLab, "key": i.Key, "kubernetes": i.Kubernetes, "extension": i.Extension.ID}
	maps.DeleteFunc(set, func(_, v string) bool { return v == "" })
	names := slices.Sorted(maps.Keys(set))
	if len(names) == 1 {
		return names[0], nil
	}
	found := "none"
	if len(names) > 1 {
		found = strings.Join(names, " and ")
	}
	return "", fmt.Errorf("%s set, must be one of email, domain, san, regex, github, gitlab, key, kubernetes, extension", found)
}
