package client_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"tallywood/internal/keys"
	"tallywood/witness/client"
)

// A meter counts connections, and what is read from them.
type meter struct{ dials, read atomic.Int64 }

// client returns an HTTP client as the package's own, metered.
func (m *meter) client() *http.Client {
	t := client.NewTransport()
	dial := t.DialContext
	t.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		m.dials.Add(1)
		conn, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return &meteredConn{conn, m}, nil
	}
	return &http.Client{Transport: t}
}

type meteredConn struct {
	net.Conn
	m *meter
}

func (c *meteredConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.m.read.Add(int64(n))
	return n, err
}

// listen serves raw connections.
func listen(t *testing.T, serve func(conn net.Conn)) (address string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(func() { cancel(); ln.Close() })
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			context.AfterFunc(ctx, func() { conn.Close() })
			go func() {
				defer conn.Close()
				serve(conn)
			}()
		}
	}()
	return ln.Addr().String()
}

// answers serves connections that get text, and then more of it for as long as they take it, once
// their request has come.
func answers(text, more string) func(conn net.Conn) {
	return func(conn net.Conn) {
		if _, err := http.ReadRequest(bufio.NewReader(conn)); err != nil {
			return
		}
		_, err := io.WriteString(conn, text)
		for chunk := strings.Repeat(more, 1+1<<16/max(1, len(more))); err == nil && more != ""; {
			_, err = io.WriteString(conn, chunk)
		}
	}
}

// Ways in which a connection to a witness goes wrong. None answers a request as HTTP has it.
var hostileConnections = map[string]func(conn net.Conn){
	"huge body":          answers("HTTP/1.1 200 OK\r\nContent-Length: 1099511627776\r\n\r\n", "— x AAAAAAA=\n"),
	"endless body":       answers("HTTP/1.1 200 OK\r\n\r\n", "— x AAAAAAA=\n"),
	"endless chunks":     answers("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "d\r\n— x AAA=\n\r\n"),
	"endless trailer":    answers("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X\r\n\r\n0\r\n", "X: y\r\n"),
	"endless chunk size": answers("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "0"),
	"endless header":     answers("HTTP/1.1 200 OK\r\n", "X-Header: value\r\n"),
	"endless line":       answers("HTTP/1.1 200 OK\r\nX-Header: ", "value"),
	"endless status":     answers("HTTP/1.1 ", "200 "),
	"endless hints":      answers("", "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"),
	"endless 409":        answers("HTTP/1.1 409 Conflict\r\nContent-Type: text/x.tlog.size\r\n\r\n", "9"),
	"compressed body":    answers("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n\x1f\x8b\x08\x00", "\x00\x00\x00\x00"),
	"garbage":            answers("\x00\x01\x02garbage\r\n\r\n", ""),
	"garbage for ever":   answers("\x00", "\x00"),
	"cut short":          answers("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n— w2 ", ""),
	"hangs up":           func(net.Conn) {},
	"resets": func(conn net.Conn) {
		_ = conn.(*net.TCPConn).SetLinger(0) // what is left is thrown away
	},
	"never answers": func(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) },
	"slow drip": func(conn net.Conn) {
		for i, text := 0, "HTTP/1.1 200 OK\r\nX: "+strings.Repeat("y", 1<<20); ; i++ {
			if _, err := conn.Write([]byte{text[i%len(text)]}); err != nil {
				return
			}
			time.Sleep(20 * time.Millisecond)
		}
	},
	"slow body": func(conn net.Conn) {
		_, err := io.WriteString(conn, "HTTP/1.1 200 OK\r\n\r\n")
		for ; err == nil; _, err = io.WriteString(conn, "\xe2\x80\x94 x AAAAAAA=\n") {
			time.Sleep(20 * time.Millisecond)
		}
	},
}

// costsItsVote has a client whose policy wants two of w1, bad and w3 cosign some checkpoints, and
// checks that what bad does costs its own vote alone: no line of it is taken, no round waits for its
// requests to time out, and no more is read from it than is meant to be.
func costsItsVote(t *testing.T, url string) {
	t.Helper()
	h := newHistory(t, 20, "entry")
	w1, w3 := startWitness(t, "w1"), startWitness(t, "w3")
	bad := newWitness(t, "w2").clone(url)
	p := newPolicy(t, 2, w1, bad, w3)
	var m meter
	c := newClientWith(t, client.Options{Policy: p, HTTP: m.client()})
	least := time.Hour
	for _, size := range []int64{5, 7, 12, 20} {
		began := time.Now()
		note, err := c.Cosign(within(t, time.Minute), h.checkpoint(t, size), h.prove)
		if err != nil {
			t.Fatalf("size %d: %v", size, err)
		}
		least = min(least, time.Since(began))
		if strings.Contains(string(note), "— w2 ") {
			t.Errorf("a line of the bad witness is in\n%s", note)
		}
	}
	// A request to it times out after 10 s. One round may take as long on a busy machine, but not all.
	if least > 8*time.Second {
		t.Errorf("each round took %v or more: it waited", least)
	}
	if strings.Contains(string(c.Full(origin)), "— w2 ") {
		t.Error("a line of the bad witness is in the full checkpoint")
	}
	// A connection to the bad one ends with its first answer, of which one header and one body are read at
	// most, rounded up to buffers. The honest witnesses' share is a few KiB.
	if n, most := m.read.Load(), m.dials.Load()*(64+16+8)<<10+64<<10; n > most {
		t.Errorf("%d bytes were read from %d connections; at most %d are meant to be", n, m.dials.Load(), most)
	}
}

func TestHostileConnectionCostsOneVote(t *testing.T) {
	for name, serve := range hostileConnections {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			costsItsVote(t, "http://"+listen(t, serve))
		})
	}
}

