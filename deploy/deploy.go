// Package deploy holds what runs Tallywood elsewhere: Containerfile (images of both programs),
// compose.yaml (two replicas, three witnesses and an S3 server on one machine, after "prepare" has
// made their keys), systemd/ (units of both programs) and prometheus/ (alert rules of a witness).
// docs/operate.md and docs/witness-runbook.md tell how to use them.
//
// It has tests only, which start each of them as far as that goes without a container engine and
// without a systemd that runs: see container in them.
package deploy
