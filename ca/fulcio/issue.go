package fulcio

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"tallywood/ca"
	"tallywood/ca/oidc"
	"tallywood/internal/httpx"
)

// refusal is a request's fault, with the words for its sender.
type refusal string

func (r refusal) Error() string { return string(r) }

// The first words of these are the ones clients and their users know from Fulcio.
const (
	badRequest   = refusal("the request body is not a JSON object of the expected shape")
	badKey       = refusal("The public key supplied in the request could not be parsed")
	insecureKey  = refusal("The public key supplied in the request is insecure")
	badProof     = refusal("The signature supplied in the request could not be verified")
	badCSR       = refusal("The certificate signing request could not be parsed")
	badToken     = "There was an error processing the identity token"
	tokensDiffer = refusal(badToken + ": the body and the Authorization header carry different tokens")
	issuerDown   = "the identity token's issuer is not reachable at the moment"
	logDown      = "the certificate log does not answer at the moment"
	keyDown      = "the CA's key does not sign at the moment"
	ourFault     = "error communicating with CA backend"
)

// issue runs the checks in their documented order and returns the certificate as PEM.
func (h *handler) issue(r *http.Request, req request) (string, error) {
	token, err := req.pickToken(r.Header.Get("Authorization"))
	if err != nil {
		return "", err
	}
	id, err := h.verifier.Verify(r.Context(), token)
	if err != nil {
		return "", err
	}
	pub, err := req.provenKey(id.Challenges)
	if err != nil {
		return "", err
	}
	cert, err := h.ca.Issue(r.Context(), pub, id)
	if err != nil {
		return "", err
	}
	return encodePEM(cert.DER), nil
}

// pickToken takes the token from body or header. Go clients send the header, others the body.
func (q request) pickToken(authorization string) (string, error) {
	scheme, bearer, _ := strings.Cut(authorization, " ")
	if !strings.EqualFold(scheme, "Bearer") {
		bearer = ""
	}
	bearer = strings.TrimSpace(bearer)
	switch {
	case q.token == "":
		return bearer, nil
	case bearer != "" && bearer != q.token:
		return "", tokensDiffer
	}
	return q.token, nil
}

// provenKey returns the public key of the request once its possession is proved: by the CSR's
// signature over itself, or by one over a value of the verified token.
func (q request) provenKey(challenges []string) (crypto.PublicKey, error) {
	if q.csr != nil {
		return provenByCSR(q.csr)
	}
	pub, err := parseKey(q.key)
	if err != nil {
		return nil, err
	}
	if err := checkStrength(pub); err != nil {
		return nil, err
	}
	for _, c := range challenges {
		if verifyProof(pub, []byte(c), q.proof) {
			return pub, checkAlgorithm(pub, defaultHash(pub))
		}
	}
	return nil, badProof
}

func checkStrength(pub crypto.PublicKey) error {
	if k, ok := errors.AsType[*ca.KeyError](ca.CheckKey(pub)); ok {
		return fmt.Errorf("%w: %s", insecureKey, k.Problem)
	}
	return nil
}

// refuse answers an error of issue. Retries are invited only where they can help.
func (h *handler) refuse(w http.ResponseWriter, r *http.Request, err error) {
	var refused refusal
	var token *oidc.TokenError
	var unavailable *oidc.UnavailableError
	var key *ca.KeyError
	switch {
	case errors.As(err, &refused):
		httpx.Error(w, http.StatusBadRequest, err.Error())
	case errors.As(err, &token):
		httpx.Error(w, http.StatusBadRequest, badToken+": "+token.Error())
	case errors.As(err, &key):
		httpx.Error(w, http.StatusBadRequest, fmt.Sprintf("%s: %s", insecureKey, key.Problem))
	case errors.As(err, &unavailable):
		httpx.RetryLater(w, retryAfter, issuerDown)
	case errors.Is(err, ca.ErrUnavailable):
		h.complain(r.Context(), "certificate log unavailable", err)
		httpx.RetryLater(w, retryAfter, logDown)
	case errors.Is(err, ca.ErrKey):
		h.complain(r.Context(), "signing key unavailable", err)
		httpx.RetryLater(w, retryAfter, keyDown)
	default:
		h.complain(r.Context(), "issuing failed", err)
		httpx.Error(w, http.StatusInternalServerError, ourFault)
	}
}

// complain logs a fault that is not the client's doing, and not its impatience either.
func (h *handler) complain(ctx context.Context, message string, err error) {
	if ctx.Err() == nil {
		h.log.ErrorContext(ctx, message, "err", err)
	}
}
