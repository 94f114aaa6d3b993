package sign

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/sigstore/sigstore-go/pkg/root"
)

// services are the addresses one signature uses, without trailing slash.
type services struct {
	ca         string
	timestamps []string // at least one: an entry of a Rekor v2 log has no time of its own
	logs       []string // at least one
}

// The API versions spoken here.
var (
	caVersions  = []uint32{1}
	tsaVersions = []uint32{1}
	logVersions = []uint32{2}
	oidcVersion = []uint32{1}
)

func parseSigningConfig(data []byte) (*root.SigningConfig, error) {
	pb, err := root.NewSigningConfigProtobuf(data)
	if err != nil {
		return nil, fmt.Errorf("parsing signing config: %w", err)
	}
	// sigstore-go reads both selectors without looking whether they are there.
	if pb.GetRekorTlogConfig() == nil || pb.GetTsaConfig() == nil {
		return nil, errors.New("parsing signing config: rekorTlogConfig or tsaConfig is missing")
	}
	config, err := root.NewSigningConfigFromProtobuf(pb)
	if err != nil {
		return nil, fmt.Errorf("parsing signing config: %w", err)
	}
	return config, nil
}

// parseConfig selects the services to use at the given time, as the signing config's selectors say.
func parseConfig(data []byte, now time.Time) (services, error) {
	config, err := parseSigningConfig(data)
	if err != nil {
		return services{}, err
	}
	var s services
	ca, err := root.SelectService(config.FulcioCertificateAuthorityURLs(), caVersions, now)
	if err != nil {
		return services{}, fmt.Errorf("selecting certificate authority from signing config: %w", err)
	}
	// The identity token goes there, and whoever reads it on the way can sign with it.
	if err := checkEndpoint(ca.URL); err != nil {
		return services{}, fmt.Errorf("checking certificate authority of signing config, which gets the identity token: %w", err)
	}
	s.ca = strings.TrimRight(ca.URL, "/")
	stamps, err := root.SelectServices(config.TimestampAuthorityURLs(), config.TimestampAuthorityURLsConfig(), tsaVersions, now)
	if err != nil {
		return services{}, fmt.Errorf("selecting timestamp authority from signing config: %w", err)
	}
	for _, t := range stamps {
		s.timestamps = append(s.timestamps, t.URL)
	}
	logs, err := root.SelectServices(config.RekorLogURLs(), config.RekorLogURLsConfig(), logVersions, now)
	if err != nil {
		return services{}, fmt.Errorf("selecting Rekor v2 log from signing config: %w", err)
	}
	for _, l := range logs {
		s.logs = append(s.logs, strings.TrimRight(l.URL, "/"))
	}
	return s, nil
}

// LoginIssuer returns the OpenID Connect issuer that a signing config sends people to at the given
// time, for [TokenOptions].
func LoginIssuer(signingConfig []byte, now time.Time) (string, error) {
	config, err := parseSigningConfig(signingConfig)
	if err != nil {
		return "", err
	}
	issuer, err := root.SelectService(config.OIDCProviderURLs(), oidcVersion, now)
	if err != nil {
		return "", fmt.Errorf("selecting login issuer from signing config: %w", err)
	}
	return issuer.URL, nil
}