// Answers of a witness that mean what they say, and lie.
var lies = map[string]func(w2 *witnessServer) http.HandlerFunc{
	"404":                      status(http.StatusNotFound, "text/plain", "no such log\n"),
	"403":                      status(http.StatusForbidden, "text/plain", "no\n"),
	"400":                      status(http.StatusBadRequest, "text/plain", "no\n"),
	"413":                      status(http.StatusRequestEntityTooLarge, "text/plain", "no\n"),
	"422":                      status(http.StatusUnprocessableEntity, "text/plain", "no\n"),
	"500":                      status(http.StatusInternalServerError, "text/plain", "no\n"),
	"200 with nothing":         status(http.StatusOK, "text/plain", ""),
	"200 with junk lines":      status(http.StatusOK, "text/plain", strings.Repeat("junk\n", 100)),
	"200 with unknown keys":    status(http.StatusOK, "text/plain", strings.Repeat("— junk AAAAAAA=\n", 90)),
	"200 of HTML":              status(http.StatusOK, "text/html", "<html>welcome</html>"),
	"201":                      status(http.StatusCreated, "text/plain", "— w2 AAAAAAA=\n"),
	"204":                      status(http.StatusNoContent, "", ""),
	"206":                      status(http.StatusPartialContent, "text/plain", "— w2 AAAAAAA=\n"),
	"409 of another type":      status(http.StatusConflict, "text/plain", "5\n"),
	"409 without size":         status(http.StatusConflict, "text/x.tlog.size", "\n"),
	"409 with a huge size":     status(http.StatusConflict, "text/x.tlog.size", "9223372036854775807\n"),
	"409 with size 0 for ever": status(http.StatusConflict, "text/x.tlog.size", "0\n"),
	"409 with size 3 for ever": status(http.StatusConflict, "text/x.tlog.size", "3\n"),
	"429 for a year":           retryAfterAYear(http.StatusTooManyRequests),
	"503 for a year":           retryAfterAYear(http.StatusServiceUnavailable),
	"redirect to itself": func(*witnessServer) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, r.URL.Path, http.StatusPermanentRedirect)
		}
	},
	"redirect to an honest one": func(w2 *witnessServer) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if strings.HasPrefix(r.URL.Path, "/honest") {
				http.StripPrefix("/honest", w2.witness).ServeHTTP(w, r)
				return
			}
			http.Redirect(w, r, "/honest"+r.URL.Path, http.StatusTemporaryRedirect)
		}
	},
	"lines by another key": func(w2 *witnessServer) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			lines := w2.ask(r).Body.String()
			id := w2.vkeys[0][len("w2+"):][:8]
			other, _ := keys.WitnessFromSeed("w2", seed("another"))
			_, _ = io.WriteString(w, swapKey(lines, id, other.VKeys()[0][len("w2+"):][:8]))
		}
	},
	"a forged line with the true ones": func(w2 *witnessServer) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			lines := w2.ask(r).Body.String()
			_, _ = io.WriteString(w, lines+flip(lines))
		}
	},
	"the true lines, and no end": func(w2 *witnessServer) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			_, err := io.WriteString(w, w2.ask(r).Body.String())
			for err == nil {
				_, err = w.Write(bytes.Repeat([]byte("\xe2\x80\x94 x AAAAAAA=\n"), 1<<10))
			}
		}
	},
}

// swapKey replaces the key ID of the first line.
func swapKey(lines, from, to string) string {
	line, _, _ := strings.Cut(lines, "\n")
	name, b64, _ := strings.Cut(strings.TrimPrefix(line, "— "), " ")
	sig, _ := base64.StdEncoding.DecodeString(b64)
	before, _ := hex.DecodeString(from)
	after, _ := hex.DecodeString(to)
	if rest, ok := bytes.CutPrefix(sig, before); ok {
		sig = append(after, rest...)
	}
	return fmt.Sprintf("— %s %s\n", name, base64.StdEncoding.EncodeToString(sig))
}

