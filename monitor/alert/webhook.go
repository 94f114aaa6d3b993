package alert

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"tallywood/monitor"
)

const (
	webhookTimeout = 10 * time.Second
	secretPrefix   = "whsec_"
)

// WebhookOptions configure a Webhook.
type WebhookOptions struct {
	// URL is posted to. It is https, or http to a loopback address; with AllowPrivate any http.
	URL string

	// SecretFile holds the signing secret: "whsec_" and the base64 of 24 to 64 bytes. Without one
	// requests are not signed.
	SecretFile string

	// AllowPrivate lets the URL's host be, or resolve to, an address that is not public. A URL that
	// names a loopback address, or localhost, may have one of those anyway.
	AllowPrivate bool
}

// Webhook posts events to a URL. The body is the event's JSON.
type Webhook struct {
	url    string
	secret []byte
	http   *http.Client
}

var _ monitor.Sink = (*Webhook)(nil)

// OpenWebhook checks o and reads the secret.
func OpenWebhook(o WebhookOptions) (*Webhook, error) {
	u, err := url.Parse(o.URL)
	if err != nil {
		return nil, fmt.Errorf("parsing webhook URL: %w", err)
	}
	loopback := isLoopback(u.Hostname())
	var errs []error
	switch {
	case u.Scheme != "https" && u.Scheme != "http" || u.Host == "":
		errs = append(errs, errors.New("webhook URL is neither http nor https"))
	case u.Scheme == "http" && !loopback && !o.AllowPrivate:
		errs = append(errs, errors.New("webhook URL is http and not of a loopback address"))
	}
	var secret []byte
	if o.SecretFile != "" {
		if secret, err = readSecret(o.SecretFile); err != nil {
			errs = append(errs, err)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return &Webhook{url: o.URL, secret: secret, http: webhookClient(loopback, o.AllowPrivate)}, nil
}

func readSecret(path string) ([]byte, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading webhook secret: %w", err)
	}
	secret, ok := parseSecret(strings.TrimSpace(string(data)))
	if !ok {
		return nil, fmt.Errorf("webhook secret in %s is not %q and the base64 of 24 to 64 bytes", path, secretPrefix)
	}
	return secret, nil
}

func parseSecret(text string) ([]byte, bool) {
	text, ok := strings.CutPrefix(text, secretPrefix)
	secret, err := base64.StdEncoding.DecodeString(text)
	return secret, ok && err == nil && len(secret) >= 24 && len(secret) <= 64
}

// webhookClient connects to public addresses alone, unless told otherwise: whoever can set a URL,
// or the DNS of its host, must not reach what only we can reach. Proxies and redirects would go
// around that.
func webhookClient(loopback, private bool) *http.Client {
	dialer := &net.Dialer{Timeout: webhookTimeout, Control: func(_, address string, _ syscall.RawConn) error {
		return checkAddress(loopback, private, address)
	}}
	return &http.Client{
		Timeout: webhookTimeout,
		Transport: &http.Transport{
			DialContext: dialer.DialContext, ForceAttemptHTTP2: true, TLSHandshakeTimeout: webhookTimeout,
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
// IPv6 ranges that translate to IPv4 ones.
var notPublic = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"),
	netip.MustParsePrefix("100.64.0.0/10"),
	netip.MustParsePrefix("192.0.0.0/24"),
	netip.MustParsePrefix("198.18.0.0/15"),
	netip.MustParsePrefix("240.0.0.0/4"),
	netip.MustParsePrefix("64:ff9b::/96"),
	netip.MustParsePrefix("64:ff9b:1::/48"),
	netip.MustParsePrefix("2002::/16"),
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

// Send implements monitor.Sink: a 2xx answer within ten seconds takes the event.
func (w *Webhook) Send(ctx context.Context, e monitor.Event) error {
	body, err := encode(e)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.url, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("posting event %s: %w", e.ID, err)
	}
	timestamp := strconv.FormatInt(time.Now().Unix(), 10)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "tallywood-monitor")
	req.Header["webhook-id"] = []string{e.ID}
	req.Header["webhook-timestamp"] = []string{timestamp}
	if w.secret != nil {
		req.Header["webhook-signature"] = []string{sign(w.secret, e.ID, timestamp, body)}
	}
	res, err := w.http.Do(req)
	if err != nil {
		var ue *url.Error
		if errors.As(err, &ue) { // its text has the URL, which may be a secret
			err = ue.Err
		}
		return fmt.Errorf("posting event %s: %w", e.ID, err)
	}
	defer res.Body.Close()
	_, _ = io.CopyN(io.Discard, res.Body, 64<<10) // so that the connection can be used again
	if res.StatusCode < 200 || res.StatusCode > 299 {
		return fmt.Errorf("posting event %s: answered %d %s", e.ID, res.StatusCode, http.StatusText(res.StatusCode))
	}
	return nil
}

// sign returns the webhook-signature header.
//
//	> {msg_id}.{timestamp}.{payload} … base64 encoded … prefixed with v1, (Standard Webhooks)
func sign(secret []byte, id, timestamp string, body []byte) string {
	mac := hmac.New(sha256.New, secret)
	fmt.Fprintf(mac, "%s.%s.", id, timestamp)
	mac.Write(body)
	return "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
}
