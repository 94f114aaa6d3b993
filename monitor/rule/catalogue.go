package rule

import "slices"

// An ID names a rule. The set is closed; [Lookup] knows all of it.
type ID string

// The rules about logs, which the tailing itself raises.
const (
	LogSplitView      ID = "log.split-view"      // two validly signed checkpoints that cannot both be true
	LogRollback       ID = "log.rollback"        // the signed size shrank
	LogInconsistent   ID = "log.inconsistent"    // the hash tiles do not make the signed root
	LogBadSignature   ID = "log.bad-signature"   // a checkpoint that does not verify
	LogBundleMismatch ID = "log.bundle-mismatch" // entry bytes do not hash into the tree
	LogKeyChange      ID = "log.key-change"      // signed under the log's name by another key
	LogStale          ID = "log.stale"           // the newest cosignature is too old
	LogUnreachable    ID = "log.unreachable"     // fetching has failed for a while
	LogBehind         ID = "log.behind"          // entries are published faster than they are read
	LogMalformedEntry ID = "log.malformed-entry" // an entry that cannot be parsed
	AuthorizeUnusable ID = "authorize.unusable"  // authorizations that cannot be read, or do not verify
)

// The rules about witnesses and trust material.
const (
	QuorumLost       ID = "witness.quorum-lost" // too few cosignatures for the policy
	WitnessMissing   ID = "witness.missing"     // a named witness has not cosigned for a while
	WitnessClockSkew ID = "witness.clock-skew"  // a cosignature from the future, or long before the others
	WitnessConflict  ID = "witness.conflict"    // a witness shows a checkpoint that contradicts ours
	TUFRootChanged   ID = "tuf.root-changed"    // a new version of the trust root
	TUFLogAdded      ID = "tuf.log-added"       // the trusted root names another log
	TUFLogRemoved    ID = "tuf.log-removed"     // the trusted root names a log no longer
	TUFExpiring      ID = "tuf.expiring"        // metadata that expires soon
)

// The rules about watched identities.
const (
	IDSeen               ID = "id.seen"                // a watched identity, explained
	IDUnexpected         ID = "id.unexpected-issuer"   // certified for another issuer
	IDNoIssuer           ID = "id.no-issuer"           // no issuer vouches for it
	IDUnknownCA          ID = "id.unknown-ca"          // from a CA that is not pinned
	IDUnexpectedWorkflow ID = "id.unexpected-workflow" // of the repository, by a workflow that is not listed
	IDUnexpectedRef      ID = "id.unexpected-ref"      // from a branch or tag that is not listed
	IDUnexpectedTrigger  ID = "id.unexpected-trigger"  // started by an event that is not listed
	IDRepoIDMismatch     ID = "id.repo-id-mismatch"    // the same name, another repository or owner behind it
	IDUnauthorized       ID = "id.unauthorized"        // no authorization explains it
	IDSelfHosted         ID = "id.self-hosted"         // on a runner of another kind than expected
	IDUnexpectedEnv      ID = "id.unexpected-env"      // in a deployment environment that is not listed
	IDVisibilityChange   ID = "id.visibility-change"   // the repository became public or private
	IDReusableCaller     ID = "id.reusable-caller"     // my reusable workflow, called by a foreign repository
	IDLookalike          ID = "id.lookalike"           // a name that looks like mine
	IDRefDrift           ID = "id.ref-drift"           // the same tag, another commit
	IDNewKey             ID = "id.new-key"             // a key not seen for the identity before
	IDKeyReuse           ID = "id.key-reuse"           // a one-time key under two identities
	IDFingerprintUsed    ID = "id.fingerprint-used"    // a retired key or certificate
	IDMissing            ID = "id.missing"             // authorized, and not logged
	IDBurst              ID = "id.burst"               // far more than usual
	IDFanOut             ID = "id.fan-out"             // one owner, runner or commit for many repositories
	IDFirstUse           ID = "id.first-use"           // after a long silence
	IDOffHours           ID = "id.off-hours"           // outside the stated hours
)

// The rules about certificates and entries of watched identities, or with audit of all.
const (
	EntryBadSignature  ID = "entry.bad-signature"         // the signature is not one of its digest
	EntryOutsideCert   ID = "entry.time-outside-validity" // logged while its certificate was not valid
	EntryWeakKey       ID = "entry.weak-key"              // a key below the allow-list
	EntryDuplicate     ID = "entry.duplicate"             // the same digest and certificate again
	CertLongLived      ID = "cert.long-lived"             // valid for longer than ten minutes
	CertBadEKU         ID = "cert.bad-eku"                // not for code signing alone
	CertNoSCT          ID = "cert.no-sct"                 // without a signed certificate timestamp
	CertBadSCT         ID = "cert.bad-sct"                // with one that does not verify
	CertUnknownSCTLog  ID = "cert.sct-unknown-log"        // with one of a log nobody trusts
	XCertWithoutEntry  ID = "x.cert-without-entry"        // in the certificate log, no signature with it
	XEntryWithoutCert  ID = "x.entry-without-cert"        // a signature, its certificate in no certificate log
	XIssuedUnexplained ID = "x.ca-issued-not-in-ca-audit" // absent from the CA's record of what it issued
)

// A Mode says when a rule is on.
type Mode int

// The modes.
const (
	Core    Mode = iota // a result of verification: cannot be switched off
	Default             // on unless switched off
	If                  // on by default, silent until there is something to compare with
	OptIn               // silent unless it is named under rules
)

