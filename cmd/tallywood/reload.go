package main

import (
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/term"

	"tallywood/internal/httpx"
)

// hangups are the SIGHUPs of this process. They ask it to reload, unless the terminal it was started
// from has gone away: then they end it, as if nobody caught them.
type hangups struct {
	c        chan os.Signal
	terminal *os.File // nil without one, and if the signal was ignored, as nohup has it
}

// catchHangups catches the signal from now on.
func catchHangups() *hangups {
	h := &hangups{c: make(chan os.Signal, 1)}
	if !signal.Ignored(syscall.SIGHUP) {
		h.terminal, _ = os.Open("/dev/tty") // fails without one
	}
	signal.Notify(h.c, syscall.SIGHUP)
	return h
}

// close gives the signal back.
func (h *hangups) close() {
	signal.Stop(h.c)
	if h.terminal != nil {
		h.terminal.Close()
	}
}

// gone reports whether the terminal has gone away.
func (h *hangups) gone() bool {
	return h.terminal != nil && !term.IsTerminal(int(h.terminal.Fd()))
}

// serve calls reload at each signal, and end when the terminal is gone, until done is closed. The
// manager and the log are told.
func (h *hangups) serve(done <-chan struct{}, manager httpx.Notifier, log *slog.Logger, reload func() error, end func()) {
	for {
		select {
		case <-h.c:
		case <-done:
			return
		}
		if h.gone() {
			end()
			continue
		}
		manager.Reloading(func() { refused(log, reload()) })
	}
}

// refused tells the log what a reload refused.
func refused(log *slog.Logger, err error) {
	for _, err := range parts(err) {
		log.Error("refused at a reload; the old stays in force", "err", err)
	}
}

// parts returns the errors that err joins, or err alone.
func parts(err error) []error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		return joined.Unwrap()
	}
	if err == nil {
		return nil
	}
	return []error{err}
}
