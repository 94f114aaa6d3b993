package mint

import (
	"bytes"
	"encoding/asn1"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"time"

	"go.yaml.in/yaml/v4"

	"tallywood/internal/yamlerror"
	"tallywood/log/entry"
)

// A Plan says what to plant in a log, and whom a monitor is to watch to find it. It is read from YAML.
type Plan struct {
	// The identities, as they are written in the monitor's configuration.
	Identities yaml.Node `yaml:"identities"`
	// What to plant.
	Entries []Planted `yaml:"entries"`
}

// A Planted entry.
type Planted struct {
	// Where it is; negative: counted from the end, so that -1 is the last entry.
	Index int64 `yaml:"index"`
	// Whether the monitor is to say nothing of it. Default: it is to make one event.
	Quiet bool `yaml:"quiet,omitempty"`

	// Subject alternative names.
	Email    string `yaml:"email,omitempty"`
	URI      string `yaml:"uri,omitempty"`
	DNS      string `yaml:"dns,omitempty"`
	IP       string `yaml:"ip,omitempty"`
	Username string `yaml:"username,omitempty"`
	// A run of a workflow on github.com, or of a pipeline on gitlab.com.
	GitHub *Run `yaml:"github,omitempty"`
	GitLab *Run `yaml:"gitlab,omitempty"`
	// OpenID Connect issuer. Default: none, or with github and gitlab theirs.
	Issuer string `yaml:"issuer,omitempty"`
	// Other values of the extensions 1.3.6.1.4.1.57264.1.N, by N; an empty one leaves it out.
	Extensions map[int]string `yaml:"extensions,omitempty"`

	// When the certificate begins to be valid, and for how long it is. Default: when it is its turn,
	// for ten minutes.
	NotBefore time.Time     `yaml:"not_before,omitempty"`
	Lifetime  time.Duration `yaml:"lifetime,omitempty"`
	// Name of the key; the same name is the same key. Default: one of its own.
	Key string `yaml:"key,omitempty"`
	// P-256, P-384, P-521, Ed25519, RSA-2048, RSA-3072 or RSA-4096. Default: P-256.
	KeyType string `yaml:"key_type,omitempty"`
	// Name of another authority, which nobody knows. Default: that of the log's certificates.
	CA string `yaml:"ca,omitempty"`
	// none, wrong or stranger. Default: a promise of the certificate log.
	SCT string `yaml:"sct,omitempty"`
	// Extended key usages. Default: code signing.
	Usages []string `yaml:"usages,omitempty"`

	// Text that is signed. Default: one of its own.
	Content string `yaml:"content,omitempty"`
	// Whether the entry holds the key, not the certificate.
	Bare bool `yaml:"bare,omitempty"`
	// Whether the signature is over something else.
	Forged bool `yaml:"forged,omitempty"`
	// Bytes of the certificate that are left of it. Default: all.
	Cut int `yaml:"cut,omitempty"`
	// All that the entry is, in base64, instead of the above.
	Bytes string `yaml:"bytes,omitempty"`
}

// ReadPlan reads a plan, strictly.
func ReadPlan(data []byte) (Plan, error) {
	loader, err := yaml.NewLoader(bytes.NewReader(data), yaml.WithKnownFields())
	if err != nil {
		return Plan{}, fmt.Errorf("reading plan: %w", yamlerror.Plain(err))
	}
	var p Plan
	if err := loader.Load(&p); err != nil {
		return Plan{}, fmt.Errorf("reading plan: %w", yamlerror.Plain(err))
	}
	if err := loader.Load(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return Plan{}, errors.New("reading plan: something follows the document")
	}
	return p, nil
}

