package bastion_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"tallywood/internal/bubble"
	"tallywood/witness/bastion"
)

// TestWaitsLongerAndLonger has a bastion that cannot be reached.
func TestWaitsLongerAndLonger(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var tries []time.Time
		c, err := bastion.New(bastion.Options{
			Handler:  echo,
			Bastions: []bastion.Bastion{{Address: "bastion.example.org:443", Key: newKey("backend")}},
			Dial: func(context.Context, string, string) (net.Conn, error) {
				mu.Lock()
				defer mu.Unlock()
				tries = append(tries, time.Now())
				return nil, errors.New("connection refused")
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 24*time.Hour)
		defer cancel()
		if err := c.Run(ctx); err != nil {
			t.Fatal(err)
		}
		var waits []time.Duration
		for i, at := range tries[1:] {
			waits = append(waits, at.Sub(tries[i]))
		}
		// A day of waits from 1 to 60 s has some 2,830 of them.
		if len(waits) < 2000 || slices.Min(waits) < time.Second || slices.Max(waits) > time.Minute {
			t.Errorf("%d waits, from %v to %v; want from 1 s to 60 s", len(waits), slices.Min(waits), slices.Max(waits))
		}
		for i, most := range []time.Duration{2, 4, 8, 16, 32} {
			if waits[i] > most*time.Second {
				t.Errorf("wait %d was %v; want at most %v", i+1, waits[i], most*time.Second)
			}
		}
		if slices.Max(waits) < 50*time.Second || slices.Min(waits[10:]) > 10*time.Second {
			t.Errorf("waits without jitter: from %v to %v", slices.Min(waits[10:]), slices.Max(waits))
		}
		s := c.Status()[0]
		if s.Up || s.Failures != int64(len(tries)) || s.Connects != 0 {
			t.Errorf("status %+v after %d tries", s, len(tries))
		}
	})
}

// TestNoticesADeadBastion has a bastion that says hello, and then goes away without a word. It must
// answer our pings, which come every 12 s.
func TestNoticesADeadBastion(t *testing.T) {
	cert, pool := certificate(t)
	bubble.Test(t, func(t *testing.T) {
		time.Sleep(time.Until(cert.Leaf.NotBefore.Add(time.Hour))) // the bubble's clock starts in the past
		dialed := make(chan net.Conn, 1)
		c, err := bastion.New(bastion.Options{
			Handler:  echo,
			Bastions: []bastion.Bastion{{Address: "127.0.0.1:443", Key: newKey("backend"), Roots: pool}},
			Dial: func(context.Context, string, string) (net.Conn, error) {
				ours, theirs := net.Pipe()
				select {
				case dialed <- theirs:
					return ours, nil
				default:
					return nil, errors.New("connection refused")
				}
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- c.Run(ctx) }()
		server := tls.Server(<-dialed, &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"bastion/0"}, ClientAuth: tls.RequireAnyClientCert})
		if err := server.Handshake(); err != nil {
			t.Fatal(err)
		}
		// The preface of HTTP/2 and empty settings.
		hello := "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + "\x00\x00\x00\x04\x00\x00\x00\x00\x00"
		go func() { _, _ = io.WriteString(server, hello) }()
		began := time.Now()
		data, err := io.ReadAll(server) // until the client has had enough
		lasted := time.Since(began)
		if lasted < 20*time.Second || lasted > 30*time.Second {
			t.Errorf("it was given up after %v (%v); want 12 s until a ping and 10 s for its answer", lasted, err)
		}
		if ping := "\x00\x00\x08\x06\x00\x00\x00\x00\x00"; strings.Count(string(data), ping) != 1 {
			t.Errorf("no ping was sent in %q", data)
		}
		synctest.Wait()
		s := c.Status()[0]
		if s.Up || s.Connects != 1 || s.Err == nil || !strings.Contains(s.Err.Error(), "answered no ping") {
			t.Errorf("status %+v", s)
		}
		_ = server.Close() // the other side has
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}
