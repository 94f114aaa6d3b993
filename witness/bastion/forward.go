package bastion

import (
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
)

// forwarded counts requests, and passes them on to h as if their clients had sent them.
func forwarded(h http.Handler, count *atomic.Int64) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		count.Add(1)
		h.ServeHTTP(w, fromClient(r))
	})
}

// fromClient returns r as the client that the bastion names would have sent it: with that one's address
// and without the header that says it.
//
//	> the bastion MUST remove all X-Forwarded-For headers from the request, add a single X-Forwarded-For
//	> header with the IP address of the client
//
// The address of a private network is one of the bastion's network, not of ours, and stands for
// everybody behind some proxy there: such a request remains the bastion's own.
func fromClient(r *http.Request) *http.Request {
	values := r.Header.Values("X-Forwarded-For")
	r = r.WithContext(r.Context())
	r.Header.Del("X-Forwarded-For")
	if len(values) == 0 {
		return r
	}
	last := values[len(values)-1]
	client, err := netip.ParseAddr(strings.TrimSpace(last[strings.LastIndexByte(last, ',')+1:]))
	client = client.Unmap().WithZone("")
	if err == nil && client.IsGlobalUnicast() && !client.IsPrivate() {
		r.RemoteAddr = netip.AddrPortFrom(client, 0).String()
	}
	return r
}
