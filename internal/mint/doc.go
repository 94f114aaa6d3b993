// Package mint makes whole transparency logs, as static files: certificates with a real chain and a
// real promise of a certificate log, signatures with their keys, and logs of both, signed and
// cosigned (https://c2sp.org/tlog-tiles, https://c2sp.org/static-ct-api).
//
// In go a seed and what the entries are to be: names, extensions, times, keys, authorities, and what
// is wrong with them. Out come the files that such a log would serve, equal for equal input. All
// that is not asked to be wrong is right: every signature verifies, whatever verifies it.
//
// The keys are derived from the seed, so that they protect nothing: whoever knows it has them. Logs
// made here are for tests and measurements.
package mint
