'use strict';
// Signs with @sigstore/sign and the services of a signing config. Standard input is a JSON object:
// signingConfig, file and bundle are paths, token is an identity token, dsse says whether the file
// becomes the payload of an envelope of the given type.

const fs = require('node:fs');
const { bundleToJSON } = require('@sigstore/bundle');
const { SigningConfig } = require('@sigstore/protobuf-specs');
const { bundleBuilderFromSigningConfig } = require('@sigstore/sign');

async function main() {
  const job = JSON.parse(fs.readFileSync(0, 'utf8'));
  // Without fetchOptions the package waits 5 s for an answer and retries twice, as its users see it.
  const builder = bundleBuilderFromSigningConfig({
    signingConfig: SigningConfig.fromJSON(JSON.parse(fs.readFileSync(job.signingConfig, 'utf8'))),
    identityProvider: { getToken: async () => job.token },
    bundleType: job.dsse ? 'dsseEnvelope' : 'messageSignature',
  });
  const bundle = await builder.create({ data: fs.readFileSync(job.file), type: job.type });
  fs.writeFileSync(job.bundle, JSON.stringify(bundleToJSON(bundle)));
}

main().catch((err) => {
  console.error(err);
  process.exitCode = 1;
});
