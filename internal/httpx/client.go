package httpx

import (
	"context"
	"net/http"
	"net/netip"
	"strings"
)

// Networks are address ranges.
type Networks []netip.Prefix

// Contains reports whether one of them has the address.
func (n Networks) Contains(address netip.Addr) bool {
	for _, p := range n {
		if p.Contains(address) {
			return true
		}
	}
	return false
}

// Covers reports whether one of them has all of a client's addresses.
func (n Networks) Covers(client netip.Prefix) bool {
	for _, p := range n {
		if client.IsValid() && p.Bits() <= client.Bits() && p.Contains(client.Addr()) {
			return true
		}
	}
	return false
}

// FindClient returns the Sender of a request: its TCP peer, unless that is one of the proxies. Then it
// is whom the proxies speak for, the last address in X-Forwarded-For that is none of theirs. What
// anybody else puts there is not believed.
func FindClient(r *http.Request, proxies Networks) netip.Prefix {
	client := parseAddress(r.RemoteAddr)
	if !proxies.Contains(client) {
		return network(client)
	}
	lines := r.Header.Values("X-Forwarded-For") // all of them are one list
	for i := len(lines) - 1; i >= 0; i-- {
		for rest, more := lines[i], true; more; {
			var last string
			at := strings.LastIndexByte(rest, ',')
			if more = at >= 0; more {
				rest, last = rest[:at], rest[at+1:]
			} else {
				last = rest
			}
			address := parseAddress(strings.TrimSpace(last))
			if !address.IsValid() {
				return network(client) // a proxy passed on what it did not understand
			}
			if client = address; !proxies.Contains(client) {
				return network(client)
			}
		}
	}
	return network(client)
}

type clientKey struct{}

// WithClient returns r with its client known to Client.
func WithClient(r *http.Request, client netip.Prefix) *http.Request {
	return r.WithContext(context.WithValue(r.Context(), clientKey{}, client))
}

// Client returns the client of a request: that of WithClient, else the Sender of its TCP peer.
func Client(r *http.Request) netip.Prefix {
	if client, ok := r.Context().Value(clientKey{}).(netip.Prefix); ok {
		return client
	}
	return Sender(r.RemoteAddr)
}
