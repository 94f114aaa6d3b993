package trust

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strings"

	"tallywood/internal/keys"
)

// CheckTrustedRoot returns nil if clients can verify with the given trusted_root.json, and
// otherwise an error that names every rule it breaks.
func CheckTrustedRoot(file []byte) error {
	var root rootFile
	if err := decode(file, &root); err != nil {
		return fmt.Errorf("checking trusted root: %w", err)
	}
	var errs []error
	if root.MediaType != RootMediaType {
		errs = append(errs, fmt.Errorf("media type is %q; want %q", root.MediaType, RootMediaType))
	}
	seen := map[string]bool{}
	for i, l := range root.Logs {
		errs = append(errs, in("tlogs", i, l.check()), in("tlogs", i, unique(seen, l.LogID.KeyID)))
	}
	for i, l := range root.CTLogs {
		err := l.check()
		if err == nil && l.PublicKey.KeyDetails != detailsP256 {
			err = errors.New("its key is the one for notes; SCTs are signed with ECDSA P-256")
		}
		errs = append(errs, in("ctlogs", i, err), in("ctlogs", i, unique(seen, l.LogID.KeyID)))
	}
	for i, a := range root.CAs {
		errs = append(errs, in("certificateAuthorities", i, a.check(false)))
	}
	for i, a := range root.TSAs {
		errs = append(errs, in("timestampAuthorities", i, a.check(true)))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("checking trusted root: %w", err)
	}
	return nil
}

// CheckSigningConfig returns nil if clients can sign with the given signing_config.v0.2.json,
// and otherwise an error that names every rule it breaks.
func CheckSigningConfig(file []byte) error {
	var config configFile
	if err := decode(file, &config); err != nil {
		return fmt.Errorf("checking signing config: %w", err)
	}
	var errs []error
	if config.MediaType != ConfigMediaType {
		errs = append(errs, fmt.Errorf("media type is %q; want %q", config.MediaType, ConfigMediaType))
	}
	services := 0
	for _, list := range []struct {
		name     string
		entries  []serviceEntry
		version  int
		selector *selection
		selected bool
	}{
		{"caUrls", config.CAs, 1, nil, false},
		{"oidcUrls", config.OIDC, 1, nil, false},
		{"rekorTlogUrls", config.Rekor, 2, config.RekorConfig, true},
		{"tsaUrls", config.TSA, 1, config.TSAConfig, true},
	} {
		services += len(list.entries)
		for i, s := range list.entries {
			errs = append(errs, in(list.name, i, s.check(list.version)))
		}
		if list.selected && len(list.entries) > 0 && (list.selector == nil || list.selector.Selector != "ANY") {
			errs = append(errs, fmt.Errorf("%s: its configuration has no selector ANY", list.name))
		}
	}
	for i, s := range config.TSA {
		if u, err := url.Parse(s.URL); err == nil && strings.Trim(u.Path, "/") == "" {
			errs = append(errs, in("tsaUrls", i, fmt.Errorf("%q has no path: Go clients use it as it is", s.URL)))
		}
	}
	if services == 0 {
		errs = append(errs, errors.New("it names no service"))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("checking signing config: %w", err)
	}
	return nil
}

// decode is strict as Go clients are.
func decode(file []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(file))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return fmt.Errorf("parsing JSON: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("parsing JSON: data after the object")
	}
	return nil
}

// in says where err is.
func in(list string, i int, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s[%d]: %w", list, i, err)
}

func unique(seen map[string]bool, id []byte) error {
	if seen[string(id)] {
		return fmt.Errorf("log ID %x is there twice", id)
	}
	seen[string(id)] = true
	return nil
}

