// Package devoidc is an OpenID Connect issuer for development: it believes whoever types an email
// address (https://openid.net/specs/openid-connect-core-1_0.html).
//
// It offers discovery, the authorization code flow with PKCE and a login page, the device flow
// (RFC 8628), and a bare token endpoint for scripts. Because it vouches for anybody, it answers
// on loopback host names only, checks the Host header against DNS rebinding, and sends no CORS
// headers, so that no web page can take a token from it. The caller mounts it below the path of
// its issuer URL, on a loopback listener.
package devoidc

import (
	"crypto"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"

	"tallywood/internal/httpx"
)

// Options configure the issuer.
type Options struct {
	// Issuer is the issuer URL: http or https, a loopback host, with port and path as clients
	// see them and no slash at the end. Required.
	Issuer string
	// Key signs the tokens: *ecdsa.PrivateKey on P-256 (ES256) or *rsa.PrivateKey (RS256).
	// Required.
	Key crypto.Signer
	// Hosts are the Host headers to answer, as "name:port" or, for any port, "name". All must be
	// loopback names or addresses. Empty means the issuer's port at localhost, 127.0.0.1 and ::1;
	// the issuer's own host is always answered.
	Hosts []string
	// Now is the clock; nil means time.Now.
	Now func() time.Time
	// Log receives one line for each token; nil discards them.
	Log *slog.Logger
}

// issuer serves all endpoints.
type issuer struct {
	url    string
	hosts  []string
	now    func() time.Time
	log    *slog.Logger
	signer jose.Signer
	keys   []byte // the JWKS document
	alg    jose.SignatureAlgorithm

	codes   *store[grant]  // by authorization code
	devices *store[device] // by device code
}

// New returns a handler whose paths are relative to the path of the issuer URL.
func New(o Options) (http.Handler, error) {
	s := &issuer{url: o.Issuer, hosts: o.Hosts, now: o.Now, log: o.Log}
	if s.now == nil {
		s.now = time.Now
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if err := errors.Join(s.setHosts(), s.setKey(o.Key)); err != nil {
		return nil, err
	}
	s.codes = newStore[grant](s.now, codeLifetime)
	s.devices = newStore[device](s.now, deviceLifetime)

	mux := http.NewServeMux()
	mux.Handle("/.well-known/openid-configuration", httpx.Methods(http.HandlerFunc(s.discovery), http.MethodGet))
	mux.Handle("/keys", httpx.Methods(http.HandlerFunc(s.serveKeys), http.MethodGet))
	mux.Handle("/auth", httpx.Methods(http.HandlerFunc(s.authorize), http.MethodGet, http.MethodPost))
	mux.Handle("/token", httpx.Methods(http.HandlerFunc(s.token), http.MethodGet, http.MethodPost))
	mux.Handle("/device/code", httpx.Methods(http.HandlerFunc(s.deviceCode), http.MethodPost))
	mux.Handle("/device", httpx.Methods(http.HandlerFunc(s.devicePage), http.MethodGet, http.MethodPost))
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		httpx.Error(w, http.StatusNotFound, "no such path at the development issuer")
	})
	// Browsers say which site a form came from: another site cannot post ours.
	return s.guardHost(http.NewCrossOriginProtection().Handler(mux)), nil
}

// setHosts checks the issuer URL and lists the hosts to answer.
func (s *issuer) setHosts() error {
	u, err := url.Parse(s.url)
	if err != nil {
		return fmt.Errorf("devoidc: parsing issuer: %w", err)
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.User != nil || strings.ContainsAny(s.url, "?#") || strings.HasSuffix(s.url, "/") {
		return fmt.Errorf("devoidc: issuer %q: want an http URL without user, query, fragment and final slash", s.url)
	}
	if len(s.hosts) == 0 {
		for _, name := range []string{"localhost", "127.0.0.1", "::1"} {
			s.hosts = append(s.hosts, joinPort(name, u.Port()))
		}
	}
	s.hosts = append(slices.Clone(s.hosts), u.Host)
	for _, h := range s.hosts {
		if name, _ := splitPort(h); !isLoopback(name) {
			return fmt.Errorf("devoidc: host %q is not a loopback name: this issuer vouches for anybody", h)
		}
	}
	return nil
}

func splitPort(host string) (name, port string) {
	if name, port, err := net.SplitHostPort(host); err == nil {
		return name, port
	}
	return strings.Trim(host, "[]"), ""
}

func joinPort(name, port string) string {
	if port == "" {
		return name
	}
	return net.JoinHostPort(name, port)
}

// isLoopback reports whether a host name means this machine by definition (RFC 6761).
func isLoopback(name string) bool {
	if ip, err := netip.ParseAddr(name); err == nil {
		return ip.IsLoopback()
	}
	return name == "localhost" || strings.HasSuffix(name, ".localhost")
}

// guardHost refuses requests for another host: a web page whose name was made to resolve to this
// machine sends its own name.
func (s *issuer) guardHost(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name, port := splitPort(strings.ToLower(r.Host))
		for _, allowed := range s.hosts {
			n, p := splitPort(strings.ToLower(allowed))
			if n == name && (p == "" || p == port) {
				h.ServeHTTP(w, r)
				return
			}
		}
		httpx.Error(w, http.StatusForbidden, "the development issuer answers on its loopback names only")
	})
}

// discovery answers the document of OpenID Connect Discovery, section 4.
func (s *issuer) discovery(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, map[string]any{
		"issuer":                                s.url,
		"authorization_endpoint":                s.url + "/auth",
		"token_endpoint":                        s.url + "/token",
		"device_authorization_endpoint":         s.url + "/device/code",
		"jwks_uri":                              s.url + "/keys",
		"response_types_supported":              []string{"code"},
		"grant_types_supported":                 []string{"authorization_code", deviceGrant},
		"subject_types_supported":               []string{"public"},
		"id_token_signing_alg_values_supported": []jose.SignatureAlgorithm{s.alg},
		"scopes_supported":                      []string{"openid", "email"},
		"token_endpoint_auth_methods_supported": []string{"none"},
		"claims_supported":                      []string{"iss", "sub", "aud", "exp", "iat", "nonce", "email", "email_verified"},
		"code_challenge_methods_supported":      []string{"S256"},
	})
}

func (s *issuer) serveKeys(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	// A client that has gone away is nobody's error.
	_, _ = w.Write(s.keys)
}

// writeJSON answers with a document that no cache may keep: it may hold a token.
func writeJSON(w http.ResponseWriter, status int, body any) {
	data, err := json.Marshal(body)
	if err != nil {
		httpx.Error(w, http.StatusInternalServerError, "the reply could not be encoded")
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(data)
}
