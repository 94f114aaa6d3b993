package oidc

import "fmt"

// Reason says in a few fixed words why a token was refused. It fits a metric label.
type Reason string

// The reasons of a [TokenError].
const (
	ReasonMissing          Reason = "missing"
	ReasonMalformed        Reason = "malformed"
	ReasonTooLong          Reason = "too long"
	ReasonIssuer           Reason = "issuer not configured"
	ReasonAlgorithm        Reason = "algorithm not allowed"
	ReasonKey              Reason = "unknown signing key"
	ReasonSignature        Reason = "signature invalid"
	ReasonAudience         Reason = "audience"
	ReasonExpired          Reason = "expired"
	ReasonNotYet           Reason = "not yet valid"
	ReasonSubject          Reason = "subject"
	ReasonEmail            Reason = "email"
	ReasonEmailNotVerified Reason = "email not verified"
	ReasonClaim            Reason = "claim"
)

// TokenError reports a token that proves nothing. Its text is bounded and safe to show to whoever
// sent the token.
type TokenError struct {
	Reason Reason
	Detail string // more words, may be empty
}

func (e *TokenError) Error() string {
	if e.Detail == "" {
		return string(e.Reason)
	}
	return string(e.Reason) + ": " + e.Detail
}

func refuse(reason Reason, format string, args ...any) *TokenError {
	return &TokenError{Reason: reason, Detail: fmt.Sprintf(format, args...)}
}

// UnavailableError reports that a configured issuer's discovery document or keys could not be
// fetched: the token may be fine, and a later attempt may succeed.
type UnavailableError struct {
	Issuer string
	Err    error
}

func (e *UnavailableError) Error() string {
	return "fetching keys of issuer " + e.Issuer + ": " + e.Err.Error()
}

func (e *UnavailableError) Unwrap() error { return e.Err }
