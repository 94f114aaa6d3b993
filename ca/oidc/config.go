package oidc

import (
	"bytes"
	"cmp"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"

	"go.yaml.in/yaml/v4"
)

// Issuer types, in the schema's words. They decide which identity a token proves.
const (
	TypeEmail      = "email"
	TypeCIProvider = "ci-provider"
	TypeKubernetes = "kubernetes"
	TypeSPIFFE     = "spiffe"
	TypeURI        = "uri"
	TypeUsername   = "username"
	TypeChainguard = "chainguard-identity"
)

// presetsYAML is the ci-issuer-metadata of the deprecated issuer types that named a CI provider
// directly (github-workflow and its kin), so that they mean what they always meant.
//
//go:embed presets.yaml
var presetsYAML []byte

// Config is a validated issuer configuration. Only [ParseConfig] and [LoadConfig] make one.
type Config struct {
	exact  map[string]*Issuer
	meta   []*Issuer // no two patterns match the same URL
	sorted []Issuer
}

// Issuer is one configured issuer.
type Issuer struct {
	URL                   string // the iss claim, or a pattern when Wildcard is set
	Wildcard              bool   // URL comes from meta-issuers: * stands for one or more of [-_a-zA-Z0-9]
	Audience              string // required in the aud claim
	Type                  string // one of the Type constants
	ChallengeClaim        string // "email" or "sub": what clients are told to sign
	SPIFFETrustDomain     string
	SubjectDomain         string
	SkipEmailVerification bool

	issuerClaim []string // path below the claims, for federated logins
	caCert      []byte   // PEM added to the system's roots
	jwksHosts   []string // hosts besides the issuer's own that may serve its keys
	provider    *provider
	pattern     pattern
}

// Issuers returns the configured issuers, exact ones first, each group ordered by URL.
func (c *Config) Issuers() []Issuer { return slices.Clone(c.sorted) }

// find returns the configuration for an issuer URL. The URL only selects: nothing is trusted yet.
func (c *Config) find(iss string) (*Issuer, bool) {
	if i, ok := c.exact[iss]; ok {
		return i, true
	}
	for _, i := range c.meta {
		if i.pattern.match(iss) {
			return i, true
		}
	}
	return nil, false
}

// document is the file: Fulcio's schema, in YAML with kebab-case keys or JSON with CamelCase ones.
type document struct {
	Define      any                       `yaml:"define" json:"-"` // anchors of YAML users; never read
	Issuers     map[string]issuerEntry    `yaml:"oidc-issuers" json:"OIDCIssuers"`
	MetaIssuers map[string]issuerEntry    `yaml:"meta-issuers" json:"MetaIssuers"`
	Providers   map[string]*providerEntry `yaml:"ci-issuer-metadata" json:"CIIssuerMetadata"`
}

type issuerEntry struct {
	IssuerURL             string   `yaml:"issuer-url" json:"IssuerURL"`
	ClientID              string   `yaml:"client-id" json:"ClientID"`
	Type                  string   `yaml:"type" json:"Type"`
	CIProvider            string   `yaml:"ci-provider" json:"CIProvider"`
	IssuerClaim           string   `yaml:"issuer-claim" json:"IssuerClaim"`
	SubjectDomain         string   `yaml:"subject-domain" json:"SubjectDomain"`
	SPIFFETrustDomain     string   `yaml:"spiffe-trust-domain" json:"SPIFFETrustDomain"`
	ChallengeClaim        string   `yaml:"challenge-claim" json:"ChallengeClaim"`
	CACert                string   `yaml:"ca-cert" json:"CACert"`
	SkipEmailVerification bool     `yaml:"skip-email-verification" json:"SkipEmailVerification"`
	Description           string   `yaml:"description" json:"Description"`
	Contact               string   `yaml:"contact" json:"Contact"`
	Environment           string   `yaml:"environment" json:"Environment"`
	JWKSHosts             []string `yaml:"jwks-hosts" json:"JWKSHosts"` // ours: see Issuer.jwksHosts
}

