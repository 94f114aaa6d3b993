package bench

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// MonitorOptions say what to measure on a log that MakeMonitorLog made.
type MonitorOptions struct {
	Dir     string   // of the log
	Program []string // the tallywood program, and what it needs to be it

	// Peer, if set, is a simple command of the shell that is measured instead. It is told by the environment:
	// LOG_URL, LOG_ORIGIN, LOG_VKEY, LOG_DIR; and prints "found NAME at INDEX" lines.
	Peer string
}

// A MonitorResult is what it took a monitor to read a log once, and what it told.
type MonitorResult struct {
	Program  string  `json:"program"`
	Entries  int64   `json:"entries"`
	User     float64 `json:"user_seconds"`
	System   float64 `json:"system_seconds"`
	RSS      int64   `json:"peak_rss_bytes"` // resident memory
	Seconds  float64 `json:"seconds"`
	Requests int64   `json:"requests"`
	Bytes    int64   `json:"bytes"` // of the answers' bodies

	Found      int     `json:"found"` // planted entries that it was to tell of, and did
	Missed     []int64 `json:"missed,omitempty"`
	Doubled    []int64 `json:"doubled,omitempty"`
	Unexpected []int64 `json:"unexpected,omitempty"` // entries of which there was nothing to tell
}

// Monitor serves the log of a directory, has a process of its own follow it from its first entry to
// its last, and compares what that told with what was planted. A monitor that does not tell exactly
// that is a *MonitorError; the result is valid with it.
func Monitor(ctx context.Context, o MonitorOptions) (MonitorResult, error) {
	m, err := readMonitorLog(o.Dir)
	if err != nil {
		return MonitorResult{}, err
	}
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return MonitorResult{}, fmt.Errorf("locating log: %w", err)
	}
	work, err := os.MkdirTemp("", "tallywood-bench-monitor-")
	if err != nil {
		return MonitorResult{}, fmt.Errorf("making a directory for the monitor: %w", err)
	}
	defer os.RemoveAll(work)
	s, err := serveFiles(filepath.Join(dir, logDir))
	if err != nil {
		return MonitorResult{}, err
	}
	defer s.close()
	r := MonitorResult{Program: "tallywood monitor check", Entries: m.Size}
	var told []int64
	if o.Peer != "" {
		r.Program = o.Peer
		cmd := exec.CommandContext(ctx, "sh", "-c", "exec "+o.Peer)
		cmd.Env = append(os.Environ(), "LOG_URL="+s.url, "LOG_ORIGIN="+m.Origin, "LOG_VKEY="+m.VKey, "LOG_DIR="+dir)
		var out bytes.Buffer
		cmd.Stdout = &out
		err = r.run(ctx, cmd, 0)
		told = foundLines(out.Bytes())
	} else {
		config := filepath.Join(work, "monitor.yaml")
		if err := os.WriteFile(config, []byte(m.config(dir, s.url)), 0o600); err != nil {
			return MonitorResult{}, fmt.Errorf("configuring monitor: %w", err)
		}
		args := append(slices.Clone(o.Program[1:]), "monitor", "check", "--config", config)
		if err = r.run(ctx, exec.CommandContext(ctx, o.Program[0], args...), 3); err == nil {
			told, err = eventLines(filepath.Join(work, "events.jsonl"))
		}
	}
	if err != nil {
		return r, err
	}
	r.Requests, r.Bytes = s.requests.Load(), s.bytes.Load()
	return r, r.compare(m, told)
}

// config is the configuration of a monitor of the log in dir, which is served at a URL.
func (m MonitorLog) config(dir, url string) string {
	identities, err := os.ReadFile(filepath.Join(dir, identitiesFile))
	if err != nil {
		identities = fmt.Appendf(nil, "# %v\n", err) // so that the monitor refuses it
	}
	return fmt.Sprintf(`state: ./state
logs:
  - {origin: %q, url: %q, kind: %s, vkey: %q, policy: %q, start: 0, end: %s}
cas: %q
notify:
  all: {jsonl: events.jsonl}
%s`, m.Origin, url, m.Kind, m.VKey, filepath.Join(dir, policyFile), m.End.Format(time.RFC3339),
		filepath.Join(dir, authorityFile), identities)
}

// outlive is how long processes that a monitor has started may hold its output when it has ended.
const outlive = 5 * time.Second

// run runs cmd, which ends with ctx and else with 0 or another code, and measures it.
func (r *MonitorResult) run(ctx context.Context, cmd *exec.Cmd, code int) error {
	var errs bytes.Buffer
	cmd.Stderr, cmd.WaitDelay = &errs, outlive
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("starting monitor: %w", err)
	}
	stop := watchPeak(cmd.Process.Pid)
	err := cmd.Wait()
	if ctx.Err() != nil {
		stop()
		return context.Cause(ctx) // that it was killed, or has ended as it was told to, too
	}
	r.Seconds, r.RSS = time.Since(began).Seconds(), stop()
	r.User, r.System = cmd.ProcessState.UserTime().Seconds(), cmd.ProcessState.SystemTime().Seconds()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok && exit.ExitCode() == code {
		err = nil
	}
	if err != nil {
		if said := bytes.TrimSpace(errs.Bytes()); len(said) > 0 {
			err = fmt.Errorf("%w: %s", err, said)
		}
		return fmt.Errorf("running monitor: %w", err)
	}
	return nil
}

