// Package witness cosigns checkpoints per c2sp.org/tlog-witness.
//
// A Witness keeps, for every log it knows, the largest tree it has cosigned, and refuses any
// checkpoint that is not provably consistent with it. In go requests over HTTP ([Witness.Handler]);
// out come cosignatures (c2sp.org/tlog-cosignature), Ed25519 and ML-DSA-44, a line of each key that
// is valid then.
//
// All state is one object per log in a bucket, replaced by compare-and-swap, and no byte of a
// signature leaves before the swap has succeeded. It says what is signed, not the signatures: they
// are made meanwhile, and can be made once more, with the same bytes. So a crash at any moment forgets nothing that
// anyone saw, and a second process on the same bucket is safe. What a bucket cannot know, that it
// was restored from a backup, the witness notices when somebody shows it a cosignature of its own
// that is ahead of its state: it then freezes that log until an operator has set a floor.
//
// The caller must guarantee that the keys sign nowhere else with another state, and that the clock
// is right: timestamps never go back, and a clock more than five seconds behind the last signature
// is answered with 503.
package witness