func (l logEntry) check() error {
	if l.HashAlgorithm != sha2256 {
		return fmt.Errorf("hash algorithm is %q; want %q", l.HashAlgorithm, sha2256)
	}
	key, err := x509.ParsePKIXPublicKey(l.PublicKey.RawBytes)
	if err != nil {
		return fmt.Errorf("parsing public key: %w", err)
	}
	details, err := keyDetails(key)
	if err != nil {
		return err
	}
	if details != l.PublicKey.KeyDetails {
		return fmt.Errorf("key details are %q; the key is %q", l.PublicKey.KeyDetails, details)
	}
	host, err := hostOf(l.BaseURL)
	if err != nil {
		return err
	}
	if err := keys.CheckOrigin(host); err != nil {
		return err
	}
	id, err := keys.LogID(host, key)
	if err != nil {
		return err
	}
	if !bytes.Equal(id[:], l.LogID.KeyID) {
		if _, ok := key.(*ecdsa.PublicKey); ok {
			return fmt.Errorf("log ID is %x; that of the key is %x", l.LogID.KeyID, id)
		}
		return fmt.Errorf("log ID is %x; that of the key under the origin %q, the host of its URL, is %x", l.LogID.KeyID, host, id)
	}
	return l.PublicKey.ValidFor.check()
}

func (a authorityEntry) check(timestamps bool) error {
	var chain []*x509.Certificate
	for i, c := range a.CertChain.Certificates {
		cert, err := x509.ParseCertificate(c.RawBytes)
		if err != nil {
			return fmt.Errorf("parsing certificate %d: %w", i+1, err)
		}
		chain = append(chain, cert)
	}
	if len(chain) < 2 {
		return fmt.Errorf("chain of %d certificates: it has to hold what bundles and timestamps leave out, up to the root", len(chain))
	}
	root := chain[len(chain)-1]
	for i, cert := range chain {
		issuer := chain[min(i+1, len(chain)-1)]
		if err := cert.CheckSignatureFrom(issuer); err != nil {
			return fmt.Errorf("certificate %d is not issued by the next, or the last is not a root: %w", i+1, err)
		}
		if isCA := cert.BasicConstraintsValid && cert.IsCA; isCA == (timestamps && i == 0) {
			if isCA {
				return errors.New("the first certificate is a CA: tokens leave out the leaf, so it has to be first")
			}
			return fmt.Errorf("certificate %d is not a CA", i+1)
		}
	}
	if timestamps && !slices.Equal(chain[0].ExtKeyUsage, []x509.ExtKeyUsage{x509.ExtKeyUsageTimeStamping}) {
		return errors.New("the extended key usage of the first certificate is not timeStamping alone")
	}
	if a.ValidFor.Start.After(root.NotAfter) {
		return fmt.Errorf("it is valid from %v, after the end of its root", a.ValidFor.Start)
	}
	return a.ValidFor.check()
}

func (s serviceEntry) check(version int) error {
	if _, err := hostOf(s.URL); err != nil {
		return err
	}
	if s.Version != version {
		return fmt.Errorf("majorApiVersion is %d; want %d", s.Version, version)
	}
	if s.Operator == "" {
		return errors.New("no operator: clients choose one service of each")
	}
	return s.ValidFor.check()
}

func (v validity) check() error {
	if v.Start.IsZero() || v.Start.Year() < 1970 {
		return errors.New("validFor has no start, which Go clients want")
	}
	if !v.End.IsZero() && v.End.Before(v.Start) {
		return fmt.Errorf("validFor ends at %v, before it starts", v.End)
	}
	return nil
}

// hostOf returns the host name, without port, of a URL in the form clients cope with: npm
// clients append a path to it as it stands, so that a trailing slash would be doubled.
func hostOf(raw string) (string, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return "", fmt.Errorf("parsing URL: %w", err)
	}
	switch {
	case u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "":
		return "", fmt.Errorf("%q is not an http or https URL with a host", raw)
	case strings.HasSuffix(raw, "/"):
		return "", fmt.Errorf("%q ends in a slash, which clients would double", raw)
	case u.RawQuery != "" || u.Fragment != "" || u.User != nil || strings.ContainsAny(raw, "?#"):
		return "", fmt.Errorf("%q has more than scheme, host and path", raw)
	}
	return u.Hostname(), nil
}
