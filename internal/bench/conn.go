package bench

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// A target is where requests go.
type target struct {
	address string // host:port
	tls     *tls.Config
	head    string // of every request, up to the value of Content-Length
	timeout time.Duration
	from    net.IP // our side of connections; nil: the machine's choice
}

// local returns our side of connections as a Dialer takes it.
func (t target) local() net.Addr {
	if t.from == nil {
		return nil
	}
	return &net.TCPAddr{IP: t.from}
}

// entriesPath is where a log takes entries, below its URL.
const entriesPath = "/api/v2/log/entries"

// newTarget returns the target of POSTs of contentType to path below base.
func newTarget(base, path, contentType string, timeout time.Duration) (target, error) {
	u, err := url.Parse(strings.TrimRight(base, "/") + path)
	if err != nil {
		return target{}, fmt.Errorf("parsing URL: %w", err)
	}
	t := target{address: u.Host, timeout: timeout}
	port := "80"
	if u.Scheme == "https" {
		port = "443"
		t.tls = &tls.Config{ServerName: u.Hostname()}
	}
	if u.Port() == "" {
		t.address = net.JoinHostPort(u.Hostname(), port)
	}
	t.head = fmt.Sprintf("POST %s HTTP/1.1\r\nHost: %s\r\nContent-Type: %s\r\nContent-Length: ", u.EscapedPath(), u.Host, contentType)
	return t, nil
}

// request is all of a request's bytes.
func (t target) request(body []byte) []byte {
	b := make([]byte, 0, len(t.head)+16+len(body))
	b = append(b, t.head...)
	b = strconv.AppendInt(b, int64(len(body)), 10)
	b = append(b, "\r\n\r\n"...)
	return append(b, body...)
}

// A conn is a keep-alive connection, opened when it is first needed and again after each failure.
// It is not net/http's client because that spends as much as a good server does.
type conn struct {
	target target
	net    net.Conn
	reader *bufio.Reader
	buffer bytes.Buffer
}

func (c *conn) close() {
	if c.net != nil {
		c.net.Close()
		c.net = nil
	}
}

// maxReply bounds the bytes read of a reply's body.
const maxReply = 1 << 20

// A statusError is an HTTP status other than that of success.
type statusError int

func (e statusError) Error() string { return fmt.Sprintf("status %d", int(e)) }

// post sends a request and returns the body of a reply of status 201, which is valid until the
// next call.
func (c *conn) post(ctx context.Context, request []byte) ([]byte, error) {
	status, err := c.send(ctx, request)
	if err != nil {
		return nil, err
	}
	if status != http.StatusCreated {
		return nil, statusError(status)
	}
	return c.buffer.Bytes(), nil
}

// send sends a request and returns the status of the reply, whose body is in c.buffer until the
// next call.
func (c *conn) send(ctx context.Context, request []byte) (int, error) {
	if err := c.open(ctx); err != nil {
		return 0, err
	}
	// An I/O deadline in the past is how a cancelled context reaches a connection, perhaps after c has
	// closed it.
	under := c.net
	stop := context.AfterFunc(ctx, func() { under.SetDeadline(time.Unix(1, 0)) })
	status, closes, err := c.exchange(request)
	stop()
	if err != nil || closes {
		c.close()
	}
	return status, err
}

func (c *conn) open(ctx context.Context) error {
	if c.net != nil {
		return nil
	}
	dialer := net.Dialer{Timeout: c.target.timeout, LocalAddr: c.target.local()}
	conn, err := dialer.DialContext(ctx, "tcp", c.target.address)
	if err != nil {
		return fmt.Errorf("connecting: %w", err)
	}
	if c.target.tls != nil {
		conn = tls.Client(conn, c.target.tls)
	}
	c.net, c.reader = conn, bufio.NewReaderSize(conn, 8<<10)
	return nil
}

// exchange sends a request and reads the whole reply into c.buffer.
func (c *conn) exchange(request []byte) (status int, closes bool, err error) {
	if err := c.net.SetDeadline(time.Now().Add(c.target.timeout)); err != nil {
		return 0, false, err
	}
	if _, err := c.net.Write(request); err != nil {
		return 0, false, fmt.Errorf("sending request: %w", err)
	}
	res, err := http.ReadResponse(c.reader, nil)
	if err != nil {
		return 0, false, fmt.Errorf("reading reply: %w", err)
	}
	defer res.Body.Close()
	c.buffer.Reset()
	if _, err := io.Copy(&c.buffer, io.LimitReader(res.Body, maxReply+1)); err != nil {
		return 0, false, fmt.Errorf("reading reply: %w", err)
	}
	if c.buffer.Len() > maxReply {
		return 0, false, fmt.Errorf("%w: it has more than %d bytes", errReply, maxReply)
	}
	return res.StatusCode, res.Close, nil
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}

var errReply = errors.New("malformed reply")

// replyIndex picks the log index out of a reply. The rest of it is decoded of a sample, after the
// measurement.
func replyIndex(body []byte) (int64, error) {
	_, rest, found := bytes.Cut(body, []byte(`"logIndex"`))
	rest = bytes.TrimLeft(rest, ": \n\t\"") // some servers write spaces, or bare numbers
	digits := 0
	for digits < len(rest) && '0' <= rest[digits] && rest[digits] <= '9' {
		digits++
	}
	index, err := strconv.ParseInt(string(rest[:digits]), 10, 64)
	if !found || err != nil {
		return 0, fmt.Errorf("%w: there is no logIndex", errReply)
	}
	return index, nil
}
