package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"tallywood/internal/httpx"
	"tallywood/internal/keys"
	"tallywood/internal/tlsfile"
	"tallywood/witness"
	"tallywood/witness/bastion"
)

const serveHelp = `tallywood-witness serve answers the logs it knows. What a flag does not say is in
DIR/config.yaml, which explains its keys.

  --dir DIR            the witness, made by init
  --listen HOST:PORT   address to listen on, for example 127.0.0.1:7380. It speaks plain
                       HTTP: put a proxy with a certificate in front of it, in the same
                       local network, that sets X-Forwarded-For. Without that header nobody
                       is held back who sends too many requests in vain
  --tls-cert FILE      serve HTTPS there, with this certificate (PEM) ...
  --tls-key FILE       ... and its key. They are read again when they change
  --bastion ADDR       be reached through the bastion (c2sp.org/https-bastion) that takes
                       backends at ADDR, HOST or HOST:PORT; may be repeated. Its operator
                       must allow our key's hash, which the status page and the log show.
                       Without a listener (--listen, or listen in config.yaml) no port is
                       open. SIGHUP reads the bastions of config.yaml again
  --logs FILE          logs to cosign, in the witness network's format; may be repeated.
                       It is read again when it changes, or at SIGHUP, and what is
                       new is added. See also "tallywood-witness logs"
  --list URL           a log list of the witness network, read every hour; may be
                       repeated. New logs are added, none is ever removed or changed
  --metrics-address A  serve Prometheus metrics at http://A/metrics; off by default
  --passphrase-file FILE  one line, the passphrase of an encrypted seed; by default systemd's
                       credential tallywood-witness.passphrase, else it is asked for

A file of logs looks like this:

  logs/v0

  vkey log.example.org+1d7dbb14+AR…
  qpd 86400
  contact ops@example.org

vkey is the log's public key, qpd how many requests it may make per day. An origin
line before qpd is needed only if the log's origin is not the name in its key.

When it is serving it prints "ready URL": of its listener, or, without one, of the first
bastion that is connected. The page there shows its keys and logs. Below it:
add-checkpoint, sign-subtree, <origin hash>/checkpoint, evidence/<origin hash>/,
status.json; healthz and readyz are on the listeners. SIGTERM and SIGINT end it when the requests
under way are answered. It ends by itself, with exit code 5, when the disk fails to
make its state durable: start it again when you have looked at that.

A service manager that sets NOTIFY_SOCKET, as systemd does, is told when it serves, at
half of WATCHDOG_USEC that it lives, and when it is about to end.
`

// A stringList is a flag that may be repeated.
type stringList []string

func (l *stringList) String() string     { return fmt.Sprint(*l) }
func (l *stringList) Set(s string) error { *l = append(*l, s); return nil }

// gcPercent is when serve collects garbage: what a witness keeps is little beside what it uses for
// requests, so that it would collect dozens of times a second.
const gcPercent = 200

// tuneRuntime sets what the environment does not. Each update waits for the disk twice, for a tenth of a
// millisecond perhaps; as long as the runtime has not noticed that, the processor it has lent to that
// thread does nothing. With two for each that there is, another signs meanwhile.
func tuneRuntime(getenv func(string) string) {
	if getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	if getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(2 * runtime.GOMAXPROCS(0))
	}
}

// serveFlags are the flags of serve.
type serveFlags struct {
	dir, listen, metrics string
	logs, lists          stringList
	bastions             stringList
	tlsCert, tlsKey      string
	passphrase           string // file
}

