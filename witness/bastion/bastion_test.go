package bastion_test

import (
	"crypto/ed25519"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"tallywood/witness/bastion"
)

// echo answers with what it was sent, and how it looks to have been sent.
var echo = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	host, _, _ := net.SplitHostPort(r.RemoteAddr)
	fmt.Fprintf(w, "%s %s from %s, %d bytes, forwarded for %q", r.Method, r.URL, host, len(body), r.Header.Values("X-Forwarded-For"))
})

func TestServesThroughABastion(t *testing.T) {
	key := newKey("backend")
	h := startHost(t, key)
	c, _ := run(t, echo, h.entry(key))
	s := await(t, c, h.address, up)
	if s.Err != nil || s.Connects != 1 || s.Failures != 0 || s.Prefix != "https://"+h.address+"/"+s.KeyHash {
		t.Errorf("status %+v", s)
	}
	h.reached(t, key)
	if status, got := h.do(t, "POST", key, "/add-checkpoint?x=1", strings.Repeat("x", 9000)); status != 200 ||
		got != `POST /add-checkpoint?x=1 from 127.0.0.1, 9000 bytes, forwarded for []` {
		t.Errorf("answered %d %s", status, got)
	}
	var wait sync.WaitGroup
	for range 50 {
		wait.Go(func() {
			if status, got := h.do(t, "GET", key, "/x", ""); status != 200 {
				t.Errorf("answered %d %s", status, got)
			}
		})
	}
	wait.Wait()
	var metrics strings.Builder
	c.WriteMetrics(&metrics)
	for _, want := range []string{"up{bastion=%q} 1\n", "connects_total{bastion=%q} 1\n", "failures_total{bastion=%q} 0\n", "requests_total{bastion=%q} 51\n"} {
		if want = fmt.Sprintf("\ntallywood_witness_bastion_"+want, h.address); !strings.Contains(metrics.String(), want) {
			t.Errorf("no line %q in\n%s", want, metrics.String())
		}
	}
}

func TestReconnectsAfterARestart(t *testing.T) {
	key := newKey("backend")
	h := startHost(t, key)
	c, _ := run(t, echo, h.entry(key))
	await(t, c, h.address, up)
	h.stop()
	s := await(t, c, h.address, func(s bastion.Status) bool { return !s.Up && s.Err != nil })
	if s.Failures == 0 {
		t.Errorf("status %+v", s)
	}
	h.start(t)
	await(t, c, h.address, func(s bastion.Status) bool { return s.Up && s.Connects == 2 && s.Err == nil })
	h.reached(t, key)
	if status, got := h.do(t, "GET", key, "/x", ""); status != 200 {
		t.Errorf("answered %d %s", status, got)
	}
}

// TestBastionsFailAlone has one of two bastions go away.
func TestBastionsFailAlone(t *testing.T) {
	one, two := newKey("one"), newKey("two")
	a, b := startHost(t, one), startHost(t, two)
	c, _ := run(t, echo, a.entry(one), b.entry(two))
	await(t, c, a.address, up)
	await(t, c, b.address, up)
	b.reached(t, two)
	a.stop()
	await(t, c, a.address, func(s bastion.Status) bool { return !s.Up && s.Err != nil })
	if status, got := b.do(t, "GET", two, "/x", ""); status != 200 {
		t.Errorf("the other bastion answered %d %s", status, got)
	}
	if s := c.Status(); len(s) != 2 || !s[1].Up || s[1].Connects != 1 || s[0].KeyHash == s[1].KeyHash {
		t.Errorf("status %+v", s)
	}
}

// TestSaysWhenItsKeyIsRefused has a bastion that learns of the key later.
func TestSaysWhenItsKeyIsRefused(t *testing.T) {
	key := newKey("backend")
	h := startHost(t, newKey("other"))
	c, _ := run(t, echo, h.entry(key))
	s := await(t, c, h.address, func(s bastion.Status) bool { return s.Failures > 0 })
	if s.Up || s.Connects != 0 || s.Err == nil || !strings.Contains(s.Err.Error(), "it refuses our key") || !strings.Contains(s.Err.Error(), s.KeyHash) {
		t.Errorf("status %+v", s)
	}
	h.allow(key, true)
	await(t, c, h.address, up)
}

