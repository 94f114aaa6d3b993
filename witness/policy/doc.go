// Package policy decides whether bytes from outside are a checkpoint one may rely on. It parses
// and verifies signed notes (c2sp.org/signed-note), checkpoints (c2sp.org/tlog-checkpoint),
// cosignatures (c2sp.org/tlog-cosignature) and the policies that say which of them suffice
// (c2sp.org/tlog-policy), and takes the proofs apart that carry a checkpoint (c2sp.org/tlog-proof).
//
// In goes a policy file, once, and then notes as they came off the wire. Out comes a
// [Checkpoint], a type that only [Policy.Open] and [Policy.OpenLog] make: whoever holds one
// knows that a listed log signed it and that no signature line of a known key was wrong.
// The lower layer ([ParseNote], [ParseTree], [ParseVKey], [Key.Verify]) is for witnesses, which
// must tell the ways of failing apart.
//
// Everything here is stricter than golang.org/x/mod/sumdb/note and the formats module, because a
// signature statement must have one reading only: decimal numbers and base64 are canonical,
// root hashes have 32 bytes, the hash inside a vkey is checked, the algorithm byte is never
// reinterpreted, and every signature line of a known key is verified, a second one too.
//
// The caller must limit the length of what it passes in; all functions are linear in it, and
// safe for concurrent use.
package policy