func serveCommand(args []string, stdout, stderr io.Writer) error {
	var f serveFlags
	set := flag.NewFlagSet("serve", flag.ContinueOnError)
	set.StringVar(&f.dir, "dir", "", "")
	set.StringVar(&f.listen, "listen", "", "")
	set.StringVar(&f.metrics, "metrics-address", "", "")
	set.Var(&f.logs, "logs", "")
	set.Var(&f.lists, "list", "")
	set.Var(&f.bastions, "bastion", "")
	set.StringVar(&f.tlsCert, "tls-cert", "", "")
	set.StringVar(&f.tlsKey, "tls-key", "", "")
	set.StringVar(&f.passphrase, "passphrase-file", "", "")
	if err := parseFlags(set, args, serveHelp, stdout); err != nil {
		return err
	}
	if f.dir == "" {
		return usageError("for example: tallywood-witness serve --dir ./witness", "serve needs --dir")
	}
	if err := checkAddresses(address{"--listen", f.listen}, address{"--metrics-address", f.metrics}); err != nil {
		return usageError("", "%w", err)
	}
	logger := slog.New(slog.NewTextHandler(stderr, nil))
	s, err := openService(f, logger)
	if err != nil {
		return err
	}
	// Until now nothing was done, and a person or an agent may have been asked for something.
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer func() {
		if ctx.Err() == nil { // else the next signal must not change how the program ends
			stop()
		}
	}()
	return s.serveUntil(ctx, f, stdout)
}

// serveUntil serves until ctx ends. That is no error, even before it could begin.
func (s *service) serveUntil(ctx context.Context, f serveFlags, stdout io.Writer) error {
	err := s.begin(ctx, f, stdout)
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// begin makes sure that it can serve, and does.
func (s *service) begin(ctx context.Context, f serveFlags, stdout io.Writer) (err error) {
	if err := s.checkState(ctx); err != nil {
		return err
	}
	if err := s.openReach(&f); err != nil {
		return err
	}
	if s.manager, err = httpx.NewNotifier(os.Getenv, os.Getpid()); err != nil {
		return usageError("", "%w", err)
	}
	if len(s.witness.Logs()) == 0 && len(s.lists.URLs()) == 0 {
		s.log.Warn("no logs are configured: use --logs, --list or \"tallywood-witness logs add\"")
	}
	tuneRuntime(os.Getenv)
	return s.run(ctx, f, stdout)
}

// A service is a configured witness with where its logs come from.
type service struct {
	witness *witness.Witness
	lists   *witness.Lists
	sources sources
	stamps  map[string]stamp // of the files of sources, when they were last read
	manager httpx.Notifier   // zero: nobody is told
	log     *slog.Logger

	dir       string
	flags     serveFlags // with what the configuration adds
	config    config
	keys      keys.Witness
	pair      *tlsfile.Pair   // of the listener; nil: it speaks plain HTTP
	bastions  *bastion.Client // nil: there can be none
	connected chan string     // gets the URL of a bastion that is connected
}

func openService(f serveFlags, logger *slog.Logger) (*service, error) {
	c, err := readConfig(f.dir)
	if err != nil {
		return nil, err
	}
	o, err := c.options(f.dir, f.passphrase)
	if err != nil {
		return nil, err
	}
	if o.Export == nil {
		logger.Warn("nothing is exported: a restored state and another instance with these keys are noticed only when somebody shows what they signed; set export in " + configFile)
	}
	return newService(f, c, o, logger)
}

// newService makes a service of a configuration and the keys and state that were opened for it.
func newService(f serveFlags, c config, o witness.Options, logger *slog.Logger) (_ *service, err error) {
	s := &service{log: logger, dir: f.dir, config: c, keys: o.Keys}
	o.Via = s.reaches
	if s.sources, err = newSources(f.dir, append(c.Logs, f.logs...)); err != nil {
		return nil, usageError("", "%w", err)
	}
	s.stamps = s.sources.stamps()
	if o.Logs, err = s.sources.readLogs(); err != nil {
		return nil, usageError("the format is shown by: tallywood-witness serve --help", "%w", err)
	}
	if !slices.ContainsFunc(append([]keys.Witness{o.Keys}, o.Rotation...), func(k keys.Witness) bool { return k.Signs(time.Now()) }) {
		logger.Warn("no key of the witness is valid now, so that nothing is signed; see not_before and not_after in " + configFile)
	}
	o.Log = logger
	if s.witness, err = witness.New(o); err != nil {
		return nil, usageError("", "%w", err)
	}
	s.lists, err = witness.NewLists(witness.ListsOptions{Witness: s.witness, URLs: append(c.Lists, f.lists...)})
	if err != nil {
		return nil, usageError("", "%w", err)
	}
	if err := s.remember(); err != nil {
		return nil, err
	}
	return s, nil
}

// checkState refuses state that takes no writes, unless only room is wanting, and that of other keys. Of
// any other it notes that it was begun.
func (s *service) checkState(ctx context.Context) error {
	err := s.witness.CheckState(ctx)
	switch {
	case errors.Is(err, witness.ErrOtherKeys):
		return usageError("the seed or the state is that of another witness; if the keys were replaced, list the old ones in past_keys",
			"checking %s: %w", s.config.State, err)
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT): // it goes on by itself once there is room
		s.log.Error("the disk of the state is full: nothing can be cosigned until it has room", "err", err)
		return nil
	case err != nil:
		return operational("it must belong to the user who serves, on a disk that is not read-only", fmt.Errorf("checking %s: %w", s.config.State, err))
	}
	if err := noteBegun(s.dir); err != nil {
		s.log.Warn("cannot note that the state was begun: if it is lost, a new one will take its place", "err", err)
	}
	return nil
}

