// Package trust writes what clients must be told about a deployment: Sigstore's
// trusted_root.json, which keys and certificates to believe, and signing_config.v0.2.json, which
// services to use (https://github.com/sigstore/protobuf-specs, sigstore_trustroot.proto).
//
// In go keys, chains and URLs; out comes JSON that cosign, sigstore-go and the npm clients
// accept. Everything written is checked by the rules of those clients first, because they would
// only say that nothing verifies: [CheckTrustedRoot] and [CheckSigningConfig] do it for any file.
//
// The caller guarantees that Start lies before the first signature of the key it belongs to,
// and keeps retired keys listed, with an End: a signature outlives the key that made it.
package trust

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"tallywood/internal/keys"
)

// RootMediaType and ConfigMediaType are the media types of the two files. Go clients refuse a
// trusted root of version 0.2.
const (
	RootMediaType   = "application/vnd.dev.sigstore.trustedroot+json;version=0.1"
	ConfigMediaType = "application/vnd.dev.sigstore.signingconfig.v0.2+json"
)

// Root is the content of a trusted root.
type Root struct {
	Logs   []Log       // signature logs, Ed25519 or ECDSA P-256
	CTLogs []Log       // certificate logs; only the ECDSA P-256 key, never the note key
	CAs    []Authority // issuing certificate first, root last
	TSAs   []Authority // timestamp leaf first, root last
}

// Log is a transparency log.
type Log struct {
	Origin string           // bare host name; clients take it for the key's name in checkpoints
	URL    string           // its host must be Origin; empty: https://Origin. Clients do not fetch it
	Public crypto.PublicKey // the log's key
	Start  time.Time        // when its first signature may have been made
	End    time.Time        // when its last one; zero while it signs
}

// Authority is a certificate or timestamp authority.
type Authority struct {
	URI   string              // of the service; clients do not fetch it
	Chain []*x509.Certificate // order as in Root
	Start time.Time           // zero: when the first certificate of Chain begins
	End   time.Time           // zero while it signs
}

// TrustedRoot returns the trusted_root.json of r.
func (r Root) TrustedRoot() ([]byte, error) {
	file := rootFile{MediaType: RootMediaType, Logs: []logEntry{}, CTLogs: []logEntry{},
		CAs: []authorityEntry{}, TSAs: []authorityEntry{}}
	for _, l := range r.Logs {
		entry, err := l.entry()
		if err != nil {
			return nil, fmt.Errorf("describing log %q: %w", l.Origin, err)
		}
		file.Logs = append(file.Logs, entry)
	}
	for _, l := range r.CTLogs {
		entry, err := l.entry()
		if err != nil {
			return nil, fmt.Errorf("describing certificate log %q: %w", l.Origin, err)
		}
		file.CTLogs = append(file.CTLogs, entry)
	}
	for _, a := range r.CAs {
		entry, err := a.entry()
		if err != nil {
			return nil, fmt.Errorf("describing certificate authority %q: %w", a.URI, err)
		}
		file.CAs = append(file.CAs, entry)
	}
	for _, a := range r.TSAs {
		entry, err := a.entry()
		if err != nil {
			return nil, fmt.Errorf("describing timestamp authority %q: %w", a.URI, err)
		}
		file.TSAs = append(file.TSAs, entry)
	}
	out, err := encode(file)
	if err != nil {
		return nil, fmt.Errorf("encoding trusted root: %w", err)
	}
	return out, CheckTrustedRoot(out)
}

// SigningConfig says which services clients use. Those with an empty URL are left out.
type SigningConfig struct {
	CAURL    string    // to which clients append /api/v2/signingCert
	OIDCURL  string    // the issuer
	RekorURL string    // to which clients append /api/v2/log/entries
	TSAURL   string    // complete, .../api/v1/timestamp
	Operator string    // who runs them, e.g. example.org
	Start    time.Time // from when they are used

	RekorStart time.Time // from when RekorURL is, if not from Start
}

// JSON returns the signing_config.v0.2.json of c.
func (c SigningConfig) JSON() ([]byte, error) {
	services := func(url string, version int) []serviceEntry {
		if url == "" {
			return nil
		}
		return []serviceEntry{{URL: url, Version: version, ValidFor: period(c.Start, time.Time{}), Operator: c.Operator}}
	}
	rekor := services(c.RekorURL, 2)
	if rekor != nil && !c.RekorStart.IsZero() {
		rekor[0].ValidFor = period(c.RekorStart, time.Time{})
	}
	file := configFile{
		MediaType: ConfigMediaType,
		CAs:       services(c.CAURL, 1), OIDC: services(c.OIDCURL, 1),
		Rekor: rekor, TSA: services(c.TSAURL, 1),
	}
	// npm clients use a service only if its configuration is there, and know no other selector.
	if file.Rekor != nil {
		file.RekorConfig = &selection{Selector: "ANY"}
	}
	if file.TSA != nil {
		file.TSAConfig = &selection{Selector: "ANY"}
	}
	out, err := encode(file)
	if err != nil {
		return nil, fmt.Errorf("encoding signing config: %w", err)
	}
	return out, CheckSigningConfig(out)
}

