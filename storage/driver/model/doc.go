// Package model checks the storage protocol of storage/driver exhaustively within small bounds: its
// test runs spin on slotlog.pml, a model of the protocol, and on mutants of it in which one rule is
// broken. docs/design/004-exhaustive-model.md relates model, protocol and code.
//
// The test needs spin, gcc and the C library's headers, and fails without them.
package model