// watchPeak looks at the peak of a process's resident memory until the function it returns is called.
// What the kernel tells at the process's end is no use: it begins with the memory of whoever started it.
func watchPeak(pid int) (stop func() int64) {
	const interval = 10 * time.Millisecond
	var peak int64
	var watching sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background())
	watching.Go(func() {
		for ok := true; ok; ok = wait(ctx, interval) {
			if status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid)); err == nil {
				peak = max(peak, counter(status, "VmHWM:")<<10)
			}
		}
	})
	return func() int64 {
		cancel()
		watching.Wait()
		return peak
	}
}

// eventLines returns the indexes of the entries that the events in a file are about.
func eventLines(path string) ([]int64, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading events: %w", err)
	}
	defer f.Close()
	var told []int64
	for dec := json.NewDecoder(bufio.NewReader(f)); ; {
		var e struct{ Index int64 }
		switch err := dec.Decode(&e); {
		case errors.Is(err, io.EOF):
			return told, nil
		case err != nil:
			return nil, fmt.Errorf("reading events: %w", err)
		}
		told = append(told, e.Index)
	}
}

var foundLine = regexp.MustCompile(`(?m)^found .* at ([0-9]+)$`)

// foundLines returns the indexes in what a peer printed.
func foundLines(out []byte) []int64 {
	var told []int64
	for _, match := range foundLine.FindAllSubmatch(out, -1) {
		if n, err := strconv.ParseInt(string(match[1]), 10, 64); err == nil {
			told = append(told, n)
		}
	}
	return told
}

// compare notes how what was told differs from what was planted.
func (r *MonitorResult) compare(m MonitorLog, told []int64) error {
	slices.Sort(told)
	times := map[int64]int{}
	for _, i := range told {
		if times[i]++; times[i] == 2 {
			r.Doubled = append(r.Doubled, i)
		}
		if times[i] == 1 && !slices.Contains(m.Loud, i) {
			r.Unexpected = append(r.Unexpected, i)
		}
	}
	for _, i := range m.Loud {
		if times[i] == 0 {
			r.Missed = append(r.Missed, i)
		} else {
			r.Found++
		}
	}
	if len(r.Missed)+len(r.Doubled)+len(r.Unexpected) > 0 {
		return &MonitorError{Planted: len(m.Loud), Result: *r}
	}
	return nil
}

// A MonitorError reports a monitor that told of other entries than those that were planted.
type MonitorError struct {
	Planted int // entries of which there is something to tell
	Result  MonitorResult
}

// Error says how many entries of which kind there were, and which the first ones are.
func (e *MonitorError) Error() string {
	text := fmt.Sprintf("of %d planted entries the monitor", e.Planted)
	for _, kind := range []struct {
		what    string
		indexes []int64
	}{{"missed", e.Result.Missed}, {"told twice of", e.Result.Doubled}, {"told also of the others", e.Result.Unexpected}} {
		if n := len(kind.indexes); n > 0 {
			text += fmt.Sprintf(" %s %d (%v)", kind.what, n, kind.indexes[:min(n, 8)])
		}
	}
	return text
}

// String is a report of a few lines.
func (r MonitorResult) String() string {
	var b strings.Builder
	cpu := r.User + r.System
	fmt.Fprintf(&b, "%s\n", r.Program)
	fmt.Fprintf(&b, "  %d entries: %.2f CPU s (user %.2f, system %.2f), %.2f s, %.0f MB at most\n", r.Entries, cpu, r.User, r.System, r.Seconds, float64(r.RSS)/1e6)
	fmt.Fprintf(&b, "  %.0f entries/s, %.0f per CPU s; %d requests, %.0f MB\n", float64(r.Entries)/r.Seconds, float64(r.Entries)/cpu, r.Requests, float64(r.Bytes)/1e6)
	fmt.Fprintf(&b, "  planted entries: %d found, %d missed, %d doubled; %d others\n", r.Found, len(r.Missed), len(r.Doubled), len(r.Unexpected))
	return b.String()
}

// A fileServer serves the files of a directory on a loopback address, and counts.
type fileServer struct {
	url             string
	requests, bytes atomic.Int64

	server *http.Server
	served chan struct{}
}

func serveFiles(dir string) (*fileServer, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("serving log: %w", err)
	}
	s := &fileServer{url: "http://" + l.Addr().String(), served: make(chan struct{})}
	files := http.FileServer(http.Dir(dir))
	s.server = &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.requests.Add(1)
		files.ServeHTTP(&countedBody{w, &s.bytes}, r)
	})}
	go func() {
		defer close(s.served)
		s.server.Serve(l) // until close
	}()
	return s, nil
}

func (s *fileServer) close() {
	s.server.Close()
	<-s.served
}

// countedBody counts the bytes of a body.
type countedBody struct {
	http.ResponseWriter
	n *atomic.Int64
}

func (c *countedBody) Write(p []byte) (int, error) {
	n, err := c.ResponseWriter.Write(p)
	c.n.Add(int64(n))
	return n, err
}
