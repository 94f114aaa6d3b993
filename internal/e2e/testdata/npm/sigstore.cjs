'use strict';
// Verifies with the package sigstore, which gets its trusted root from a TUF repository. Standard
// input is a JSON object: mirror, root and cache say where from, checks is a list of {bundle,
// file, identity, issuer}; file is absent for an envelope. Standard output is a list of
// {verified, said}, one for each check.

const fs = require('node:fs');
const sigstore = require('sigstore');

const job = JSON.parse(fs.readFileSync(0, 'utf8'));

async function verify(check) {
  try {
    const bundle = JSON.parse(fs.readFileSync(check.bundle, 'utf8'));
    const options = {
      certificateIdentityEmail: check.identity,
      certificateIssuer: check.issuer,
      tufMirrorURL: job.mirror,
      tufRootPath: job.root,
      tufCachePath: job.cache,
    };
    await (check.file
      ? sigstore.verify(bundle, fs.readFileSync(check.file), options)
      : sigstore.verify(bundle, options));
    return { verified: true, said: '' };
  } catch (err) {
    return { verified: false, said: `${err.name} ${err.code}: ${err.message}` };
  }
}

(async () => {
  const results = [];
  for (const check of job.checks) {
    results.push(await verify(check));
  }
  console.log(JSON.stringify(results));
})();
