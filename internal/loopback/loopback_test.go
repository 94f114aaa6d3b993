package loopback_test

import (
	"net"
	"strconv"
	"testing"

	"tallywood/internal/loopback"
)

// TestAddressesAreGivenOnce takes more addresses than chance would keep apart, and looks at what is said
// of each.
func TestAddressesAreGivenOnce(t *testing.T) {
	seen := map[string]bool{}
	for range 500 {
		address := loopback.Address(t)
		if seen[address] {
			t.Fatalf("%s was given twice", address)
		}
		seen[address] = true
		_, port, err := net.SplitHostPort(address)
		if n, atoi := strconv.Atoi(port); err != nil || atoi != nil || n < 10000 || n >= 32768 {
			t.Errorf("got %s", address)
		}
		ln, err := net.Listen("tcp", address)
		if err != nil {
			t.Errorf("somebody listens: %v", err)
			continue
		}
		ln.Close()
	}
}

// TestAddressesAreGivenAgainLater, when the test that had them is over.
func TestAddressesAreGivenAgainLater(t *testing.T) {
	var address string
	t.Run("first", func(t *testing.T) {
		address = loopback.Address(t)
		if sign, err := net.ListenPacket("udp", address); err == nil {
			sign.Close()
			t.Errorf("nothing shows that %s is taken", address)
		}
	})
	sign, err := net.ListenPacket("udp", address)
	if err != nil {
		t.Fatalf("%s is still taken: %v", address, err)
	}
	sign.Close()
}
