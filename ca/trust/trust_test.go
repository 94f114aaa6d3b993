package trust_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/json"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/sigstore/sigstore-go/pkg/root"

	"tallywood/ca/trust"
	"tallywood/internal/keys"
)

var start = time.Date(2026, 11, 24, 18, 0, 0, 5e8, time.UTC)

func p256(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func ed25519Key(t testing.TB) ed25519.PublicKey {
	t.Helper()
	public, _, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	return public
}

// chain returns certificates of these names, each issued by the next, the last by itself.
// All are CAs but one called leaf, which is for timestamps.
func chain(t testing.TB, names ...string) []*x509.Certificate {
	t.Helper()
	out := make([]*x509.Certificate, len(names))
	var parent *x509.Certificate
	var parentKey crypto.Signer
	for i := len(names) - 1; i >= 0; i-- {
		template := &x509.Certificate{
			SerialNumber: big.NewInt(int64(i + 1)), Subject: pkix.Name{Organization: []string{"example.org"}, CommonName: names[i]},
			NotBefore: start, NotAfter: start.AddDate(10, 0, 0),
			BasicConstraintsValid: true, IsCA: true, KeyUsage: x509.KeyUsageCertSign,
		}
		if names[i] == "leaf" {
			template.IsCA, template.KeyUsage = false, x509.KeyUsageDigitalSignature
			template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageTimeStamping}
		}
		key := p256(t)
		if parent == nil {
			parent, parentKey = template, key
		}
		der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), parentKey)
		if err != nil {
			t.Fatal(err)
		}
		if out[i], err = x509.ParseCertificate(der); err != nil {
			t.Fatal(err)
		}
		parent, parentKey = out[i], key
	}
	return out
}

func newRoot(t testing.TB) trust.Root {
	t.Helper()
	return trust.Root{
		Logs:   []trust.Log{{Origin: "log.localhost", Public: ed25519Key(t), Start: start}},
		CTLogs: []trust.Log{{Origin: "ct.localhost", Public: p256(t).Public(), Start: start}},
		CAs:    []trust.Authority{{URI: "http://127.0.0.1:8080", Chain: chain(t, "intermediate", "root")}},
		TSAs:   []trust.Authority{{URI: "http://127.0.0.1:8080/api/v1/timestamp", Chain: chain(t, "leaf", "intermediate", "root"), Start: start}},
	}
}

func TestSigstoreReadsTrustedRoot(t *testing.T) {
	in := newRoot(t)
	retired := trust.Log{Origin: "log2025.localhost", Public: ed25519Key(t), Start: start.AddDate(-1, 0, 0), End: start}
	in.Logs = append(in.Logs, retired)
	file, err := in.TrustedRoot()
	if err != nil {
		t.Fatal(err)
	}
	got, err := root.NewTrustedRootFromJSON(file)
	if err != nil {
		t.Fatalf("%v\n%s", err, file)
	}
	for _, want := range in.Logs {
		id, err := keys.LogID(want.Origin, want.Public)
		if err != nil {
			t.Fatal(err)
		}
		l := got.RekorLogs()[hex.EncodeToString(id[:])]
		if l == nil || l.BaseURL != "https://"+want.Origin || !want.Public.(ed25519.PublicKey).Equal(l.PublicKey) {
			t.Fatalf("log %s: %+v", want.Origin, l)
		}
		if l.ValidityPeriodStart.After(want.Start) || l.ValidityPeriodEnd.Before(want.End) {
			t.Errorf("log %s: valid %v to %v", want.Origin, l.ValidityPeriodStart, l.ValidityPeriodEnd)
		}
	}
	id, err := keys.LogID("ct.localhost", in.CTLogs[0].Public)
	if err != nil {
		t.Fatal(err)
	}
	if l := got.CTLogs()[hex.EncodeToString(id[:])]; l == nil || l.ValidityPeriodStart.After(start) {
		t.Errorf("certificate log: %+v", l)
	}
	ca, ok := got.FulcioCertificateAuthorities()[0].(*root.FulcioCertificateAuthority)
	if !ok || !ca.Root.Equal(in.CAs[0].Chain[1]) || len(ca.Intermediates) != 1 || ca.ValidityPeriodStart.After(start) {
		t.Errorf("certificate authority: %+v", ca)
	}
	tsa, ok := got.TimestampingAuthorities()[0].(*root.SigstoreTimestampingAuthority)
	if !ok || tsa.Leaf == nil || len(tsa.Intermediates) != 1 || tsa.Root == nil {
		t.Errorf("timestamp authority: %+v", tsa)
	}
}

