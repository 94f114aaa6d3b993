package oidc

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"syscall"
	"time"
)

func (i *Issuer) isHTTP() bool { return strings.HasPrefix(i.URL, "http://") }

// isLoopbackName reports whether a host name means this machine by definition (RFC 6761).
func isLoopbackName(host string) bool {
	if ip, err := netip.ParseAddr(host); err == nil {
		return ip.IsLoopback()
	}
	return host == "localhost" || strings.HasSuffix(host, ".localhost")
}

// client builds the HTTP client for one issuer.
func (v *Verifier) client(issuer *Issuer, issuerURL string) (*http.Client, error) {
	client := &http.Client{
		Timeout: v.fetch,
		// Following a redirect would let whoever answers choose where keys come from
		// (CVE-2026-49478), so none is followed, not even on the same host.
		CheckRedirect: func(*http.Request, []*http.Request) error {
			return errors.New("the issuer answered with a redirect")
		},
	}
	if v.http != nil {
		client.Transport = v.http.Transport
		return client, nil
	}
	u, err := url.Parse(issuerURL)
	if err != nil {
		return nil, fmt.Errorf("parsing issuer URL: %w", err)
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if len(issuer.caCert) > 0 {
		if config.RootCAs, err = x509.SystemCertPool(); err != nil {
			return nil, fmt.Errorf("reading the system's roots: %w", err)
		}
		config.RootCAs.AppendCertsFromPEM(issuer.caCert)
	}
	dialer := &net.Dialer{Timeout: v.fetch, Control: guard(isLoopbackName(u.Hostname()))}
	client.Transport = &http.Transport{
		DialContext:            dialer.DialContext,
		TLSClientConfig:        config,
		ForceAttemptHTTP2:      true,
		TLSHandshakeTimeout:    v.fetch,
		ResponseHeaderTimeout:  v.fetch,
		MaxResponseHeaderBytes: 64 << 10,
		MaxIdleConnsPerHost:    1,
		IdleConnTimeout:        30 * time.Second,
	}
	return client, nil
}

// guard refuses, after name resolution, addresses no issuer of that kind lives at. So a name that
// suddenly resolves to the metadata service or to this machine leads nowhere. Private networks
// are fine: that is where many issuers are.
func guard(loopback bool) func(network, address string, c syscall.RawConn) error {
	return func(_, address string, _ syscall.RawConn) error {
		ap, err := netip.ParseAddrPort(address)
		if err != nil {
			return fmt.Errorf("parsing address: %w", err)
		}
		ip := ap.Addr().Unmap()
		switch {
		case loopback && !ip.IsLoopback():
			return fmt.Errorf("address %s of a loopback issuer is elsewhere", ip)
		case loopback:
			return nil
		case ip.IsLoopback(), ip.IsLinkLocalUnicast(), ip.IsMulticast(), ip.IsUnspecified():
			return fmt.Errorf("address %s is not an issuer's", ip)
		}
		return nil
	}
}
