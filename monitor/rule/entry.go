package rule

import (
	"crypto"
	"time"

	"tallywood/log/entry"
)

// An Entry is one log entry, decoded as far as it goes.
type Entry struct {
	Signers []Signer // of a certificate log: the certificate, one

	// Of a signature log; zero in others.
	Digest []byte      // what was signed
	Hash   crypto.Hash // that made it

	// Envelope says that the signatures are not over the digest but over an envelope around what it is
	// the digest of, which is not in the entry.
	Envelope bool

	// Certified says that it is of a certificate log: there is no signature, and the certificate is
	// a precertificate as far as the log's promise goes.
	Certified bool
}

// A Signer of an entry: a certificate or a bare key. The zero KeyHash stands for none.
type Signer struct {
	Certificate *Certificate
	KeyHash     [32]byte // SHA-256 of the SubjectPublicKeyInfo of a bare key

	PublicKey []byte // SubjectPublicKeyInfo of a bare key, DER; nil in certificate logs
	Signature []byte // over the digest; nil in certificate logs
	Details   entry.KeyDetails
}

// Times is when an entry was logged, as far as cosignatures tell. Zero: not known.
type Times struct {
	After  time.Time // of the last checkpoint without it
	Before time.Time // of the first with it
	Now    time.Time // when it is judged
}

// Facts is what of an entry may explain it: texts as they are in it, empty for none.
type Facts struct {
	Digest      string `json:"digest,omitempty"`      // "sha256:hex"
	Run         string `json:"run,omitempty"`         // run invocation URI
	Commit      string `json:"commit,omitempty"`      // of the source repository
	Ref         string `json:"ref,omitempty"`         // likewise
	Repository  string `json:"repository,omitempty"`  // URI of the source repository
	Certificate string `json:"certificate,omitempty"` // "sha256:hex" of the to-be-signed bytes without SCTs

	// Of an entry that waits for another log, or for the CA's record.
	Issued time.Time `json:"issued,omitzero"`  // when its certificate began to be valid
	Serial string    `json:"serial,omitempty"` // its serial number, hex
	SCTs   string    `json:"scts,omitempty"`   // the logs that promise to have it: their IDs, hex, with spaces between
}
