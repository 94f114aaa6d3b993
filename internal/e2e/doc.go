// Package e2e tests the real programs with the real clients: a stack is started as a user would
// start it, and cosign, sigstore-go, other witnesses and a browser are used on it unmodified.
//
// The tests install what they need at pinned versions; what cannot be installed makes them fail.
package e2e
