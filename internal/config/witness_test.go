package config_test

import (
	"os"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"

	"tallywood/internal/config"
)

// TestWitnessKeys reads witnesses with keys in several places, and writes them again.
func TestWitnessKeys(t *testing.T) {
	const head = "address: 127.0.0.1:0\nstorage: file:./objects\nwitnesses:\n"
	const uri = "awskms:///alias/witness?region=eu-west-1"
	for witnesses, want := range map[string]config.Witness{
		"  - {name: w1, seed: file:w.seed}\n":                         {Name: "w1", Seed: "/dir/w.seed"},
		"  - {name: w1, seed: file:w.seed, ed25519: '" + uri + "'}\n": {Name: "w1", Seed: "/dir/w.seed", Ed25519: uri},
		"  - {name: w1, ed25519: '" + uri + "'}\n":                    {Name: "w1", Ed25519: uri},
		"  - {name: w1, ed25519: file:w.pem}\n":                       {Name: "w1", Ed25519: "/dir/w.pem"},
	} {
		c, err := config.Parse([]byte(head+witnesses), "/dir", os.LookupEnv)
		if err != nil || len(c.Witnesses) != 1 || c.Witnesses[0].Name != want.Name || c.Witnesses[0].Seed != want.Seed || c.Witnesses[0].Ed25519 != want.Ed25519 {
			t.Errorf("%s: %+v, %v", witnesses, c, err)
			continue
		}
		text, err := yaml.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		again, err := config.Parse(text, "/elsewhere", os.LookupEnv)
		if err != nil || again.Witnesses[0].Seed != want.Seed || again.Witnesses[0].Ed25519 != want.Ed25519 {
			t.Errorf("%s, written and read again: %+v, %v", witnesses, again, err)
		}
	}
	for witnesses, want := range map[string]string{
		"  - {name: w1}\n":                          "witness w1: seed",
		"  - {name: w1, ed25519: 'azurekms://x'}\n": "awskms://… or gcpkms://…",
		"  - {name: w1, ed25519: '" + uri + "'}\n  - {name: w2, ed25519: '" + uri + "'}\n":                                         "is used elsewhere too",
		"  - {name: w1, ed25519: file:k.pem}\nlogs: [{name: l, kind: rekor, origin: l.example.org, key: file:k.pem, policy: p}]\n": "is used elsewhere too",
	} {
		if _, err := config.Parse([]byte(head+witnesses), "/dir", os.LookupEnv); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v; want %q", witnesses, err, want)
		}
	}
}
