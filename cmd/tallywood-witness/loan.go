package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"tallywood/witness"
	"tallywood/witness/conformance"
	"tallywood/witness/policy"
)

// A loan is what a self-test and the serving process say to each other over DIR/selftest.sock, which
// only the user of the witness can open: the test sends a loanRequest, a line of JSON, and gets a
// loanAnswer. From then on the logs are cosigned until one of them closes the connection: the test its
// half of it, and then it waits for another loanAnswer.
type loan struct {
	answer loanAnswer
	conn   net.Conn
}

// end gives the logs back, and returns when nothing is left of them.
func (l *loan) end() error {
	defer l.conn.Close()
	half, ok := l.conn.(interface{ CloseWrite() error })
	if !ok {
		return fmt.Errorf("giving throw-away logs back: a %T cannot be closed by half", l.conn)
	}
	var last loanAnswer
	err := errors.Join(l.conn.SetDeadline(time.Now().Add(loanTimeout)), half.CloseWrite())
	if err == nil {
		err = json.NewDecoder(l.conn).Decode(&last)
	}
	if err == nil && last.Error != "" {
		err = errors.New(last.Error)
	}
	if err != nil {
		return fmt.Errorf("giving throw-away logs back: %w", err)
	}
	return nil
}

// A loanRequest names logs that are to be cosigned while the connection lasts.
type loanRequest struct {
	Logs []loanLog `json:"logs"`
}

type loanLog struct {
	Origin string   `json:"origin"`
	VKeys  []string `json:"vkeys"`
}

// A loanAnswer says that they are, or why not.
type loanAnswer struct {
	URL   string   `json:"url,omitempty"`   // where the witness listens; empty if only a name leads there
	VKeys []string `json:"vkeys,omitempty"` // its verifier keys
	Error string   `json:"error,omitempty"`
}

const (
	maxLoan     = 8 << 20 // bytes of a request
	loanTimeout = 30 * time.Second
)

// askForLogs asks the serving process of dir to cosign logs.
func askForLogs(ctx context.Context, dir string, logs *conformance.Logs) (*loan, error) {
	path := shortest(socketPath(dir))
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", path)
	if err != nil {
		return nil, operational("is \"tallywood-witness serve --dir "+dir+"\" running? Its log says why it has no self-test, if it has none",
			fmt.Errorf("asking the witness to cosign throw-away logs: %w", err))
	}
	var r loanRequest
	for _, l := range logs.All() {
		r.Logs = append(r.Logs, loanLog{Origin: l.Origin, VKeys: l.VKeys})
	}
	l := &loan{conn: conn}
	err = errors.Join(conn.SetDeadline(time.Now().Add(loanTimeout)), json.NewEncoder(conn).Encode(r))
	if err == nil {
		err = json.NewDecoder(conn).Decode(&l.answer)
	}
	if err == nil && l.answer.Error != "" {
		err = errors.New(l.answer.Error)
	}
	if err == nil {
		err = conn.SetDeadline(time.Time{})
	}
	if err != nil {
		_ = conn.Close() // nothing is lent
		return nil, operational("", fmt.Errorf("asking the witness to cosign throw-away logs: %w", err))
	}
	return l, nil
}

// A lender lends temporary logs to self-tests.
type lender struct {
	witness *witness.Witness
	url     string // where the witness listens
	vkeys   []string
	log     *slog.Logger
}

// lend has g lend logs to whoever opens the socket in the witness's directory. A witness that cannot be
// tested so serves all the same: what is wrong is logged.
func (s *service) lend(ctx context.Context, g *errgroup.Group, served net.Listener) {
	l := &lender{witness: s.witness, vkeys: s.witness.VKeys(), log: s.log}
	if served != nil && s.pair == nil {
		l.url = "http://" + served.Addr().String()
	}
	path := socketPath(s.dir)
	listener, err := listenSocket(shortest(path))
	if err != nil {
		s.log.Warn("no self-test: cannot listen for one", "key", path, "err", err)
		return
	}
	g.Go(func() error { l.run(ctx, listener); return nil })
}

