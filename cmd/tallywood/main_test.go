package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	catrust "tallywood/ca/trust"
	"tallywood/internal/loopback"
	"tallywood/internal/sign"
	"tallywood/log/verify"
)

// The scripts run the command as a process of its own, and beside it these:
//
//	exits CODE tallywood ARG...   run it; it must end with exactly CODE
//	answer TEXT CODE ARG...       the same for "tallywood ARG..." with TEXT and LF on its standard input
//	start ARG...                  start "tallywood ARG..." (up or serve), wait until it is ready, and
//	                              set $URL, $ISSUER and, if there is one, $TRUST (the CLIENT_DIR)
//	terminate                     send SIGTERM and SIGINT to it; it must end well
//	hangup [REGEXP]               send SIGHUP to it, which must live on, and wait until its log has a new
//	                              line like that
//	fetch URL                     print what is there; fails unless the status is 200
//	published LOG SIZE            wait until its log of that name shows SIZE entries, which is soon after a
//	                              receipt for the last of them
//
// $ADDRESS is where a server is that is started again: a port of the system's choice may be somebody
// else's by then.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"tallywood": main})
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{Dir: "testdata", RequireExplicitExec: true,
		Setup: func(e *testscript.Env) error {
			e.Setenv("HOME", e.WorkDir) // what a person agreed to is remembered there
			e.Setenv("ADDRESS", loopback.Address(t))
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits, "answer": answer, "start": start, "terminate": terminate, "hangup": hangup, "fetch": fetch,
			"published": published,
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

func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 || args[1] != "tallywood" {
		ts.Fatalf("usage: exits CODE tallywood ARG...")
	}
	wantCode(ts, args[0], ts.Exec(args[1], args[2:]...))
}

func answer(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 {
		ts.Fatalf("usage: answer TEXT CODE ARG...")
	}
	cmd := program(ts, args[2:])
	var out bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(args[0]+"\n"), &out, &out
	err := cmd.Run()
	ts.Logf("%s", out.String())
	_, werr := ts.Stdout().Write(out.Bytes())
	ts.Check(werr)
	wantCode(ts, args[1], err)
}

// wantCode checks that err, which a program ended with, means the exit code want.
func wantCode(ts *testscript.TestScript, want string, err error) {
	code := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		code = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if strconv.Itoa(code) != want {
		ts.Fatalf("exit code %d; want %s", code, want)
	}
}

// program is tallywood with args in the script's directory and environment.
func program(ts *testscript.TestScript, args []string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(filepath.SplitList(ts.Getenv("PATH"))[0], "tallywood"), args...)
	cmd.Dir = ts.MkAbs(".")
	cmd.Env = []string{"HOME=" + ts.Getenv("HOME"), "PATH=" + ts.Getenv("PATH")}
	return cmd
}

// running holds the server that each script has started.
var running sync.Map // of *testscript.TestScript to *exec.Cmd

func start(ts *testscript.TestScript, _ bool, args []string) {
	cmd := program(ts, args)
	stderr, err := os.Create(ts.MkAbs("server.log"))
	ts.Check(err)
	defer stderr.Close()
	cmd.Stderr = stderr
	stdout, err := cmd.StdoutPipe()
	ts.Check(err)
	ts.Check(cmd.Start())
	ts.Defer(func() { // it may have ended by itself, or by terminate
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // else it might still write where the script was
	})
	line, err := bufio.NewReader(stdout).ReadString('\n')
	words := strings.SplitN(strings.TrimSpace(line), " ", 3)
	if err != nil || words[0] != "ready" || len(words) < 2 {
		_ = cmd.Wait()
		ts.Fatalf("the server printed %q (%v); its log:\n%s", line, err, ts.ReadFile("server.log"))
	}
	ts.Setenv("URL", words[1])
	ts.Setenv("ISSUER", words[1]+"/dev/oidc")
	if len(words) == 3 {
		ts.Setenv("TRUST", words[2])
	}
	go func() { _, _ = io.Copy(io.Discard, stdout) }()
	running.Store(ts, cmd)
}

