package sign

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

const (
	loginPatience = 5 * time.Minute
	callbackPath  = "/auth/callback" // cosign's, so issuers that know it know us
)

// ErrNoLogin means that a person was sent to the login page and did not log in.
var ErrNoLogin = errors.New("nobody logged in")

// A provider is what an issuer's discovery document says that matters here.
type provider struct {
	Issuer        string   `json:"issuer"`
	Authorization string   `json:"authorization_endpoint"`
	Token         string   `json:"token_endpoint"`
	Challenges    []string `json:"code_challenge_methods_supported"`
}

// login gets a token by the authorization code flow with PKCE and a redirect to a listener on the
// loopback interface (RFC 8252, RFC 7636, OpenID Connect Core section 3.1).
func login(ctx context.Context, o TokenOptions) (string, error) {
	// Whoever can change what an issuer answers says where people log in and codes are redeemed.
	if err := checkEndpoint(o.Issuer); err != nil {
		return "", &InputError{fmt.Errorf("checking the issuer: %w", err)}
	}
	c := newClient(o.HTTP, 0, o.Log)
	p, err := discover(ctx, c, o.Issuer)
	if err != nil {
		return "", err
	}
	// > The authorization server MUST allow any port to be specified at the time of the request for
	// > loopback IP redirect URIs (RFC 8252 section 7.3)
	// The redirect says localhost, not 127.0.0.1, since there are issuers that know only the name.
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("listening for the redirect: %w", err)
	}
	a := attempt{
		provider: p, clientID: o.ClientID, state: secret(), nonce: secret(), verifier: secret(),
		redirect: fmt.Sprintf("http://localhost:%d%s", ln.Addr().(*net.TCPAddr).Port, callbackPath),
	}
	patience := o.Patience
	if patience == 0 {
		patience = loginPatience
	}
	waiting, cancel := context.WithTimeoutCause(ctx, patience, fmt.Errorf("%w within %s", ErrNoLogin, patience))
	defer cancel()
	code, err := a.wait(waiting, ln, func() { show(o, a.page()) })
	if err != nil {
		return "", err
	}
	return a.redeem(ctx, c, code)
}

// discover reads the issuer's discovery document (OpenID Connect Discovery section 4).
func discover(ctx context.Context, c *client, issuer string) (provider, error) {
	answer, err := c.do(ctx, call{
		service: "issuer", method: http.MethodGet,
		url:    strings.TrimRight(issuer, "/") + "/.well-known/openid-configuration",
		status: []int{http.StatusOK},
	})
	if err != nil {
		return provider{}, err
	}
	var p provider
	if err := json.Unmarshal(answer, &p); err != nil {
		return provider{}, fmt.Errorf("decoding discovery document: %w", err)
	}
	// > The issuer value returned MUST be identical to the Issuer URL … (section 4.3)
	if p.Issuer != issuer {
		return provider{}, fmt.Errorf("its discovery document is of %q", p.Issuer)
	}
	if len(p.Challenges) > 0 && !slices.Contains(p.Challenges, "S256") {
		return provider{}, errors.New("it does not support PKCE with S256")
	}
	for name, endpoint := range map[string]string{"authorization_endpoint": p.Authorization, "token_endpoint": p.Token} {
		if err := checkEndpoint(endpoint); err != nil {
			return provider{}, fmt.Errorf("reading its %s: %w", name, err)
		}
	}
	return p, nil
}

// checkEndpoint wants https, but for what is on this machine: what is sent there is a secret.
func checkEndpoint(address string) error {
	u, err := url.Parse(address)
	if err != nil {
		return err
	}
	host := u.Hostname()
	ip := net.ParseIP(host)
	loopback := host == "localhost" || strings.HasSuffix(host, ".localhost") || ip != nil && ip.IsLoopback()
	if host == "" || u.Scheme != "https" && (u.Scheme != "http" || !loopback) {
		return fmt.Errorf("%q is not an https address, nor an http one of this machine", address)
	}
	return nil
}

// An attempt is one login.
type attempt struct {
	provider provider
	clientID string
	redirect string
	state    string // ties the redirect to this attempt
	nonce    string // ties the token to this attempt
	verifier string // ties the code to this attempt
}

// secret returns 256 random bits in base64url, which suits all three.
func secret() string {
	b := make([]byte, 32)
	rand.Read(b) // never fails
	return base64.RawURLEncoding.EncodeToString(b)
}

// page is the address a person logs in at.
func (a attempt) page() string {
	challenge := sha256.Sum256([]byte(a.verifier))
	u, _ := url.Parse(a.provider.Authorization) // checked by discover
	q := u.Query()
	for name, value := range map[string]string{
		"response_type": "code", "client_id": a.clientID, "redirect_uri": a.redirect, "scope": "openid email",
		"state": a.state, "nonce": a.nonce,
		"code_challenge": base64.RawURLEncoding.EncodeToString(challenge[:]), "code_challenge_method": "S256",
	} {
		q.Set(name, value)
	}
	u.RawQuery = q.Encode()
	return u.String()
}

