package client

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

// Bounds of a connection. A witness can make us hold no more than its buffers and one answer.
const (
	dialTimeout = 2 * time.Second
	tlsTimeout  = 5 * time.Second
	maxHeader   = 16 << 10
	http2Buffer = 128 << 10
	maxError    = 300 // characters of what went wrong with a connection
)

// newTransport returns a transport of our own.
func newTransport() *http.Transport {
	return &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            (&net.Dialer{Timeout: dialTimeout, KeepAlive: 15 * time.Second}).DialContext,
		ForceAttemptHTTP2:      true,
		MaxIdleConnsPerHost:    2,
		IdleConnTimeout:        90 * time.Second,
		TLSHandshakeTimeout:    tlsTimeout,
		ResponseHeaderTimeout:  requestTimeout,
		MaxResponseHeaderBytes: maxHeader,
		DisableCompression:     true, // what is read is what came
		HTTP2: &http.HTTP2Config{
			MaxReceiveBufferPerConnection: http2Buffer, MaxReceiveBufferPerStream: http2Buffer,
			SendPingTimeout: 5 * time.Second, PingTimeout: 5 * time.Second,
		},
	}
}

// httpClients returns the client for most requests, and the one that opens a connection for each.
// They follow no redirect: a witness has one address, and who can redirect its clients could collect
// their checkpoints.
func httpClients(given *http.Client) (usual, fresh *http.Client) {
	usual = &http.Client{}
	if given != nil {
		*usual = *given
	}
	if usual.Transport == nil {
		usual.Transport = newTransport()
	}
	usual.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	fresh = &http.Client{}
	*fresh = *usual
	if t, ok := usual.Transport.(*http.Transport); ok {
		t = t.Clone()
		t.DisableKeepAlives = true
		fresh.Transport = t
	}
	return usual, fresh
}

// exchange makes one request and reads its answer.
func (c *Client) exchange(ctx context.Context, hc *http.Client, method, url string, body io.Reader) (int, http.Header, []byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, url, body)
	if err != nil {
		return 0, nil, nil, fmt.Errorf("making request: %w", err)
	}
	if body != nil {
		req.Header.Set("Content-Type", "text/plain; charset=utf-8")
	}
	resp, err := hc.Do(req)
	if err != nil {
		return 0, nil, nil, clip(err) // it names method and URL
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	switch {
	case err != nil:
		return 0, nil, nil, fmt.Errorf("reading answer: %w", clip(err))
	case len(answer) > maxAnswer:
		return 0, nil, nil, fmt.Errorf("answer is larger than %d bytes", maxAnswer)
	}
	return resp.StatusCode, resp.Header, answer, nil
}

// A clippedError is an error with the beginning of its text: that of a malformed answer has the answer.
type clippedError struct {
	text string
	err  error
}

func (e *clippedError) Error() string { return e.text }
func (e *clippedError) Unwrap() error { return e.err }

func clip(err error) error {
	text := err.Error()
	if len(text) <= maxError {
		return err
	}
	return &clippedError{text: fmt.Sprintf("%.*s…", maxError, text), err: err}
}
