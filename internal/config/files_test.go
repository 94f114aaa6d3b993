package config_test

import (
	"reflect"
	"strings"
	"testing"

	"tallywood/internal/config"
)

func TestParseTakesKeysInKMS(t *testing.T) {
	const gcp = "gcpkms://projects/p/locations/l/keyRings/r/cryptoKeys/k/cryptoKeyVersions/1"
	text := strings.NewReplacer("file:keys/log.pem", gcp, "file:keys/ct.pem", `"awskms:///alias/${NAME}?region=eu-central-1"`,
		"file:keys/ct-note.pem", "awskms:///alias/note", "file:keys/ca.pem", "awskms:///alias/ca", "file:keys/tsa.pem", gcp).Replace(server)
	c, err := config.Parse([]byte(text), "/etc/tallywood", env(map[string]string{"NAME": "ct2026"}))
	if err != nil {
		t.Fatal(err)
	}
	want := []config.Key{{"log signatures: key", gcp}, {"log certificates: key", "awskms:///alias/ct2026?region=eu-central-1"},
		{"log certificates: note_key", "awskms:///alias/note"}, {"ca: key", "awskms:///alias/ca"}, {"tsa: key", gcp}}
	if got := c.Keys(); !reflect.DeepEqual(got, want) {
		t.Errorf("got %v; want %v", got, want)
	}
	once, err := config.Format(c)
	if err != nil {
		t.Fatal(err)
	}
	again, err := config.Parse(once, "/elsewhere", env(nil))
	if err != nil {
		t.Fatalf("%v in what was printed:\n%s", err, once)
	}
	if got := again.Keys(); !reflect.DeepEqual(got, want) {
		t.Errorf("printed and read again: got %v; want %v", got, want)
	}
	for _, k := range want {
		if !config.InKMS(k.Location) {
			t.Errorf("%s is not in a KMS", k.Location)
		}
	}
	if config.InKMS("/etc/tallywood/keys/log.pem") || config.InKMS("file:log.pem") {
		t.Error("a file is in a KMS")
	}
}

func TestParseRefusesOtherPlacesForKeys(t *testing.T) {
	for name, c := range map[string]struct{ old, new, want string }{
		"another service": {"file:keys/log.pem", "azurekms://vault/key", `log signatures: key: scheme "azurekms" is not one of this version; want file:PATH, awskms://… or gcpkms://…`},
		"no scheme":       {"file:keys/ca.pem", "keys/ca.pem", "ca: key: \"keys/ca.pem\" has no scheme; want file:keys/ca.pem, awskms"},
		"no path":         {"file:keys/tsa.pem", "'file:'", "tsa: key: file: without a path"},
		"storage":         {"file:./objects", "awskms:///alias/a", `storage: scheme "awskms" is not one of this version; want file:PATH`},
		"seed":            {"file:keys/w1.seed", "awskms:///alias/a", `seed: scheme "awskms"`},
		"login's key":     {"{path: /dev/oidc}", "{path: /dev/oidc, key: 'awskms:///alias/a'}", `dev_oidc: key: scheme "awskms"`},
	} {
		text := strings.Replace(server, c.old, c.new, 1)
		if text == server {
			t.Fatalf("%s: the case changes nothing", name)
		}
		if _, err := config.Parse([]byte(text), "/", env(nil)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v; want an error with %q", name, err, c.want)
		}
	}
}
