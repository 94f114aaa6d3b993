package main

import (
	"flag"
	"fmt"
	"os"
	"strings"

	"tallywood/internal/keys"
	"tallywood/log/verify"
)

// verifyFlags are the flags of "tallywood verify".
type verifyFlags struct {
	bundle, proof             string
	identity, identityPattern string
	issuer, issuerPattern     string
	key                       string
	predicate                 string
	trust, trustedRoot        string
	policy                    string
	json                      bool
}

func newVerifyFlags(fs *flag.FlagSet) *verifyFlags {
	f := new(verifyFlags)
	fs.StringVar(&f.bundle, "bundle", "", "`FILE` with the Sigstore bundle")
	fs.StringVar(&f.proof, "proof", "", "`FILE` with the tlog-proof of a log that took the file as an entry, instead of a bundle")
	fs.StringVar(&f.identity, "certificate-identity", "", "`IDENTITY` that must have signed, exactly")
	fs.StringVar(&f.identityPattern, "certificate-identity-regexp", "", "`PATTERN` that matches the whole identity, instead")
	fs.StringVar(&f.issuer, "certificate-oidc-issuer", "", "`URL` of the OpenID Connect issuer that must have vouched for it")
	fs.StringVar(&f.issuerPattern, "certificate-oidc-issuer-regexp", "", "`PATTERN` that matches the whole issuer, instead")
	fs.StringVar(&f.key, "key", "", "`FILE` with the public key (PEM) that must have signed, for bundles without\na certificate; takes the place of identity and issuer")
	fs.StringVar(&f.predicate, "type", "", "predicate `TYPE` that the attestation must have: a URI, or cosign's name for\none: custom, cyclonedx, link, openvex, slsaprovenance, slsaprovenance02,\nslsaprovenance1, spdx, spdxjson, vuln")
	fs.StringVar(&f.trust, "trust", "", trustUsage)
	fs.StringVar(&f.trustedRoot, "trusted-root", "", "`FILE` with the trusted root, instead of a trust directory; wants --policy")
	fs.StringVar(&f.policy, "policy", "", "`FILE` with the tlog-policy the checkpoint must satisfy, or none\n(default policy.txt in the trust directory)")
	fs.BoolVar(&f.json, "json", false, "print the result as JSON")
	return f
}

// options reads what the flags name.
func (f *verifyFlags) options(fs *flag.FlagSet) (verify.Options, error) {
	if err := f.check(fs); err != nil {
		return verify.Options{}, err
	}
	o := verify.Options{Identity: f.identity, IdentityPattern: f.identityPattern, Issuer: f.issuer, IssuerPattern: f.issuerPattern}
	var err error
	if f.key != "" {
		if o.Key, err = keys.ReadPublic(f.key); err != nil {
			return o, usagef("reading key: %w", err)
		}
	}
	if o.PredicateType, err = predicateType(f.predicate); err != nil {
		return o, err
	}
	if f.trustedRoot == "" {
		tr, err := readTrust(f.trust, f.policy)
		o.TrustedRoot, o.Policy, o.NoPolicy = tr.root, tr.policy, tr.policy == nil
		return o, err
	}
	if o.TrustedRoot, err = os.ReadFile(f.trustedRoot); err != nil {
		return o, usagef("reading trusted root: %w", err)
	}
	o.Policy, err = readPolicy("", f.policy)
	o.NoPolicy = o.Policy == nil
	return o, err
}

// check looks for flags that are missing, or are too many.
func (f *verifyFlags) check(fs *flag.FlagSet) error {
	for _, pair := range [][2]string{
		{"certificate-identity", "certificate-identity-regexp"}, {"certificate-oidc-issuer", "certificate-oidc-issuer-regexp"},
		{"key", "certificate-identity"}, {"key", "certificate-identity-regexp"},
		{"key", "certificate-oidc-issuer"}, {"key", "certificate-oidc-issuer-regexp"}, {"trusted-root", "trust"},
	} {
		if fs.Lookup(pair[0]).Value.String() != "" && fs.Lookup(pair[1]).Value.String() != "" {
			return usagef("--%s and --%s exclude each other", pair[0], pair[1])
		}
	}
	want := []string{"bundle"}
	if f.key == "" && f.identityPattern == "" {
		want = append(want, "certificate-identity")
	}
	if f.key == "" && f.issuerPattern == "" {
		want = append(want, "certificate-oidc-issuer")
	}
	if err := wantFlags(fs, want...); err != nil {
		return hinted(exitUsage, err, "a signature means something only with the one who made it, and who vouched for them; or else --key FILE says whose key it was")
	}
	if f.trustedRoot != "" && f.policy == "" {
		return hinted(exitUsage, wantFlags(fs, "policy"), "a trusted root names no witnesses; --policy none leaves them out")
	}
	return nil
}

// predicateTypes are the names that cosign has for types of attestations.
var predicateTypes = map[string]string{
	"custom":           "https://cosign.sigstore.dev/attestation/v1",
	"cyclonedx":        "https://cyclonedx.org/bom",
	"link":             "https://in-toto.io/Link/v1",
	"openvex":          "https://openvex.dev/ns",
	"slsaprovenance":   "https://slsa.dev/provenance/v0.2",
	"slsaprovenance02": "https://slsa.dev/provenance/v0.2",
	"slsaprovenance1":  "https://slsa.dev/provenance/v1",
	"spdx":             "https://spdx.dev/Document",
	"spdxjson":         "https://spdx.dev/Document",
	"vuln":             "https://cosign.sigstore.dev/attestation/vuln/v1",
}

// predicateType returns the URI that --type means.
func predicateType(name string) (string, error) {
	if uri, ok := predicateTypes[name]; ok {
		return uri, nil
	}
	if name != "" && !strings.Contains(name, ":") {
		return "", hinted(exitUsage, fmt.Errorf("--type %q: want a URI, or a name that stands for one", name),
			"\"tallywood verify --help\" lists the names")
	}
	return name, nil
}