// show writes the login page's address, always, and opens it if it can.
func show(o TokenOptions, page string) {
	out, open := o.Out, o.Open
	if out == nil {
		out = io.Discard
	}
	if open == nil {
		open = func(page string) error { return openBrowser(o.Env, page) }
	}
	fmt.Fprintf(out, "Log in with your browser at\n\n  %s\n\n", page)
	if err := open(page); err == nil {
		fmt.Fprintf(out, "A browser should have opened by itself. Waiting for the login.\n")
	} else {
		fmt.Fprintf(out, "Waiting for the login.\n")
	}
}

// A redirect is what the issuer sends the browser back with.
type redirect struct {
	code string
	err  error
}

// wait serves the redirect address until the browser comes back, and returns the code it brings.
func (a attempt) wait(ctx context.Context, ln net.Listener, ready func()) (string, error) {
	back := make(chan redirect, 1)
	server := &http.Server{Handler: a.handler(back), ReadHeaderTimeout: 10 * time.Second}
	served := make(chan error, 1)
	go func() { served <- server.Serve(ln) }()
	defer func() {
		// The browser is still to get its answer.
		bye, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		if server.Shutdown(bye) != nil {
			server.Close()
		}
		<-served
	}()
	ready()
	select {
	case <-ctx.Done():
		return "", context.Cause(ctx)
	case r := <-back:
		return r.code, r.err
	}
}

// handler answers the redirect. A request with another state is not ours: any page the browser
// shows can send one, so it neither ends nor disturbs the wait.
func (a attempt) handler(back chan<- redirect) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+callbackPath, func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Header().Set("Cache-Control", "no-store")
		if subtle.ConstantTimeCompare([]byte(q.Get("state")), []byte(a.state)) != 1 {
			w.WriteHeader(http.StatusBadRequest)
			fmt.Fprint(w, resultPage("This login was not started here", "Go back to the terminal and use the address it shows."))
			return
		}
		var got redirect
		switch iss := q.Get("iss"); {
		case iss != "" && iss != a.provider.Issuer: // RFC 9207
			got.err = fmt.Errorf("the answer is of another issuer, %q", printable(iss))
		case q.Get("error") != "":
			got.err = fmt.Errorf("the issuer refused: %s", printable(strings.TrimSpace(q.Get("error")+" "+q.Get("error_description"))))
		case q.Get("code") == "":
			got.err = errors.New("the issuer sent no code")
		default:
			got.code = q.Get("code")
		}
		if got.err != nil {
			w.WriteHeader(http.StatusBadRequest)
			fmt.Fprint(w, resultPage("The login failed", "The terminal says why. You can close this page."))
		} else {
			fmt.Fprint(w, resultPage("You are logged in", "Go back to the terminal. You can close this page."))
		}
		select {
		case back <- got:
		default: // the browser came twice
		}
	})
	return mux
}

func resultPage(title, text string) string {
	return "<!doctype html><html lang=en><meta charset=utf-8><title>" + title + "</title>" +
		"<body style='font:18px/1.5 system-ui,sans-serif;max-width:32em;margin:4em auto;padding:0 1em'><h1>" + title + "</h1><p>" + text
}

// redeem exchanges the code for the ID token, and checks that it is the answer to this attempt.
// Its signature needs no check here: it comes straight from the issuer (OpenID Connect Core
// section 3.1.3.7), and the CA checks it anyway.
func (a attempt) redeem(ctx context.Context, c *client, code string) (string, error) {
	form := url.Values{
		"grant_type": {"authorization_code"}, "code": {code}, "redirect_uri": {a.redirect},
		"client_id": {a.clientID}, "code_verifier": {a.verifier},
	}
	answer, err := c.do(ctx, call{
		service: "issuer", url: a.provider.Token, body: []byte(form.Encode()), status: []int{http.StatusOK},
		header: map[string]string{"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"},
	})
	if err != nil {
		return "", err
	}
	var reply struct {
		IDToken string `json:"id_token"`
	}
	if err := json.Unmarshal(answer, &reply); err != nil {
		return "", fmt.Errorf("decoding token answer: %w", err)
	}
	got, err := parseToken(reply.IDToken)
	switch {
	case err != nil:
		return "", err
	case got.Issuer != a.provider.Issuer:
		return "", fmt.Errorf("the token is of another issuer, %q", got.Issuer)
	case !slices.Contains(got.Audience, a.clientID):
		return "", fmt.Errorf("the token is for %q, want %q", got.Audience, a.clientID)
	case subtle.ConstantTimeCompare([]byte(got.Nonce), []byte(a.nonce)) != 1:
		return "", errors.New("the token is the answer to another login")
	}
	return reply.IDToken, nil
}
