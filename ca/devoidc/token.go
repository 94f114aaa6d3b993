package devoidc

import (
	"net/http"
	"net/url"
	"strings"

	"tallywood/internal/httpx"
)

// deviceGrant is the grant type of RFC 8628 section 3.4.
const deviceGrant = "urn:ietf:params:oauth:grant-type:device_code"

// token is two endpoints in one. A form with a grant_type is an OAuth token request (RFC 6749
// section 3.2); anything else asks for a bare token, for scripts.
func (s *issuer) token(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	if err := r.ParseForm(); err != nil {
		oauthError(w, "invalid_request", "the form could not be read")
		return
	}
	if !r.PostForm.Has("grant_type") {
		s.bareToken(w, r.Form)
		return
	}
	switch r.PostForm.Get("grant_type") {
	case "authorization_code":
		s.exchange(w, r.PostForm, clientID(r))
	case deviceGrant:
		s.exchangeDevice(w, r.PostForm, clientID(r))
	default:
		oauthError(w, "unsupported_grant_type", "authorization_code and device_code are supported")
	}
}

// clientID reads the client from the form, or from the user of basic authentication, where some
// libraries put it. Clients are public: there is no secret to check.
func clientID(r *http.Request) string {
	if id := r.PostForm.Get("client_id"); id != "" {
		return id
	}
	id, _, _ := r.BasicAuth()
	if plain, err := url.QueryUnescape(id); err == nil {
		return plain
	}
	return id
}

// exchange trades a code for a token. The code is gone after the first attempt, good or bad.
func (s *issuer) exchange(w http.ResponseWriter, form url.Values, client string) {
	g, ok := s.codes.take(form.Get("code"))
	switch {
	case !ok:
		oauthError(w, "invalid_grant", "the code is unknown, used or expired")
	case g.clientID != client:
		oauthError(w, "invalid_grant", "the code was given to another client")
	case g.redirectURI != form.Get("redirect_uri"):
		oauthError(w, "invalid_grant", "redirect_uri differs from the login's")
	case !verifiesPKCE(g.challenge, form.Get("code_verifier")):
		oauthError(w, "invalid_grant", "code_verifier does not match the code_challenge")
	default:
		s.respond(w, g.email, client, g.nonce)
	}
}

// respond answers a token response (OpenID Connect Core, section 3.1.3.3). The access token opens
// nothing; libraries insist on one.
func (s *issuer) respond(w http.ResponseWriter, email, client, nonce string) {
	more := make(map[string]any)
	if nonce != "" {
		more["nonce"] = nonce
	}
	token, err := s.idToken(email, client, more)
	if err != nil {
		httpx.Error(w, http.StatusInternalServerError, "the token could not be signed")
		return
	}
	writeJSON(w, http.StatusOK, map[string]any{
		"access_token": randomCode(), "token_type": "Bearer",
		"expires_in": int(tokenLifetime.Seconds()), "id_token": token,
	})
}

// bareToken answers email=E[&aud=A][&claim.NAME=VALUE]… with the token alone. claim.sub may take
// the place of email, for tokens of machines.
func (s *issuer) bareToken(w http.ResponseWriter, form url.Values) {
	email, audience := form.Get("email"), "sigstore"
	if form.Get("aud") != "" {
		audience = form.Get("aud")
	}
	more := make(map[string]any)
	for key, values := range form {
		name, ok := strings.CutPrefix(key, "claim.")
		if !ok && key != "email" && key != "aud" {
			httpx.Error(w, http.StatusBadRequest, "unknown parameter; known are email, aud and claim.NAME")
			return
		}
		if !ok {
			continue
		}
		v, err := parseClaim(name, values[0])
		if err != nil {
			httpx.Error(w, http.StatusBadRequest, err.Error())
			return
		}
		more[name] = v
	}
	if _, ok := more["sub"]; email != "" || !ok {
		if err := checkEmail(email); err != nil {
			httpx.Error(w, http.StatusBadRequest, err.Error())
			return
		}
	}
	token, err := s.idToken(email, audience, more)
	if err != nil {
		httpx.Error(w, http.StatusInternalServerError, "the token could not be signed")
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write([]byte(token))
}

// oauthError answers an error of RFC 6749 section 5.2.
func oauthError(w http.ResponseWriter, code, description string) {
	writeJSON(w, http.StatusBadRequest, map[string]string{"error": code, "error_description": description})
}
