package bastion

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"tallywood/internal/httpx"
)

// Bounds of a connection.
const (
	dialTimeout  = 15 * time.Second // for TCP and TLS
	helloTimeout = 15 * time.Second // for the bastion's first bytes after that
	pingInterval = 12 * time.Second // without a frame, after which we ask whether the bastion is there
	pingTimeout  = 10 * time.Second // for its answer
	sendTimeout  = 20 * time.Second // for it to take anything at all of what we send
	answerTime   = 60 * time.Second // for one response
	drainTimeout = 10 * time.Second // for requests under way at the end
	maxStreams   = 250              // requests under way at once
	maxHeader    = 64 << 10         // bytes
)

// Bounds of the wait after a connection that failed.
const (
	minWait = time.Second
	maxWait = time.Minute
	settled = 30 * time.Second // a connection that lasted so long begins at minWait again
)

// A link is the connection to one bastion, made again and again.
type link struct {
	bastion   Bastion
	handler   http.Handler
	dial      func(ctx context.Context, network, address string) (net.Conn, error)
	connected func(Status)
	log       *slog.Logger
	requests  atomic.Int64

	mu       sync.Mutex // guards the fields below
	up       bool
	since    time.Time // when up last changed, or the link was made
	err      error     // why it is down; nil while up, and before the first connection failed
	connects int64
	failures int64
}

func newLink(b Bastion, o Options) *link {
	l := &link{bastion: b, dial: o.Dial, connected: o.Connected, log: o.Log, since: time.Now()}
	l.handler = httpx.Paced(forwarded(o.Handler, &l.requests), answerTime)
	return l
}

// run connects until ctx ends.
func (l *link) run(ctx context.Context) {
	wait := minWait
	for ctx.Err() == nil {
		lasted, err := l.connect(ctx)
		if ctx.Err() != nil {
			l.isDown(nil)
			return
		}
		l.isDown(err)
		if lasted >= settled {
			wait = minWait
		}
		wait = min(2*wait, maxWait)
		// Jitter keeps the backends of a bastion that comes back from doing so all at once.
		pause := minWait + mathrand.N(wait-minWait+1)
		l.log.Warn("bastion not connected; trying again", "key", l.bastion.Address, "err", err, "dur", pause.Round(time.Millisecond))
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
	}
}

// connect connects and serves until the connection ends, and returns how long it was up.
func (l *link) connect(ctx context.Context) (lasted time.Duration, err error) {
	secure, err := l.handshake(ctx)
	if err != nil {
		return 0, fmt.Errorf("connecting with TLS 1.3 and protocol %s: %w", protocol, err)
	}
	conn := newConnection(secure, l.isUp)
	defer conn.Close()
	l.serve(ctx, conn)
	lasted, err = conn.result()
	switch {
	case isRefusal(err):
		return lasted, fmt.Errorf("it refuses our key; its operator must allow the key hash %s: %w", l.bastion.KeyHash(), err)
	case lasted == 0:
		return 0, fmt.Errorf("it did not use the connection; does its operator allow the key hash %s?: %w", l.bastion.KeyHash(), err)
	case errors.Is(err, net.ErrClosed):
		return lasted, errors.New("it answered no ping, or broke the protocol")
	case errors.Is(err, io.EOF):
		return lasted, errors.New("it closed the connection")
	}
	return lasted, fmt.Errorf("the connection broke: %w", err)
}

// handshake makes a connection on which the bastion may begin.
func (l *link) handshake(ctx context.Context) (*tls.Conn, error) {
	host, _, err := net.SplitHostPort(l.bastion.Address)
	if err != nil {
		return nil, err
	}
	certificate, err := selfSigned(l.bastion)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	raw, err := l.dial(ctx, "tcp", l.bastion.Address)
	if err != nil {
		return nil, err
	}
	conn := tls.Client(raw, &tls.Config{
		// > Other TLS versions MUST be rejected, as only TLS 1.3 hides client certificates from network
		// > observers.
		MinVersion: tls.VersionTLS13, MaxVersion: tls.VersionTLS13, NextProtos: []string{protocol},
		ServerName: host, RootCAs: l.bastion.Roots, Certificates: []tls.Certificate{certificate},
	})
	err = conn.HandshakeContext(ctx)
	// A server without ALPN says nothing about it.
	if p := conn.ConnectionState().NegotiatedProtocol; err == nil && p != protocol {
		err = fmt.Errorf("it takes no backends: it agreed on the protocol %q", p)
	}
	if err != nil {
		_ = raw.Close() // what was before is what went wrong
		return nil, err
	}
	return conn, nil
}

// isRefusal reports whether err is an alert of the other side, as TLS has them for certificates that it
// does not take. In TLS 1.3 those come after the handshake, as our side sees it.
func isRefusal(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "remote error"
}

// serve serves HTTP/2 on conn until it is closed, or ctx ends and its requests are answered.
func (l *link) serve(ctx context.Context, conn *connection) {
	var under sync.WaitGroup // requests
	srv := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			under.Add(1)
			defer under.Done()
			l.handler.ServeHTTP(w, r)
		}),
		Protocols: new(http.Protocols), HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams: maxStreams, SendPingTimeout: pingInterval, PingTimeout: pingTimeout, WriteByteTimeout: sendTimeout,
		},
		ReadHeaderTimeout: helloTimeout, WriteTimeout: answerTime, MaxHeaderBytes: maxHeader,
		IdleTimeout: -1, // a backend waits for requests, for days if need be
		ErrorLog:    slog.NewLogLogger(l.log.Handler(), slog.LevelDebug),
	}
	// The connection is encrypted, but as its client we are the one whose certificate was asked for;
	// to the server it is a plain one on which the other side speaks HTTP/2 at once.
	srv.Protocols.SetUnencryptedHTTP2(true)
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = srv.Serve(listen(conn)) // ends when it is told to
	}()
	select {
	case <-conn.closed:
	case <-ctx.Done():
		drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
		defer cancel()
		_ = httpx.Shutdown(drain, srv) // what has not finished by now is cut off
	}
	_ = srv.Close()
	_ = conn.Close()
	<-served
	under.Wait()
}

// selfSigned returns a certificate of our key. Each connection has its own: it does not expire.
//
//	> The backend MUST present as its client certificate an Ed25519 certificate containing the backend
//	> public key. The backend certificate MAY be self-signed.
func selfSigned(b Bastion) (tls.Certificate, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("making certificate: %w", err)
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "bastion backend"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, b.Key.Public(), b.Key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("making certificate: %w", err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: b.Key}, nil
}

// isUp notes that the bastion uses the connection.
func (l *link) isUp() {
	l.mu.Lock()
	l.up, l.since, l.err = true, time.Now(), nil
	l.connects++
	l.mu.Unlock()
	l.log.Info("bastion connected", "key", l.bastion.Prefix())
	l.connected(l.status())
}

// isDown notes that the connection has ended; without an error, on our side's wish.
func (l *link) isDown(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.up {
		l.up, l.since = false, time.Now()
	}
	l.err = err
	if err != nil {
		l.failures++
	}
}
