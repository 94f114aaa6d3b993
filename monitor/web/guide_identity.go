package web

import "tallywood/monitor/rule"

// identityGuides are those of rules that compare one entry with what is expected of an identity.
var identityGuides = map[rule.ID]guide{
	rule.IDSeen: {
		headline: "The identity was used, as expected.",
		fires:    "an entry of the identity is explained; for an identity without `expect`, any entry of it",
		example:  "Your release workflow signed v1.4.2.",
		mine:     []string{"Nothing needs doing. Without expect the monitor cannot tell your signatures from others': say what you expect, and this becomes silence."},
		foreign:  []string{findRun, stopAccount, withdraw, "Then write down in `expect` what your own signatures look like, so that the next one that does not is an alert."},
	},
	rule.IDUnexpected: {
		headline: "An issuer that you do not expect vouched for the identity.",
		fires:    "the certificate names another OpenID Connect issuer than those in `expect.issuers`",
		example:  "Your mail address was certified by the word of a social login, and you only ever use your company's.",
		mine:     []string{"Did you, or a colleague, log in another way than usual, or did your company change its login service?", widen, justOnce},
		foreign:  []string{"Somebody controls an account with your name at that issuer, or the issuer does not check who owns names. Sign in there yourself, if you can, and look at the account's sessions.", withdraw, "Have verifiers pin the issuer: a signature is to be checked against identity and issuer, never the identity alone.", "Tell the issuer and the certificate authority."},
	},
	rule.IDNoIssuer: {
		headline: "No issuer vouches for this use of the identity.",
		fires:    "the certificate has no issuer extension, or a watched key was used without a certificate, and `expect.issuers` names some",
		example:  "A certificate for your address without the extension that says who vouched: verifiers that compare issuers refuse it, others do not.",
		mine:     []string{"A certificate of your own test authority, logged by mistake.", "Signatures with a bare key: watch the key itself, without issuers."},
		foreign:  []string{"The authority issued what it should not: send it the certificate from the evidence.", withdraw, "Have verifiers pin the issuer."},
	},
	rule.IDUnknownCA: {
		headline: "The certificate is not from an authority that you trust with this identity.",
		fires:    "the certificate's chain does not end at one of `cas`",
		example:  "A self-made authority certified your address, and the log took it: verifiers with their own trust root do not care, careless ones do.",
		mine:     []string{"A second deployment, a test authority, or a new intermediate of the authority you use: add it to `cas`."},
		foreign:  []string{"Verifiers that pin the authority are safe. Find out whether yours do.", withdraw, "If the issuer name of the certificate is one you know, tell that authority: somebody uses its name, or its key."},
	},
	rule.IDUnexpectedWorkflow: {
		headline: "A workflow that you do not expect signed for your repository.",
		fires:    "the repository is yours and the workflow (1.18 or 1.9 of the certificate) is not in `expect.workflows`",
		example:  "Releases are signed by release.yml; this was signed by lint.yml.",
		mine:     []string{"Did somebody rename the release workflow or add one?", widen, justOnce},
		foreign:  []string{findRun, "See who added or changed that workflow file, and on which branch: it may exist on a branch that nobody reviews.", "Take the permission to get identity tokens (id-token: write) away from all workflows but the release.", stopAccount, withdraw},
	},
	rule.IDUnexpectedRef: {
		headline: "Your repository signed from a branch or tag that you do not release from.",
		fires:    "1.14 of the certificate is not in `expect.refs`",
		example:  "Releases are tags v*; this was signed from refs/heads/fix-typo.",
		mine:     []string{"A release by hand from another branch, or a new naming of tags.", widen, justOnce},
		foreign:  []string{findRun, "See who created that branch or tag, and delete it. A workflow file on an unreviewed branch runs as that branch has it.", "Protect branches and tags, and tie the identity token to a deployment environment with reviewers.", stopAccount, withdraw},
	},
	rule.IDUnexpectedTrigger: {
		headline: "Your release workflow was started by an event that you do not expect.",
		fires:    "1.20 of the certificate is not in `expect.triggers`",
		example:  "Releases start by push; this one by pull_request_target, which runs with your rights on a stranger's proposal.",
		mine:     []string{"Somebody started it by hand (workflow_dispatch), or it got a schedule.", widen, justOnce},
		foreign:  []string{findRun, "pull_request_target, issue_comment and workflow_run let strangers start a workflow that has your secrets: take these triggers away from what can sign.", stopAccount, withdraw},
	},
	rule.IDRepoIDMismatch: {
		headline: "The repository has your name and is not yours.",
		fires:    "the repository's URI is as expected, and 1.15 or 1.17, the numbers of repository or owner, are others",
		example:  "The account was renamed, a stranger registered the old name, and signs as it.",
		mine:     []string{"You deleted the repository and made it anew, or transferred it: write the new number into `repository_id` or `owner_id`."},
		foreign:  []string{"Somebody registered a name that was yours. Tell the forge.", "Have verifiers compare the numbers of repository and owner, which are never given twice.", withdraw},
	},
	rule.IDUnauthorized: {
		headline: "Nothing that you authorized explains this signature.",
		fires:    "`expect.authorize` asks for it, and after the grace time no authorization names the entry's digest, run, or commit and ref",
		example:  "The right workflow signed a package at night, and your release pipeline knows of no such release: a stolen token looks exactly like this.",
		mine:     []string{"A release whose pipeline did not reach the step that authorizes it: authorize it now, with the command below, and repair the step."},
		foreign:  []string{findRun, stopAccount, withdraw, lookForMore, "Everything else about the entry was as expected: suspect the pipeline itself, its dependencies and its runners."},
	},
	rule.IDSelfHosted: {
		headline: "The signature was made on a kind of runner that you do not expect.",
		fires:    "1.11 of the certificate is not what `expect.runner` says",
		example:  "Releases run on the forge's own machines; this one ran on a self-hosted runner, which whoever controls that machine controls.",
		mine:     []string{"You moved the release to another kind of runner.", widen, justOnce},
		foreign:  []string{findRun, "See which runners are registered for the repository and its owner, and remove those you do not know: registering one is how worms stay.", stopAccount, withdraw},
	},
	rule.IDUnexpectedEnv: {
		headline: "The signature was made in a deployment environment that you do not expect.",
		fires:    "1.23 of the certificate is not in `expect.environments`",
		example:  "Releases go through the environment release with two reviewers; this one went through none.",
		mine:     []string{"A new or renamed environment.", widen, justOnce},
		foreign:  []string{findRun, "See who can change workflows without going through that environment.", stopAccount, withdraw},
	},
	rule.IDVisibilityChange: {
		headline: "The repository has become public, or private.",
		fires:    "1.22 of the certificate is another value than before",
		example:  "A private repository signed as public: worms publish repositories of those they catch.",
		mine:     []string{"You changed the visibility: nothing needs doing, the new value is what is usual from now on."},
		foreign:  []string{"Make it private again at once, and take all secrets that were ever in it for known.", stopAccount, lookForMore},
	},
	rule.IDReusableCaller: {
		headline: "A foreign repository signed with your reusable workflow.",
		fires:    "1.9, the workflow that built, is yours, and 1.12 or 1.18 is a repository that is not",
		example:  "Somebody calls your shared release workflow from their repository; a verifier that compares only the workflow takes the result for yours.",
		mine:     []string{"The workflow is meant to be used by others: then verifiers must compare the source repository too, and this rule is not for you."},
		foreign:  []string{"Have verifiers compare the source repository (1.12) as well.", "Restrict who may call the workflow, if the forge lets you.", withdraw},
	},
	rule.IDLookalike: {
		headline: "Somebody signed under a name that looks like yours.",
		fires:    "owner, repository or domain is not yours and hard to tell from it: one or two letters other, swapped, of another script, or of another case",
		example:  "example/too1 beside your example/tool.",
		mine:     []string{"A fork or a friend with a similar name: name it in `allow`."},
		foreign:  []string{"It is not your identity: your own signatures are not in doubt. Somebody hopes that people misread.", "Warn your users of the name, and report it to the forge or registrar.", "Tell registries that distribute your packages."},
	},
}

