package bastion_test

import (
	"net/http"
	"net/netip"
	"testing"

	"tallywood/witness/bastion"
)

// from returns the RemoteAddr that a handler sees behind a bastion at 198.51.100.1:443.
func from(t testing.TB, forwarded ...string) string {
	t.Helper()
	r := &http.Request{RemoteAddr: "198.51.100.1:443", Header: http.Header{"X-Forwarded-For": forwarded, "Accept": {"x"}}}
	got := bastion.FromClient(r)
	if got.Header["X-Forwarded-For"] != nil || got.Header.Get("Accept") != "x" {
		t.Errorf("the handler sees the header %v", got.Header)
	}
	if r.RemoteAddr != "198.51.100.1:443" {
		t.Error("the request itself was changed")
	}
	return got.RemoteAddr
}

func TestClientIsWhomTheBastionNames(t *testing.T) {
	const own = "198.51.100.1:443"
	for _, tc := range []struct {
		forwarded []string
		want      string
	}{
		{nil, own},
		{[]string{"203.0.113.7"}, "203.0.113.7:0"},
		{[]string{"2001:db8::7"}, "[2001:db8::7]:0"},
		{[]string{"::ffff:203.0.113.7"}, "203.0.113.7:0"},
		{[]string{"192.0.2.1, 203.0.113.7"}, "203.0.113.7:0"}, // a bastion that does not remove what it got
		{[]string{"192.0.2.1", "203.0.113.7"}, "203.0.113.7:0"},
		// No address that a stranger can have: limits that are for strangers must not end there.
		{[]string{"127.0.0.1"}, own},
		{[]string{"10.1.2.3"}, own},
		{[]string{"192.168.1.1"}, own},
		{[]string{"fe80::1%eth0"}, own},
		{[]string{"fd00::1"}, own},
		{[]string{"0.0.0.0"}, own},
		{[]string{"203.0.113.7, 127.0.0.1"}, own},
		{[]string{"203.0.113.7:1234"}, own},
		{[]string{"unknown"}, own},
		{[]string{""}, own},
	} {
		if got := from(t, tc.forwarded...); got != tc.want {
			t.Errorf("%q: %s; want %s", tc.forwarded, got, tc.want)
		}
	}
}

func FuzzClient(f *testing.F) {
	for _, seed := range []string{"203.0.113.7", "2001:db8::7, 10.0.0.1", "::ffff:127.0.0.1", "fe80::1%x", ",", "203.0.113.7,", "\xff"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, forwarded string) {
		got, err := netip.ParseAddrPort(from(t, forwarded))
		if err != nil || got.Addr().IsLoopback() || got.Addr().IsPrivate() || got.Addr().IsLinkLocalUnicast() || got.Addr().IsUnspecified() || got.Addr().Zone() != "" {
			t.Errorf("%q: %v %v", forwarded, got, err)
		}
	})
}
