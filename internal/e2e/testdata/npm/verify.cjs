'use strict';
// Verifies with @sigstore/verify and a trusted root file. Standard input is a JSON object:
// trustedRoot is a path, checks is a list of {bundle, file, identity, issuer}; file is absent for
// an envelope. Standard output is a list of {verified, said}, one for each check.

const fs = require('node:fs');
const { bundleFromJSON } = require('@sigstore/bundle');
const { TrustedRoot } = require('@sigstore/protobuf-specs');
const { Verifier, toSignedEntity, toTrustMaterial } = require('@sigstore/verify');

const read = (path) => JSON.parse(fs.readFileSync(path, 'utf8'));
const job = JSON.parse(fs.readFileSync(0, 'utf8'));
// Without thresholds: one timestamp, one SCT and one log entry are wanted.
const verifier = new Verifier(toTrustMaterial(TrustedRoot.fromJSON(read(job.trustedRoot))));

function verify(check) {
  try {
    const data = check.file ? fs.readFileSync(check.file) : undefined;
    verifier.verify(toSignedEntity(bundleFromJSON(read(check.bundle)), data), {
      subjectAlternativeName: check.identity,
      extensions: { issuer: check.issuer },
    });
    return { verified: true, said: '' };
  } catch (err) {
    return { verified: false, said: `${err.name} ${err.code}: ${err.message}` };
  }
}

console.log(JSON.stringify(job.checks.map(verify)));