// patternGuides are those of rules that compare an entry with what was there before.
var patternGuides = map[rule.ID]guide{
	rule.IDRefDrift: {
		headline: "The same tag now stands for another commit.",
		fires:    "a tag (1.14) was signed before from another commit (1.13)",
		example:  "v1.4.2 was signed from commit 1a2b in May, and today from 9f8e.",
		mine:     []string{"You moved the tag. Users who pinned it get something else than before: better to release a new version."},
		foreign:  []string{"See who moved the tag, and move it back. Moving the tags of an action is how its users are attacked at once.", "Protect tags against being moved.", stopAccount, withdraw},
	},
	rule.IDNewKey: {
		headline: "The identity signed with a key that it has not used before.",
		fires:    "the identity has used one or few keys so far, and this is another one",
		example:  "Every release was signed by the key in your hardware token; this one was not.",
		mine:     []string{"You changed the key: nothing needs doing, it is known from now on."},
		foreign:  []string{"Somebody can get certificates or signatures in your name with a key of their own.", stopAccount, withdraw},
	},
	rule.IDKeyReuse: {
		headline: "One key signed under two identities.",
		fires:    "a key that is to be used once appears with two watched identities",
		example:  "Two projects whose certificates hold the same key: one machine or one thief signs for both.",
		mine:     []string{"A build machine that keeps its key for several projects: have it make one for each signature."},
		foreign:  []string{findRun, "Look at both identities: whoever has that key can sign as either.", stopAccount, withdraw},
	},
	rule.IDFingerprintUsed: {
		headline: "A key or certificate that was retired has been used.",
		fires:    "the SHA-256 of key or certificate is in `keys`",
		example:  "The key that was lost with a laptop last year signed today.",
		mine:     []string{"Somebody forgot to change the key in one place: change it there."},
		foreign:  []string{"Whoever has the key is using it. Tell verifiers to refuse it, now.", withdraw, lookForMore},
	},
	rule.IDMissing: {
		headline: "A release that you authorized was not logged.",
		fires:    "an authorization names a release, and within `grace` no entry of it appears",
		example:  "The pipeline authorized v1.5.0, and its signature is in no log that is watched.",
		mine:     []string{"The release was called off, or signed into another log: let the authorization expire, or watch that log."},
		foreign:  []string{"Users who verify against the log refuse what was not logged. Run the release's signing step again.", "If something was published as that release all the same, find out what: it may not be what you built."},
	},
	rule.IDBurst: {
		headline: "The identity signs far more than usual.",
		fires:    "more than `max` entries within `window`, or far more than its own average; critical when it goes on growing",
		example:  "Twenty releases in ten minutes, where there are two in a week.",
		mine:     []string{"A release of many parts, or a pipeline in a loop: raise `max`."},
		foreign:  []string{"A worm publishes all that it can reach. Stop publishing first, investigate afterwards: revoke the registry's and the forge's tokens.", stopAccount, withdraw, lookForMore},
	},
	rule.IDFanOut: {
		headline: "One owner, runner or commit signs for many repositories within minutes.",
		fires:    "within `window` more than `max` repositories of what is watched are signed for by one owner, one runner or one commit",
		example:  "Forty packages of one maintainer get a patch release within five minutes.",
		mine:     []string{"A monorepo, or a release of everything at once: raise `max`, or authorize it."},
		foreign:  []string{"This is what a worm looks like. Stop publishing first: revoke the tokens that can, of registry and forge.", stopAccount, withdraw, lookForMore},
	},
	rule.IDFirstUse: {
		headline: "The identity signed after a long silence.",
		fires:    "the identity has not signed for as long as `after` says",
		example:  "A project that rested for two years releases at night.",
		mine:     []string{"You released again: nothing needs doing."},
		foreign:  []string{"Forgotten projects with working credentials are easy prey.", findRun, stopAccount, withdraw},
	},
	rule.IDOffHours: {
		headline: "The identity signed outside its hours.",
		fires:    "it was logged outside `hours` and `days`",
		example:  "Your team works from 9 to 18; this was signed on Sunday at 3.",
		mine:     []string{"Somebody worked late. As information it needs nothing."},
		foreign:  []string{findRun, stopAccount, withdraw},
	},
}