func TestSigstoreReadsSigningConfig(t *testing.T) {
	file, err := trust.SigningConfig{
		CAURL: "http://127.0.0.1:8080", OIDCURL: "http://127.0.0.1:8080/dev/oidc", RekorURL: "http://127.0.0.1:8080",
		TSAURL: "http://127.0.0.1:8080/api/v1/timestamp", Operator: "example.org", Start: start,
	}.JSON()
	if err != nil {
		t.Fatal(err)
	}
	got, err := root.NewSigningConfigFromJSON(file)
	if err != nil {
		t.Fatalf("%v\n%s", err, file)
	}
	for _, tc := range []struct {
		name     string
		services []root.Service
		version  uint32
		url      string
	}{
		{"CA", got.FulcioCertificateAuthorityURLs(), 1, "http://127.0.0.1:8080"},
		{"OIDC", got.OIDCProviderURLs(), 1, "http://127.0.0.1:8080/dev/oidc"},
		{"log", got.RekorLogURLs(), 2, "http://127.0.0.1:8080"},
		{"TSA", got.TimestampAuthorityURLs(), 1, "http://127.0.0.1:8080/api/v1/timestamp"},
	} {
		s, err := root.SelectService(tc.services, []uint32{tc.version}, start)
		if err != nil || s.URL != tc.url {
			t.Errorf("%s: %q, %v", tc.name, s.URL, err)
		}
	}
	for name, config := range map[string]root.ServiceConfiguration{
		"log": got.RekorLogURLsConfig(), "TSA": got.TimestampAuthorityURLsConfig(),
	} {
		if config.Selector.String() != "ANY" || config.Count != 0 {
			t.Errorf("%s: selector %v, count %d", name, config.Selector, config.Count)
		}
	}
}

func TestWriterRefusesWhatClientsCannotUse(t *testing.T) {
	for name, tc := range map[string]struct {
		edit func(r *trust.Root)
		want string
	}{
		"origin with port":     {func(r *trust.Root) { r.Logs[0].Origin = "log.localhost:8080" }, "origin"},
		"origin with path":     {func(r *trust.Root) { r.Logs[0].Origin = "log.localhost/a" }, "origin"},
		"origin of a v1 log":   {func(r *trust.Root) { r.Logs[0].Origin = "log.localhost - 12" }, "name"},
		"upper-case origin":    {func(r *trust.Root) { r.Logs[0].Origin = "Log.localhost" }, "origin"},
		"URL of another host":  {func(r *trust.Root) { r.Logs[0].URL = "https://other.example" }, "is not the origin"},
		"URL ends in a slash":  {func(r *trust.Root) { r.Logs[0].URL = "https://log.localhost/" }, "ends in a slash"},
		"no log key":           {func(r *trust.Root) { r.Logs[0].Public = nil }, "log key"},
		"no log start":         {func(r *trust.Root) { r.Logs[0].Start = time.Time{} }, "no start"},
		"end before start":     {func(r *trust.Root) { r.Logs[0].End = start.Add(-time.Hour) }, "before it starts"},
		"log twice":            {func(r *trust.Root) { r.Logs = append(r.Logs, r.Logs[0]) }, "twice"},
		"note key for SCTs":    {func(r *trust.Root) { r.CTLogs[0].Public = ed25519Key(t) }, "is the one for notes"},
		"no CA chain":          {func(r *trust.Root) { r.CAs[0].Chain = nil }, "no certificate chain"},
		"CA without root":      {func(r *trust.Root) { r.CAs[0].Chain = r.CAs[0].Chain[:1] }, "chain of 1"},
		"CA root first":        {func(r *trust.Root) { c := r.CAs[0].Chain; c[0], c[1] = c[1], c[0] }, "not issued by the next"},
		"CA with a leaf":       {func(r *trust.Root) { r.CAs[0].Chain = chain(t, "leaf", "root") }, "not a CA"},
		"TSA leaf left out":    {func(r *trust.Root) { r.TSAs[0].Chain = r.TSAs[0].Chain[1:] }, "it has to be first"},
		"TSA intermediate out": {func(r *trust.Root) { c := r.TSAs[0].Chain; r.TSAs[0].Chain = []*x509.Certificate{c[0], c[2]} }, "not issued by the next"},
		"starts too late":      {func(r *trust.Root) { r.TSAs[0].Start = start.AddDate(11, 0, 0) }, "after the end of its root"},
	} {
		r := newRoot(t)
		tc.edit(&r)
		if _, err := r.TrustedRoot(); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: got %v; want %q", name, err, tc.want)
		}
	}
}