func terminate(ts *testscript.TestScript, _ bool, _ []string) {
	cmd, ok := running.LoadAndDelete(ts)
	if !ok {
		ts.Fatalf("no server was started")
	}
	// Who is in a hurry says it twice: that must not change how it ends.
	ts.Check(cmd.(*exec.Cmd).Process.Signal(syscall.SIGTERM))
	if err := cmd.(*exec.Cmd).Process.Signal(syscall.SIGINT); !errors.Is(err, os.ErrProcessDone) {
		ts.Check(err)
	}
	if err := cmd.(*exec.Cmd).Wait(); err != nil {
		ts.Fatalf("the server ended with %v; its log:\n%s", err, ts.ReadFile("server.log"))
	}
}

func hangup(ts *testscript.TestScript, neg bool, args []string) {
	cmd, ok := running.Load(ts)
	if neg || len(args) > 1 || !ok {
		ts.Fatalf("usage: hangup [REGEXP], after start")
	}
	before := len(ts.ReadFile("server.log"))
	ts.Check(cmd.(*exec.Cmd).Process.Signal(syscall.SIGHUP))
	if len(args) == 0 {
		return
	}
	want := regexp.MustCompile(args[0])
	for deadline := time.Now().Add(time.Minute); !want.MatchString(ts.ReadFile("server.log")[before:]); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			ts.Fatalf("the log of the server has no %q; it is:\n%s", args[0], ts.ReadFile("server.log"))
		}
	}
}

func fetch(ts *testscript.TestScript, neg bool, args []string) {
	resp, err := http.Get(args[0])
	ts.Check(err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	ts.Check(err)
	_, err = ts.Stdout().Write(body)
	ts.Check(err)
	if (resp.StatusCode == http.StatusOK) == neg {
		ts.Fatalf("%s: %s\n%s", args[0], resp.Status, body)
	}
}

func published(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: published LOG SIZE")
	}
	shown := ""
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		resp, err := http.Get(ts.Getenv("URL") + "/logs/" + args[0] + "/checkpoint")
		ts.Check(err)
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		ts.Check(err)
		if shown = string(body); strings.Contains(shown, "\n"+args[1]+"\n") {
			return
		}
	}
	ts.Fatalf("log %s does not come to %s entries; it shows:\n%s", args[0], args[1], shown)
}

// TestEveryCommandExplainsItself looks at each help as a reader does.
func TestEveryCommandExplainsItself(t *testing.T) {
	all := commands()
	for _, c := range commands() {
		all = append(all, c.subs...)
	}
	for _, c := range all {
		var out, errw bytes.Buffer
		if code := run(append(strings.Fields(c.name), "--help"), strings.NewReader(""), &out, &errw); code != exitFine || errw.Len() > 0 {
			t.Errorf("%s --help: exit code %d, standard error %q", c.name, code, errw.String())
		}
		help := out.String()
		if !strings.HasPrefix(help, "Usage: tallywood "+c.name+" ") || len(c.short) > 60 || strings.HasSuffix(c.short, ".") {
			t.Errorf("%s: the first line of help, or its line in the list, reads badly:\n%s\n%s", c.name, c.short, help)
		}
		for line := range strings.Lines(help) {
			if len(line) > 101 || strings.TrimRight(line, " \n") != strings.TrimRight(line, "\n") {
				t.Errorf("%s --help: a line is too long or ends with a space: %q", c.name, line)
			}
		}
		fs := flag.NewFlagSet(c.name, flag.ContinueOnError)
		fs.SetOutput(io.Discard)
		if err := c.run(t.Context(), terminal{in: strings.NewReader(""), out: io.Discard, err: io.Discard}, fs, []string{"--help"}); !errors.Is(err, flag.ErrHelp) {
			t.Errorf("%s --help: %v", c.name, err)
		}
		fs.VisitAll(func(f *flag.Flag) {
			kind, text := flag.UnquoteUsage(f)
			if _, isSwitch := f.Value.(interface{ IsBoolFlag() bool }); !isSwitch && kind != strings.ToUpper(kind) {
				t.Errorf("%s --%s: its value is called %q; want a name in capitals", c.name, f.Name, kind)
			}
			if len(text) < 8 || strings.ToLower(f.Name) != f.Name {
				t.Errorf("%s --%s: %q explains too little", c.name, f.Name, text)
			}
		})
		var again bytes.Buffer
		if run(append([]string{"help"}, strings.Fields(c.name)...), strings.NewReader(""), &again, io.Discard) != exitFine || again.String() != help {
			t.Errorf("\"help %s\" prints something else than \"%s --help\"", c.name, c.name)
		}
	}
}

