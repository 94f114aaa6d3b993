// Package client has a log's checkpoints cosigned by the witnesses of its policy, per
// c2sp.org/tlog-witness.
//
// In goes a checkpoint that the log has signed, and a function that builds consistency proofs. All
// witnesses are asked at once; out comes, as soon as the policy is satisfied, the checkpoint with
// the log's lines first and verified cosignatures after them, or an error that says what each
// witness did. Nothing a witness answers is believed: only lines of its own keys that verify, with
// a timestamp near ours, are copied.
//
// A Client remembers the size that each witness has cosigned, also from [Client.Sizes]. Before it
// knows one, its first request says size 0, and the answer 409 brings the size: what
// c2sp.org/tlog-witness has for clients that do not know it. To read the monitoring prefix first
// would take the same two round trips, cost one more where the witness is at 0, and need the prefix
// to be where the policy has the submission prefix.
//
// A Client backs off from witnesses that fail, and has at most one request to each under way. A
// witness that answers after the quorum was reached is not wasted: its cosignature is kept, see
// [Client.Full].
//
// The caller must guarantee that it asks for no two trees that are not consistent, and that it
// calls [Client.Close] in the end.
package client
