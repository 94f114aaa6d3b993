package devoidc

import (
	"crypto/rand"
	"net/http"
	"net/url"
	"strings"
	"time"
)

const (
	deviceLifetime = 10 * time.Minute
	pollInterval   = 1 // second
)

// device is one device flow (RFC 8628).
type device struct {
	clientID, challenge string
	userCode            string
	email               string // empty until someone has logged in
	denied              bool
}

// deviceCode starts a flow (section 3.1). A PKCE challenge, which some clients send, is honoured.
func (s *issuer) deviceCode(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	if err := r.ParseForm(); err != nil {
		oauthError(w, "invalid_request", "the form could not be read")
		return
	}
	d := device{clientID: clientID(r), challenge: r.PostForm.Get("code_challenge"), userCode: newUserCode()}
	if d.clientID == "" {
		oauthError(w, "invalid_request", "client_id is missing")
		return
	}
	if d.challenge != "" && r.PostForm.Get("code_challenge_method") != "S256" {
		oauthError(w, "invalid_request", "code_challenge_method must be S256")
		return
	}
	code, ok := s.devices.put(d)
	if !ok {
		oauthError(w, "slow_down", "too many logins at once")
		return
	}
	writeJSON(w, http.StatusOK, map[string]any{
		"device_code": code, "user_code": d.userCode,
		"verification_uri":          s.url + "/device",
		"verification_uri_complete": s.url + "/device?user_code=" + url.QueryEscape(d.userCode),
		"expires_in":                int(deviceLifetime.Seconds()), "interval": pollInterval,
	})
}

// newUserCode draws eight letters that are hard to confuse and spell no words (section 6.1).
func newUserCode() string {
	const letters = "BCDFGHJKLMNPQRSTVWXZ"
	code := make([]byte, 0, 9)
	for len(code) < 9 {
		if len(code) == 4 {
			code = append(code, '-')
		}
		var b [1]byte
		rand.Read(b[:]) // never fails
		if int(b[0]) < 256/len(letters)*len(letters) {
			code = append(code, letters[int(b[0])%len(letters)])
		}
	}
	return string(code)
}

// devicePage is where the user enters the code and logs in (section 3.3).
func (s *issuer) devicePage(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	if err := r.ParseForm(); err != nil {
		s.page(w, http.StatusBadRequest, pageData{Title: "Login not possible", Problem: "The request could not be read."})
		return
	}
	form := pageData{
		Title: "Log in a device", Action: "device", AskCode: true,
		UserCode: r.Form.Get("user_code"), Email: r.PostForm.Get("email"),
	}
	if r.Method != http.MethodPost {
		s.page(w, http.StatusOK, form)
		return
	}
	denied := r.PostForm.Get("answer") == "deny"
	if err := checkEmail(form.Email); err != nil && !denied {
		form.Problem = err.Error()
		s.page(w, http.StatusBadRequest, form)
		return
	}
	entered := strings.ToUpper(strings.TrimSpace(form.UserCode))
	waiting := func(d device) bool { return d.userCode == entered && d.email == "" && !d.denied }
	if !s.devices.update(waiting, func(d *device) { d.email, d.denied = form.Email, denied }) {
		form.Problem = "This code is unknown, used or expired."
		s.page(w, http.StatusBadRequest, form)
		return
	}
	done := pageData{Title: "Logged in", Note: "The device has its token. You can close this page."}
	if denied {
		done = pageData{Title: "Denied", Note: "The device gets no token. You can close this page."}
	}
	s.page(w, http.StatusOK, done)
}

// exchangeDevice answers a polling device (section 3.5).
func (s *issuer) exchangeDevice(w http.ResponseWriter, form url.Values, client string) {
	code := form.Get("device_code")
	d, ok := s.devices.peek(code)
	switch {
	case !ok:
		oauthError(w, "expired_token", "the device code is unknown, used or expired")
		return
	case d.clientID != client:
		oauthError(w, "invalid_grant", "the device code was given to another client")
		return
	case d.denied:
		oauthError(w, "access_denied", "the user denied the login")
		return
	case d.email == "":
		oauthError(w, "authorization_pending", "the user has not logged in yet")
		return
	}
	// Two polls at once: only one takes the code.
	if _, ok := s.devices.take(code); !ok {
		oauthError(w, "expired_token", "the device code is used")
		return
	}
	if d.challenge != "" && !verifiesPKCE(d.challenge, form.Get("code_verifier")) {
		oauthError(w, "invalid_grant", "code_verifier does not match the code_challenge")
		return
	}
	s.respond(w, d.email, client, "")
}
