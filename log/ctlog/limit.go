package ctlog

import (
	"math"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

const maxAddresses = 4096

// limiter bounds the rate of submissions by address: an IPv4 address or an IPv6 /64.
type limiter struct {
	rate rate.Limit

	mu        sync.Mutex
	addresses map[netip.Prefix]*rate.Limiter
}

func newLimiter(perSecond float64) *limiter {
	return &limiter{rate: rate.Limit(perSecond), addresses: map[netip.Prefix]*rate.Limiter{}}
}

// allow reports whether the sender at remote, host:port, may submit once more.
func (l *limiter) allow(remote string, now time.Time) bool {
	if l.rate < 0 {
		return true
	}
	var sender netip.Prefix // all senders without an address are one
	if at, err := netip.ParseAddrPort(remote); err == nil {
		address := at.Addr().Unmap()
		bits := 32
		if address.Is6() {
			bits = 64
		}
		sender, _ = address.Prefix(bits) // both sizes are valid
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	bucket, ok := l.addresses[sender]
	if !ok {
		// Forgetting everyone bounds memory; whoever has that many addresses is not held back
		// by a limit per address anyway.
		if len(l.addresses) >= maxAddresses {
			clear(l.addresses)
		}
		bucket = rate.NewLimiter(l.rate, int(math.Ceil(10*float64(l.rate))))
		l.addresses[sender] = bucket
	}
	return bucket.AllowN(now, 1)
}
