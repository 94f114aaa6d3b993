// Package e2e tests the real programs with the real clients: a stack is started as a user would
// start it, and cosign, sigstore-go, the npm clients, the clients of sigstore/rekor-tiles, other
// witnesses and a browser are used on it unmodified.
//
// The tests install what they need at pinned versions; what cannot be installed makes them fail.
// In testdata are a module of tests that use the Go clients of sigstore/rekor-tiles, and the lock
// file of the npm clients with the scripts that call them.
package e2e