// Place returns the planted entries of a log of size entries by their indexes, and which of them the
// monitor is to tell of.
func (p Plan) Place(w *World, size int64) (planted map[int64]Entry, loud map[int64]bool, err error) {
	planted, loud = map[int64]Entry{}, map[int64]bool{}
	var errs []error
	for n, e := range p.Entries {
		at := e.Index
		if at < 0 {
			at += size
		}
		if at < 0 || at >= size {
			errs = append(errs, fmt.Errorf("planted entry %d: index %d is not in a log of %d entries", n+1, e.Index, size))
			continue
		}
		if _, there := planted[at]; there {
			errs = append(errs, fmt.Errorf("planted entry %d: there is another one at index %d", n+1, at))
			continue
		}
		made, err := e.entry(w)
		if err != nil {
			errs = append(errs, fmt.Errorf("planted entry %d: %w", n+1, err))
			continue
		}
		planted[at], loud[at] = made, !e.Quiet
	}
	return planted, loud, errors.Join(errs...)
}

func (e Planted) entry(w *World) (Entry, error) {
	out := Entry{Bare: e.Bare, Forged: e.Forged}
	if e.Bytes != "" {
		var err error
		if out.Bytes, err = base64.StdEncoding.DecodeString(e.Bytes); err != nil || len(out.Bytes) == 0 {
			return out, errors.New("its bytes are not base64")
		}
	}
	if e.Content != "" {
		out.Content = []byte(e.Content)
	}
	c := &out.Certificate
	if err := e.identity(c); err != nil {
		return out, err
	}
	c.NotBefore, c.Lifetime, c.Key = e.NotBefore, e.Lifetime, e.Key
	if e.Cut > 0 {
		c.Edit = func(der []byte) []byte { return der[:min(e.Cut, len(der))] }
	}
	return out, e.words(w, c)
}

// identity sets names and extensions.
func (e Planted) identity(c *Certificate) error {
	switch {
	case e.GitHub != nil && e.GitLab != nil:
		return errors.New("it is of both github and gitlab")
	case e.GitHub != nil:
		*c = e.GitHub.GitHub()
	case e.GitLab != nil:
		*c = e.GitLab.GitLab()
	}
	for _, n := range []Name{{Email, e.Email}, {URI, e.URI}, {DNS, e.DNS}, {Other, e.Username}} {
		if n.Value != "" {
			c.Names = append(c.Names, n)
		}
	}
	if e.IP != "" {
		a, err := netip.ParseAddr(e.IP)
		if err != nil {
			return fmt.Errorf("ip %q is no address", e.IP)
		}
		c.Names = append(c.Names, Name{IP, string(a.AsSlice())})
	}
	if c.Extensions == nil {
		c.Extensions = map[int]string{}
	}
	if e.Issuer != "" {
		c.Extensions[1], c.Extensions[8] = e.Issuer, e.Issuer
	}
	for n, v := range e.Extensions {
		if c.Extensions[n] = v; v == "" {
			delete(c.Extensions, n)
		}
	}
	return nil
}

// words sets what is written as one of several words.
func (e Planted) words(w *World, c *Certificate) (err error) {
	types := map[string]entry.KeyDetails{"": 0, "P-256": entry.ECDSAP256, "P-384": entry.ECDSAP384, "P-521": entry.ECDSAP521,
		"Ed25519": entry.Ed25519ph, "RSA-2048": entry.RSA2048, "RSA-3072": entry.RSA3072, "RSA-4096": entry.RSA4096}
	promises := map[string]Promise{"": Promised, "none": NoSCT, "wrong": WrongSCT, "stranger": StrangerSCT}
	usages := map[string]asn1.ObjectIdentifier{"code signing": CodeSigning, "server": ServerAuth}
	var ok bool
	if c.Details, ok = types[e.KeyType]; !ok {
		return fmt.Errorf("key_type %q is none of P-256, P-384, P-521, Ed25519, RSA-2048, RSA-3072, RSA-4096", e.KeyType)
	}
	if c.SCT, ok = promises[e.SCT]; !ok {
		return fmt.Errorf("sct %q is none of none, wrong, stranger", e.SCT)
	}
	for _, name := range e.Usages {
		id, ok := usages[name]
		if !ok {
			return fmt.Errorf("usage %q is neither code signing nor server", name)
		}
		c.Usages = append(c.Usages, id)
	}
	if e.CA != "" {
		c.CA, err = w.Authority(e.CA)
	}
	return err
}