// run lends logs to whoever connects, until ctx ends.
func (l *lender) run(ctx context.Context, listener net.Listener) {
	defer context.AfterFunc(ctx, func() { _ = listener.Close() })()
	defer listener.Close()
	var all sync.WaitGroup
	defer all.Wait()
	for {
		conn, err := listener.Accept()
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			l.log.Warn("no self-test any more: cannot listen for one", "err", err)
			return
		}
		all.Go(func() {
			defer conn.Close()
			defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
			l.lend(ctx, conn)
		})
	}
}

// lend answers one self-test.
func (l *lender) lend(ctx context.Context, conn net.Conn) {
	_ = conn.SetDeadline(time.Now().Add(loanTimeout)) // else the reads fail
	line, err := readLine(conn)
	var logs []witness.Log
	if err == nil {
		logs, err = parseLoan(line)
	}
	var remove func(context.Context) error
	if err == nil {
		remove, err = l.witness.AddTemporary(ctx, logs)
	}
	answer := loanAnswer{URL: l.url, VKeys: l.vkeys}
	if err != nil {
		answer = loanAnswer{Error: err.Error()}
	}
	if err := json.NewEncoder(conn).Encode(answer); err == nil && remove != nil {
		l.log.Info("self-test begins", "size", len(logs))
		_ = conn.SetDeadline(time.Time{})
		_, _ = io.Copy(io.Discard, conn) // returns when one of us closes it
	}
	if remove == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), loanTimeout)
	defer cancel()
	answer = loanAnswer{}
	if err := remove(ctx); err != nil {
		l.log.Error("ending self-test", "err", err)
		answer.Error = err.Error()
	} else {
		l.log.Info("self-test ended")
	}
	_ = json.NewEncoder(conn).Encode(answer) // who was killed does not hear it
}

// readLine reads up to the first newline.
func readLine(r io.Reader) ([]byte, error) {
	var line bytes.Buffer
	buf := make([]byte, 64<<10)
	for line.Len() <= maxLoan {
		n, err := r.Read(buf)
		if before, _, ok := bytes.Cut(buf[:n], []byte("\n")); ok {
			line.Write(before)
			return line.Bytes(), nil
		}
		line.Write(buf[:n])
		if err != nil {
			return nil, fmt.Errorf("reading request: %w", err)
		}
	}
	return nil, fmt.Errorf("request is larger than %d bytes", maxLoan)
}

// parseLoan parses a loanRequest strictly.
func parseLoan(line []byte) ([]witness.Log, error) {
	var r loanRequest
	dec := json.NewDecoder(bytes.NewReader(line))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&r); err != nil {
		return nil, fmt.Errorf("parsing request: %w", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("parsing request: something follows it")
	}
	var logs []witness.Log
	for _, l := range r.Logs {
		log := witness.Log{Origin: l.Origin, Contact: "self-test"}
		for _, vkey := range l.VKeys {
			key, err := policy.ParseVKey(vkey)
			if err != nil {
				return nil, fmt.Errorf("parsing request: %w", err)
			}
			log.Keys = append(log.Keys, key)
		}
		logs = append(logs, log)
	}
	return logs, nil
}

// listenSocket listens at path for nobody but our own user. A socket that a killed process has left is
// replaced; one that is answered is not.
func listenSocket(path string) (net.Listener, error) {
	if conn, err := net.Dial("unix", path); err == nil {
		_ = conn.Close()
		return nil, errors.New("another process serves this witness")
	} else if errors.Is(err, syscall.ECONNREFUSED) {
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("removing an old socket: %w", err)
		}
	}
	listener, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o600); err != nil {
		_ = listener.Close()
		return nil, fmt.Errorf("setting mode of socket: %w", err)
	}
	return listener, nil
}

// shortest returns path, relative to the working directory if that is shorter: a socket's name has at
// most about a hundred bytes.
func shortest(path string) string {
	wd, err := os.Getwd()
	if err != nil {
		return path
	}
	rel, err := filepath.Rel(wd, path)
	if err != nil || len(rel) >= len(path) {
		return path
	}
	return rel
}
