// Package client has a log's checkpoints cosigned by the witnesses of its policy, per
// c2sp.org/tlog-witness.
//
// In goes a checkpoint that the log has signed, and a function that builds consistency proofs. All
// witnesses that count towards the quorum are asked at once; out comes, as soon as the policy is
// satisfied, the checkpoint with the log's lines first and verified cosignatures after them, or an
// error that says what each witness did. Witnesses that the policy lists outside its quorum are asked
// afterwards: their cosignatures, like those that come late, are in [Client.Full] alone.
//
// Nothing a witness answers is believed: only lines of its own keys that verify, with a timestamp
// near ours, are copied, and what it says about sizes decides no more than which proof it is sent.
// What it can make a Client hold, and how long a round waits for it, is bounded.
//
// A Client remembers the size that each witness has cosigned: from its monitoring prefix, from
// [Client.Sizes], from its answers. Where the monitoring prefix is not below the submission prefix
// it finds out by the answer 409, which c2sp.org/tlog-witness has for clients that do not know.
//
// At most one request to a witness is under way, and one more when that is overdue: on a connection
// of its own, for the newest checkpoint. A witness that keeps failing is tried at intervals that
// grow to two seconds; no round waits for it that has its quorum without it.
//
// The caller must guarantee that it asks for no two trees that are not consistent, and that it
// calls [Client.Close] in the end.
package client