// TestRefusesWhatIsNoBastion has servers that a backend must not serve to.
func TestRefusesWhatIsNoBastion(t *testing.T) {
	cert, pool := certificate(t)
	for name, tc := range map[string]struct {
		config *tls.Config
		want   string
	}{
		"a web server":   {&tls.Config{NextProtos: []string{"h2", "http/1.1"}}, "no application protocol"},
		"no ALPN":        {&tls.Config{}, `it takes no backends: it agreed on the protocol ""`},
		"TLS 1.2":        {&tls.Config{NextProtos: []string{"bastion/0"}, MaxVersion: tls.VersionTLS12}, "protocol version not supported"},
		"another's name": {&tls.Config{NextProtos: []string{"bastion/0"}}, "failed to verify certificate"},
	} {
		tc.config.Certificates = []tls.Certificate{cert}
		ln, err := tls.Listen("tcp", "127.0.0.1:0", tc.config)
		if err != nil {
			t.Fatal(err)
		}
		served := make(chan struct{})
		go func() {
			defer close(served)
			for {
				conn, err := ln.Accept()
				if err != nil {
					return
				}
				_ = conn.(*tls.Conn).Handshake() // fails with most of them
				_ = conn.Close()
			}
		}()
		b := bastion.Bastion{Address: ln.Addr().String(), Key: newKey("backend"), Roots: pool}
		if name == "another's name" {
			_, b.Roots = certificate(t)
		}
		c, stop := run(t, echo, b)
		s := await(t, c, b.Address, func(s bastion.Status) bool { return s.Failures > 0 })
		if s.Up || s.Connects != 0 || s.Err == nil || !strings.Contains(s.Err.Error(), tc.want) {
			t.Errorf("%s: status %+v; want %q", name, s, tc.want)
		}
		stop()
		if err := ln.Close(); err != nil {
			t.Error(err)
		}
		<-served
	}
}

// slow answers when it is told to.
type slow struct{ begun, finish chan struct{} }

func (s slow) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.begun <- struct{}{}
	<-s.finish
	_, _ = io.WriteString(w, "done")
}

// ask asks for something in the background.
func ask(t *testing.T, h *host, key ed25519.PrivateKey) <-chan string {
	answered := make(chan string, 1)
	go func() {
		status, got := h.do(t, "GET", key, "/x", "")
		answered <- fmt.Sprint(status, " ", got)
	}()
	return answered
}

