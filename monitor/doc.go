// Package monitor watches transparency logs from outside: it tails them from their public static
// files (c2sp.org/tlog-tiles, c2sp.org/static-ct-api), verifies all it reads, and raises an event
// when a watched identity appears or a log breaks a promise.
//
// In go log URLs, keys and policies, and the identities of package rule; HTTP GETs are the only
// thing a log ever sees. Out come events, through sinks. Of one log it goes like this:
//
//	checkpoint ── log key, quorum ──> consistent with the last verified one?
//	                                            │ hash tiles, authenticated to the root
//	bundle n   ─┐                               v
//	bundle n+1 ─┼─ split, hash, match ──> leaf hashes belong to the root? ──> evidence on disk
//	bundle n+8 ─┘   (in parallel)               │ (in order)                      │
//	                                            v                                 v
//	                     one compare-and-swap of {checkpoint, range, next, outbox}
//	                                            │
//	                             sinks, each on its own, until it has answered
//
// A finding counts only once its entry is bound to a verified root. Position and outbox are one
// object, so that a process killed anywhere loses no event and queues none twice; what a sink got
// just before the kill it may get again, under the same [Event].ID.
//
// The caller must give every log a [storage.Bucket] that is not public, and an evidence directory
// on a local disk. Two monitors may share a state: the one that comes second takes over from it.
package monitor
