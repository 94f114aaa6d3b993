package oidc

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"

	"golang.org/x/net/publicsuffix"
)

// legacyTypes are the deprecated issuer types that name a CI provider.
var legacyTypes = map[string]bool{
	"github-workflow": true, "gitlab-pipeline": true, "buildkite-job": true, "codefresh-workflow": true,
}

// foreignKeys lists well-known issuers whose keys are served by another host.
var foreignKeys = map[string][]string{
	"https://accounts.google.com": {"www.googleapis.com"},
}

var (
	issuerClaimPath   = regexp.MustCompile(`^\$(\.[A-Za-z0-9_-]+)+$`)
	spiffeTrustDomain = regexp.MustCompile(`^[a-z0-9._-]{1,255}$`)
)

// compile checks one entry under its map key.
func (e issuerEntry) compile(key string, wildcard bool, providers map[string]*provider) (*Issuer, error) {
	i := &Issuer{
		URL: key, Wildcard: wildcard, Audience: e.ClientID, Type: e.Type,
		SPIFFETrustDomain: strings.TrimPrefix(e.SPIFFETrustDomain, "spiffe://"), SubjectDomain: e.SubjectDomain,
		ChallengeClaim: e.ChallengeClaim, SkipEmailVerification: e.SkipEmailVerification,
		caCert: []byte(e.CACert), jwksHosts: append(foreignKeys[key], e.JWKSHosts...),
	}
	errs := []error{i.compileURL(e.IssuerURL), i.compileType(e, providers)}
	if e.ClientID == "" {
		errs = append(errs, errors.New("client-id, the required audience, is missing"))
	}
	if i.ChallengeClaim == "" {
		i.ChallengeClaim = "sub"
		if i.Type == TypeEmail {
			i.ChallengeClaim = "email"
		}
	}
	if i.ChallengeClaim != "email" && i.ChallengeClaim != "sub" {
		errs = append(errs, fmt.Errorf("challenge-claim %q: want email or sub", e.ChallengeClaim))
	}
	if e.CACert != "" && !x509.NewCertPool().AppendCertsFromPEM([]byte(e.CACert)) {
		errs = append(errs, errors.New("ca-cert holds no PEM certificate"))
	}
	if e.IssuerClaim != "" {
		switch {
		case i.Type != TypeEmail:
			errs = append(errs, errors.New("issuer-claim is for email issuers only"))
		case !issuerClaimPath.MatchString(e.IssuerClaim):
			errs = append(errs, fmt.Errorf("issuer-claim %q: want a path such as $.federated_claims.connector_id", e.IssuerClaim))
		default:
			i.issuerClaim = strings.Split(e.IssuerClaim, ".")[1:]
		}
	}
	if e.SkipEmailVerification && i.Type != TypeEmail {
		errs = append(errs, errors.New("skip-email-verification is for email issuers only"))
	}
	return i, errors.Join(errs...)
}

// compileURL checks the map key as an issuer URL or pattern, and that issuer-url agrees with it.
func (i *Issuer) compileURL(issuerURL string) error {
	if issuerURL != i.URL && (issuerURL != "" || !i.Wildcard) {
		return fmt.Errorf("issuer-url %q differs from its key", issuerURL)
	}
	u, err := url.Parse(strings.ReplaceAll(i.URL, "*", "x"))
	if err != nil {
		return fmt.Errorf("parsing issuer URL: %w", err)
	}
	if u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.User != nil || strings.ContainsAny(i.URL, "?#") {
		return errors.New("an issuer is an https URL without user, query and fragment")
	}
	if u.Scheme == "http" && !isLoopbackName(u.Hostname()) {
		return errors.New("plain http is for loopback issuers only")
	}
	if !i.Wildcard {
		if strings.Contains(i.URL, "*") {
			return errors.New("a * belongs into meta-issuers")
		}
		return nil
	}
	// A * in the registrable part of the host would let anyone who buys a domain in.
	_, rest, _ := strings.Cut(i.URL, "://")
	host, _, _ := strings.Cut(rest, "/")
	name, _, _ := strings.Cut(host, ":")
	if strings.Contains(name, "*") {
		owned, err := publicsuffix.EffectiveTLDPlusOne(strings.ReplaceAll(name, "*", "x"))
		if err != nil || !strings.HasSuffix(name, "."+owned) {
			return errors.New("a * may stand left of the registrable domain only")
		}
	}
	i.pattern = compilePattern(i.URL)
	return nil
}

// compileType checks what the issuer's type needs.
func (i *Issuer) compileType(e issuerEntry, providers map[string]*provider) error {
	if e.CIProvider != "" && e.Type != TypeCIProvider {
		return fmt.Errorf("ci-provider does not fit type %q", e.Type)
	}
	switch e.Type {
	case TypeEmail, TypeKubernetes, TypeChainguard:
		return nil
	case TypeCIProvider:
		p, ok := providers[e.CIProvider]
		if !ok || p.preset {
			return fmt.Errorf("ci-provider %q has no ci-issuer-metadata", e.CIProvider)
		}
		i.provider = p
		return nil
	case TypeSPIFFE:
		if i.Wildcard {
			return errors.New("many issuers for one SPIFFE trust domain: spiffe cannot be a meta issuer")
		}
		if !spiffeTrustDomain.MatchString(i.SPIFFETrustDomain) {
			return fmt.Errorf("spiffe-trust-domain %q is not a trust domain", e.SPIFFETrustDomain)
		}
		return nil
	case TypeURI, TypeUsername:
		return i.compileSubjectDomain()
	}
	if legacyTypes[e.Type] {
		i.Type, i.provider = TypeCIProvider, providers[e.Type]
		return nil
	}
	return fmt.Errorf("unknown type %q", e.Type)
}

// compileSubjectDomain checks that an issuer may speak for its subject domain: the two share a
// registrable domain, by the public suffix list rather than by counting labels.
func (i *Issuer) compileSubjectDomain() error {
	if i.Wildcard {
		return fmt.Errorf("type %s cannot be a meta issuer", i.Type)
	}
	iss, err := url.Parse(i.URL)
	if err != nil {
		return fmt.Errorf("parsing issuer URL: %w", err)
	}
	domain := i.SubjectDomain
	if i.Type == TypeURI {
		u, err := url.Parse(domain)
		if err != nil || u.Host == "" || u.Scheme != iss.Scheme || strings.Trim(u.Path, "/") != "" {
			return fmt.Errorf("subject-domain %q: want %s:// and a host", domain, iss.Scheme)
		}
		domain = u.Hostname()
	}
	if domain == "" || strings.ContainsAny(domain, "/:!@ ") {
		return fmt.Errorf("subject-domain %q is not a domain", domain)
	}
	if domain == iss.Hostname() {
		return nil
	}
	a, errA := publicsuffix.EffectiveTLDPlusOne(domain)
	b, errB := publicsuffix.EffectiveTLDPlusOne(iss.Hostname())
	if errA != nil || errB != nil || a != b {
		return fmt.Errorf("subject-domain %q and the issuer's host have no registrable domain in common", domain)
	}
	return nil
}
