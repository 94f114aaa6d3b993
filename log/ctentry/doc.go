// Package ctentry encodes and decodes the structures of certificate logs: TileLeaf and
// MerkleTreeLeaf (https://c2sp.org/static-ct-api), SCT and SCT list (RFC 6962 sections 3.2 to
// 3.4), and the edits of DER certificates that both need.
//
// In go bytes of any origin; out come values whose encoding is the very bytes that were read:
// what Parse accepts, the corresponding encoder reproduces. Nothing is allocated for bytes that
// are not there.
//
// Decoding proves nothing about truth. The pre_certificate and the fingerprints of a TileLeaf
// are not covered by its leaf hash, so their fields say Unverified; call [Entry.Check] with the
// issuer's certificate before believing them.
package ctentry
