package alert

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"

	"tallywood/monitor"
)

const (
	httpTimeout = 10 * time.Second
	userAgent   = "tallywood-monitor"
	maxReason   = 300 // bytes of an answer that an error repeats
)

// A target is a URL that requests go to, and the client for it.
type target struct {
	url     string
	secrets []string // the URL and what a receiver may repeat of it
	what    string   // for errors
	http    *http.Client
}

// newTarget checks a URL: https, or http to a loopback address, or with private any http.
func newTarget(what, rawURL string, private bool) (*target, error) {
	u, err := url.Parse(rawURL)
	if err != nil { // its text has the URL, which may be a secret
		return nil, fmt.Errorf("%s URL cannot be parsed", what)
	}
	loopback := isLoopback(u.Hostname())
	switch {
	case u.Scheme != "https" && u.Scheme != "http" || u.Host == "":
		return nil, fmt.Errorf("%s URL is neither http nor https", what)
	case u.Scheme == "http" && !loopback && !private:
		return nil, fmt.Errorf("%s URL is http and not of a loopback address", what)
	}
	return &target{url: rawURL, secrets: urlSecrets(rawURL, u), what: what, http: httpClient(loopback, private)}, nil
}

// urlSecrets returns the parts of a URL that say more than its host: those of chat services are
// passwords. The longest is first.
func urlSecrets(rawURL string, u *url.URL) []string {
	secrets := []string{rawURL}
	for _, part := range []string{u.RequestURI(), u.EscapedPath(), u.RawQuery} {
		if len(part) >= 6 {
			secrets = append(secrets, part)
		}
	}
	for _, values := range u.Query() {
		secrets = append(secrets, values...)
	}
	if password, ok := u.User.Password(); ok { // it is said as RFC 7617 has it
		secrets = append(secrets, base64.StdEncoding.EncodeToString([]byte(u.User.Username()+":"+password)), password)
	}
	return secrets
}

// httpClient connects to public addresses alone, unless told otherwise: whoever can set a URL,
// or the DNS of its host, must not reach what only we can reach. Proxies and redirects would go
// around that.
func httpClient(loopback, private bool) *http.Client {
	dialer := &net.Dialer{Timeout: httpTimeout, Control: func(_, address string, _ syscall.RawConn) error {
		return checkAddress(loopback, private, address)
	}}
	return &http.Client{
		Timeout: httpTimeout,
		Transport: &http.Transport{
			DialContext: dialer.DialContext, ForceAttemptHTTP2: true, TLSHandshakeTimeout: httpTimeout,
			MaxIdleConnsPerHost: 2, IdleConnTimeout: time.Minute,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// checkAddress returns an error unless a connection to address, which was resolved already, is
// allowed.
func checkAddress(loopback, private bool, address string) error {
	a, err := netip.ParseAddrPort(address)
	if err != nil {
		return err
	}
	ip := a.Addr().Unmap()
	if private || loopback && ip.IsLoopback() || isPublic(ip) {
		return nil
	}
	return fmt.Errorf("%s is not a public address, and others are not allowed", ip)
}

// Ranges that netip has no method for: shared, benchmarking and reserved IPv4 addresses, and the
// IPv6 ranges that translate to IPv4 ones or were those of a site.
var notPublic = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"),
	netip.MustParsePrefix("100.64.0.0/10"),
	netip.MustParsePrefix("192.0.0.0/24"),
	netip.MustParsePrefix("198.18.0.0/15"),
	netip.MustParsePrefix("240.0.0.0/4"),
	netip.MustParsePrefix("::/96"),
	netip.MustParsePrefix("64:ff9b::/96"),
	netip.MustParsePrefix("64:ff9b:1::/48"),
	netip.MustParsePrefix("2001::/32"),
	netip.MustParsePrefix("2002::/16"),
	netip.MustParsePrefix("fec0::/10"),
}

func isPublic(ip netip.Addr) bool {
	if !ip.IsGlobalUnicast() || ip.IsPrivate() {
		return false
	}
	for _, p := range notPublic {
		if p.Contains(ip) {
			return false
		}
	}
	return true
}

func isLoopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || strings.HasSuffix(host, ".localhost") || err == nil && ip.IsLoopback()
}

// An answer is what came back.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// ask sends a request to url, which is below the target, and returns the answer, of whatever
// status, with at most limit bytes of its body.
func (t *target) ask(ctx context.Context, method, to string, header http.Header, body []byte, limit int64) (*answer, error) {
	req, err := http.NewRequestWithContext(ctx, method, to, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("%s URL cannot be parsed", t.what)
	}
	req.Header = header.Clone()
	if req.Header == nil {
		req.Header = http.Header{}
	}
	req.Header.Set("User-Agent", userAgent)
	res, err := t.http.Do(req)
	if err != nil {
		var ue *url.Error
		if errors.As(err, &ue) { // its text has the URL
			err = ue.Err
		}
		return nil, err
	}
	defer res.Body.Close()
	data, err := io.ReadAll(io.LimitReader(res.Body, limit))
	if err != nil {
		return nil, fmt.Errorf("reading answer: %w", err)
	}
	_, _ = io.CopyN(io.Discard, res.Body, 64<<10) // so that the connection can be used again
	return &answer{res.StatusCode, res.Header, data}, nil
}

// ok reports whether the answer is a success.
func (a *answer) ok() bool { return a.status >= 200 && a.status <= 299 }

// refused returns the error for an answer that is no success: with its reason, and with when to
// come again if it says so.
func (a *answer) refused(now time.Time, reason string) error {
	err := fmt.Errorf("answered %d %s", a.status, http.StatusText(a.status))
	if reason = strings.TrimSpace(reason); reason != "" {
		err = fmt.Errorf("%w: %q", err, clip(maxReason, reason))
	}
	if after, ok := retryAfter(a.header, now); ok {
		return &monitor.RetryError{After: after, Err: err}
	}
	return err
}

// retryAfter reads the header of that name: seconds, of which some services give fractions, or a
// date.
//
//	> Retry-After = HTTP-date / delay-seconds (RFC 9110, section 10.2.3)
func retryAfter(h http.Header, now time.Time) (time.Duration, bool) {
	text := strings.TrimSpace(h.Get("Retry-After"))
	if s, err := strconv.ParseFloat(text, 64); err == nil && s >= 0 {
		const most = 1e6 // seconds; more would not fit a duration, nor anyone's patience
		return time.Duration(min(s, most) * float64(time.Second)), true
	}
	if at, err := http.ParseTime(text); err == nil {
		return max(0, at.Sub(now)), true
	}
	return 0, false
}
