package e2e_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// dialFrom connects from an address of this machine: all of 127.0.0.0/8 are.
func dialFrom(t *testing.T, from, base string) net.Conn {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: time.Minute}
	conn, err := d.Dial("tcp", strings.TrimPrefix(base, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// postFrom posts over conn with more headers and returns the answer's status and message.
func postFrom(t *testing.T, conn net.Conn, request string, headers ...string) (int, string) {
	t.Helper()
	text := rawPost(request)
	for _, h := range headers {
		text = strings.Replace(text, "\r\n", "\r\n"+h+"\r\n", 1)
	}
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var e struct{ Message string }
	body, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusCreated {
		err = json.Unmarshal(body, &e)
	}
	if err != nil || (res.StatusCode == 429) != (res.Header.Get("Retry-After") != "") {
		t.Errorf("%d %v %.200q, %v", res.StatusCode, res.Header, body, err)
	}
	return res.StatusCode, e.Message
}

// TestLimitsOfOneClientAreItsOwn: a client that has spent its burst is answered 429, behind a trusted
// proxy too; others go on, and no header helps.
func TestLimitsOfOneClientAreItsOwn(t *testing.T) {
	log := serveLog(t, quietLog(t, "limits: {requests_per_second: 0.001, burst: 3, trusted_proxies: [127.0.0.9]}\n"))
	signer, err := newSigner(8)
	if err != nil {
		t.Fatal(err)
	}
	n := int64(0)
	post := func(from string, headers ...string) (int, string) {
		n++
		e, err := signer.entry(n)
		if err != nil {
			t.Fatal(err)
		}
		return postFrom(t, dialFrom(t, from, log.url), e.request, headers...)
	}
	spend := func(what, from string, headers ...string) {
		t.Helper()
		for i := range 4 {
			want := http.StatusCreated
			if i == 3 {
				want = http.StatusTooManyRequests
			}
			if status, message := post(from, headers...); status != want {
				t.Errorf("%s: request %d is answered %d %s", what, i+1, status, message)
			}
		}
	}
	spend("a client", "127.0.0.2")
	spend("another", "127.0.0.3")
	for _, header := range []string{"X-Forwarded-For: 192.0.2.1", "Tallywood-Forwarded: 1", "Tallywood-Forwarded: 192.0.2.1/32 4102444800 00", "Forwarded: for=192.0.2.1"} {
		if status, message := post("127.0.0.2", header); status != 429 || !strings.Contains(message, "too many requests") {
			t.Errorf("with %q: %d %s", header, status, message)
		}
	}
	spend("a client of the proxy", "127.0.0.9", "X-Forwarded-For: 203.0.113.1, 192.0.2.1")
	spend("another client of the proxy", "127.0.0.9", "X-Forwarded-For: 203.0.113.1, 192.0.2.2")
	if got := get(t, log.url+"/checkpoint", 200); !strings.HasPrefix(got, "log.example.org\n") {
		t.Errorf("reads are limited: %s", got)
	}
	for range 8 { // 127.0.0.1 is this machine itself
		if status, message := post("127.0.0.1"); status != 201 {
			t.Errorf("a client that is exempt: %d %s", status, message)
		}
	}
}

// TestConnectionsOfOneClientAreBounded, and those of others are not touched by that.
func TestConnectionsOfOneClientAreBounded(t *testing.T) {
	log := serveLog(t, quietLog(t, "limits: {connections: 5, all_connections: 50}\n"))
	alive := func(conn net.Conn) bool {
		if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		if _, err := fmt.Fprint(conn, "GET /healthz HTTP/1.1\r\nHost: log.example.com\r\n\r\n"); err != nil {
			return false
		}
		res, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			return false
		}
		_, err = io.Copy(io.Discard, res.Body)
		return err == nil && res.StatusCode == 200
	}
	for _, from := range []string{"127.0.0.2", "127.0.0.3"} {
		var kept []net.Conn
		for i := range 8 {
			conn := dialFrom(t, from, log.url)
			if got := alive(conn); got != (i < 5) {
				t.Errorf("connection %d of %s is served: %v", i+1, from, got)
			}
			kept = append(kept, conn)
		}
		for i, conn := range kept[:5] {
			if !alive(conn) {
				t.Errorf("connection %d of %s is not served any more", i+1, from)
			}
		}
	}
	if !alive(dialFrom(t, "127.0.0.4", log.url)) {
		t.Error("a client that has come later is not served")
	}
}
