package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"tallywood/internal/config"
	"tallywood/internal/httpx"
	"tallywood/internal/stack"
)

func upCommand() command {
	return command{name: "up", args: "[FLAGS]",
		short: "start a whole stack for development in this process",
		long: `
Starts everything a signature needs on this machine: a login, a certificate authority, a log of
certificates, a log of signatures, a timestamp authority, three witnesses and a monitor.

The first start writes keys and configuration into the data directory; later ones go on with
them as they are. When clients may begin, the line "ready URL CLIENT_DIR" appears on the
standard output, and after it a command that signs a file and one that verifies it.

This is for development: the login believes anything, and witnesses in one process are not
independent. It listens on loopback addresses only. Ctrl-C ends it. When config.yaml
changes, and at SIGHUP, it reads its files again, as "tallywood serve" does.`,
		serves: true, run: up}
}

// defaultAddress is where a new stack listens.
const defaultAddress = "127.0.0.1:8080"

func up(ctx context.Context, t terminal, fs *flag.FlagSet, args []string) error {
	var watch list
	data := fs.String("data", "./tallywood-data", "`DIR` for keys, configuration and logs")
	address := fs.String("address", "", "`HOST:PORT` to listen on; port 0 picks a free one\n(default: what the configuration says, at the first start "+defaultAddress+")")
	metrics := fs.String("metrics-address", "", "`HOST:PORT` to serve Prometheus metrics on (default: none)")
	verbose := fs.Bool("verbose", false, "log what happens, not only what goes wrong")
	fs.Var(&watch, "watch", "`EMAIL` address to raise events for; may be given several times")
	if _, err := parse(fs, args, 0, 0); err != nil {
		return err
	}
	level := slog.LevelWarn
	if *verbose {
		level = slog.LevelInfo
	}
	for _, w := range watch {
		if !strings.Contains(w, "@") || strings.ContainsAny(w, " \t\n\"") {
			return usagef("--watch %q is not a mail address", w)
		}
	}
	cfg, ln, err := prepareUp(t, *data, *address, watch)
	if err != nil {
		return err
	}
	if *metrics != "" {
		cfg.MetricsAddress = *metrics
	}
	reread := func() (*config.Config, error) {
		c, err := config.Load(filepath.Join(*data, "config.yaml"))
		if err == nil && *metrics != "" {
			c.MetricsAddress = *metrics
		}
		return c, err
	}
	return serveStack(ctx, stack.Options{Config: cfg, Watch: watch, Dev: true, Log: logger(t.err, level, false), Reread: reread}, ln, httpx.Notifier{},
		func(st started) {
			if len(st.changed) > 0 && *address != "" {
				fmt.Fprintf(t.err, "tallywood: wrote %s in %s for %s\n", strings.Join(st.changed, ", "), cfg.ClientDir, cfg.URL)
			}
			if st.metrics != "" {
				fmt.Fprintf(t.err, "tallywood: metrics at http://%s/metrics\n", st.metrics)
			}
			printReady(t, cfg)
		})
}

// prepareUp opens the listener and makes the data directory's files fit its address. address is
// empty for what they say.
func prepareUp(t terminal, data, address string, watch []string) (*config.Config, net.Listener, error) {
	dir, err := filepath.Abs(data)
	if err != nil {
		return nil, nil, fmt.Errorf("locating data directory: %w", err)
	}
	known, err := stack.IsDev(dir)
	if err != nil {
		return nil, nil, hinted(exitUsage, err, "choose another --data directory; this one was left as it is")
	}
	var cfg *config.Config
	if known {
		if cfg, err = loadDev(t, dir); err != nil {
			return nil, nil, err
		}
	}
	ln, err := listenLoopback(listenAddress(cfg, address))
	if err != nil {
		return nil, nil, err
	}
	if cfg, err = adoptAddress(t, dir, cfg, address, ln.Addr().String(), watch); err != nil {
		return nil, nil, errors.Join(err, ln.Close())
	}
	return cfg, ln, nil
}

