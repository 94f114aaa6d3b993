package rekormonitor_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"testing"
	"time"

	"go.yaml.in/yaml/v4"

	"tallywood/internal/config"
	"tallywood/internal/rekormonitor"
	"tallywood/monitor/rule"
)

// A peer matches as rekor-monitor's documentation and behaviour have it.
type peer struct {
	MonitoredValues struct {
		CertIdentities []struct {
			CertSubject string   `yaml:"certSubject"`
			Issuers     []string `yaml:"issuers"`
		} `yaml:"certIdentities"`
		Subjects     []string `yaml:"subjects"`
		Fingerprints []string `yaml:"fingerprints"`
		OIDMatchers  struct {
			Fulcio map[string][]string `yaml:"fulcioExtensions"`
			Custom []struct {
				ObjectIdentifier string   `yaml:"objectIdentifier"`
				ExtensionValues  []string `yaml:"extensionValues"`
			} `yaml:"customExtensions"`
		} `yaml:"oidMatchers"`
	} `yaml:"monitoredValues"`
}

func (p *peer) matches(c *x509.Certificate) bool {
	names := slices.Concat(c.DNSNames, c.EmailAddresses)
	for _, ip := range c.IPAddresses {
		names = append(names, ip.String())
	}
	for _, u := range c.URIs {
		names = append(names, u.String())
	}
	some := func(pattern string, texts []string) bool {
		return slices.ContainsFunc(texts, regexp.MustCompile(pattern).MatchString)
	}
	issuer := value(c, "1.3.6.1.4.1.57264.1.8")
	if issuer == "" {
		issuer = value(c, "1.3.6.1.4.1.57264.1.1")
	}
	for _, id := range p.MonitoredValues.CertIdentities {
		by := len(id.Issuers) == 0 || slices.ContainsFunc(id.Issuers, func(pattern string) bool { return some(pattern, []string{issuer}) })
		if issuer != "" && by && some(id.CertSubject, names) {
			return true
		}
	}
	for _, s := range p.MonitoredValues.Subjects {
		if some(s, names) {
			return true
		}
	}
	sum, key := sha256.Sum256(c.Raw), sha256.Sum256(c.RawSubjectPublicKeyInfo)
	for _, f := range p.MonitoredValues.Fingerprints {
		if f == hex.EncodeToString(sum[:]) || f == hex.EncodeToString(key[:]) {
			return true
		}
	}
	for name, values := range p.MonitoredValues.OIDMatchers.Fulcio {
		for _, n := range map[string][]int{"issuer": {1, 8}, "github-workflow-ref": {6}, "source-repository-uri": {12}, "build-trigger": {20}}[name] {
			if v := value(c, fmt.Sprintf("1.3.6.1.4.1.57264.1.%d", n)); v != "" && slices.Contains(values, v) {
				return true
			}
		}
	}
	for _, e := range p.MonitoredValues.OIDMatchers.Custom {
		if v := value(c, e.ObjectIdentifier); v != "" && slices.Contains(e.ExtensionValues, v) {
			return true
		}
	}
	return false
}

// value returns an extension's value as a string of ASN.1, or else as it is.
func value(c *x509.Certificate, id string) string {
	for _, e := range c.Extensions {
		if e.Id.String() != id {
			continue
		}
		var text string
		if rest, err := asn1.Unmarshal(e.Value, &text); err == nil && len(rest) == 0 {
			return text
		}
		return string(e.Value)
	}
	return ""
}

