package rule

import "encoding/hex"

// maxFact bounds each text of Facts, in bytes: they are kept in the state while an entry waits, and
// nothing that long explains anything.
const maxFact = 2048

// facts returns what of the entry may explain it, if it is i that signed.
func (e *Entry) facts(i int) Facts {
	var f Facts
	if e.Hash != 0 && len(e.Digest) > 0 {
		f.Digest = DigestText(e.Hash, e.Digest)
	}
	c := e.Signers[i].Certificate
	if c == nil {
		return f
	}
	f.Run, f.Commit, f.Ref = fact(c.values(21)), fact(c.values(13, 3)), fact(c.values(14, 6))
	f.Repository = fact(c.repositories())
	sum := tbsHash(c)
	f.Certificate = "sha256:" + hex.EncodeToString(sum[:])
	return f
}

// fact returns the first of some values, empty if there is none.
func fact(values []string) string {
	if len(values) == 0 || len(values[0]) > maxFact {
		return ""
	}
	return values[0]
}
