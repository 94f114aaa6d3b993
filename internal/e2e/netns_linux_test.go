package e2e_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// A testNetwork is hosts in network namespaces of their own on one bridge, which is in the namespace
// of the hub. Nothing in it has a way out.
type testNetwork struct {
	hub   string
	hosts []*testHost
}

// A testHost is one namespace.
type testHost struct {
	hub, name string
	port      string // of the bridge
	address   string
}

// hubAddress is the hub's address on the bridge.
const hubAddress = "192.0.2.254"

// newTestNetwork makes n hosts, with the addresses 192.0.2.1 and so on, which end with the test.
func newTestNetwork(t *testing.T, n int) *testNetwork {
	t.Helper()
	prefix := "tw-" + strings.ToLower(rand.Text()[:8]) // what a test before left behind has another
	net := &testNetwork{hub: prefix + "-hub"}
	addNamespace(t, net.hub)
	ip(t, "-n", net.hub, "link", "add", "br0", "type", "bridge")
	ip(t, "-n", net.hub, "addr", "add", hubAddress+"/24", "dev", "br0")
	ip(t, "-n", net.hub, "link", "set", "br0", "up")
	for i := 1; i <= n; i++ {
		h := &testHost{hub: net.hub, name: fmt.Sprintf("%s-w%d", prefix, i), port: fmt.Sprintf("p%d", i), address: fmt.Sprintf("192.0.2.%d", i)}
		addNamespace(t, h.name)
		ip(t, "-n", net.hub, "link", "add", h.port, "type", "veth", "peer", "name", "eth0", "netns", h.name)
		ip(t, "-n", net.hub, "link", "set", h.port, "master", "br0", "up")
		ip(t, "-n", h.name, "addr", "add", h.address+"/24", "dev", "eth0")
		ip(t, "-n", h.name, "link", "set", "eth0", "up")
		net.hosts = append(net.hosts, h)
	}
	return net
}

func addNamespace(t *testing.T, name string) {
	t.Helper()
	if out, err := exec.Command("ip", "netns", "add", name).CombinedOutput(); err != nil {
		t.Fatalf("this machine cannot make network namespaces, which the test needs (root, and iproute2): ip netns add: %v\n%s", err, out)
	}
	t.Cleanup(func() { ip(t, "netns", "del", name) })
	ip(t, "-n", name, "link", "set", "lo", "up")
}

// ip runs a command of iproute2.
func ip(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		t.Fatalf("ip %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// unplug takes the host off the bridge: what is sent to it and by it is lost.
func (h *testHost) unplug(t *testing.T) {
	t.Helper()
	ip(t, "-n", h.hub, "link", "set", h.port, "down")
}

// plug puts it back.
func (h *testHost) plug(t *testing.T) {
	t.Helper()
	ip(t, "-n", h.hub, "link", "set", h.port, "up")
}

// mute has what the host sends to the hub lost, while it still gets what the hub sends.
func (h *testHost) mute(t *testing.T) {
	t.Helper()
	ip(t, "-n", h.name, "route", "add", "blackhole", hubAddress+"/32")
}

// unmute ends that.
func (h *testHost) unmute(t *testing.T) {
	t.Helper()
	ip(t, "-n", h.name, "route", "del", "blackhole", hubAddress+"/32")
}

// inNamespace runs f on a thread in the namespace. Sockets and processes that f makes stay there.
func inNamespace(name string, f func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		ns, err := os.Open("/run/netns/" + name)
		if err != nil {
			done <- err
			return
		}
		defer ns.Close()
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			done <- fmt.Errorf("entering network namespace %s: %w", name, err)
			return
		}
		done <- f()
	}()
	return <-done
}

// dialIn returns a dialer that connects from a namespace.
func dialIn(name string) func(ctx context.Context, network, address string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (conn net.Conn, err error) {
		err = inNamespace(name, func() (err error) {
			conn, err = new(net.Dialer).DialContext(ctx, network, address)
			return err
		})
		return conn, err
	}
}

// listenIn listens in a namespace.
func listenIn(t *testing.T, name, address string) net.Listener {
	t.Helper()
	var ln net.Listener
	if err := inNamespace(name, func() (err error) {
		ln, err = net.Listen("tcp", address)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return ln
}

// startIn is start in a namespace.
func startIn(t *testing.T, name string, args ...string) *process {
	t.Helper()
	var p *process
	if err := inNamespace(name, func() (err error) {
		p, err = tryStart(0, args...)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.stop(t) })
	return p
}