// TestWhatTheirsReportsOursReports: on certificates of many kinds, ours finds every one that theirs does.
func TestWhatTheirsReportsOursReports(t *testing.T) {
	t.Parallel()
	certs := certificates(t)
	one := sha256.Sum256(certs[0].Raw)
	configs := map[string]string{
		"loose":       "monitoredValues: {certIdentities: [{certSubject: 'alice@example\\.com'}]}\n",
		"anchored":    "monitoredValues: {certIdentities: [{certSubject: '^alice@example\\.com$'}]}\n",
		"choice":      "monitoredValues: {certIdentities: [{certSubject: 'alice|acme'}]}\n",
		"flags":       "monitoredValues: {subjects: ['(?i)ALICE@EXAMPLE']}\n",
		"any":         "monitoredValues: {certIdentities: [{certSubject: '.'}]}\n",
		"issuers":     "monitoredValues: {certIdentities: [{certSubject: '@', issuers: [accounts, '^https://github']}]}\n",
		"address":     "monitoredValues: {subjects: ['^10\\.', '::1']}\n",
		"start":       "monitoredValues: {subjects: ['\\Ahttps://github\\.com/acme/.*tags', 'b$']}\n",
		"fingerprint": "monitoredValues: {fingerprints: [" + hex.EncodeToString(one[:]) + "]}\n",
		"extensions":  "monitoredValues: {oidMatchers: {fulcioExtensions: {issuer: [https://accounts.example.com], github-workflow-ref: [refs/heads/main], build-trigger: [push, workflow_dispatch]}}}\n",
		"custom":      "monitoredValues: {oidMatchers: {fulcioExtensions: {source-repository-uri: [https://github.com/acme/a]}, customExtensions: [{objectIdentifier: 1.2.3.4, extensionValues: [x, y]}]}}\n",
	}
	for name, text := range configs {
		var p peer
		if err := yaml.Load([]byte(text), &p); err != nil {
			t.Fatal(err)
		}
		r, err := rekormonitor.Import(rekormonitor.Options{Config: []byte(text), Logs: oneLog, ReadFile: os.ReadFile})
		if err != nil {
			t.Fatal(err)
		}
		set := rules(t, r.Config)
		theirs, ours := 0, 0
		for _, c := range certs {
			parsed, err := set.Certificate(c.Raw)
			if err != nil {
				t.Fatal(err)
			}
			found := len(set.Match(&rule.Entry{Signers: []rule.Signer{{Certificate: parsed}}})) > 0
			if found {
				ours++
			}
			if p.matches(c) {
				theirs++
				if !found {
					t.Errorf("%s: theirs reports %q %q %q of %q, ours does not\n%s", name, c.EmailAddresses, c.URIs, c.IPAddresses, value(c, "1.3.6.1.4.1.57264.1.8"), r.Config)
				}
			}
		}
		if theirs == 0 || ours > 4*theirs+len(certs)/8 {
			t.Errorf("%s: of %d, theirs reports %d and ours %d", name, len(certs), theirs, ours)
		}
	}
}

// rules compiles the identities of a configuration.
func rules(t *testing.T, text []byte) *rule.Set {
	t.Helper()
	m, err := config.ParseMonitor(text, filepath.Join("/etc"), func(string) (string, bool) { return "", false })
	if err != nil {
		t.Fatal(err)
	}
	var ids []rule.Identity
	for _, id := range m.Identities {
		one := rule.Identity{Name: id.Name, Regex: id.Regex, Key: id.Key}
		if e := id.Extension; e != nil {
			one.Extension = rule.Extension{ID: e.ID, Values: e.Values}
		}
		ids = append(ids, one)
	}
	set, err := rule.New(rule.Options{Identities: ids})
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// certificates returns one for each combination of a name, an issuer and extensions.
func certificates(t *testing.T) []*x509.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	arc := asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 1}
	text := func(n int, v string) pkix.Extension {
		value := []byte(v)
		if n > 6 {
			if value, err = asn1.MarshalWithParams(v, "utf8"); err != nil {
				t.Fatal(err)
			}
		}
		return pkix.Extension{Id: append(arc[:8:8], n), Value: value}
	}
	var out []*x509.Certificate
	n := int64(0)
	for _, name := range []string{"alice@example.com", "eve-alice@example.com.evil.example", "ALICE@EXAMPLE.COM", "bob@example.com", "a\nb@example.com",
		"https://github.com/acme/a/.github/workflows/r.yml@refs/tags/v1", "https://gitlab.com/acme/a//.gitlab-ci.yml@refs/heads/main", "10.0.0.1", "::1", "host.example.com"} {
		for _, extensions := range [][]pkix.Extension{
			nil,
			{text(8, "https://accounts.example.com"), text(1, "https://accounts.example.com")},
			{text(1, "https://accounts.example.com")},
			{text(8, "https://github.com/login/oauth"), text(12, "https://github.com/acme/a"), text(20, "push")},
			{text(8, "https://token.actions.githubusercontent.com"), text(6, "refs/heads/main"), text(20, "workflow_dispatch"), {Id: asn1.ObjectIdentifier{1, 2, 3, 4}, Value: []byte("y")}},
		} {
			n++
			template := &x509.Certificate{SerialNumber: big.NewInt(n), NotBefore: time.Unix(1e9, 0), NotAfter: time.Unix(1e9+600, 0), ExtraExtensions: extensions}
			u, err := url.Parse(name)
			switch ip := net.ParseIP(name); {
			case ip != nil:
				template.IPAddresses = []net.IP{ip}
			case err == nil && u.Host != "":
				template.URIs = []*url.URL{u}
			case regexp.MustCompile("@").MatchString(name):
				template.EmailAddresses = []string{name}
			default:
				template.DNSNames = []string{name}
			}
			der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
			if err != nil {
				t.Fatal(err)
			}
			c, err := x509.ParseCertificate(der)
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, c)
		}
	}
	return out
}
