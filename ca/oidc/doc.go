// Package oidc verifies OpenID Connect identity tokens for a certificate authority, under the
// issuer configuration of Fulcio (https://github.com/sigstore/fulcio/blob/main/docs/oidc.md).
//
// In goes a token from anyone; out comes an [Identity], the subject alternative name and the
// certificate extensions the token proves, or a [TokenError] with a bounded reason, or an
// [UnavailableError] when the issuer's keys could not be had. A token only selects its issuer from
// the configuration; nothing is fetched for an issuer that is not in it, and no URL is ever taken
// from a token (https://openid.net/specs/openid-connect-core-1_0.html#IDTokenValidation).
//
// Discovery is lazy: an issuer that is down delays nobody but its own users, and those no longer
// than one fetch takes. The caller keeps [Verifier.Run] running, which renews the keys of issuers
// in use, so that no request waits for that; without it, some do.
package oidc
