package entry_test

import (
	"testing"

	"tallywood/log/entry"
)

// A written request is one of a form that clients send.
type written struct {
	name string
	body []byte
}

// written returns the request of h's key, that of its certificate, as from Fulcio, and a DSSE request.
func (h *holder) written(t testing.TB) []written {
	key, certificate := h.signed[0], h.signed[0]
	certificate.form = h.forms[3]
	statement := h.signEnvelope(t, "application/vnd.in-toto+json", make([]byte, 4096))
	return []written{{"key", key.write(fixed{})}, {"certificate", certificate.write(fixed{})}, {"dsse", statement.write(fixed{})}}
}

func BenchmarkDecode(b *testing.B) {
	for _, w := range holders(b)[0].written(b) {
		run(b, w.name, func() error { return entry.Decode(w.body) })
	}
}

// BenchmarkVerify parses a key, or a certificate, and verifies a signature with it.
func BenchmarkVerify(b *testing.B) {
	for _, h := range holders(b) {
		for _, w := range h.written(b)[:2] {
			check, err := entry.Checking(w.body)
			if err != nil {
				b.Fatal(err)
			}
			run(b, h.name+"/"+w.name, check)
		}
	}
}

func BenchmarkCanonical(b *testing.B) {
	for _, w := range holders(b)[0].written(b)[:2] {
		e, err := entry.ParseRequest(w.body)
		if err != nil {
			b.Fatal(err)
		}
		run(b, w.name, func() error {
			_, err := entry.Canonical(e.Body.Digest, e.Body.Signatures[0])
			return err
		})
	}
}

// BenchmarkParseRequest is all that is done with a request before the log gets it.
func BenchmarkParseRequest(b *testing.B) {
	for _, h := range holders(b) {
		for _, w := range h.written(b) {
			run(b, h.name+"/"+w.name, func() error {
				_, err := entry.ParseRequest(w.body)
				return err
			})
		}
	}
}

func BenchmarkParse(b *testing.B) {
	for _, w := range holders(b)[0].written(b)[:2] {
		e, err := entry.ParseRequest(w.body)
		if err != nil {
			b.Fatal(err)
		}
		run(b, w.name, func() error {
			_, err := entry.Parse(e.Canonical)
			return err
		})
	}
}

// BenchmarkDuplicateKey is what rebuilding the duplicate index takes of each entry.
func BenchmarkDuplicateKey(b *testing.B) {
	e, err := entry.ParseRequest(holders(b)[0].written(b)[0].body)
	if err != nil {
		b.Fatal(err)
	}
	run(b, "key", func() error {
		entry.DuplicateKey(e.Canonical)
		return nil
	})
}

func run(b *testing.B, name string, do func() error) {
	b.Run(name, func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if err := do(); err != nil {
				b.Fatal(err)
			}
		}
	})
}
