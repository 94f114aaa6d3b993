package main

import (
	"bufio"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/mod/sumdb/tlog"

	"tallywood/internal/faultbucket"
	"tallywood/internal/keys"
	"tallywood/storage/mem"
	"tallywood/witness"
	"tallywood/witness/policy"
)

// The scripts run the command as a process of its own, and beside it these:
//
//	exec testlog vkey NAME            print the vkey of a test log
//	exec testlog request NAME OLD N   print an add-checkpoint request of a tree of N equal entries
//	exec testlog fork NAME OLD N      the same of a tree with other entries
//	exec http METHOD URL [FILE]       send FILE, print the body; fails above 399
//	serve ARG...                      start "tallywood-witness serve ARG...", wait until it is ready,
//	                                  and set $URL
//	hup TEXT                          send SIGHUP to it, and wait until it has logged TEXT
//	logged TEXT                       wait until it has logged TEXT since the last hup or logged
//	terminate                         send SIGTERM to it; it must end well
//	crash                             send SIGKILL to it
//
// Of several servers these speak of the last one started that still runs, and so does $URL.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"tallywood-witness": main,
		"testlog":           func() { os.Exit(testLog(os.Args[1:])) },
		"http":              func() { os.Exit(httpRequest(os.Args[1:])) },
	})
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{Dir: "testdata", RequireExplicitExec: true, Cmds: map[string]func(*testscript.TestScript, bool, []string){
		"serve": serve, "hup": hangUp, "logged": logged, "terminate": terminate, "crash": crash,
	}})
}

// TestScriptsRunToTheirEnd keeps "stop" out of them: it is testscript's own command, which ends a script
// there and calls that a success.
func TestScriptsRunToTheirEnd(t *testing.T) {
	scripts, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(scripts) == 0 {
		t.Fatalf("%d scripts: %v", len(scripts), err)
	}
	for _, path := range scripts {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for i, line := range strings.Split(string(data), "\n") {
			if fields := strings.Fields(line); len(fields) > 0 && fields[0] == "stop" {
				t.Errorf("%s:%d: the script ends here, successfully; to end the server, write terminate", path, i+1)
			}
		}
	}
}

// A process is the server that a script has started.
type process struct {
	cmd *exec.Cmd
	log string // file of its standard error
	at  int    // up to where that was read

	url    string
	before *process // another one that was started before it
}

// processes holds the running server of each script.
var processes sync.Map // of *testscript.TestScript to *process

func serve(ts *testscript.TestScript, neg bool, args []string) {
	binary := filepath.Join(filepath.SplitList(ts.Getenv("PATH"))[0], "tallywood-witness")
	p := &process{cmd: exec.Command(binary, append([]string{"serve"}, args...)...), log: ts.MkAbs("serve.log")}
	if before, ok := processes.Load(ts); ok {
		p.before = before.(*process)
		p.log = ts.MkAbs(fmt.Sprintf("serve-%d.log", time.Now().UnixNano()))
	}
	p.cmd.Dir = ts.MkAbs(".")
	p.cmd.Env = os.Environ()
	for _, name := range []string{"CREDENTIALS_DIRECTORY", "SSH_AUTH_SOCK"} { // what a script may set
		if value := ts.Getenv(name); value != "" {
			p.cmd.Env = append(p.cmd.Env, name+"="+value)
		}
	}
	stderr, err := os.Create(p.log)
	ts.Check(err)
	defer stderr.Close()
	p.cmd.Stderr = stderr
	stdout, err := p.cmd.StdoutPipe()
	ts.Check(err)
	ts.Check(p.cmd.Start())
	ts.Defer(func() { _ = p.cmd.Process.Kill() })
	line, err := bufio.NewReader(stdout).ReadString('\n')
	url, ok := strings.CutPrefix(line, "ready ")
	if err != nil || !ok {
		_ = p.cmd.Wait()
		ts.Fatalf("serve printed %q (%v); its log:\n%s", line, err, ts.ReadFile(p.log))
	}
	p.url = strings.TrimSpace(url)
	ts.Setenv("URL", p.url)
	processes.Store(ts, p)
}

// TestServeEndsWithTheBucket has a disk that fails to make a state durable.
func TestServeEndsWithTheBucket(t *testing.T) {
	k, err := keys.WitnessFromSeed("witness.example.org", sha256.Sum256([]byte("witness")))
	if err != nil {
		t.Fatal(err)
	}
	logs, err := witness.ParseList([]byte(logList("log.example.org")))
	if err != nil {
		t.Fatal(err)
	}
	bucket := faultbucket.New(mem.New())
	bucket.FailWhen(faultbucket.On(faultbucket.Put, "state/"), faultbucket.Broken)
	s := &service{log: slog.New(slog.DiscardHandler)}
	if s.witness, err = witness.New(witness.Options{Keys: k, Bucket: bucket, Logs: logs}); err != nil {
		t.Fatal(err)
	}
	if s.lists, err = witness.NewLists(witness.ListsOptions{Witness: s.witness}); err != nil {
		t.Fatal(err)
	}
	stdout, ready := io.Pipe()
	ended := make(chan error, 1)
	go func() { ended <- s.run(t.Context(), serveFlags{listen: "127.0.0.1:0"}, ready) }()
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	var request strings.Builder
	if err := writeRequest(&request, "log.example.org", logKey("log.example.org"), 0, 5); err != nil {
		t.Fatal(err)
	}
	url := strings.TrimSpace(strings.TrimPrefix(line, "ready "))
	resp, err := http.Post(url+"/add-checkpoint", "text/plain", strings.NewReader(request.String()))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("answered %d", resp.StatusCode)
	}
	var ce *commandError
	if err := <-ended; !errors.As(err, &ce) || ce.code != exitOperational || !errors.Is(err, faultbucket.ErrInjected) {
		t.Errorf("run = %v", err)
	}
}

