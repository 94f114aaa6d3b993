package config

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"time"

	"go.yaml.in/yaml/v4"
)

// Limits bound what one client may take of the server, and what may wait. A client is an IPv4 address
// or an IPv6 /64.
type Limits struct {
	// Writes (entries, certificates, timestamps) that one client may send per second; more are
	// answered 429. One that is not acceptable counts as ten, and each 64 KiB of a body as one more.
	// Default: 200.
	RequestsPerSecond float64 `yaml:"requests_per_second,omitempty"`
	// Writes that one client may send at once. Default: ten times requests_per_second.
	Burst int `yaml:"burst,omitempty"`
	// Connections that one client may have open. Default: 1024.
	Connections int `yaml:"connections,omitempty"`
	// Connections that all clients together may have open. Default: 8192.
	AllConnections int `yaml:"all_connections,omitempty"`
	// Networks of the proxies before this server, such as 10.0.0.0/8. A request from there is counted
	// for the last address in its X-Forwarded-For that is none of theirs. Default: none; the header is
	// not believed.
	TrustedProxies []Network `yaml:"trusted_proxies,omitempty"`
	// Networks whose clients no limit per client holds for; [] is nobody. Default: 127.0.0.1 and ::1.
	Exempt []Network `yaml:"exempt"`
	// How long, beyond commit_interval, the entries that a new one would wait behind may have waited to
	// be committed before it is refused with 503. Default: 2s.
	QueueAge Duration `yaml:"queue_age,omitempty"`
}

// maxQueueAge is the longest queue_age: no client waits longer for its answer.
const maxQueueAge = Duration(10 * time.Second)

func (l *Limits) setDefaults() {
	if l.RequestsPerSecond == 0 {
		l.RequestsPerSecond = 200
	}
	if l.Burst == 0 {
		l.Burst = int(math.Ceil(min(10*l.RequestsPerSecond, 1<<30)))
	}
	if l.Connections == 0 {
		l.Connections = 1024
	}
	if l.AllConnections == 0 {
		l.AllConnections = max(8192, l.Connections)
	}
	if l.Exempt == nil {
		l.Exempt = []Network{{netip.MustParsePrefix("127.0.0.1/32")}, {netip.MustParsePrefix("::1/128")}}
	}
	if l.QueueAge == 0 {
		l.QueueAge = Duration(2 * time.Second)
	}
}

func (l *Limits) check() error {
	var errs []error
	bad := func(wrong bool, format string, args ...any) {
		if wrong {
			errs = append(errs, fmt.Errorf("limits: "+format, args...))
		}
	}
	bad(!(l.RequestsPerSecond > 0) || math.IsInf(l.RequestsPerSecond, 0), "requests_per_second %v is not a positive number", l.RequestsPerSecond)
	bad(l.Burst < 1, "burst %d is not a positive number", l.Burst)
	bad(l.Connections < 1, "connections %d is not a positive number", l.Connections)
	bad(l.AllConnections < l.Connections, "all_connections %d is less than connections, %d", l.AllConnections, l.Connections)
	bad(l.QueueAge > maxQueueAge, "queue_age %v is longer than %v, and clients do not wait that long", time.Duration(l.QueueAge), time.Duration(maxQueueAge))
	return errors.Join(errs...)
}

// A Network is a range of addresses: 10.0.0.0/8, 2001:db8::/32, or one address.
type Network struct{ netip.Prefix }

// UnmarshalYAML reads the text form.
func (n *Network) UnmarshalYAML(node *yaml.Node) error {
	if address, err := netip.ParseAddr(node.Value); err == nil && address.Zone() == "" {
		address = address.Unmap()
		n.Prefix = netip.PrefixFrom(address, address.BitLen())
		return nil
	}
	p, err := netip.ParsePrefix(node.Value)
	switch {
	case err != nil || p.Addr().Is4In6():
		return fmt.Errorf("line %d: %q is not a network; want one such as 10.0.0.0/8, 2001:db8::/32 or 192.0.2.7", node.Line, node.Value)
	case p != p.Masked():
		return fmt.Errorf("line %d: %q is an address inside a network; want %s, or the address alone", node.Line, node.Value, p.Masked())
	}
	n.Prefix = p
	return nil
}

// MarshalYAML writes the text form.
func (n Network) MarshalYAML() (any, error) {
	if n.IsSingleIP() {
		return n.Addr().String(), nil
	}
	return n.String(), nil
}
