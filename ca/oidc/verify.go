package oidc

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	"golang.org/x/time/rate"
)

const (
	// notBeforeLeeway is granted to issuers whose clock runs ahead. Expiry gets none.
	notBeforeLeeway = 5 * time.Minute

	// maxMetaSources bounds the issuers that are remembered because a pattern admits them.
	maxMetaSources = 1000
)

// Options configure a Verifier.
type Options struct {
	// Config lists the trusted issuers. Required.
	Config *Config
	// HTTP fetches discovery documents and keys; nil means a client of our own that never follows
	// redirects and dials loopback and link-local addresses for loopback issuers only. Of a client
	// given here only the transport is used (for a proxy, say): redirects stay forbidden, sizes
	// and times bounded. It excludes issuers with a ca-cert.
	HTTP *http.Client
	// AllowHTTP admits http:// issuers, which must be on a loopback host. For development.
	AllowHTTP bool
	// FetchTimeout bounds a fetch of discovery document and keys together; default 4 s.
	FetchTimeout time.Duration
	// Now is the clock; nil means time.Now.
	Now func() time.Time
	// Log receives failed fetches; nil discards them.
	Log *slog.Logger
}

// Verifier verifies identity tokens. It is safe for concurrent use.
type Verifier struct {
	config *Config
	http   *http.Client
	fetch  time.Duration // how long one may take
	now    func() time.Time
	log    *slog.Logger
	// discover limits how fast strangers' tokens can make us fetch from URLs that only a
	// pattern of the configuration admits.
	discover *rate.Limiter

	// renewals carries the sources whose keys Run shall fetch anew.
	renewals chan *source

	mu      sync.Mutex
	sources map[string]*source // by concrete issuer URL
}

