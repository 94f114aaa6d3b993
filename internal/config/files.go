package config

import (
	"fmt"
	"strings"
)

// InKMS reports whether key is the URI of a key in a key management service, awskms:// or gcpkms://;
// else it is a file.
func InKMS(key string) bool {
	return strings.HasPrefix(key, "awskms://") || strings.HasPrefix(key, "gcpkms://")
}

// A Key is a field that names a private key.
type Key struct {
	Field    string // for messages
	Location string // a path, or the URI of a key in a KMS
}

// Keys returns the private keys of the logs, authorities and witnesses, but for those of seeds.
func (c *Config) Keys() []Key {
	var out []Key
	for _, f := range c.files() {
		if f.kms {
			out = append(out, Key{f.name, *f.field})
		}
	}
	return out
}

// uses returns how many fields name the private key at location.
func (c *Config) uses(location string) int {
	n := 0
	for _, k := range c.Keys() {
		if k.Location == location {
			n++
		}
	}
	return n
}

// A fileField is a field that is a file: URL in the file and a path in here.
type fileField struct {
	name  string
	field *string
	kms   bool // or the URI of a key in a KMS, in both
}

// files returns the fields of that kind that are set, or must be.
func (c *Config) files() []fileField {
	var out []fileField
	if !IsObjectStore(c.Storage) {
		out = append(out, fileField{"storage", &c.Storage, false})
	}
	for i := range c.Logs {
		l := &c.Logs[i]
		out = append(out, fileField{"log " + l.Name + ": key", &l.Key, true})
		if l.NoteKey != "" {
			out = append(out, fileField{"log " + l.Name + ": note_key", &l.NoteKey, true})
		}
		if l.AddToken != "" {
			out = append(out, fileField{"log " + l.Name + ": add_token", &l.AddToken, false})
		}
	}
	if c.CA != nil {
		out = append(out, fileField{"ca: key", &c.CA.Key, true})
	}
	if c.TSA != nil {
		out = append(out, fileField{"tsa: key", &c.TSA.Key, true})
	}
	for i := range c.Witnesses {
		w := &c.Witnesses[i]
		out = append(out, witnessFields("witness "+w.Name, &w.Seed, &w.Ed25519)...)
		for j := range w.Rotation {
			k := &w.Rotation[j]
			out = append(out, witnessFields(fmt.Sprintf("witness %s: rotation %d", w.Name, j+1), &k.Seed, &k.Ed25519)...)
		}
		if w.Export != "" && !IsObjectStore(w.Export) {
			out = append(out, fileField{"witness " + w.Name + ": export", &w.Export, false})
		}
	}
	if c.DevOIDC != nil && c.DevOIDC.Key != "" {
		out = append(out, fileField{"dev_oidc: key", &c.DevOIDC.Key, false})
	}
	return out
}

// witnessFields returns those of keys of a witness.
func witnessFields(name string, seed, ed25519 *string) []fileField {
	var out []fileField
	if *seed != "" || *ed25519 == "" {
		out = append(out, fileField{name + ": seed", seed, false})
	}
	if *ed25519 != "" {
		out = append(out, fileField{name + ": ed25519", ed25519, true})
	}
	return out
}
