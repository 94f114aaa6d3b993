package monitor

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"tallywood/log/ctentry"
	"tallywood/log/entry"
	"tallywood/monitor/rule"
)

// A Kind is what a log's entries are.
type Kind string

// The kinds. KindTlog is a log of anything: it is verified, and its entries are matched by nothing.
const (
	KindRekor Kind = "rekor" // hashedrekord and dsse 0.0.2 (Rekor v2)
	KindCT    Kind = "ct"    // c2sp.org/static-ct-api
	KindTlog  Kind = "tlog"  // c2sp.org/tlog-tiles
)

// bundleWidth is the number of entries in a full entry bundle, and of hashes in a full tile.
const bundleWidth = 256

// A certificateReader reads a certificate as far as somebody wants to know it.
type certificateReader = func(der []byte) (*rule.Certificate, error)

// A layout is how a kind of log keeps its entries.
type layout struct {
	dir      string // below tile/
	limit    int64  // bytes a bundle has at most
	split    func(bundle []byte) ([][]byte, error)
	leafHash func(entry []byte) (tlog.Hash, error)
	decode   func(read certificateReader, index int64, entry []byte) (decoded, error)
	made     func(entry []byte) (at time.Time, ok bool) // when, as far as it says; nil: entries never do
}

// What the rules want of an entry. With an error, a decoded holds what could be read.
type decoded struct {
	entry  rule.Entry
	digest string // "sha256:hex"
}

var layouts = map[Kind]layout{
	KindRekor: {"entries", maxTlogBundle, splitTlog, hashTlog, decodeRekor, madeRekor},
	KindTlog: {"entries", maxTlogBundle, splitTlog, hashTlog,
		func(certificateReader, int64, []byte) (decoded, error) { return decoded{}, nil }, nil},
	KindCT: {"data", maxCTBundle, ctentry.Split, hashCT, decodeCT, madeCT},
}

const (
	maxTlogBundle = bundleWidth * (2 + 1<<16 - 1)
	maxCTBundle   = bundleWidth * 128 << 10 // several times what certificates need
)

// splitTlog splits an entry bundle of c2sp.org/tlog-tiles: entries behind 16-bit lengths.
func splitTlog(bundle []byte) ([][]byte, error) {
	var entries [][]byte
	for len(bundle) > 0 {
		if len(bundle) < 2 {
			return nil, errors.New("entry bundle ends within a length")
		}
		n := int(bundle[0])<<8 | int(bundle[1])
		if len(bundle) < 2+n {
			return nil, fmt.Errorf("entry bundle ends within entry %d", len(entries))
		}
		if len(entries) == bundleWidth {
			return nil, fmt.Errorf("entry bundle of more than %d entries", bundleWidth)
		}
		entries = append(entries, bundle[2:2+n])
		bundle = bundle[2+n:]
	}
	return entries, nil
}

func hashTlog(entry []byte) (tlog.Hash, error) { return tlog.RecordHash(entry), nil }

func hashCT(tileLeaf []byte) (tlog.Hash, error) {
	h, err := ctentry.LeafHash(tileLeaf)
	if err != nil {
		return tlog.Hash{}, err
	}
	return tlog.Hash(h), nil
}

func decodeRekor(read certificateReader, _ int64, canonical []byte) (decoded, error) {
	b, rendered := entry.ParseCanonical(canonical)
	if !rendered {
		var err error
		if b, err = entry.Parse(canonical); err != nil {
			return decoded{}, err
		}
	}
	var d decoded
	var errs []error
	if b.HashAlg != 0 {
		d.digest = rule.DigestText(b.HashAlg, b.Digest)
	}
	d.entry.Digest, d.entry.Hash, d.entry.Envelope = b.Digest, b.HashAlg, b.Kind != entry.Kind
	for _, s := range b.Signatures {
		signer := rule.Signer{Signature: s.Content, Details: s.KeyDetails}
		if len(s.Certificate) == 0 {
			signer.KeyHash, signer.PublicKey = sha256.Sum256(s.PublicKey), s.PublicKey
		} else {
			c, err := read(s.Certificate)
			signer.Certificate = c
			errs = append(errs, err)
		}
		d.entry.Signers = append(d.entry.Signers, signer)
	}
	// Verifiers rebuild the canonical bytes, so bytes that say the same otherwise serve only to be
	// read differently by different readers.
	if !rendered && b.Kind == entry.Kind {
		if want, err := entry.Canonical(b.Digest, b.Signatures[0]); err == nil && !bytes.Equal(want, canonical) {
			errs = append(errs, errors.New("not in canonical form"))
		}
	}
	return d, errors.Join(errs...)
}

// decodeCT reads what the leaf hash commits to. The precertificate beside it is believed only as
// far as it says the same: what it adds is a signature, which id.unknown-ca checks.
func decodeCT(read certificateReader, index int64, tileLeaf []byte) (decoded, error) {
	e, err := ctentry.Parse(tileLeaf)
	if err != nil {
		return decoded{}, err
	}
	var errs []error
	if at, err := e.Index(); err != nil || at != index {
		errs = append(errs, fmt.Errorf("entry %d calls itself entry %d", index, at))
	}
	der := e.Certificate
	if e.Precert {
		tbs, err := ctentry.PrecertTBS(e.UnverifiedPrecertificate)
		if err == nil && bytes.Equal(tbs, e.Certificate) {
			der = e.UnverifiedPrecertificate
		} else if der, err = ctentry.WrapTBS(e.Certificate); err != nil {
			return decoded{}, errors.Join(append(errs, err)...)
		}
	}
	c, err := read(der)
	return decoded{entry: rule.Entry{Signers: []rule.Signer{{Certificate: c}}, Certified: true}}, errors.Join(append(errs, err)...)
}

// tilePath returns the path of c2sp.org/tlog-tiles below the log's URL: dir is a level, or the name
// that the layout gives to entry bundles. A width of bundleWidth is a full one.
func tilePath(dir string, n int64, width int) string {
	path := fmt.Sprintf("%03d", n%1000)
	for n >= 1000 {
		n /= 1000
		path = fmt.Sprintf("x%03d/%s", n%1000, path)
	}
	if width < bundleWidth {
		path = fmt.Sprintf("%s.p/%d", path, width)
	}
	return "tile/" + dir + "/" + path
}