// TestSetLeavesAloneWhatStays replaces one of two bastions while both have a request under way.
func TestSetLeavesAloneWhatStays(t *testing.T) {
	key := newKey("backend")
	stays, goes, comes := startHost(t, key), startHost(t, key), startHost(t, key)
	handler := slow{make(chan struct{}), make(chan struct{})}
	c, _ := run(t, handler, stays.entry(key), goes.entry(key))
	since := await(t, c, stays.address, up).Since
	await(t, c, goes.address, up)
	stays.reached(t, key)
	goes.reached(t, key)
	first, second := ask(t, stays, key), ask(t, goes, key)
	<-handler.begun
	<-handler.begun

	wrong := comes.entry(key)
	wrong.Key = nil
	for name, bad := range map[string][]bastion.Bastion{
		"without a key": {stays.entry(key), wrong},
		"twice":         {stays.entry(key), stays.entry(key)},
		"no address":    {{Key: key}},
		"bad URL":       {{Address: comes.address, Key: key, URL: "bastion.example.org"}},
	} {
		if err := c.Set(bad); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if s := c.Status(); len(s) != 2 || !s[0].Up || !s[1].Up {
		t.Fatalf("a refused change changed something: %+v", s)
	}
	finish := sync.OnceFunc(func() { close(handler.finish) })
	time.AfterFunc(3*time.Second, finish) // what is left of a connection has 10 s, however slow the new one is
	if err := c.Set([]bastion.Bastion{comes.entry(key), stays.entry(key)}); err != nil {
		t.Fatal(err)
	}
	await(t, c, comes.address, up)
	finish()
	for name, answer := range map[string]<-chan string{"the bastion that stays": first, "the one that goes": second} {
		if got := <-answer; got != "200 done" {
			t.Errorf("through %s: %s", name, got)
		}
	}
	if s := c.Status(); len(s) != 2 || s[0].Address != comes.address || s[1].Connects != 1 || !s[1].Up || !s[1].Since.Equal(since) {
		t.Errorf("status %+v; want the connection to the second as it was at %v", s, since)
	}
	for end := time.Now().Add(deadline); ; time.Sleep(10 * time.Millisecond) {
		answer := ask(t, goes, key)
		select {
		case <-handler.begun:
			<-answer
		case got := <-answer:
			if !strings.HasPrefix(got, "200 ") {
				return
			}
		}
		if time.Now().After(end) {
			t.Fatal("the bastion that was taken away is still served")
		}
	}
}

// TestEndAnswersWhatHasBegun ends a client with a request under way.
func TestEndAnswersWhatHasBegun(t *testing.T) {
	key := newKey("backend")
	h := startHost(t, key)
	handler := slow{make(chan struct{}), make(chan struct{})}
	c, stop := run(t, handler, h.entry(key))
	await(t, c, h.address, up)
	h.reached(t, key)
	answer := ask(t, h, key)
	<-handler.begun
	time.AfterFunc(100*time.Millisecond, func() { close(handler.finish) })
	stop()
	if got := <-answer; got != "200 done" {
		t.Errorf("answered %s", got)
	}
	if s := c.Status(); s[0].Up || s[0].Err != nil {
		t.Errorf("status %+v", s)
	}
}

func TestParseAddress(t *testing.T) {
	for in, want := range map[string]string{
		"bastion.example.org": "bastion.example.org:443", "Bastion.example.org:8443": "bastion.example.org:8443", "192.0.2.1": "192.0.2.1:443",
		"[2001:db8::1]": "[2001:db8::1]:443", "[2001:db8::1]:8443": "[2001:db8::1]:8443", "localhost:0443": "localhost:443",
	} {
		if got, err := bastion.ParseAddress(in); err != nil || got != want {
			t.Errorf("%q: %q, %v; want %q", in, got, err, want)
		}
	}
	for _, bad := range []string{"", ":443", "host:", "host:0", "host:65536", "host:-1", "host:http", "https://host", "host/path", "2001:db8::1",
		"two words", "[host]", "a@b", "höst", `h"st`, "host:+1", "[::1%25eth0]:1"} {
		if got, err := bastion.ParseAddress(bad); err == nil {
			t.Errorf("%q: %q; want an error", bad, got)
		}
	}
}

func TestPrefix(t *testing.T) {
	key := newKey("backend")
	hash := bastion.KeyHash(key.Public().(ed25519.PublicKey))
	for _, tc := range []struct {
		b    bastion.Bastion
		want string
	}{
		{bastion.Bastion{Address: "bastion.example.org:443", Key: key}, "https://bastion.example.org/"},
		{bastion.Bastion{Address: "bastion.example.org:8443", Key: key}, "https://bastion.example.org:8443/"},
		{bastion.Bastion{Address: "in.example.org:443", URL: "https://bastion.example.org/", Key: key}, "https://bastion.example.org/"},
	} {
		if got := tc.b.Prefix(); got != tc.want+hash {
			t.Errorf("%s: %s; want %s", tc.b.Address, got, tc.want+hash)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	for name, o := range map[string]bastion.Options{
		"no handler": {},
		"no key":     {Handler: echo, Bastions: []bastion.Bastion{{Address: "bastion.example.org:443"}}},
		"no port":    {Handler: echo, Bastions: []bastion.Bastion{{Address: "bastion.example.org", Key: newKey("backend")}}},
	} {
		if _, err := bastion.New(o); err == nil || !strings.HasPrefix(err.Error(), "configuring bastions: ") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
