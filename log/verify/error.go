package verify

import (
	"errors"
	"fmt"
)

// A Check is one of the things a bundle or a tlog-proof must pass, in words for people.
type Check string

// The checks, in the order they are made.
const (
	CheckProof       Check = "tlog-proof"           // well-formed and within the limits
	CheckBundle      Check = "bundle"               // well-formed, complete and within the limits
	CheckCertificate Check = "certificate"          // issued by an authority of the trusted root, and valid when it signed
	CheckIdentity    Check = "identity"             // the one expected
	CheckIssuer      Check = "issuer"               // the one expected
	CheckSCT         Check = "SCT"                  // a certificate log of the trusted root promised to log the certificate
	CheckArtifact    Check = "artifact digest"      // the bundle is about this artifact
	CheckSignature   Check = "signature"            // made with the certificate's key, or the managed one
	CheckPredicate   Check = "predicate type"       // the attestation is of the expected type
	CheckTimestamp   Check = "timestamp"            // a timestamp authority of the trusted root saw the signature
	CheckPromise     Check = "signed entry time"    // a Rekor v1 log signed for the time of the entry
	CheckBody        Check = "canonicalizedBody"    // the log entry is about this very signature
	CheckCheckpoint  Check = "checkpoint signature" // by a log of the trusted root, and of the policy
	CheckInclusion   Check = "inclusion proof"      // the entry is in the tree of the checkpoint
	CheckQuorum      Check = "witness quorum"       // enough witnesses cosigned the checkpoint
	CheckClients     Check = "client rules"         // sigstore-go refuses what passed all of the above
)

// An Error reports that a bundle or a tlog-proof does not verify.
type Error struct {
	Check Check // which check failed
	Err   error // why
}

// Reasons for which there is a remedy besides another bundle.
var (
	// ErrManagedKey reports a bundle without a certificate: Options.Key is for those.
	ErrManagedKey = errors.New("signed with a managed key, which says nothing about who signed: only its public key can verify it")
	// ErrUnwitnessed reports an entry of a log that no policy can list: Options.NoPolicy is for those.
	ErrUnwitnessed = errors.New("the entry is in a Rekor v1 log, which no witness cosigns and no policy can list")
)

// Error names the check, then says why it failed.
func (e *Error) Error() string { return string(e.Check) + ": " + e.Err.Error() }

// Unwrap returns the reason.
func (e *Error) Unwrap() error { return e.Err }

func refuse(c Check, err error) error { return &Error{Check: c, Err: err} }

func refusef(c Check, format string, args ...any) error {
	return &Error{Check: c, Err: fmt.Errorf(format, args...)}
}