// New returns a Verifier. It fetches nothing. Its Run should be running while it is used.
func New(o Options) (*Verifier, error) {
	if o.Config == nil {
		return nil, errors.New("oidc: a Config is required")
	}
	var errs []error
	if o.FetchTimeout < 0 {
		errs = append(errs, fmt.Errorf("oidc: FetchTimeout %s is negative", o.FetchTimeout))
	}
	for _, i := range o.Config.sorted {
		if !o.AllowHTTP && i.isHTTP() {
			errs = append(errs, fmt.Errorf("oidc: issuer %q: plain http is not allowed", i.URL))
		}
		if o.HTTP != nil && len(i.caCert) > 0 {
			errs = append(errs, fmt.Errorf("oidc: issuer %q: a ca-cert excludes an HTTP client", i.URL))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	v := &Verifier{
		config: o.Config, http: o.HTTP, fetch: cmp.Or(o.FetchTimeout, fetchTimeout), now: o.Now, log: o.Log,
		discover: rate.NewLimiter(rate.Limit(5), 50),
		renewals: make(chan *source, maxRenewals),
		sources:  make(map[string]*source),
	}
	if v.now == nil {
		v.now = time.Now
	}
	if v.log == nil {
		v.log = slog.New(slog.DiscardHandler)
	}
	return v, nil
}

// Issuers returns the configured issuers, exact ones first.
func (v *Verifier) Issuers() []Issuer { return v.config.Issuers() }

// Verify checks a compact JWS identity token and returns the identity it proves. It returns a
// *[TokenError] for a bad token and an *[UnavailableError] when the issuer's keys cannot be had.
func (v *Verifier) Verify(ctx context.Context, token string) (Identity, error) {
	pre, err := preparse(token)
	if err != nil {
		return Identity{}, err
	}
	issuer, ok := v.config.find(pre.issuer)
	if !ok {
		return Identity{}, refuse(ReasonIssuer, "")
	}
	src, err := v.source(issuer, pre.issuer)
	if err != nil {
		return Identity{}, err
	}
	payload, err := src.verify(ctx, token)
	if err != nil {
		return Identity{}, err
	}
	claims, err := parseClaims(payload)
	if err != nil {
		return Identity{}, refuse(ReasonMalformed, "its payload is not a JSON object")
	}
	// > The Issuer Identifier for the OpenID Provider MUST exactly match the value of the iss
	// > Claim (OpenID Connect Core, section 3.1.3.7)
	if claims["iss"] != pre.issuer {
		return Identity{}, refuse(ReasonIssuer, "the signed iss claim differs")
	}
	if err := checkClaims(claims, issuer.Audience, v.now()); err != nil {
		return Identity{}, err
	}
	return issuer.identify(pre.issuer, claims)
}

// checkClaims checks audience and times (OpenID Connect Core, section 3.1.3.7).
func checkClaims(claims map[string]any, audience string, now time.Time) error {
	var audiences []any
	switch aud := claims["aud"].(type) {
	case string:
		audiences = []any{aud}
	case []any:
		audiences = aud
	}
	if !slices.Contains(audiences, any(audience)) {
		return refuse(ReasonAudience, "want %s", quoteName(audience))
	}
	exp, ok := claimTime(claims["exp"])
	if !ok {
		return refuse(ReasonExpired, "the exp claim is missing")
	}
	if !now.Before(exp) {
		return refuse(ReasonExpired, "")
	}
	if claims["nbf"] == nil {
		return nil
	}
	nbf, ok := claimTime(claims["nbf"])
	if !ok {
		return refuse(ReasonMalformed, "the nbf claim is not a time")
	}
	if now.Add(notBeforeLeeway).Before(nbf) {
		return refuse(ReasonNotYet, "")
	}
	return nil
}

// claimTime reads a NumericDate (RFC 7519 section 2): seconds, perhaps with a fraction.
func claimTime(claim any) (time.Time, bool) {
	n, ok := claim.(json.Number)
	if !ok {
		return time.Time{}, false
	}
	seconds, err := n.Float64()
	if err != nil || math.Abs(seconds) > 1<<40 {
		return time.Time{}, false
	}
	whole, fraction := math.Modf(seconds)
	return time.Unix(int64(whole), int64(fraction*1e9)), true
}

// source returns the keys' source of a concrete issuer URL, making it if needed.
func (v *Verifier) source(issuer *Issuer, url string) (*source, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if s, ok := v.sources[url]; ok {
		s.used = v.now()
		return s, nil
	}
	if issuer.Wildcard {
		if !v.discover.AllowN(v.now(), 1) {
			return nil, &UnavailableError{url, errors.New("too many new issuers at once")}
		}
		v.evict()
	}
	client, err := v.client(issuer, url)
	if err != nil {
		return nil, &UnavailableError{url, err}
	}
	s := &source{
		issuer: url, hosts: issuer.jwksHosts, client: client, timeout: v.fetch, now: v.now, log: v.log,
		renewals: v.renewals, used: v.now(),
	}
	v.sources[url] = s
	return s, nil
}

// evict makes room for one more source by dropping the one that was used longest ago, preferably
// one that never had keys: strangers can make us remember those. The caller holds v.mu.
func (v *Verifier) evict() {
	if len(v.sources) < len(v.config.exact)+maxMetaSources {
		return
	}
	var worst *source
	for url, s := range v.sources {
		if _, exact := v.config.exact[url]; exact {
			continue
		}
		if worst == nil || s.hasKeys() != worst.hasKeys() && worst.hasKeys() ||
			s.hasKeys() == worst.hasKeys() && s.used.Before(worst.used) {
			worst = s
		}
	}
	delete(v.sources, worst.issuer)
}

// allowed keeps those of an issuer's algorithms that we accept, RS256 if it lists none.
func allowed(discovered []string) []jose.SignatureAlgorithm {
	if len(discovered) == 0 {
		return []jose.SignatureAlgorithm{jose.RS256}
	}
	var algs []jose.SignatureAlgorithm
	for _, a := range discovered {
		if slices.Contains(algorithms, jose.SignatureAlgorithm(a)) {
			algs = append(algs, jose.SignatureAlgorithm(a))
		}
	}
	return algs
}
