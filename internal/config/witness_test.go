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
		"  - {name: w1}\n": "witness w1: seed",
		"  - {name: w1, seed: file:s, rotation: [{algorithm: ed25519}]}\n":                                                         "witness w1: rotation 1: seed",
		"  - {name: w1, seed: file:s, rotation: [{seed: file:t, algorithm: rsa}]}\n":                                               "witness 1: rotation 1: algorithm \"rsa\" is neither ed25519 nor ml-dsa-44",
		"  - {name: w1, seed: file:s, rotation: [{ed25519: file:k.pem, algorithm: ml-dsa-44}]}\n":                                  "k.pem would sign nothing with algorithm ml-dsa-44",
		"  - {name: w1, ed25519: '" + uri + "', rotation: [{ed25519: '" + uri + "'}]}\n":                                           "is used elsewhere too",
		"  - {name: w1, seed: file:s, not_after: soon}\n":                                                                          "\"soon\" is not a time",
		"  - {name: w1, seed: file:s, rotation: [{seed: file:t, until: 2027-01-01T00:00:00Z}]}\n":                                  "until",
		"  - {name: w1, ed25519: 'azurekms://x'}\n":                                                                                "awskms://… or gcpkms://…",
		"  - {name: w1, ed25519: '" + uri + "'}\n  - {name: w2, ed25519: '" + uri + "'}\n":                                         "is used elsewhere too",
		"  - {name: w1, ed25519: file:k.pem}\nlogs: [{name: l, kind: rekor, origin: l.example.org, key: file:k.pem, policy: p}]\n": "is used elsewhere too",
	} {
		if _, err := config.Parse([]byte(head+witnesses), "/dir", os.LookupEnv); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v; want %q", witnesses, err, want)
		}
	}
}

// TestWitnessRotation reads a witness whose keys follow each other, and writes it again.
func TestWitnessRotation(t *testing.T) {
	t.Parallel()
	const text = "address: 127.0.0.1:0\nstorage: file:./objects\nwitnesses:\n  - name: w1\n    seed: file:old\n    not_after: 2027-02-01T00:00:00Z\n" +
		"    rotation:\n      - {seed: file:new, ed25519: 'awskms:///alias/new?region=eu-west-1', not_before: 2027-01-01T00:00:00Z}\n" +
		"      - {seed: file:third, algorithm: ml-dsa-44}\n    past_keys: [w1+00000000+AAAA]\n"
	c, err := config.Parse([]byte(text), "/dir", os.LookupEnv)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		w := c.Witnesses[0]
		if len(w.Rotation) != 2 || len(w.PastKeys) != 1 || w.NotAfter.Month() != 2 || !w.NotBefore.IsZero() || w.Keys().NotAfter != w.NotAfter {
			t.Fatalf("%+v", w)
		}
		if k := w.Rotation[0]; k.Seed != "/dir/new" || k.Ed25519 != "awskms:///alias/new?region=eu-west-1" || k.NotBefore.Year() != 2027 || !k.NotAfter.IsZero() {
			t.Errorf("rotation 1: %+v", k)
		}
		if k := w.Rotation[1]; k.Seed != "/dir/third" || k.Algorithm != "ml-dsa-44" {
			t.Errorf("rotation 2: %+v", k)
		}
		written, err := yaml.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		if c.Witnesses[0].Rotation[0].Seed != "/dir/new" {
			t.Error("writing it has changed it")
		}
		if c, err = config.Parse(written, "/elsewhere", os.LookupEnv); err != nil {
			t.Fatalf("written and read again: %v\n%s", err, written)
		}
	}
}