// A Rule is one line of the catalogue.
type Rule struct {
	ID       ID
	Severity Severity // the usual one; a finding may carry a higher one
	Class    Class    // of a finding that is more than information
	Mode     Mode
	Params   []string // names of the parameters it takes under rules, beside off
	PerLog   bool     // about logs: named under the rules of the whole configuration alone
}

var rules = []Rule{
	{LogSplitView, Critical, Misbehaved, Core, nil, true},
	{LogRollback, Critical, Misbehaved, Core, nil, true},
	{LogInconsistent, Critical, Misbehaved, Core, nil, true},
	{LogBadSignature, Critical, Misbehaved, Core, nil, true},
	{LogBundleMismatch, Critical, Misbehaved, Core, nil, true},
	{LogKeyChange, Critical, Misbehaved, Core, nil, true},
	{QuorumLost, Critical, Misbehaved, Core, nil, true},
	{LogStale, Warning, Operational, Default, nil, true},
	{LogUnreachable, Warning, Operational, Default, []string{"after"}, true},
	{LogBehind, Warning, Operational, Default, []string{"max", "after"}, true},
	{LogMalformedEntry, Info, IdentityAlert, Default, nil, true},
	{AuthorizeUnusable, Warning, Operational, Default, []string{"after"}, true},
	{WitnessMissing, Warning, Operational, OptIn, []string{"after", "witnesses"}, true},
	{WitnessClockSkew, Warning, Operational, OptIn, []string{"window"}, true},
	{WitnessConflict, Critical, Misbehaved, OptIn, nil, true},
	{TUFRootChanged, Warning, Operational, OptIn, nil, true},
	{TUFLogAdded, Info, Operational, OptIn, nil, true},
	{TUFLogRemoved, Warning, Operational, OptIn, nil, true},
	{TUFExpiring, Warning, Operational, OptIn, []string{"window"}, true},
	{IDSeen, Info, IdentityAlert, OptIn, nil, false},
	{IDUnexpected, Critical, IdentityAlert, If, nil, false},
	{IDNoIssuer, Critical, IdentityAlert, If, nil, false},
	{IDUnknownCA, Critical, IdentityAlert, If, nil, false},
	{IDUnexpectedWorkflow, Critical, IdentityAlert, If, nil, false},
	{IDUnexpectedRef, Critical, IdentityAlert, If, nil, false},
	{IDUnexpectedTrigger, Critical, IdentityAlert, If, nil, false},
	{IDRepoIDMismatch, Critical, IdentityAlert, If, nil, false},
	{IDUnauthorized, Critical, IdentityAlert, If, nil, false},
	{IDSelfHosted, Warning, IdentityAlert, If, nil, false},
	{IDUnexpectedEnv, Warning, IdentityAlert, If, nil, false},
	{IDVisibilityChange, Warning, IdentityAlert, OptIn, nil, false},
	{IDReusableCaller, Warning, IdentityAlert, OptIn, nil, false},
	{IDLookalike, Warning, IdentityAlert, OptIn, []string{"allow"}, false},
	{IDRefDrift, Warning, IdentityAlert, OptIn, nil, false},
	{IDNewKey, Warning, IdentityAlert, OptIn, nil, false},
	{IDKeyReuse, Warning, IdentityAlert, OptIn, nil, false},
	{IDFingerprintUsed, Critical, IdentityAlert, OptIn, []string{"keys"}, false},
	{IDMissing, Warning, IdentityAlert, OptIn, []string{"grace"}, false},
	{IDBurst, Warning, IdentityAlert, OptIn, []string{"max", "window"}, false},
	{IDFanOut, Critical, IdentityAlert, OptIn, []string{"max", "window"}, false},
	{IDFirstUse, Warning, IdentityAlert, OptIn, []string{"after"}, false},
	{IDOffHours, Info, IdentityAlert, OptIn, []string{"hours", "days", "zone"}, false},
	{EntryBadSignature, Critical, IdentityAlert, Default, nil, false},
	{EntryOutsideCert, Critical, IdentityAlert, OptIn, nil, false},
	{EntryWeakKey, Warning, IdentityAlert, OptIn, []string{"allow"}, false},
	{EntryDuplicate, Info, IdentityAlert, OptIn, nil, false},
	{CertLongLived, Warning, IdentityAlert, OptIn, []string{"window"}, false},
	{CertBadEKU, Warning, IdentityAlert, OptIn, nil, false},
	{CertNoSCT, Critical, IdentityAlert, OptIn, nil, false},
	{CertBadSCT, Critical, IdentityAlert, OptIn, nil, false},
	{CertUnknownSCTLog, Critical, IdentityAlert, OptIn, nil, false},
	{XCertWithoutEntry, Warning, IdentityAlert, OptIn, []string{"grace"}, false},
	{XEntryWithoutCert, Critical, IdentityAlert, OptIn, []string{"grace"}, false},
	{XIssuedUnexplained, Critical, IdentityAlert, OptIn, []string{"file", "grace"}, false},
}

var catalogue = byID()

func byID() map[ID]Rule {
	m := make(map[ID]Rule, len(rules))
	for _, r := range rules {
		m[r.ID] = r
	}
	return m
}

// All returns the catalogue, in its order.
func All() []Rule { return slices.Clone(rules) }

// Lookup returns the catalogue's line for id, and whether there is one.
func Lookup(id ID) (Rule, bool) {
	r, ok := catalogue[id]
	return r, ok
}

// ClassOf returns the class of a finding of rule id with severity s: Clean if it is for
// information only.
func ClassOf(id ID, s Severity) Class {
	if s == Info {
		return Clean
	}
	return catalogue[id].Class
}
