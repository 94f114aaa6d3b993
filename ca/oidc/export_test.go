package oidc

// Constants and internals the external tests need.
const (
	FetchTimeout    = fetchTimeout
	RefetchInterval = refetchInterval
	RetryInterval   = retryInterval
	KeysRenewAge    = keysRenewAge
	KeysMaxAge      = keysMaxAge
	KeysEndAge      = keysEndAge
	MaxToken        = maxToken
)

// Preparse exposes what is read from a token before anything is verified.
func Preparse(token string) (issuer string, err error) {
	u, err := preparse(token)
	return u.issuer, err
}

// Overlap reports whether one URL could match both patterns.
func Overlap(a, b string) bool { return pattern(a).overlaps(pattern(b)) }

// Match reports whether pattern covers url.
func Match(p, url string) bool { return pattern(p).match(url) }

// Guard is the check of an address before it is dialled.
func Guard(loopback bool, address string) error { return guard(loopback)("tcp", address, nil) }

// Identify maps claims to an identity as the configured issuer would, without a token.
func Identify(c *Config, iss string, claims []byte) (Identity, error) {
	i, ok := c.find(iss)
	if !ok {
		return Identity{}, refuse(ReasonIssuer, "")
	}
	m, err := parseClaims(claims)
	if err != nil {
		return Identity{}, err
	}
	return i.identify(iss, m)
}

// MaxMetaSources bounds what Sources counts, besides exact issuers.
const MaxMetaSources = maxMetaSources

// Sources counts the issuers a Verifier remembers.
func (v *Verifier) Sources() int {
	v.mu.Lock()
	defer v.mu.Unlock()
	return len(v.sources)
}
