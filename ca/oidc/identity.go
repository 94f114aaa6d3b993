package oidc

import (
	"encoding/json"
	"net/url"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxClaim bounds a claim, in bytes, that becomes part of a certificate.
const maxClaim = 2048

// SANKind is the kind of a subject alternative name.
type SANKind int

// The kinds of subject alternative name.
const (
	SANEmail    SANKind = iota + 1 // rfc822Name
	SANURI                         // uniformResourceIdentifier
	SANUsername                    // otherName 1.3.6.1.4.1.57264.1.7
)

// SAN is the one subject alternative name of a certificate.
type SAN struct {
	Kind  SANKind
	Value string // ASCII for SANEmail and SANURI
}

// Identity is what a verified token proves. Only [Verifier.Verify] makes one that means anything.
type Identity struct {
	// Issuer is the iss claim, or for federated logins the issuer behind it (issuer-claim).
	Issuer string
	// Subject is the sub claim.
	Subject string
	// SAN is the certificate's subject.
	SAN SAN
	// Extensions holds further certificate extensions by the last arc of their OID,
	// 1.3.6.1.4.1.57264.1.N with N in 2–6 and 9–23. Values are valid UTF-8 and never empty.
	Extensions map[int]string
	// Challenges are the values of the token over which a proof of possession may be signed:
	// clients take the email claim if it is verified, else sub, whatever the issuer's type.
	Challenges []string
	// Type is the issuer's type, fit for a metric label.
	Type string
}

// identify maps the claims of a verified token to an identity by the issuer's type.
func (i *Issuer) identify(iss string, claims map[string]any) (Identity, error) {
	sub, _ := claims["sub"].(string)
	if sub == "" {
		return Identity{}, refuse(ReasonSubject, "the sub claim is missing")
	}
	id := Identity{Issuer: iss, Subject: sub, Type: i.Type, Challenges: []string{sub}}
	if email, _ := claims["email"].(string); email != "" && email != sub {
		id.Challenges = append(id.Challenges, email)
	}
	var err error
	switch i.Type {
	case TypeEmail:
		err = i.identifyEmail(&id, claims)
	case TypeCIProvider:
		err = i.provider.identify(&id, claims)
	case TypeKubernetes:
		err = identifyKubernetes(&id, claims)
	case TypeSPIFFE:
		err = i.identifySPIFFE(&id)
	case TypeURI:
		err = i.identifyURI(&id)
	case TypeUsername:
		err = i.identifyUsername(&id)
	case TypeChainguard:
		id.SAN, err = absoluteURI(strings.TrimSuffix(iss, "/") + "/" + sub)
	}
	if err != nil {
		return Identity{}, err
	}
	for _, v := range []string{id.Issuer, id.Subject, id.SAN.Value} {
		if !isPlain(v) || v == "" {
			return Identity{}, refuse(ReasonClaim, "a claim of the identity is empty, too long or not plain text")
		}
	}
	return id, nil
}

func (i *Issuer) identifyEmail(id *Identity, claims map[string]any) error {
	email, _ := claims["email"].(string)
	if !isEmail(email) {
		return refuse(ReasonEmail, "the email claim is missing or not an address")
	}
	// Some providers write the boolean as text.
	switch verified := claims["email_verified"]; {
	case i.SkipEmailVerification, verified == true, verified == "true", verified == "True":
	default:
		return refuse(ReasonEmailNotVerified, "")
	}
	id.SAN = SAN{SANEmail, email}
	if i.issuerClaim == nil {
		return nil
	}
	var at any = claims
	for _, step := range i.issuerClaim {
		object, _ := at.(map[string]any)
		at = object[step]
	}
	federated, _ := at.(string)
	if federated == "" {
		return refuse(ReasonClaim, "claim %s, the federated issuer, is missing", strings.Join(i.issuerClaim, "."))
	}
	id.Issuer = federated
	return nil
}

func (p *provider) identify(id *Identity, claims map[string]any) error {
	values, err := p.values(claims)
	if err != nil {
		return err
	}
	san, err := p.san.render(values)
	if err != nil {
		return err
	}
	if id.SAN, err = absoluteURI(san); err != nil {
		return err
	}
	id.Extensions = make(map[int]string)
	for _, e := range p.extensions {
		v, err := e.render(values)
		if err != nil {
			return err
		}
		if !isPlain(v) {
			return refuse(ReasonClaim, "the value of extension %s is too long or not plain text", e.name)
		}
		if v != "" {
			id.Extensions[e.arc] = v
		}
	}
	return nil
}

// dnsName covers what Kubernetes allows in the names of namespaces and service accounts.
var dnsName = regexp.MustCompile(`^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$`)

func identifyKubernetes(id *Identity, claims map[string]any) error {
	k8s, _ := claims["kubernetes.io"].(map[string]any)
	namespace, _ := k8s["namespace"].(string)
	account, _ := k8s["serviceaccount"].(map[string]any)
	name, _ := account["name"].(string)
	if !dnsName.MatchString(namespace) || !dnsName.MatchString(name) {
		return refuse(ReasonClaim, "claim kubernetes.io has no valid namespace and serviceaccount.name")
	}
	id.SAN = SAN{SANURI, "https://kubernetes.io/namespaces/" + namespace + "/serviceaccounts/" + name}
	return nil
}

// spiffePath is a SPIFFE ID's path: segments that are never empty; dots alone are refused below.
var spiffePath = regexp.MustCompile(`^(/[A-Za-z0-9._-]+)*$`)

func (i *Issuer) identifySPIFFE(id *Identity) error {
	rest, ok := strings.CutPrefix(id.Subject, "spiffe://")
	domain, path, _ := strings.Cut(rest, "/")
	if path != "" || strings.HasSuffix(rest, "/") {
		path = "/" + path
	}
	for _, segment := range strings.Split(path, "/") {
		ok = ok && segment != "." && segment != ".."
	}
	if !ok || !spiffePath.MatchString(path) {
		return refuse(ReasonSubject, "the sub claim is not a SPIFFE ID")
	}
	if domain != i.SPIFFETrustDomain {
		return refuse(ReasonSubject, "the SPIFFE ID is outside the trust domain %s", i.SPIFFETrustDomain)
	}
	id.SAN = SAN{SANURI, id.Subject}
	return nil
}

func (i *Issuer) identifyURI(id *Identity) error {
	if isEmail(id.Subject) {
		return refuse(ReasonSubject, "the sub claim is an email address")
	}
	san, err := absoluteURI(id.Subject)
	if err != nil {
		return err
	}
	u, err := url.Parse(san.Value)
	domain, errDomain := url.Parse(i.SubjectDomain)
	if err != nil || errDomain != nil || u.Scheme != domain.Scheme || u.Host != domain.Host {
		return refuse(ReasonSubject, "the sub claim is not below %s", i.SubjectDomain)
	}
	id.SAN = san
	return nil
}

func (i *Issuer) identifyUsername(id *Identity) error {
	if strings.Contains(id.Subject, "!") || isEmail(id.Subject) {
		return refuse(ReasonSubject, "the sub claim is not a user name")
	}
	id.SAN = SAN{SANUsername, id.Subject + "!" + i.SubjectDomain}
	return nil
}

// absoluteURI normalises a URI as net/url writes it, which escapes what is not ASCII.
func absoluteURI(text string) (SAN, error) {
	u, err := url.Parse(text)
	if err != nil || u.Scheme == "" || u.Host == "" || u.User != nil {
		return SAN{}, refuse(ReasonClaim, "the identity is not an absolute URI")
	}
	san := u.String()
	if !isASCII(san) {
		return SAN{}, refuse(ReasonClaim, "the identity is not an ASCII URI")
	}
	return SAN{SANURI, san}, nil
}

// isPlain reports whether s may go into a certificate: bounded UTF-8 without control characters.
func isPlain(s string) bool {
	return len(s) <= maxClaim && utf8.ValidString(s) && !strings.ContainsFunc(s, unicode.IsControl)
}

func isASCII(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r >= utf8.RuneSelf })
}

// emailAddress is RFC 5321's dot-string at a host name of at least two labels. Quoted local parts
// and address literals are refused: nobody's identity, and every parser reads them differently.
var emailAddress = regexp.MustCompile(
	"^[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(\\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*" +
		`@([A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?$`)

func isEmail(s string) bool {
	local, domain, _ := strings.Cut(s, "@")
	return len(local) <= 64 && len(domain) <= 253 && emailAddress.MatchString(s)
}

// quoteName bounds a claim's name, which comes from the configuration or the token, for a message.
func quoteName(name string) string {
	if len(name) > 64 {
		name = name[:64]
	}
	quoted, err := json.Marshal(name)
	if err != nil {
		return "?"
	}
	return string(quoted)
}