type providerEntry struct {
	Defaults   map[string]string `yaml:"default-template-values" json:"DefaultTemplateValues"`
	Extensions extensionEntries  `yaml:"extension-templates" json:"ExtensionTemplates"`
	SAN        string            `yaml:"subject-alternative-name-template" json:"SubjectAlternativeNameTemplate"`
	// Overridable (ours) lists the defaults a claim of the same name may replace.
	Overridable []string `yaml:"overridable-defaults" json:"OverridableDefaults"`
}

// LoadConfig reads and validates the file at path. A missing file is an error: there are no
// built-in issuers to fall back to.
func LoadConfig(path string) (*Config, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading issuers: %w", err)
	}
	c, err := ParseConfig(data)
	if err != nil {
		return nil, fmt.Errorf("parsing issuers %s: %w", path, err)
	}
	return c, nil
}

// ParseConfig validates an issuer configuration in Fulcio's schema
// (https://github.com/sigstore/fulcio/blob/main/docs/oidc.md), strictly: unknown keys, unknown
// types, templates that do not parse and patterns that overlap are errors, and so is a file that
// trusts nobody. All problems are reported at once.
func ParseConfig(data []byte) (*Config, error) {
	doc, err := decode(data)
	if err != nil {
		return nil, err
	}
	if len(doc.Issuers)+len(doc.MetaIssuers) == 0 {
		return nil, errors.New("no issuer: at least one oidc-issuers or meta-issuers entry is needed")
	}
	providers, errs := compileProviders(doc.Providers)
	c := &Config{exact: make(map[string]*Issuer)}
	for url, e := range doc.Issuers {
		i, err := e.compile(url, false, providers)
		if err != nil {
			errs = append(errs, fmt.Errorf("issuer %q: %w", url, err))
			continue
		}
		c.exact[url] = i
	}
	for url, e := range doc.MetaIssuers {
		i, err := e.compile(url, true, providers)
		if err != nil {
			errs = append(errs, fmt.Errorf("meta issuer %q: %w", url, err))
			continue
		}
		for _, other := range c.meta {
			if i.pattern.overlaps(other.pattern) {
				errs = append(errs, fmt.Errorf("meta issuers %q and %q: one URL matches both", other.URL, url))
			}
		}
		c.meta = append(c.meta, i)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	for _, i := range c.exact {
		c.sorted = append(c.sorted, *i)
	}
	for _, i := range c.meta {
		c.sorted = append(c.sorted, *i)
	}
	slices.SortFunc(c.sorted, func(a, b Issuer) int {
		if a.Wildcard != b.Wildcard {
			return map[bool]int{false: -1, true: 1}[a.Wildcard]
		}
		return cmp.Compare(a.URL, b.URL)
	})
	return c, nil
}

// decode accepts YAML, or JSON when the first character is a brace.
func decode(data []byte) (*document, error) {
	doc := new(document)
	if !bytes.HasPrefix(bytes.TrimSpace(data), []byte("{")) {
		if err := yaml.Load(data, doc, yaml.WithKnownFields(), yaml.WithUniqueKeys()); err != nil {
			return nil, fmt.Errorf("decoding YAML: %w", err)
		}
		return doc, nil
	}
	// encoding/json keeps the last of two equal keys; reading the same text as YAML refuses them.
	var duplicates any
	if err := yaml.Load(data, &duplicates, yaml.WithUniqueKeys()); err != nil {
		return nil, fmt.Errorf("decoding JSON: %w", err)
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(doc); err != nil {
		return nil, fmt.Errorf("decoding JSON: %w", err)
	}
	return doc, nil
}

// compileProviders parses the file's CI providers and adds the presets it does not define itself.
func compileProviders(entries map[string]*providerEntry) (map[string]*provider, []error) {
	providers := make(map[string]*provider)
	preset := new(document)
	if err := yaml.Load(presetsYAML, preset, yaml.WithKnownFields()); err != nil {
		return nil, []error{fmt.Errorf("decoding built-in presets: %w", err)}
	}
	var errs []error
	for _, set := range []map[string]*providerEntry{preset.Providers, entries} {
		for name, e := range set {
			p, err := compileProvider(name, e)
			if err != nil {
				errs = append(errs, fmt.Errorf("ci-issuer-metadata %q: %w", name, err))
				continue
			}
			p.preset = e == preset.Providers[name]
			providers[name] = p
		}
	}
	return providers, errs
}
