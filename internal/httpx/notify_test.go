package httpx_test

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"tallywood/internal/httpx"
)

// A manager is a service manager that keeps what it is told.
type manager struct {
	conn *net.UnixConn
	name string
}

func newManager(t *testing.T, name string) *manager {
	t.Helper()
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Net: "unixgram", Name: name})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &manager{conn, name}
}

// next returns what it is told next.
func (m *manager) next(t *testing.T) string {
	t.Helper()
	if err := m.conn.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 4096)
	k, err := m.conn.Read(b)
	if err != nil {
		t.Fatalf("waiting for a notification: %v", err)
	}
	return string(b[:k])
}

func environment(pairs ...string) func(string) string {
	return func(name string) string {
		for i := 0; i < len(pairs); i += 2 {
			if pairs[i] == name {
				return pairs[i+1]
			}
		}
		return ""
	}
}

func TestNotifierTellsTheWholeLife(t *testing.T) {
	m := newManager(t, filepath.Join(t.TempDir(), "notify"))
	n, err := httpx.NewNotifier(environment("NOTIFY_SOCKET", m.name, "WATCHDOG_USEC", "2000", "WATCHDOG_PID", "17"), 17)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	returned := make(chan error, 1)
	drained, served := make(chan struct{}), errors.New("served")
	go func() {
		returned <- n.Around(ctx, func() error { <-ctx.Done(); <-drained; return served })
	}()
	for _, want := range []string{"READY=1", "WATCHDOG=1", "WATCHDOG=1"} {
		if got := m.next(t); got != want {
			t.Fatalf("told %q; want %q", got, want)
		}
	}
	cancel()
	for got := m.next(t); got != "STOPPING=1"; got = m.next(t) {
		if got != "WATCHDOG=1" {
			t.Fatalf("told %q; want STOPPING=1", got)
		}
	}
	if got := m.next(t); got != "WATCHDOG=1" { // a drain may take longer than the watchdog's time
		t.Errorf("told %q while it drains; want WATCHDOG=1", got)
	}
	close(drained)
	if err := <-returned; !errors.Is(err, served) {
		t.Errorf("Around returned %v; want what it called returned", err)
	}
}

// TestNotifierSaysStoppingBeforeTheEnd has nothing to drain, and an abstract socket.
func TestNotifierSaysStoppingBeforeTheEnd(t *testing.T) {
	m := newManager(t, "@"+t.TempDir())
	n, err := httpx.NewNotifier(environment("NOTIFY_SOCKET", m.name), 17)
	if err != nil {
		t.Fatal(err)
	}
	for range 50 {
		ctx, cancel := context.WithCancel(t.Context())
		if err := n.Around(ctx, func() error { cancel(); return nil }); err != nil {
			t.Fatal(err)
		}
		if ready, stopping := m.next(t), m.next(t); ready != "READY=1" || stopping != "STOPPING=1" {
			t.Fatalf("told %q, %q", ready, stopping)
		}
	}
}

func TestNotifierTellsOfAReload(t *testing.T) {
	m := newManager(t, filepath.Join(t.TempDir(), "notify"))
	n, err := httpx.NewNotifier(environment("NOTIFY_SOCKET", m.name), 17)
	if err != nil {
		t.Fatal(err)
	}
	var last int64
	for range 2 {
		called := make(chan struct{})
		n.Reloading(func() { close(called) })
		<-called
		state, stamp, _ := strings.Cut(m.next(t), "\nMONOTONIC_USEC=")
		usec, err := strconv.ParseInt(stamp, 10, 64)
		if state != "RELOADING=1" || runtime.GOOS == "linux" && (err != nil || usec <= last) {
			t.Errorf("told %q at %q, after %d", state, stamp, last)
		}
		last = usec
		if state := m.next(t); state != "READY=1" {
			t.Errorf("told %q after it", state)
		}
	}
	// It is the time since the machine's start: later than any process's own.
	if up, err := os.ReadFile("/proc/uptime"); runtime.GOOS == "linux" && err == nil {
		seconds, err := strconv.ParseFloat(strings.Fields(string(up))[0], 64)
		if err != nil || float64(last)/1e6 > seconds+1 {
			t.Errorf("%d µs is later than %q, the time since the start", last, up)
		}
	}
}

func TestNotifierWithoutManagerIsSilent(t *testing.T) {
	for name, getenv := range map[string]func(string) string{
		"no manager":         environment(),
		"no socket":          environment("WATCHDOG_USEC", "1"),
		"zero value":         nil,
		"not a number there": environment("WATCHDOG_USEC", "soon"),
	} {
		var n httpx.Notifier
		if getenv != nil {
			var err error
			if n, err = httpx.NewNotifier(getenv, 17); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		called := false
		if err := n.Around(t.Context(), func() error { called = true; return nil }); err != nil || !called {
			t.Errorf("%s: Around = %v, called %v", name, err, called)
		}
	}
}

func TestNotifierRefuses(t *testing.T) {
	for _, usec := range []string{"soon", "0", "-1", "9223372036854775807", "1s"} {
		if _, err := httpx.NewNotifier(environment("NOTIFY_SOCKET", "/x", "WATCHDOG_USEC", usec), 17); err == nil {
			t.Errorf("WATCHDOG_USEC=%s was taken", usec)
		}
	}
	if _, err := httpx.NewNotifier(environment("NOTIFY_SOCKET", "/x", "WATCHDOG_USEC", "0", "WATCHDOG_PID", "18"), 17); err != nil {
		t.Errorf("a watchdog of another process: %v", err)
	}
	n, err := httpx.NewNotifier(environment("NOTIFY_SOCKET", filepath.Join(t.TempDir(), "none")), 17)
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Around(t.Context(), func() error { t.Error("it was served"); return nil }); err == nil {
		t.Error("a manager that cannot be told is no error")
	}
}