func status(code int, contentType, body string) func(*witnessServer) http.HandlerFunc {
	return func(*witnessServer) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			w.Header()["Content-Type"] = []string{contentType}
			w.WriteHeader(code)
			_, _ = io.WriteString(w, body)
		}
	}
}

func retryAfterAYear(code int) func(*witnessServer) http.HandlerFunc {
	return func(*witnessServer) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "31536000")
			w.WriteHeader(code)
		}
	}
}

func TestLyingWitnessCostsOneVote(t *testing.T) {
	for name, lie := range lies {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w2 := startWitness(t, "w2")
			w2.replaceAll(lie(w2))
			began := time.Now()
			costsItsVote(t, w2.url)
			// In the first rounds it may be asked a few times, but in none again and again: on a machine that
			// takes its time, a few times in a second.
			if n, d := w2.requests.Load(), time.Since(began); n > 16+int64(d/(200*time.Millisecond)) {
				t.Errorf("it was asked %d times in four rounds, within %v", n, d)
			}
		})
	}
}

// TestHostileTLSCostsOneVote has a witness whose policy line says https.
func TestHostileTLSCostsOneVote(t *testing.T) {
	for name, serve := range map[string]func(conn net.Conn){
		"plain HTTP":    answers("HTTP/1.1 200 OK\r\n\r\n", "— x AAAAAAA=\n"),
		"an alert":      func(conn net.Conn) { _, _ = conn.Write([]byte{21, 3, 3, 0, 2, 2, 40}) },
		"huge record":   func(conn net.Conn) { _, _ = conn.Write(append([]byte{22, 3, 3, 255, 255}, make([]byte, 1<<16)...)) },
		"never answers": func(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) },
		"records for ever": func(conn net.Conn) {
			for err := error(nil); err == nil; {
				_, err = conn.Write([]byte{22, 3, 3, 0, 4, 0, 0, 0, 0}) // hello requests
			}
		},
		"nobody's certificate": func(conn net.Conn) {
			srv := httptest.NewUnstartedServer(nil)
			srv.StartTLS()
			defer srv.Close()
			_ = tls.Server(conn, srv.TLS).Handshake()
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			costsItsVote(t, "https://"+listen(t, serve))
		})
	}
}

// TestEndlessHTTP2BodyIsBounded has a witness that speaks HTTP/2, where a client buffers what it has
// not read.
func TestEndlessHTTP2BodyIsBounded(t *testing.T) {
	h := newHistory(t, 20, "entry")
	w1 := startWitness(t, "w1")
	var protocol atomic.Pointer[string]
	var asked atomic.Int64
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		protocol.Store(&r.Proto)
		asked.Add(1)
		for chunk := bytes.Repeat([]byte("x"), 1<<16); ; {
			if _, err := w.Write(chunk); err != nil {
				return
			}
		}
	}))
	srv.EnableHTTP2 = true
	srv.StartTLS()
	t.Cleanup(srv.Close)
	var m meter
	hc := m.client()
	hc.Transport.(*http.Transport).TLSClientConfig = srv.Client().Transport.(*http.Transport).TLSClientConfig
	p := newPolicy(t, 1, w1, newWitness(t, "w2").clone(srv.URL))
	c := newClientWith(t, client.Options{Policy: p, HTTP: hc})
	for _, size := range []int64{5, 7, 12, 20} {
		rounds(t, c, h, size)
	}
	for deadline := time.Now().Add(time.Minute); protocol.Load() == nil; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it was never asked")
		}
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if got := *protocol.Load(); got != "HTTP/2.0" {
		t.Errorf("it was asked by %s", got)
	}
	// Of each answer, what fits the buffers of HTTP/2 before its end is asked for; the honest share is small.
	if n, most := m.read.Load(), asked.Load()*512<<10+64<<10; n > most {
		t.Errorf("%d bytes were read of %d answers; at most %d are meant to be", n, asked.Load(), most)
	}
}

// TestErrorsAreShort has an answer that Go's HTTP client repeats in its error.
func TestErrorsAreShort(t *testing.T) {
	h := newHistory(t, 20, "entry")
	bad := newWitness(t, "w2").clone("http://" + listen(t, answers(strings.Repeat("garbage ", 1<<10)+"\r\n\r\n", "")))
	_, err := newClient(t, newPolicy(t, 1, bad)).Cosign(within(t, 500*time.Millisecond), h.checkpoint(t, 5), h.prove)
	if err == nil || len(err.Error()) > 1000 {
		t.Errorf("Cosign = %.2000v", err)
	}
}
