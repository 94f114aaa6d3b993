package web

import "tallywood/monitor/rule"

// details say of a rule what it is told under rules, with its defaults, and how exactly it goes about
// it. A rule that is not here needs nothing to be said.
var details = map[rule.ID]string{
	rule.LogStale:          "The limits are `freshness: {warn, critical}` of each log, 15m and 1h unless said otherwise.",
	rule.LogUnreachable:    "`after` is how long the log has not answered: 5m. `monitor check` does not wait unless it is said.",
	rule.LogBehind:         "`after` is how long there have always been entries to match: 15m. `max`, if said: that many of them, for more than a minute.",
	rule.AuthorizeUnusable: "`after` is how long it has lasted: 5m. `monitor check` does not wait.",
	rule.WitnessMissing:    "`after` is for how long others have cosigned without it: 1h. `witnesses` are the names of those that are meant, by default all. A cosignature in a checkpoint that the witness itself shows, or in the log's `checkpoint.full`, counts too.",
	rule.WitnessClockSkew:  "`window` is the tolerance: 15m.",
	rule.TUFExpiring:       "`window` is how long before: 24h.",
	rule.LogMalformedEntry: "One event stands for all such entries of an entry bundle, unless one of them holds what is watched.",

	rule.IDNoIssuer:           "It needs `expect.issuers`.",
	rule.IDUnexpected:         "It needs `expect.issuers`, which are compared exactly.",
	rule.IDUnknownCA:          "It needs `cas`.",
	rule.IDUnexpectedWorkflow: "It needs `expect.workflows`: paths in the repository or whole URIs, `*` for any run of characters. The workflow that ran (1.18), the one that signed (1.9) and the name are compared.",
	rule.IDUnexpectedRef:      "It needs `expect.refs`, `*` for any run of characters.",
	rule.IDUnexpectedTrigger:  "It needs `expect.triggers`.",
	rule.IDRepoIDMismatch:     "It needs `repository_id` or `owner_id`; a certificate without the number is another one's too.",
	rule.IDUnauthorized:       "It needs `expect.authorize` with `required: true`; its `grace` is 15m.",
	rule.IDSelfHosted:         "It needs `expect.runner`: `github-hosted` or `self-hosted`.",
	rule.IDUnexpectedEnv:      "It needs `expect.environments`.",
	rule.IDLookalike:          "`allow` are names that are known, with `*`. Two characters differ at most (one in names of three or four), or only such as look alike: `1` and `l`, `rn` and `m`, other scripts, accents; or another domain begins with yours, such as `github.com.evil.example`.",
	rule.IDFingerprintUsed:    "`keys` are the SHA-256, in hexadecimal, of retired keys and certificates. An identity that names the rule is told of their use by whoever it is. Named for all identities, the use is one alert: of the identity that signed, or of none if it was a stranger.",
	rule.IDMissing:            "`grace` is how long after it was listed: 1h. It needs `expect.authorize`.",

	rule.IDBurst:            "`max` is what is still usual within `window` (10m). Without `max`: 20, and once five windows with entries have been seen, four times what such a window has on average, ten at least. Critical at more than three times that. It is told when it begins and when it becomes critical, and not again before it has ended. A burst of signatures with certificates is one in the certificate log too: the second alert says where the first is.",
	rule.IDFanOut:           "`max` (5, at most 100) is how many repositories within `window` (10m). Once, until it has ended.",
	rule.IDRefDrift:         "256 tags of an identity are remembered.",
	rule.IDVisibilityChange: "256 repositories are remembered.",
	rule.IDNewKey:           "It looks at keys that are kept: bare ones, those of certificates valid for more than a day, and those met in two certificates. Keyless signing makes a key for each signature: there the rule is silent. 128 keys are remembered.",
	rule.IDKeyReuse:         "It looks at keys of certificates valid for a day at most. 256 keys are remembered.",
	rule.IDFirstUse:         "`after` is how long it has been silent: 2160h, 90 days. The first entry at all counts in a log that was read from its beginning.",
	rule.IDOffHours:         "`hours` (\"09:00-18:00\"; \"22:00-06:00\" ends on the next day), `days` (`[mon, tue]`), in `zone`, an IANA name, by default UTC. At least one of hours and days must be said.",
	rule.EntryDuplicate:     "256 entries of an identity are remembered.",
	rule.EntryOutsideCert:   "By the cosignatures of the checkpoints before and with it; clocks may be two minutes apart. Where one of them is not known it is silent.",
	rule.EntryBadSignature:  "An entry of kind `dsse` (Rekor v2) holds the hash of the payload, each signature and its key or certificate, but not what was signed: the payload with its type, length and name. So of such a signature, and of one by a scheme that signs no digest, it is only told whether the key can have made it at all: an RSA signature (PKCS #1 v1.5) must hold some hash, one of ECDSA or Ed25519 numbers of its curve. Whether it is over this payload only whoever has the envelope can verify.",
	rule.EntryWeakKey:       "`allow` are the kinds that are good: by default `ecdsa-p256`, `ecdsa-p384`, `ecdsa-p521`, `ed25519`, and `rsa-2048` or longer.",
	rule.CertLongLived:      "`window` is the tolerance: 10s.",
	rule.CertNoSCT:          "Not asked in certificate logs.",
	rule.CertBadSCT:         "It needs `ct_keys`, and the issuer's key in `cas` or a trusted root.",
	rule.CertUnknownSCTLog:  "It needs `ct_keys`.",
	rule.XCertWithoutEntry:  "`grace` is how long the signature may be late: 1h. The certificate log and the signature logs must be followed by one monitor.",
	rule.XEntryWithoutCert:  "`grace` is how long the certificate may be late: 24h. The certificate log must be followed by the same monitor.",
	rule.XIssuedUnexplained: "`file` is the authority's own record of what it issued; `grace` is how long it may be late: 15m.",
}
