package alert

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"tallywood/monitor"
)

const (
	hookTimeout = 20 * time.Second // less than the outbox waits
	hookGrace   = 2 * time.Second  // for output after the end, of what it has started
	hookOutput  = 4 << 10          // bytes of output that are kept
)

// inherited are the variables of our environment that a hook gets too.
var inherited = []string{"PATH", "HOME", "USER", "TMPDIR", "LANG", "LC_ALL", "TZ"}

// ExecOptions configure an Exec.
type ExecOptions struct {
	// Command is a program, by its absolute path, and its arguments. No shell looks at them.
	Command []string
	// Timeout is how long it may take; 0: 20 seconds, which is also the most.
	Timeout time.Duration
	// Env names further variables of our environment that it gets.
	Env []string
	// LookupEnv reads our environment; nil: os.LookupEnv.
	LookupEnv func(string) (string, bool)
}

// Exec runs a program for each event: the event is its standard input, as JSON, and in its
// environment. Exit code 0 takes the event; with any other, or none in time, it will be run again.
// It may run several times at once, for events of several logs.
type Exec struct {
	o     ExecOptions
	env   []string
	grace time.Duration // hookGrace
}

var _ monitor.Sink = (*Exec)(nil)

// OpenExec checks o.
func OpenExec(o ExecOptions) (*Exec, error) {
	var errs []error
	if o.Timeout == 0 {
		o.Timeout = hookTimeout
	}
	if o.Timeout < 0 || o.Timeout > hookTimeout {
		errs = append(errs, fmt.Errorf("timeout %s is not one of up to %s", o.Timeout, hookTimeout))
	}
	switch {
	case len(o.Command) == 0:
		errs = append(errs, errors.New("no command to run"))
	case !filepath.IsAbs(o.Command[0]):
		errs = append(errs, fmt.Errorf("command %q is no absolute path; no shell and no PATH are used", o.Command[0]))
	default:
		_, err := exec.LookPath(o.Command[0])
		errs = append(errs, err)
	}
	if o.LookupEnv == nil {
		o.LookupEnv = os.LookupEnv
	}
	x := &Exec{o: o, grace: hookGrace}
	for _, name := range inherited {
		if value, ok := o.LookupEnv(name); ok {
			x.env = append(x.env, name+"="+value)
		}
	}
	for _, name := range o.Env {
		value, ok := o.LookupEnv(name)
		switch {
		case strings.HasPrefix(name, "TALLYWOOD_"):
			errs = append(errs, fmt.Errorf("variable %s: those that begin with TALLYWOOD_ are the event's", name))
		case !ok:
			errs = append(errs, fmt.Errorf("variable %s is not set", name))
		}
		x.env = append(x.env, name+"="+value)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return x, nil
}

// Send implements monitor.Sink.
func (x *Exec) Send(ctx context.Context, e monitor.Event) error {
	running, cancel := context.WithTimeout(ctx, x.o.Timeout)
	defer cancel()
	input, err := encode(e)
	if err != nil {
		return err
	}
	output := &tailBuffer{most: hookOutput}
	cmd := exec.CommandContext(running, x.o.Command[0], x.o.Command[1:]...)
	cmd.Env = slices.Concat(x.env, hookEnv(e))
	cmd.Dir = filepath.Dir(x.o.Command[0])
	cmd.Stdin = bytes.NewReader(input)
	cmd.Stdout, cmd.Stderr = output, output
	cmd.WaitDelay = x.grace
	ownGroup(cmd)
	err = cmd.Run()
	if err == nil || errors.Is(err, exec.ErrWaitDelay) { // it ended well, and somebody has its output still open
		return nil
	}
	switch {
	case ctx.Err() != nil:
		err = ctx.Err()
	case running.Err() != nil:
		err = fmt.Errorf("killed after %s", x.o.Timeout)
	}
	err = fmt.Errorf("running %s for event %s: %w", x.o.Command[0], e.ID, err)
	if said := oneLine(strings.TrimSpace(output.String())); said != "" {
		err = fmt.Errorf("%w: %s", err, said)
	}
	return hide(err, x.secrets()...)
}

// secrets are the values of the variables that were asked for: an output may repeat them.
func (x *Exec) secrets() []string {
	var values []string
	for _, name := range x.o.Env {
		value, _ := x.o.LookupEnv(name)
		values = append(values, value)
	}
	return values
}

// hookEnv returns the event as variables. All of them are always there.
func hookEnv(e monitor.Event) []string {
	vars := map[string]string{
		"ID": e.ID, "TIME": e.Time.UTC().Format(time.RFC3339), "RULE": string(e.Rule), "SEVERITY": e.Severity.String(),
		"IDENTITY": e.Identity, "ORIGIN": e.Origin, "INDEX": "", "SIZE": fmt.Sprint(e.Size),
		"SUMMARY": e.Summary, "EVIDENCE": e.Evidence, "SUBJECT": e.Subject, "ISSUER": e.Issuer,
		"EXPECTED": strings.Join(e.Expected, " "), "DIGEST": e.Digest, "CERTIFICATE": e.Certificate,
		"RUN_URL": e.RunURL, "LOG_URL": e.LogURL, "PAGE": e.Page, "COUNT": "1", "TEST": "",
	}
	if e.Index != monitor.NoIndex {
		vars["INDEX"] = fmt.Sprint(e.Index)
	}
	if e.Count > 0 {
		vars["COUNT"] = fmt.Sprint(e.Count)
	}
	if e.Test {
		vars["TEST"] = "1"
	}
	var env []string
	for _, name := range slices.Sorted(maps.Keys(vars)) {
		env = append(env, "TALLYWOOD_"+name+"="+clip(8<<10, oneLine(vars[name])))
	}
	return env
}

// A tailBuffer keeps the end of what is written.
type tailBuffer struct {
	most int
	data []byte
}

// Write implements io.Writer.
func (b *tailBuffer) Write(p []byte) (int, error) {
	b.data = append(b.data, p...)
	if n := len(b.data) - b.most; n > 0 {
		b.data = append(b.data[:0], b.data[n:]...)
	}
	return len(p), nil
}

// String returns what was kept.
func (b *tailBuffer) String() string { return strings.ToValidUTF8(string(b.data), "\ufffd") }
