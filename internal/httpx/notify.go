package httpx

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"strconv"
	"time"
)

// notifyTimeout bounds the wait for a service manager that does not read what it is told.
const notifyTimeout = 5 * time.Second

// A Notifier tells the service manager that started this process how it is, as sd_notify(3) of
// systemd describes it. The zero Notifier tells nobody.
type Notifier struct {
	socket   string        // the manager's; empty without one
	watchdog time.Duration // within which it wants a sign of life; 0 if it wants none
}

// NewNotifier returns the Notifier for what the manager has left in the environment of process
// pid: NOTIFY_SOCKET, and WATCHDOG_USEC unless WATCHDOG_PID is another process.
func NewNotifier(getenv func(string) string, pid int) (Notifier, error) {
	n := Notifier{socket: getenv("NOTIFY_SOCKET")}
	text, owner := getenv("WATCHDOG_USEC"), getenv("WATCHDOG_PID")
	if n.socket == "" || text == "" || owner != "" && owner != strconv.Itoa(pid) {
		return n, nil
	}
	usec, err := strconv.ParseInt(text, 10, 64)
	if err != nil || usec <= 0 || usec > math.MaxInt64/1000 {
		return n, fmt.Errorf("environment variable WATCHDOG_USEC: %q is not a number of microseconds", text)
	}
	n.watchdog = time.Duration(usec) * time.Microsecond
	return n, nil
}

// Send tells the manager state, a line such as "STATUS=…".
func (n Notifier) Send(state string) (err error) {
	if n.socket == "" {
		return nil
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Net: "unixgram", Name: n.socket}) // @ is an abstract one
	if err == nil {
		_ = conn.SetWriteDeadline(time.Now().Add(notifyTimeout)) // fails on a closed connection only
		_, err = conn.Write([]byte(state))
		err = errors.Join(err, conn.Close())
	}
	if err != nil {
		return fmt.Errorf("telling the service manager %s: %w", state, err)
	}
	return nil
}

// Around calls run, which serves until ctx ends. It says READY=1 before it, WATCHDOG=1 at half of
// the manager's time until run has returned, and STOPPING=1 once ctx has ended.
//
// That the manager cannot be told is an error at the beginning. Later it is none: what serves goes
// on, and a manager that hears nothing acts by itself.
func (n Notifier) Around(ctx context.Context, run func() error) error {
	if err := n.Send("READY=1"); err != nil {
		return err
	}
	returned, end := context.WithCancel(context.WithoutCancel(ctx))
	told := make(chan struct{})
	go func() {
		defer close(told)
		n.keep(ctx, returned)
	}()
	err := run()
	end()
	<-told
	return err
}

// Reloading calls reload, which takes on a changed configuration, and says RELOADING=1 before it and
// READY=1 after it. A manager that cannot be told holds nothing up.
func (n Notifier) Reloading(reload func()) {
	state := "RELOADING=1"
	if usec := monotonic().Microseconds(); usec > 0 {
		state += fmt.Sprintf("\nMONOTONIC_USEC=%d", usec) // tells this reload from an earlier one
	}
	_ = n.Send(state)
	reload()
	_ = n.Send("READY=1")
}

// keep sends what Around promises until returned ends.
func (n Notifier) keep(ctx, returned context.Context) {
	beat := make(<-chan time.Time)
	if n.watchdog > 0 {
		tick := time.NewTicker(max(n.watchdog/2, 1))
		defer tick.Stop()
		beat = tick.C
	}
	stopping := ctx.Done()
	for {
		select {
		case <-stopping:
			_ = n.Send("STOPPING=1")
			stopping = nil
		case <-beat:
			_ = n.Send("WATCHDOG=1")
		case <-returned.Done():
			if stopping != nil && ctx.Err() != nil {
				_ = n.Send("STOPPING=1")
			}
			return
		}
	}
}
