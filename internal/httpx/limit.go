package httpx

import (
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Sender returns what limits count as one sender: the IPv4 address or the IPv6 /64 of remote, which
// is host:port or an address alone. All senders without an address are one, the zero Prefix.
func Sender(remote string) netip.Prefix { return network(parseAddress(remote)) }

// OutsideSender returns the Sender of a request that comes from outside, and the zero Prefix for
// one of the local network. A peer in the local network is taken for a proxy if it names, last in
// X-Forwarded-For, whom it speaks for; what others put there is not believed.
func OutsideSender(r *http.Request) netip.Prefix {
	address := parseAddress(r.RemoteAddr)
	if local(address) {
		forwarded := strings.Join(r.Header.Values("X-Forwarded-For"), ",")
		address = parseAddress(strings.TrimSpace(forwarded[strings.LastIndex(forwarded, ",")+1:]))
	}
	if local(address) {
		return netip.Prefix{}
	}
	return network(address)
}

// parseAddress returns the zero Addr for what is none.
func parseAddress(s string) netip.Addr {
	at, err := netip.ParseAddrPort(s) // nearly always it is that
	if err == nil {
		return at.Addr().Unmap().WithZone("")
	}
	address, err := netip.ParseAddr(s)
	if err != nil {
		return netip.Addr{}
	}
	return address.Unmap().WithZone("")
}

func network(address netip.Addr) netip.Prefix {
	bits := 32
	switch {
	case address.Is6() && address.IsLoopback():
		bits = 128 // nobody else is in its network
	case address.Is6():
		bits = 64
	}
	sender, _ := address.Prefix(bits) // all sizes are valid; that of no address is the zero Prefix
	return sender
}

// local reports whether an address is none, or one that no stranger has.
func local(address netip.Addr) bool {
	return !address.IsValid() || address.IsLoopback() || address.IsPrivate() || address.IsLinkLocalUnicast()
}

// maxSenders bounds whom a Limiter remembers.
const maxSenders = 4096

// A Limiter bounds a rate by sender. Its methods may be called concurrently.
type Limiter struct {
	rate  rate.Limit
	burst int

	mu      sync.Mutex
	senders map[netip.Prefix]*rate.Limiter
}

// NewLimiter returns a Limiter of so many per second, and burst at once. A negative rate is none.
func NewLimiter(perSecond float64, burst int) *Limiter {
	return &Limiter{rate: rate.Limit(perSecond), burst: burst, senders: map[netip.Prefix]*rate.Limiter{}}
}

// Allow reports whether sender may go on, and counts that.
func (l *Limiter) Allow(sender netip.Prefix, now time.Time) bool {
	return l.rate < 0 || l.sender(sender, now).AllowN(now, 1)
}

// Charge counts n more for sender, who then has to wait longer.
func (l *Limiter) Charge(sender netip.Prefix, n int, now time.Time) {
	if l.rate >= 0 && n > 0 {
		l.sender(sender, now).ReserveN(now, min(n, l.burst))
	}
}

// Reserve counts n for sender, which is at most the burst, and returns how long to wait before what
// comes next.
func (l *Limiter) Reserve(sender netip.Prefix, n int, now time.Time) time.Duration {
	if l.rate < 0 {
		return 0
	}
	return l.sender(sender, now).ReserveN(now, min(n, l.burst)).DelayFrom(now)
}

// Spent reports whether Allow would refuse.
func (l *Limiter) Spent(sender netip.Prefix, now time.Time) bool {
	return l.rate >= 0 && l.sender(sender, now).TokensAt(now) < 1
}

func (l *Limiter) sender(sender netip.Prefix, now time.Time) *rate.Limiter {
	l.mu.Lock()
	defer l.mu.Unlock()
	bucket, ok := l.senders[sender]
	if !ok {
		if len(l.senders) >= maxSenders {
			l.forget(now)
		}
		bucket = rate.NewLimiter(l.rate, l.burst)
		l.senders[sender] = bucket
	}
	return bucket
}

// forget drops those who have not sent for a while, which changes nothing for them, and everyone if
// that leaves too many: whoever has that many addresses is not held back by a limit per address.
func (l *Limiter) forget(now time.Time) {
	for sender, bucket := range l.senders {
		if bucket.TokensAt(now) >= float64(l.burst) {
			delete(l.senders, sender)
		}
	}
	if len(l.senders) > maxSenders/2 {
		clear(l.senders)
	}
}
