package devoidc

import (
	"errors"
	"net/http"
	"net/url"
	"time"
)

// codeLifetime leaves time to carry a code by hand from a browser to a terminal.
const codeLifetime = 5 * time.Minute

// outOfBand is the redirect URI of clients that ask their user to copy the code.
const outOfBand = "urn:ietf:wg:oauth:2.0:oob"

// maxForm bounds a request's form, in bytes.
const maxForm = 64 << 10

// grant is what a code stands for.
type grant struct {
	clientID, redirectURI, challenge string
	email, nonce                     string
}

// authorize shows the login page and, once an email is given, hands out a code (RFC 6749 section
// 4.1). All parameters travel in the form, so nothing is kept before someone has logged in.
func (s *issuer) authorize(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	if err := r.ParseForm(); err != nil {
		s.page(w, http.StatusBadRequest, pageData{Title: "Login not possible", Problem: "The request could not be read."})
		return
	}
	// An untrustworthy redirect URI is never redirected to: the user is told instead.
	if err := checkClient(r.Form); err != nil {
		s.page(w, http.StatusBadRequest, pageData{Title: "Login not possible", Problem: err.Error()})
		return
	}
	login := pageData{Title: "Log in", Action: "auth", Client: r.Form.Get("client_id"), Email: r.PostForm.Get("email")}
	for _, name := range []string{"client_id", "redirect_uri", "response_type", "scope", "state", "nonce", "code_challenge", "code_challenge_method"} {
		if v := r.Form.Get(name); v != "" {
			login.Hidden = append(login.Hidden, field{name, v})
		}
	}
	if r.Method != http.MethodPost || !r.PostForm.Has("email") {
		s.page(w, http.StatusOK, login)
		return
	}
	if err := checkEmail(login.Email); err != nil {
		login.Problem = err.Error()
		s.page(w, http.StatusBadRequest, login)
		return
	}
	redirectURI := r.Form.Get("redirect_uri")
	code, ok := s.codes.put(grant{
		clientID: r.Form.Get("client_id"), redirectURI: redirectURI, challenge: r.Form.Get("code_challenge"),
		email: login.Email, nonce: r.Form.Get("nonce"),
	})
	if !ok {
		s.page(w, http.StatusServiceUnavailable, pageData{Title: "Login not possible", Problem: "Too many logins at once; try again in a few minutes."})
		return
	}
	if redirectURI == outOfBand {
		s.page(w, http.StatusOK, pageData{Title: "Your code", Code: code})
		return
	}
	target, err := url.Parse(redirectURI)
	if err != nil { // checkClient has parsed it
		s.page(w, http.StatusBadRequest, pageData{Title: "Login not possible", Problem: "redirect_uri is not a URL."})
		return
	}
	query := target.Query()
	query.Set("code", code)
	if state := r.Form.Get("state"); state != "" {
		query.Set("state", state)
	}
	target.RawQuery = query.Encode()
	http.Redirect(w, r, target.String(), http.StatusSeeOther)
}

// checkClient checks the parameters of an authorization request. Any client may come, as long as
// it listens on this machine and uses PKCE.
func checkClient(form url.Values) error {
	switch {
	case form.Get("client_id") == "":
		return errors.New("client_id is missing")
	case form.Get("response_type") != "code":
		return errors.New("response_type must be code")
	case form.Get("code_challenge_method") != "S256" || len(form.Get("code_challenge")) != 43:
		return errors.New("PKCE is required: code_challenge_method S256 with its code_challenge")
	}
	redirectURI := form.Get("redirect_uri")
	if redirectURI == outOfBand {
		return nil
	}
	u, err := url.Parse(redirectURI)
	if err != nil || u.Scheme != "http" || u.User != nil || u.Fragment != "" || !isLoopback(u.Hostname()) {
		return errors.New("redirect_uri must be an http URL on localhost, 127.0.0.1 or ::1")
	}
	return nil
}
