package httpx_test

import (
	"net/http/httptest"
	"net/netip"
	"testing"

	"tallywood/internal/httpx"
)

func networks(t *testing.T, texts ...string) httpx.Networks {
	t.Helper()
	var out httpx.Networks
	for _, text := range texts {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, p)
	}
	return out
}

func TestFindClientBelievesTrustedProxiesOnly(t *testing.T) {
	proxies := networks(t, "10.0.0.0/8", "2001:db8:ff::/48", "127.0.0.1/32")
	for _, tc := range []struct {
		name, remote string
		forwarded    []string
		want         string
	}{
		{"a stranger", "192.0.2.7:1", nil, "192.0.2.7/32"},
		{"a stranger who names another", "192.0.2.7:1", []string{"198.51.100.1"}, "192.0.2.7/32"},
		{"a stranger who names a proxy", "192.0.2.7:1", []string{"10.0.0.1"}, "192.0.2.7/32"},
		{"a proxy that names nobody", "10.0.0.2:1", nil, "10.0.0.2/32"},
		{"a proxy", "10.0.0.2:1", []string{"198.51.100.1"}, "198.51.100.1/32"},
		{"a proxy, over IPv6", "[2001:db8:ff::1]:1", []string{"2001:db8:1:2:3:4:5:6"}, "2001:db8:1:2::/64"},
		{"a proxy, mapped", "[::ffff:10.0.0.2]:1", []string{"::ffff:198.51.100.1"}, "198.51.100.1/32"},
		{"what the client made up is left of it", "10.0.0.2:1", []string{"203.0.113.9, 10.0.0.9, 198.51.100.1"}, "198.51.100.1/32"},
		{"in several lines", "10.0.0.2:1", []string{"203.0.113.9", "198.51.100.1", "10.0.0.9"}, "198.51.100.1/32"},
		{"two proxies", "127.0.0.1:1", []string{"198.51.100.1,10.0.0.9 , 10.0.0.8"}, "198.51.100.1/32"},
		{"proxies alone", "127.0.0.1:1", []string{"10.0.0.9, 10.0.0.8"}, "10.0.0.9/32"},
		{"with a port", "10.0.0.2:1", []string{"198.51.100.1:4711"}, "198.51.100.1/32"},
		{"with a port, IPv6", "10.0.0.2:1", []string{"[2001:db8::1]:4711"}, "2001:db8::/64"},
		{"nonsense", "10.0.0.2:1", []string{"198.51.100.1, unknown"}, "10.0.0.2/32"},
		{"nonsense behind a proxy", "10.0.0.2:1", []string{"198.51.100.1, _hidden, 10.0.0.8"}, "10.0.0.8/32"},
		{"an empty name", "10.0.0.2:1", []string{"198.51.100.1,"}, "10.0.0.2/32"},
		{"an empty header", "10.0.0.2:1", []string{""}, "10.0.0.2/32"},
	} {
		r := httptest.NewRequest("POST", "/", nil)
		r.RemoteAddr = tc.remote
		r.Header["X-Forwarded-For"] = tc.forwarded
		if got := httpx.FindClient(r, proxies); got.String() != tc.want {
			t.Errorf("%s: got %s; want %s", tc.name, got, tc.want)
		}
		if got := httpx.FindClient(r, nil); got != httpx.Sender(tc.remote) {
			t.Errorf("%s: without proxies got %s", tc.name, got)
		}
		if got := httpx.Client(r); got != httpx.Sender(tc.remote) {
			t.Errorf("%s: a request nobody looked at is of %s", tc.name, got)
		}
		client := httpx.FindClient(r, proxies)
		if got := httpx.Client(httpx.WithClient(r, client)); got != client {
			t.Errorf("%s: WithClient gives %s", tc.name, got)
		}
	}
}

func TestNetworksCoverWholeClients(t *testing.T) {
	n := networks(t, "192.0.2.0/24", "2001:db8::/48", "2001:db8:1::7/128")
	for remote, want := range map[string]bool{
		"192.0.2.200:1": true, "192.0.3.1:1": false, "[2001:db8::1]:1": true,
		"[2001:db8:1::7]:1": false, // others of its /64 are not covered
		"":                  false,
	} {
		if got := n.Covers(httpx.Sender(remote)); got != want {
			t.Errorf("%q: %v", remote, got)
		}
	}
	if networks(t, "::1/128").Covers(httpx.Sender("[::1]:1")) != true {
		t.Error("::1 is not covered by itself")
	}
}

func FuzzFindClient(f *testing.F) {
	for _, text := range []string{"", "198.51.100.1", "a, b", "198.51.100.1, 10.0.0.9", "[::1]:1,,", "10.0.0.1%eth0"} {
		f.Add(text)
	}
	proxies := httpx.Networks{netip.MustParsePrefix("10.0.0.0/8")}
	f.Fuzz(func(t *testing.T, forwarded string) {
		r := httptest.NewRequest("POST", "/", nil)
		r.RemoteAddr = "10.0.0.2:1"
		r.Header["X-Forwarded-For"] = []string{forwarded}
		if got := httpx.FindClient(r, proxies); !got.IsValid() || got.Bits() != 32 && got.Bits() != 64 {
			t.Errorf("%q: %v", forwarded, got)
		}
	})
}
