package config_test

import (
	"strings"
	"testing"

	"tallywood/internal/config"
)

func TestTLSMakesURLsHTTPS(t *testing.T) {
	c, err := config.Parse([]byte(server+"tls: {certificate: tls.pem, key: file:keys/tls.pem}\n"), "/etc/tallywood", env(nil))
	if err != nil {
		t.Fatal(err)
	}
	if c.URL != "https://127.0.0.1:8080" || c.ReplicaURL != c.URL {
		t.Errorf("url %s, replica_url %s", c.URL, c.ReplicaURL)
	}
	if c.TLS.Certificate != "/etc/tallywood/tls.pem" || c.TLS.Key != "/etc/tallywood/keys/tls.pem" {
		t.Errorf("%+v", c.TLS)
	}
	c.SetAddress("127.0.0.1:9")
	if c.URL != "https://127.0.0.1:9" || c.ReplicaURL != c.URL {
		t.Errorf("after SetAddress: url %s, replica_url %s", c.URL, c.ReplicaURL)
	}
	text, err := config.Format(c)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := config.Parse(text, "/elsewhere", env(nil)); err != nil || *again.TLS != *c.TLS {
		t.Errorf("what is printed is read as %+v, %v", again, err)
	}
	plain, err := config.Parse([]byte(server+"tls: {certificate: tls.pem, key: keys/tls.pem}\n"), "/etc/tallywood", env(nil))
	if err != nil || plain.TLS.Key != c.TLS.Key {
		t.Errorf("a key without file: before it: %+v, %v", plain, err)
	}
}

func TestTLSRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"tls: {key: k}\n":                                              "tls: certificate is missing",
		"tls: {certificate: c}\n":                                      "tls: key is missing",
		"tls: {certificate: c, key: \"file:\"}\n":                      "tls: key is missing",
		"tls: {certificate: c, key: awskms:///k}\n":                    `scheme "awskms"`,
		"tls: {certificate: c, key: k, ca: x}\n":                       `unknown key "ca"`,
		"tls: {certificate: c, key: k}\nurl: http://log.example.org\n": `url "http://log.example.org" is not https`,
		"tls: {certificate: c, key: k}\nurl: https://log.example.org\nreplica_url: http://10.0.0.1:8080\n": `replica_url "http://10.0.0.1:8080" is not https`,
	} {
		if _, err := config.Parse([]byte(server+text), "/", env(nil)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v; want %q in it", text, err, want)
		}
	}
}