// loadDev loads the configuration of a data directory, after it has finished a move of it that
// was cut short.
func loadDev(t terminal, dir string) (*config.Config, error) {
	path := filepath.Join(dir, "config.yaml")
	cfg, err := config.Load(path)
	if err != nil {
		return nil, usagef("%w", err)
	}
	from, to, err := stack.ResumeMove(dir, cfg)
	if err != nil {
		return nil, openError(err)
	}
	if to == "" {
		return cfg, nil
	}
	fmt.Fprintf(t.err, "tallywood: finished a move from %s to %s that was cut short\n", from, to)
	if cfg, err = config.Load(path); err != nil {
		return nil, usagef("%w", err)
	}
	return cfg, nil
}

// listenAddress is where to listen: as asked for, else where the configuration says.
func listenAddress(cfg *config.Config, address string) string {
	switch {
	case address != "":
		return address
	case cfg != nil:
		return cfg.Address
	}
	return defaultAddress
}

// adoptAddress creates the stack's files for the address that is listened on, or moves them there
// if another one than theirs was asked for, or theirs leaves the port open. Otherwise they stay as
// they are: "localhost" is listened on by number, and is a name all the same.
func adoptAddress(t terminal, dir string, cfg *config.Config, asked, address string, watch []string) (*config.Config, error) {
	path := filepath.Join(dir, "config.yaml")
	switch {
	case cfg == nil:
		if err := stack.CreateDev(dir, address, watch); err != nil {
			return nil, openError(err)
		}
	case cfg.Address == address, !anyPort(cfg.Address) && (asked == "" || asked == cfg.Address):
		return cfg, nil
	default:
		moved, err := stack.MoveDev(dir, cfg, address)
		if err != nil {
			return nil, openError(err)
		}
		fmt.Fprintf(t.err, "tallywood: moved from %s to %s in %s\n", cfg.Address, address, strings.Join(moved, ", "))
	}
	cfg, err := config.Load(path)
	if err != nil {
		return nil, usagef("%w", err)
	}
	return cfg, nil
}

// anyPort reports whether a listen address leaves the port open.
func anyPort(address string) bool {
	_, port, err := net.SplitHostPort(address)
	return err == nil && port == "0"
}

// listenLoopback listens on a loopback address and on no other.
func listenLoopback(address string) (net.Listener, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, usagef("--address %q is not HOST:PORT", address)
	}
	if !config.Loopback(host) {
		return nil, hinted(exitUsage, fmt.Errorf("--address %s is not a loopback address: the development login gives anyone who can reach it any identity", address),
			"\"tallywood serve\" runs a stack for others to use")
	}
	return listen(address, "--address HOST:PORT chooses another; port 0 picks a free one")
}

// listen listens on address; hint says what to do when it is taken.
func listen(address, hint string) (net.Listener, error) {
	ln, err := net.Listen("tcp", address)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, hinted(exitOperational, err, "another program listens there, perhaps an earlier \"tallywood up\"; "+hint)
	} else if err != nil {
		return nil, usagef("%w", err)
	}
	return ln, nil
}

// printReady prints the ready line and two commands to paste into a shell.
func printReady(t terminal, cfg *config.Config) {
	fmt.Fprintf(t.out, "ready %s %s\n", cfg.URL, cfg.ClientDir)
	if cfg.DevOIDC == nil || cfg.CA == nil {
		return
	}
	self, issuer, dir := selfCommand(), cfg.URL+cfg.DevOIDC.Path, quote(cfg.ClientDir)
	fmt.Fprintf(t.out, "echo 'hello, tally' > hello.txt && %s sign hello.txt --yes --trust %s --identity-token '%s/token?email=you@example.com'\n", self, dir, issuer)
	fmt.Fprintf(t.out, "%s verify hello.txt --bundle hello.txt.sigstore.json --trust %s --certificate-identity you@example.com --certificate-oidc-issuer %s\n", self, dir, issuer)
	fmt.Fprintf(t.out, "# %s shows what is going on. For development only: the login believes anything, and\n# three witnesses in one process are not independent.\n", cfg.URL)
}

// selfCommand is how this program can be called again from a shell.
func selfCommand() string {
	self, err := os.Executable()
	if err != nil {
		return "tallywood"
	}
	if strings.Contains(self, string(filepath.Separator)+"go-build") {
		return "go run ./cmd/tallywood"
	}
	if found, err := exec.LookPath("tallywood"); err == nil {
		if same, err := filepath.EvalSymlinks(found); err == nil && same == self {
			return "tallywood"
		}
	}
	return quote(self)
}

// quote makes s one word of a POSIX shell.
func quote(s string) string {
	if s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("/._-+:@,%=", r))
	}) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
