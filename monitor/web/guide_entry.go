package web

import "tallywood/monitor/rule"

// entryGuides are those of rules about certificates and entries, whoever they name.
var entryGuides = map[rule.ID]guide{
	rule.EntryBadSignature: {
		headline: "The signature in the log is not one of what it says was signed.",
		fires:    "the entry's signature does not verify over its digest under its key",
		example:  "An entry names your certificate and a digest that you never signed; the signature is noise.",
		mine:     []string{"Nothing of yours makes such an entry: a log checks the signature before it takes one."},
		foreign:  []string{"Nobody who verifies accepts it. But a log that took it does not check what it takes, or was written to behind its own door: tell its operator.", keepEvidence},
	},
	rule.EntryOutsideCert: {
		headline: "The entry was logged while its certificate was not valid.",
		fires:    "cosignatures tell that it was logged after the certificate's end, or before its start",
		example:  "A certificate of ten minutes, and a signature with it a day later: somebody kept the key.",
		mine:     []string{"An upload that was tried again after an outage: sign anew instead."},
		foreign:  []string{"Verifiers go by a timestamp: one that is inside the certificate's time makes them accept it. Compare the two.", findRun, withdraw},
	},
	rule.EntryWeakKey: {
		headline: "The signature was made with a weak key.",
		fires:    "the kind of key, or its size, is not in `allow`",
		example:  "RSA with 1024 bits, where your projects use P-256.",
		mine:     []string{"An old tool: have it make a key of a kind that is allowed, or name its kind in `allow`."},
		foreign:  []string{"A signature that others can forge: have verifiers refuse it.", findRun, withdraw},
	},
	rule.EntryDuplicate: {
		headline: "The same signature was logged again.",
		fires:    "digest and certificate are those of an earlier entry",
		example:  "An upload that was tried again made two entries.",
		mine:     []string{"A repeated upload. As information it needs nothing."},
		foreign:  []string{"Nothing new was signed. Many of them may be meant to bury something: look at what lies between."},
	},
	rule.CertLongLived: {
		headline: "The certificate is valid for longer than usual.",
		fires:    "it is valid for more than ten minutes and the tolerance in `window`",
		example:  "A certificate of a year, where the authority gives ten minutes: a stolen key works for a year.",
		mine:     []string{"Another authority with longer certificates: widen `window`."},
		foreign:  []string{"The authority issued what its policy does not allow, or it is not the authority: send it the certificate.", withdraw},
	},
	rule.CertBadEKU: {
		headline: "The certificate is for something other than code signing.",
		fires:    "the extended key usage is not code signing alone",
		example:  "A certificate that is good for a web server as well.",
		mine:     []string{"A certificate of another authority: watch it without this rule."},
		foreign:  []string{"The authority issued what it should not: send it the certificate."},
	},
	rule.CertNoSCT: {
		headline: "The certificate carries no promise of a certificate log.",
		fires:    "there is no signed certificate timestamp in it",
		example:  "A certificate that was issued without being logged: nobody could have seen it before it was used.",
		mine:     []string{"An authority that does not log what it issues: watch it without this rule."},
		foreign:  []string{"Issued past the log: suspect the authority's key. Tell it, with the certificate.", withdraw},
	},
	rule.CertBadSCT: {
		headline: "The certificate's promise of a certificate log is not genuine.",
		fires:    "a signed certificate timestamp in it does not verify over the precertificate",
		example:  "The timestamp was copied from another certificate.",
		mine:     []string{"Nothing harmless makes one."},
		foreign:  []string{"Made to look as if it was logged: suspect the authority's key. Tell the authority and the certificate log.", withdraw},
	},
	rule.CertUnknownSCTLog: {
		headline: "The certificate names a certificate log that nobody trusts.",
		fires:    "a signed certificate timestamp in it is of no log in the trust material",
		example:  "A new certificate log that is not in your trusted root yet, or one of the attacker's own.",
		mine:     []string{"A new log of the authority: update the trust material."},
		foreign:  []string{"A promise of a log that you cannot read is none: ask the authority which log it is.", withdraw},
	},
	rule.XCertWithoutEntry: {
		headline: "A certificate of the identity was issued, and no signature with it was logged.",
		fires:    "the certificate log has a certificate of the identity, and within `grace` no signature log has an entry with it",
		example:  "Somebody got a certificate with your token, and keeps the signature to themselves.",
		mine:     []string{"A run that was cancelled between the two steps, or that signs into a log that is not watched."},
		foreign:  []string{"A stolen token looks like this. " + findRun, stopAccount, "Have verifiers demand a log entry: a signature without one is then worth nothing."},
	},
	rule.XEntryWithoutCert: {
		headline: "A signature was logged with a certificate that is in no certificate log.",
		fires:    "the certificate promises to be logged, and is not in that certificate log after `grace`",
		example:  "The certificate log promised to take it, and did not, or shows you a tree without it.",
		mine:     []string{"A certificate log that is late: see its page."},
		foreign:  []string{keepEvidence, "A certificate log that breaks its promise hides what was issued. Tell the log, the authority and other monitors.", withdraw},
	},
	rule.XIssuedUnexplained: {
		headline: "The authority has no record of having issued this certificate.",
		fires:    "the certificate is not in your authority's own record of what it issued",
		example:  "A certificate with your authority's signature that your authority never made: its key is in other hands.",
		mine:     []string{"A record that is incomplete: a restart, a second instance with a record of its own."},
		foreign:  []string{"Take the authority's key for stolen: stop issuing, withdraw it from the trusted root, and tell everyone who trusts it.", keepEvidence, lookForMore},
	},
}