func TestSigningConfigRefusesWhatClientsCannotUse(t *testing.T) {
	good := trust.SigningConfig{
		CAURL: "https://ca.example.org", RekorURL: "https://log.example.org",
		TSAURL: "https://tsa.example.org/api/v1/timestamp", Operator: "example.org", Start: start,
	}
	if _, err := good.JSON(); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		edit func(c *trust.SigningConfig)
		want string
	}{
		"nothing":        {func(c *trust.SigningConfig) { *c = trust.SigningConfig{} }, "no service"},
		"slash":          {func(c *trust.SigningConfig) { c.CAURL += "/" }, "ends in a slash"},
		"no scheme":      {func(c *trust.SigningConfig) { c.RekorURL = "log.example.org" }, "not an http or https URL"},
		"query":          {func(c *trust.SigningConfig) { c.RekorURL += "?a=b" }, "more than scheme"},
		"TSA incomplete": {func(c *trust.SigningConfig) { c.TSAURL = "https://tsa.example.org" }, "has no path"},
		"no operator":    {func(c *trust.SigningConfig) { c.Operator = "" }, "no operator"},
		"no start":       {func(c *trust.SigningConfig) { c.Start = time.Time{} }, "no start"},
	} {
		c := good
		tc.edit(&c)
		if _, err := c.JSON(); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: got %v; want %q", name, err, tc.want)
		}
	}
}

func TestCheckRefusesForeignFiles(t *testing.T) {
	r := newRoot(t)
	file, err := r.TrustedRoot()
	if err != nil {
		t.Fatal(err)
	}
	config, err := trust.SigningConfig{RekorURL: "https://log.example.org", Operator: "o", Start: start}.JSON()
	if err != nil {
		t.Fatal(err)
	}
	id, err := keys.LogID("log.localhost", r.Logs[0].Public)
	if err != nil {
		t.Fatal(err)
	}
	encoded, other := b64(t, id[:]), b64(t, make([]byte, 32))
	for name, tc := range map[string]struct {
		file     []byte
		check    func([]byte) error
		old, new string
		want     string
	}{
		"version 0.2":        {file, trust.CheckTrustedRoot, "version=0.1", "version=0.2", "media type"},
		"unknown field":      {file, trust.CheckTrustedRoot, `"tlogs"`, `"operator": "x", "tlogs"`, "unknown field"},
		"another log ID":     {file, trust.CheckTrustedRoot, encoded, other, "log ID"},
		"another host":       {file, trust.CheckTrustedRoot, "https://log.localhost", "https://log.example.org", "log ID"},
		"host with a port":   {file, trust.CheckTrustedRoot, "https://ct.localhost", "https://ct.localhost:80", ""},
		"no base URL":        {file, trust.CheckTrustedRoot, "https://log.localhost", "", "not an http or https URL"},
		"another algorithm":  {file, trust.CheckTrustedRoot, "SHA2_256", "SHA2_512", "hash algorithm"},
		"another key type":   {file, trust.CheckTrustedRoot, "PKIX_ED25519", "PKIX_ED25519_PH", "key details"},
		"damaged chain":      {file, trust.CheckTrustedRoot, `"certificates": [`, `"certificates": [{"rawBytes":"AAAA"},`, "parsing certificate"},
		"not JSON":           {file, trust.CheckTrustedRoot, "{", "[", "parsing JSON"},
		"no selector":        {config, trust.CheckSigningConfig, `"ANY"`, `"EXACT"`, "selector ANY"},
		"a Rekor v1 log":     {config, trust.CheckSigningConfig, `"majorApiVersion": 2`, `"majorApiVersion": 1`, "majorApiVersion"},
		"another media type": {config, trust.CheckSigningConfig, "v0.2", "v0.1", "media type"},
	} {
		bad := bytes.Replace(tc.file, []byte(tc.old), []byte(tc.new), 1)
		if bytes.Equal(bad, tc.file) {
			t.Fatalf("%s: nothing was changed", name)
		}
		err := tc.check(bad)
		if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
			t.Errorf("%s: got %v; want %q", name, err, tc.want)
		}
	}
	for _, after := range []string{"{}", "}", "]"} {
		if err := trust.CheckTrustedRoot(append(bytes.Clone(file), after...)); err == nil {
			t.Errorf("%s after the object was accepted", after)
		}
	}
}

func b64(t testing.TB, b []byte) string {
	t.Helper()
	out, err := json.Marshal(b)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Trim(string(out), `"`)
}

func FuzzCheck(f *testing.F) {
	file, err := newRoot(f).TrustedRoot()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(file)
	f.Fuzz(func(t *testing.T, b []byte) {
		// Neither may panic, and both refuse what the other is for.
		if trust.CheckTrustedRoot(b) == nil && trust.CheckSigningConfig(b) == nil {
			t.Fatal("it passes as both")
		}
	})
}
