package alert_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"tallywood/monitor"
	"tallywood/monitor/alert"
	"tallywood/monitor/rule"
)

// script writes a shell program for a hook to run.
func script(t *testing.T, text string) string {
	t.Helper()
	return program(t, "#!/bin/sh\n"+text)
}

// program writes a program. While the file is open for writing no process may begin: it would have the
// file open as well until it is another program, and nobody can run a file that is (ETXTBSY).
func program(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "hook")
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	if err := os.WriteFile(path, []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

func openExec(t *testing.T, o alert.ExecOptions) *alert.Exec {
	t.Helper()
	x, err := alert.OpenExec(o)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

func TestExecGetsTheEvent(t *testing.T) {
	t.Parallel()
	hook := script(t, `cat > stdin.json; env | sort > env; printf '%s\n' "$@" > args; echo whatever >&2`)
	environment := map[string]string{"PATH": os.Getenv("PATH"), "PAGER_KEY": "pager-secret", "AWS_SECRET_ACCESS_KEY": "not for hooks"}
	x := openExec(t, alert.ExecOptions{Command: []string{hook, "$(touch injected)", "two words"}, Env: []string{"PAGER_KEY"},
		LookupEnv: func(name string) (string, bool) { v, ok := environment[name]; return v, ok }})
	e := alarm(5)
	e.Subject, e.Summary = "line\nTALLYWOOD_RULE=other; $(touch injected) \x00", "`touch injected`"
	if err := x.Send(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	read := func(name string) string {
		data, err := os.ReadFile(filepath.Join(filepath.Dir(hook), name))
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	var got monitor.Event
	if err := json.Unmarshal([]byte(read("stdin.json")), &got); err != nil || got.ID != e.ID || got.Subject != e.Subject {
		t.Errorf("input %+v, %v", got, err)
	}
	env := read("env")
	for _, want := range []string{"TALLYWOOD_ID=" + e.ID, "TALLYWOOD_RULE=id.unexpected-issuer", "TALLYWOOD_SEVERITY=critical",
		"TALLYWOOD_IDENTITY=tool releases", "TALLYWOOD_ORIGIN=log.localhost", "TALLYWOOD_INDEX=5", "TALLYWOOD_SIZE=6", "TALLYWOOD_COUNT=1",
		"TALLYWOOD_TEST=", "TALLYWOOD_TIME=1970-01-01T00:00:01Z", "TALLYWOOD_EVIDENCE=evidence/x", "TALLYWOOD_SUMMARY=`touch injected`",
		"TALLYWOOD_SUBJECT=line TALLYWOOD_RULE=other; $(touch injected) \ufffd", "PAGER_KEY=pager-secret"} {
		if !strings.Contains("\n"+env, "\n"+want+"\n") {
			t.Errorf("no %q in the environment:\n%s", want, env)
		}
	}
	if strings.Contains(env, "AWS_SECRET") {
		t.Errorf("environment:\n%s", env)
	}
	if got := read("args"); got != "$(touch injected)\ntwo words\n" {
		t.Errorf("arguments %q", got)
	}
	if _, err := os.Stat(filepath.Join(filepath.Dir(hook), "injected")); err == nil {
		t.Error("a shell has read an argument or a variable")
	}
}

func TestExecThatFails(t *testing.T) {
	t.Parallel()
	environment := func(name string) (string, bool) {
		return map[string]string{"PATH": os.Getenv("PATH"), "KEY": "hook-secret"}[name], true
	}
	for name, c := range map[string]struct{ text, want string }{
		"exit code":          {"exit 75", "exit status 75"},
		"says why":           {"echo not today; echo really >&2; exit 1", "exit status 1: not today really"},
		"says its secret":    {"echo the key is $KEY; exit 1", "the key is (secret)"},
		"says far too much":  {"yes | head -c 1000000; echo the end; exit 3", "the end"},
		"reads nothing":      {"exec <&-; exit 4", "exit status 4"},
		"killed":             {"kill -9 $$", "killed"},
		"escapes in output":  {`printf '\033[31mred'; exit 1`, "exit status 1: \ufffd[31mred"},
		"not an interpreter": {"", "hook"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			hook := script(t, c.text)
			if c.text == "" {
				hook = program(t, "#!/no/such/shell\n")
			}
			err := openExec(t, alert.ExecOptions{Command: []string{hook}, Env: []string{"KEY"}, LookupEnv: environment}).Send(t.Context(), event(1))
			if err == nil || !strings.Contains(err.Error(), c.want) || len(err.Error()) > 6000 || strings.Contains(err.Error(), "hook-secret") {
				t.Errorf("error %v, want %q", err, c.want)
			}
		})
	}
}

func TestExecThatHangs(t *testing.T) {
	t.Parallel()
	x := openExec(t, alert.ExecOptions{Command: []string{script(t, "sleep 1000")}, Timeout: 50 * time.Millisecond})
	if err := x.Send(t.Context(), event(1)); err == nil || !strings.Contains(err.Error(), "killed after 50ms") {
		t.Errorf("error %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := x.Send(ctx, event(1)); err == nil {
		t.Error("taken after the end")
	}
}

// TestExecIsKilledWithItsChildren ends a hook whose child holds its output open.
func TestExecIsKilledWithItsChildren(t *testing.T) {
	t.Parallel()
	hook := script(t, "sleep 1000 & echo $! > new; mv new child; sleep 1000")
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	x := openExec(t, alert.ExecOptions{Command: []string{hook}})
	go func() { ended <- x.Send(ctx, event(1)) }()
	child := 0
	wait(t, "child", func() bool {
		data, err := os.ReadFile(filepath.Join(filepath.Dir(hook), "child"))
		if err == nil {
			child, err = strconv.Atoi(strings.TrimSpace(string(data)))
		}
		return err == nil
	})
	cancel()
	if err := <-ended; err == nil {
		t.Error("taken")
	}
	wait(t, "the end of the child", func() bool { return !running(child) })
}

// TestExecLeavesItsChildren has a hook end well whose child holds its output open: it has taken the event.
func TestExecLeavesItsChildren(t *testing.T) {
	t.Parallel()
	hook := script(t, "sleep 1000 & echo $! > child; exit $1")
	end := func() {
		data, err := os.ReadFile(filepath.Join(filepath.Dir(hook), "child"))
		if err != nil {
			t.Fatal(err)
		}
		child, err := strconv.Atoi(strings.TrimSpace(string(data)))
		if err != nil || !running(child) {
			t.Fatalf("child %q: %v", data, err)
		}
		if err := syscall.Kill(child, syscall.SIGKILL); err != nil {
			t.Error(err)
		}
	}
	for code, want := range map[string]string{"0": "", "3": "exit status 3"} {
		x := openExec(t, alert.ExecOptions{Command: []string{hook, code}})
		alert.SetGrace(x, 50*time.Millisecond)
		err := x.Send(t.Context(), event(1))
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("exit code %s: %v", code, err)
		}
		end()
	}
}

// wait polls until it is so.
func wait(t *testing.T, what string, is func() bool) {
	t.Helper()
	for begin := time.Now(); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Since(begin) > time.Minute {
			t.Fatalf("no %s", what)
		}
	}
}

// running reports whether a process runs; one that waits to be reaped by init does not.
func running(pid int) bool {
	if syscall.Kill(pid, 0) != nil {
		return false
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || !strings.Contains(string(stat), ") Z ")
}

func TestExecOptionsAreChecked(t *testing.T) {
	t.Parallel()
	hook := script(t, "")
	for name, o := range map[string]alert.ExecOptions{
		"no command":       {},
		"relative":         {Command: []string{"sh"}},
		"no such program":  {Command: []string{"/no/such/program"}},
		"not executable":   {Command: []string{"/etc/passwd"}},
		"too patient":      {Command: []string{hook}, Timeout: time.Hour},
		"unset variable":   {Command: []string{hook}, Env: []string{"NO_SUCH_VARIABLE"}},
		"variable of ours": {Command: []string{hook}, Env: []string{"TALLYWOOD_RULE"}, LookupEnv: func(string) (string, bool) { return "x", true }},
	} {
		if _, err := alert.OpenExec(o); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// TestEnvironmentIsDocumented compares docs/monitor-alerts.md with what a hook gets.
func TestEnvironmentIsDocumented(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/monitor-alerts.md")
	if err != nil {
		t.Fatal(err)
	}
	hook := script(t, "env > env")
	if err := openExec(t, alert.ExecOptions{Command: []string{hook}}).Send(t.Context(), monitor.Event{Rule: rule.LogRollback, Index: monitor.NoIndex}); err != nil {
		t.Fatal(err)
	}
	env, err := os.ReadFile(filepath.Join(filepath.Dir(hook), "env"))
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for line := range strings.Lines(string(env)) {
		name, _, _ := strings.Cut(line, "=")
		if strings.HasPrefix(name, "TALLYWOOD_") {
			found++
			if !strings.Contains(string(page), "`"+name+"`") {
				t.Errorf("the page does not explain %s", name)
			}
		}
	}
	if found < 15 || strings.Contains(string(env), "TALLYWOOD_INDEX=-1") {
		t.Errorf("environment:\n%s", env)
	}
}
