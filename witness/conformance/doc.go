// Package conformance is a suite that asks a running witness, by its URL, every question that
// c2sp.org/tlog-witness answers, and those of c2sp.org/tlog-cosignature, c2sp.org/tlog-checkpoint
// and c2sp.org/signed-note that a witness has to answer.
//
// In go the witness's submission prefix, its verifier keys and throw-away logs that it was told
// about ([NewLogs] makes them, [Logs.List] prints them in the witness network's format). Out comes
// a [Report]: for every case what was sent, what the specification's own words demand, and what
// came back.
//
// A case is one request with a precondition. Of each refusal it is also checked that nothing
// changed: the next conflict names the same size, and the monitoring prefix serves the same bytes.
// Of each cosignature it is checked that it verifies, covers the checkpoint and has a time, and
// that the monitoring prefix serves it.
//
// The suite is fair to witnesses that are not Tallywood's. A case of level [Must] or [Should] fails
// only where the specification says so. Where it permits several answers, one that is not ours is
// reported as [Differs], which is no failure; what the specification is silent about has the level
// [Ours].
//
// Nothing here is shared with the witness that it tests: trees, proofs, signatures and requests are
// made, and answers verified, by code of its own.
//
// The caller must guarantee that nobody else uses the logs meanwhile. The suite moves their state
// forward, and no other log's.
package conformance