func TestErrorsCannotDriveTheTerminal(t *testing.T) {
	var out bytes.Buffer
	report(&out, errors.New("media type \x1b[2Jverified\r\xff\u009b, want another\nline"))
	if want := "tallywood: error: media type ?[2Jverified???, want another\n    line\n"; out.String() != want {
		t.Errorf("got  %q\nwant %q", out.String(), want)
	}
}

func TestVerifyErrorsSayWhatWouldHelp(t *testing.T) {
	refusal := func(err error) error { return &verify.Error{Check: verify.CheckBundle, Err: err} }
	for name, c := range map[string]struct {
		err  error
		code int
		hint string
	}{
		"managed key":       {refusal(verify.ErrManagedKey), exitNegative, "--key FILE"},
		"Rekor v1":          {refusal(verify.ErrUnwitnessed), exitNegative, "--policy none"},
		"anything else":     {refusal(errors.New("x")), exitNegative, ""},
		"mistyped artifact": {usagef("opening artifact: x"), exitUsage, ""},
	} {
		e, ok := errors.AsType[*exitError](verifyError("f", c.err))
		if !ok || e.code != c.code || !strings.Contains(e.hint, c.hint) || (c.hint == "") != (e.hint == "") {
			t.Errorf("%s: got %+v", name, e)
		}
	}
}

func TestSignErrorsSayWhoseFaultItIs(t *testing.T) {
	service := func(status int) error {
		return fmt.Errorf("adding log entry: %w", &sign.ServiceError{Service: "log", URL: "http://x", Status: status})
	}
	for name, c := range map[string]struct {
		err  error
		want int
	}{
		"answers that do not verify": {fmt.Errorf("verifying bundle: %w", &verify.Error{}), exitNegative},
		"another key's certificate":  {errors.New("the certificate is of another key"), exitNegative},
		"refused":                    {service(400), exitNegative},
		"not implemented":            {service(501), exitNegative},
		"no quorum to the end":       {service(503), exitOperational},
		"too many requests":          {service(429), exitOperational},
		"unreachable":                {fmt.Errorf("log: %w", &url.Error{Op: "Post", URL: "http://x", Err: io.EOF}), exitOperational},
		"cut short":                  {fmt.Errorf("reading answer: %w", io.ErrUnexpectedEOF), exitOperational},
		"interrupted":                {context.Canceled, exitOperational},
		"nobody logged in":           {fmt.Errorf("logging in: %w", sign.ErrNoLogin), exitOperational},
		"expired token":              {&sign.InputError{Err: errors.New("it expired")}, exitUsage},
	} {
		e, ok := errors.AsType[*exitError](signError(c.err, "hint"))
		if !ok || e.code != c.want || (e.hint != "") != (c.want == exitUsage) {
			t.Errorf("%s: got %+v; want code %d, and a hint for input only", name, e, c.want)
		}
	}
}

func TestSignRefusesAnExpiredTokenAsInput(t *testing.T) {
	claims := base64.RawURLEncoding.EncodeToString([]byte(`{"sub":"x","exp":1}`))
	config, err := catrust.SigningConfig{CAURL: "https://x", RekorURL: "https://x", TSAURL: "https://x/tsa", Operator: "x",
		Start: time.Unix(0, 0)}.JSON()
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = sign.Sign(t.Context(), sign.Options{Artifact: strings.NewReader(""), Token: "e30." + claims + ".x",
		SigningConfig: config, NoPolicy: true})
	if e, ok := errors.AsType[*exitError](signError(err, "")); !ok || e.code != exitUsage || !strings.Contains(err.Error(), "expired") {
		t.Errorf("got %v", err)
	}
}
