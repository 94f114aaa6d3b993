// Package loopback finds addresses for servers that tests start as processes of their own, and start
// again where they were. Only tests use this package; whatever can listen on port 0 does.
package loopback

import (
	"math/rand/v2"
	"net"
	"strconv"
	"testing"
)

// The ports that are given out. Systems take those of outgoing connections from higher ones (Linux
// from 32768 on, macOS and Windows from 49152 on), so no connection takes one while its server is away.
const (
	lowest  = 10000
	highest = 32767
)

// Address returns an address of 127.0.0.1 at which nobody listens, and that no other test is given,
// here or in another process, before this one ends.
func Address(t testing.TB) string {
	t.Helper()
	var err error
	for range 1000 {
		port := strconv.Itoa(lowest + rand.IntN(highest-lowest+1))
		// The UDP port of the same number is the sign that the TCP port is taken: nobody uses it.
		var sign net.PacketConn
		if sign, err = net.ListenPacket("udp", net.JoinHostPort("127.0.0.1", port)); err != nil {
			continue
		}
		var ln net.Listener
		if ln, err = net.Listen("tcp", ":"+port); err != nil { // on any address: some servers listen on all
			sign.Close()
			continue
		}
		ln.Close()
		t.Cleanup(func() { sign.Close() })
		return net.JoinHostPort("127.0.0.1", port)
	}
	t.Fatalf("finding a free port: %v", err)
	return ""
}