// remember makes known what the lists have named before, and what "logs" has written.
func (s *service) remember() error {
	if err := s.lists.Restore(context.Background(), s.sources.lists()...); err != nil {
		return operational("what is remembered of a list can be removed: it is read again, but logs that it has dropped are lost", err)
	}
	if _, err := s.sources.apply(s.witness); err != nil {
		return usageError("", "%w", err)
	}
	return nil
}

// run serves until ctx ends, or the witness can keep no state any more.
func (s *service) run(ctx context.Context, f serveFlags, stdout io.Writer) error {
	var listener, metrics net.Listener
	var err error
	if f.listen != "" {
		if listener, err = net.Listen("tcp", f.listen); err != nil {
			return operational("choose another address with --listen", fmt.Errorf("listening: %w", err))
		}
	}
	if f.metrics != "" {
		if metrics, err = net.Listen("tcp", f.metrics); err != nil {
			if listener != nil {
				_ = listener.Close() // nothing was served on it
			}
			return operational("choose another address with --metrics-address", fmt.Errorf("listening for metrics: %w", err))
		}
	}
	if err := s.manager.Around(ctx, func() error { return s.serve(ctx, listener, metrics, stdout) }); err != nil {
		return operational("", fmt.Errorf("serving: %w", err))
	}
	return nil
}

// serve serves on listener and through the bastions, and its metrics on metrics. Either listener may be
// nil.
func (s *service) serve(ctx context.Context, listener, metrics net.Listener, stdout io.Writer) error {
	g, ctx := errgroup.WithContext(ctx)
	if metrics != nil {
		mux := http.NewServeMux()
		mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, r *http.Request) {
			s.witness.Metrics().ServeHTTP(w, r)
			if s.bastions != nil {
				s.bastions.WriteMetrics(w)
			}
		})
		g.Go(func() error {
			return httpx.Serve(ctx, metrics, s.withHealth(mux), httpx.ServeOptions{Log: s.log, DrainTimeout: time.Second})
		})
	}
	g.Go(func() error { return s.lists.Run(ctx) })
	hup := make(chan os.Signal, 1)
	signal.Notify(hup, syscall.SIGHUP)
	defer signal.Stop(hup)
	g.Go(func() error { s.watch(ctx, hup); return nil })
	s.lend(ctx, g, listener)
	s.serveReach(ctx, g, listener, stdout)
	return g.Wait()
}
