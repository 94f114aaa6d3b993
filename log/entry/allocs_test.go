package entry_test

import (
	"testing"

	"tallywood/log/entry"
)

// TestAllocations bounds what the steps of every request allocate, with little to spare: most of it is
// the standard library's, of parsing keys and certificates.
func TestAllocations(t *testing.T) {
	requests := holders(t)[0].written(t)
	key, certificate, dsse := requests[0].body, requests[1].body, requests[2].body
	check := func(body []byte) func() error {
		f, err := entry.Checking(body)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	e, err := entry.ParseRequest(key)
	if err != nil {
		t.Fatal(err)
	}
	parse := func(body []byte) func() error {
		return func() error {
			_, err := entry.ParseRequest(body)
			return err
		}
	}
	for _, c := range []struct {
		name string
		most float64
		do   func() error
	}{
		{"decoding a key's request", 9, func() error { return entry.Decode(key) }},
		{"decoding a certificate's", 9, func() error { return entry.Decode(certificate) }},
		{"decoding an envelope", 10, func() error { return entry.Decode(dsse) }},
		{"checking a key's", 22, check(key)},
		{"checking a certificate's", 115, check(certificate)},
		{"rendering", 1, func() error {
			_, err := entry.Canonical(e.Body.Digest, e.Body.Signatures[0])
			return err
		}},
		{"all of a key's", 45, parse(key)},
		{"all of a certificate's", 135, parse(certificate)},
		{"all of an envelope's", 50, parse(dsse)},
	} {
		n := testing.AllocsPerRun(100, func() {
			if err := c.do(); err != nil {
				t.Fatal(err)
			}
		})
		if n > c.most {
			t.Errorf("%s allocates %v times, want at most %v", c.name, n, c.most)
		}
		t.Logf("%s allocates %v times", c.name, n)
	}
}
