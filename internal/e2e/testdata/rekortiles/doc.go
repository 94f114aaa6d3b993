// Package rekortiles uses the clients and the verification library of sigstore/rekor-tiles on a
// log of ours, unchanged: what its authors expect of their server in its end-to-end tests is
// expected here of ours, and where ours is to do better the test says so.
//
// It is a module of its own so that ours does not depend on the clients. The end-to-end tests run
// it, and tell it by the environment which log it is about:
//
//	LOG_URL       where it is written to and read
//	LOG_CLIENT    directory with its trusted_root.json and policy.txt
//	LOG_REQUEST   file that carries a request from one run to the next
//	LOG_TUF       TUF repository that names the log, and
//	LOG_TUF_ROOT  its first root
//	LOG_POSITION  file that carries from one run to the next how far the log was read
package rekortiles
