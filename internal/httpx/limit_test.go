package httpx_test

import (
	"fmt"
	"net/http/httptest"
	"testing"
	"time"

	"tallywood/internal/httpx"
)

func TestSender(t *testing.T) {
	for remote, want := range map[string]string{
		"192.0.2.7:1234":             "192.0.2.7/32",
		"192.0.2.7":                  "192.0.2.7/32",
		"[::ffff:192.0.2.7]:1":       "192.0.2.7/32",
		"[2001:db8:1:2:3:4:5:6]:443": "2001:db8:1:2::/64",
		"2001:db8:1:2:ffff::1":       "2001:db8:1:2::/64",
		"[fe80::1%eth0]:1":           "fe80::/64",
	} {
		if got := httpx.Sender(remote); got.String() != want {
			t.Errorf("%s: got %s; want %s", remote, got, want)
		}
	}
	for _, remote := range []string{"", "@", "host:1", "192.0.2.7:x"} {
		if got := httpx.Sender(remote); got.IsValid() {
			t.Errorf("%q: got %s; want none", remote, got)
		}
	}
}

func TestOutsideSenderBelievesLocalProxiesOnly(t *testing.T) {
	for _, tc := range []struct {
		remote    string
		forwarded []string
		want      string // "": a sender of the local network
	}{
		{"192.0.2.7:1", nil, "192.0.2.7/32"},
		{"192.0.2.7:1", []string{"198.51.100.1"}, "192.0.2.7/32"},
		{"127.0.0.1:1", nil, ""},
		{"10.0.0.2:1", nil, ""},
		{"127.0.0.1:1", []string{"198.51.100.1"}, "198.51.100.1/32"},
		{"[::1]:1", []string{"203.0.113.9, 198.51.100.1"}, "198.51.100.1/32"},
		{"10.0.0.2:1", []string{"203.0.113.9", "2001:db8::1"}, "2001:db8::/64"},
		{"127.0.0.1:1", []string{"192.168.1.1"}, ""},
		{"127.0.0.1:1", []string{"198.51.100.1, unknown"}, ""},
	} {
		r := httptest.NewRequest("POST", "/", nil)
		r.RemoteAddr = tc.remote
		r.Header["X-Forwarded-For"] = tc.forwarded
		got := httpx.OutsideSender(r)
		if got.IsValid() != (tc.want != "") || got.IsValid() && got.String() != tc.want {
			t.Errorf("%s for %q: got %s; want %q", tc.remote, tc.forwarded, got, tc.want)
		}
	}
}

func TestLimiterCountsEachSender(t *testing.T) {
	l := httpx.NewLimiter(1, 3)
	a, b, now := httpx.Sender("192.0.2.1:1"), httpx.Sender("192.0.2.2:1"), time.Unix(1_800_000_000, 0)
	for i := range 3 {
		if l.Spent(a, now) || !l.Allow(a, now) {
			t.Fatalf("number %d is refused", i)
		}
	}
	if !l.Spent(a, now) || l.Allow(a, now) {
		t.Error("more than the burst at once")
	}
	if l.Spent(b, now) {
		t.Error("another sender pays")
	}
	if later := now.Add(time.Second); l.Spent(a, later) || !l.Allow(a, later) || l.Allow(a, later) {
		t.Error("not one more after a second")
	}
	l.Charge(b, 2, now)
	if !l.Allow(b, now) || l.Allow(b, now) {
		t.Error("a charge of two leaves not one of three")
	}
	l.Charge(b, 1000, now) // as the burst
	if l.Allow(b, now.Add(3*time.Second)) || !l.Allow(b, now.Add(4*time.Second)) {
		t.Error("a charge beyond what there is does not put off, or for ever")
	}
	if none := httpx.NewLimiter(-1, 0); none.Spent(a, now) || !none.Allow(a, now) {
		t.Error("a negative rate limits")
	}
	for i := range 5000 { // more than are remembered: nobody is refused for that
		if !l.Allow(httpx.Sender(fmt.Sprintf("10.0.%d.%d:1", i/256, i%256)), now) {
			t.Fatalf("sender %d is refused", i)
		}
	}
}
