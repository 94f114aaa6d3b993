package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestServeMayBeEndedBeforeItServes and starts the next time.
func TestServeMayBeEndedBeforeItServes(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "witness")
	if err := initCommand([]string{"--dir", dir, "--name", "witness.example.org"}, io.Discard); err != nil {
		t.Fatal(err)
	}
	f := serveFlags{dir: dir, listen: "127.0.0.1:0"}
	for _, begun := range []bool{false, true, false} {
		s, err := openService(f, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		if !begun {
			cancel()
		}
		var printed strings.Builder
		err = s.serveUntil(ctx, f, writerFunc(func(p []byte) (int, error) {
			cancel()
			return printed.Write(p)
		}))
		if err != nil || begun != strings.HasPrefix(printed.String(), "ready ") {
			t.Errorf("begun %v: it printed %q and ended with %v", begun, &printed, err)
		}
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// TestInterruptedPassphraseLeavesTheTerminalAsItWas: what is typed afterwards is seen again.
func TestInterruptedPassphraseLeavesTheTerminalAsItWas(t *testing.T) {
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer master.Close() // ends the read that nobody waits for
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	// It stays open to the end of the tests: whoever reads a passphrase holds on to its number.
	fd, err := syscall.Open(fmt.Sprintf("/dev/pts/%d", n), syscall.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	echoes := func() bool {
		t.Helper()
		state, err := unix.IoctlGetTermios(fd, unix.TCGETS)
		if err != nil {
			t.Fatal(err)
		}
		return state.Lflag&unix.ECHO != 0
	}
	if !echoes() {
		t.Fatal("a new terminal does not echo")
	}
	stop, ended := make(chan os.Signal, 1), make(chan error, 1)
	go func() {
		_, err := askPassphrase(fd, io.Discard, "Passphrase", stop)
		ended <- err
	}()
	for echoes() {
		select {
		case err := <-ended:
			t.Fatalf("it asked for nothing and ended with %v", err)
		case <-time.After(time.Millisecond):
		}
	}
	stop <- syscall.SIGINT
	if err := <-ended; err == nil || !strings.Contains(err.Error(), "reading passphrase: interrupted") {
		t.Errorf("it ended with %v", err)
	}
	if !echoes() {
		t.Error("the terminal does not echo any more")
	}
}