// The files, in protobuf's JSON form.
type (
	rootFile struct {
		MediaType string           `json:"mediaType"`
		Logs      []logEntry       `json:"tlogs"`
		CTLogs    []logEntry       `json:"ctlogs"`
		CAs       []authorityEntry `json:"certificateAuthorities"`
		TSAs      []authorityEntry `json:"timestampAuthorities"`
	}
	logEntry struct {
		BaseURL       string    `json:"baseUrl"`
		HashAlgorithm string    `json:"hashAlgorithm"`
		PublicKey     publicKey `json:"publicKey"`
		LogID         logID     `json:"logId"`
	}
	publicKey struct {
		RawBytes   []byte   `json:"rawBytes"`
		KeyDetails string   `json:"keyDetails"`
		ValidFor   validity `json:"validFor"`
	}
	logID struct {
		KeyID []byte `json:"keyId"`
	}
	authorityEntry struct {
		Subject   subject   `json:"subject"`
		URI       string    `json:"uri"`
		CertChain certChain `json:"certChain"`
		ValidFor  validity  `json:"validFor"`
	}
	subject struct {
		Organization string `json:"organization,omitempty"`
		CommonName   string `json:"commonName,omitempty"`
	}
	certChain struct {
		Certificates []certificate `json:"certificates"`
	}
	certificate struct {
		RawBytes []byte `json:"rawBytes"`
	}
	validity struct {
		Start time.Time `json:"start,omitzero"`
		End   time.Time `json:"end,omitzero"`
	}
	configFile struct {
		MediaType   string         `json:"mediaType"`
		CAs         []serviceEntry `json:"caUrls,omitempty"`
		OIDC        []serviceEntry `json:"oidcUrls,omitempty"`
		Rekor       []serviceEntry `json:"rekorTlogUrls,omitempty"`
		RekorConfig *selection     `json:"rekorTlogConfig,omitempty"`
		TSA         []serviceEntry `json:"tsaUrls,omitempty"`
		TSAConfig   *selection     `json:"tsaConfig,omitempty"`
	}
	serviceEntry struct {
		URL      string   `json:"url"`
		Version  int      `json:"majorApiVersion"`
		ValidFor validity `json:"validFor"`
		Operator string   `json:"operator"`
	}
	selection struct {
		Selector string `json:"selector"`
		Count    int    `json:"count,omitempty"`
	}
)

// Names of protobuf enumerations.
const (
	sha2256        = "SHA2_256"
	detailsEd25519 = "PKIX_ED25519"
	detailsP256    = "PKIX_ECDSA_P256_SHA_256"
)

func (l Log) entry() (logEntry, error) {
	details, err := keyDetails(l.Public)
	if err != nil {
		return logEntry{}, err
	}
	spki, err := x509.MarshalPKIXPublicKey(l.Public)
	if err != nil {
		return logEntry{}, fmt.Errorf("encoding public key: %w", err)
	}
	if err := keys.CheckOrigin(l.Origin); err != nil {
		return logEntry{}, err
	}
	id, err := keys.LogID(l.Origin, l.Public)
	if err != nil {
		return logEntry{}, err
	}
	url := l.URL
	if url == "" {
		url = "https://" + l.Origin
	}
	host, err := hostOf(url)
	if err != nil {
		return logEntry{}, err
	}
	if host != l.Origin {
		return logEntry{}, fmt.Errorf("the host of %q is not the origin %q, under which clients look the key up", url, l.Origin)
	}
	return logEntry{
		BaseURL: url, HashAlgorithm: sha2256, LogID: logID{KeyID: id[:]},
		PublicKey: publicKey{RawBytes: spki, KeyDetails: details, ValidFor: period(l.Start, l.End)},
	}, nil
}

func (a Authority) entry() (authorityEntry, error) {
	if len(a.Chain) == 0 {
		return authorityEntry{}, errors.New("no certificate chain")
	}
	start := a.Start
	if start.IsZero() {
		start = a.Chain[0].NotBefore
	}
	root := a.Chain[len(a.Chain)-1]
	out := authorityEntry{URI: a.URI, ValidFor: period(start, a.End), Subject: subject{CommonName: root.Subject.CommonName}}
	if len(root.Subject.Organization) > 0 {
		out.Subject.Organization = root.Subject.Organization[0]
	}
	for _, cert := range a.Chain {
		out.CertChain.Certificates = append(out.CertChain.Certificates, certificate{RawBytes: cert.Raw})
	}
	return out, nil
}

func keyDetails(public crypto.PublicKey) (string, error) {
	switch key := public.(type) {
	case ed25519.PublicKey:
		return detailsEd25519, nil
	case *ecdsa.PublicKey:
		if key.Curve == elliptic.P256() {
			return detailsP256, nil
		}
		return "", fmt.Errorf("log key is on curve %s; want P-256", key.Params().Name)
	}
	return "", fmt.Errorf("log key is %T; want Ed25519 or ECDSA P-256", public)
}

// period is in whole seconds, the start rounded down and the end up, so that it covers both.
func period(start, end time.Time) validity {
	v := validity{Start: start.UTC().Truncate(time.Second)}
	if !end.IsZero() {
		v.End = end.UTC().Add(time.Second - 1).Truncate(time.Second)
	}
	return v
}

func encode(file any) ([]byte, error) {
	out, err := json.MarshalIndent(file, "", "  ")
	if err != nil {
		return nil, err
	}
	return append(out, '\n'), nil
}