// TestFloorReadsLists has logs that only a list names.
func TestFloorReadsLists(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "w")
	if code := run([]string{"init", "--dir", dir, "--name", "witness.example.org"}, io.Discard, t.Output()); code != 0 {
		t.Fatal(code)
	}
	list := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, logList("log.example.org"))
	}))
	defer list.Close()
	for origin, want := range map[string]string{
		"log.example.org":   "it is not frozen",
		"other.example.org": "hint: name its list with --list",
	} {
		var stderr strings.Builder
		code := run([]string{"floor", "--dir", dir, "--origin", origin, "--list", list.URL}, io.Discard, &stderr)
		if code != exitRefused || !strings.Contains(stderr.String(), want) {
			t.Errorf("%s: exit %d, %s", origin, code, stderr.String())
		}
	}
}

func logList(name string) string {
	return "logs/v0\nvkey " + logVKey(name) + "\nqpd 86400\ncontact x\n"
}

func logKey(name string) ed25519.PrivateKey {
	seed := sha256.Sum256([]byte(name))
	return ed25519.NewKeyFromSeed(seed[:])
}

func logVKey(name string) string {
	return keys.VKey(name, keys.AlgEd25519, logKey(name).Public().(ed25519.PublicKey))
}

func running(ts *testscript.TestScript) *process {
	p, ok := processes.Load(ts)
	if !ok {
		ts.Fatalf("no server was started")
	}
	return p.(*process)
}

func hangUp(ts *testscript.TestScript, neg bool, args []string) {
	p := running(ts)
	ts.Check(p.cmd.Process.Signal(syscall.SIGHUP))
	logged(ts, neg, args)
}

func logged(ts *testscript.TestScript, _ bool, args []string) {
	p := running(ts)
	for range 3000 {
		text := ts.ReadFile(p.log)[p.at:]
		if i := strings.Index(text, args[0]); i >= 0 {
			p.at += i + len(args[0])
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	ts.Fatalf("the server has not logged %q since:\n%s", args[0], ts.ReadFile(p.log)[p.at:])
}

func terminate(ts *testscript.TestScript, _ bool, _ []string) {
	p := running(ts)
	ts.Check(p.cmd.Process.Signal(syscall.SIGTERM))
	if err := p.cmd.Wait(); err != nil {
		ts.Fatalf("the server ended with %v; its log:\n%s", err, ts.ReadFile(p.log))
	}
	ended(ts, p)
}

func crash(ts *testscript.TestScript, _ bool, _ []string) {
	p := running(ts)
	ts.Check(p.cmd.Process.Kill())
	_ = p.cmd.Wait() // it says that it was killed
	ended(ts, p)
}

// ended makes the server started before p the one that commands speak of.
func ended(ts *testscript.TestScript, p *process) {
	if p.before == nil {
		processes.Delete(ts)
		return
	}
	processes.Store(ts, p.before)
	ts.Setenv("URL", p.before.url)
}

// testLog renders a log of equal entries, whose key follows from its name.
func testLog(args []string) int {
	if args[0] == "vkey" {
		fmt.Println(logVKey(args[1]))
		return 0
	}
	var old, size int64
	if _, err := fmt.Sscan(args[2]+" "+args[3], &old, &size); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	if err := writeTree(os.Stdout, args[1], logKey(args[1]), map[string]string{"request": "entry", "fork": "forged"}[args[0]], old, size); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func writeRequest(out io.Writer, origin string, key ed25519.PrivateKey, old, size int64) error {
	return writeTree(out, origin, key, "entry", old, size)
}

// writeTree writes a request of a tree whose entries are all alike.
func writeTree(out io.Writer, origin string, key ed25519.PrivateKey, entry string, old, size int64) error {
	var hashes []tlog.Hash
	reader := tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		found := make([]tlog.Hash, len(indexes))
		for i, x := range indexes {
			found[i] = hashes[x]
		}
		return found, nil
	})
	for i := range size {
		hs, err := tlog.StoredHashes(i, []byte(entry), reader)
		if err != nil {
			return err
		}
		hashes = append(hashes, hs...)
	}
	root, err := tlog.TreeHash(size, reader)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "old %d\n", old)
	if old > 0 && old < size {
		proof, err := tlog.ProveTree(size, old, reader)
		if err != nil {
			return err
		}
		for _, h := range proof {
			fmt.Fprintln(out, base64.StdEncoding.EncodeToString(h[:]))
		}
	}
	text := policy.Tree{Origin: origin, Size: size, Root: root}.Text()
	id := keys.KeyID(origin, keys.AlgEd25519, key.Public().(ed25519.PublicKey))
	fmt.Fprint(out, "\n", text, "\n", policy.FormatSignature(origin, id, ed25519.Sign(key, []byte(text))))
	return nil
}

// httpRequest is a small curl.
func httpRequest(args []string) int {
	url, body := args[1], io.Reader(nil)
	if len(args) > 2 {
		f, err := os.Open(args[2])
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 2
		}
		body = f
	}
	req, err := http.NewRequest(args[0], url, body)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	defer resp.Body.Close()
	fmt.Fprintln(os.Stderr, resp.Status)
	if _, err := io.Copy(os.Stdout, resp.Body); err != nil || resp.StatusCode >= 400 {
		return 1
	}
	return 0
}
