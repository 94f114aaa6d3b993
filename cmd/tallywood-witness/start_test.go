package main

import (
	"bufio"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"tallywood/internal/keys"
)

// raceEnabled is set by race_test.go: the race detector takes a multiple of memory.
var raceEnabled bool

// manyLogs is how many logs the largest list of the witness network is made for.
const manyLogs = 40_000

// manyLogsDir makes a witness with a list of n logs, and returns its directory and the list's name.
func manyLogsDir(t testing.TB, n int) (dir, list string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "w")
	if code := run([]string{"init", "--dir", dir, "--name", "witness.example.org"}, io.Discard, t.Output()); code != 0 {
		t.Fatal(code)
	}
	var b strings.Builder
	b.WriteString("logs/v0\n")
	for i := range n {
		origin := fmt.Sprintf("log%d.example.org/2026", i)
		public := sha256.Sum256([]byte(origin)) // nothing is ever signed by it
		fmt.Fprintf(&b, "\nvkey %s\nqpd 86400\ncontact ops@log%d.example.org\n", keys.VKey(origin, keys.AlgEd25519, public[:]), i)
	}
	list = filepath.Join(dir, "logs.txt")
	if err := os.WriteFile(list, []byte(b.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir, list
}

// startProcess starts a witness in a process of its own, waits until it serves, ends it, and returns how long
// it took and how much memory it had used by then, in bytes; 0 where the system does not tell.
func startProcess(t testing.TB, args ...string) (took time.Duration, memory int64) {
	t.Helper()
	cmd := exec.Command("tallywood-witness", append([]string{"serve", "--listen", "127.0.0.1:0"}, args...)...)
	cmd.Stderr = t.Output()
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill() }()
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil || !strings.HasPrefix(line, "ready ") {
		t.Fatalf("serve printed %q, %v", line, err)
	}
	took = time.Since(began)
	memory = peakMemory(t, cmd.Process.Pid)
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	return took, memory
}

func peakMemory(t testing.TB, pid int) int64 {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if os.IsNotExist(err) {
		return 0 // not Linux
	}
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		if fields := strings.Fields(line); len(fields) == 3 && fields[0] == "VmHWM:" {
			kB, err := strconv.ParseInt(fields[1], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return kB << 10
		}
	}
	t.Fatal("there is no VmHWM")
	return 0
}

// TestStartWithManyLogs bounds the memory of a witness that knows as many logs as the largest list of the
// witness network may have. The time is only told: other work on the machine decides it.
func TestStartWithManyLogs(t *testing.T) {
	dir, list := manyLogsDir(t, manyLogs)
	took, memory := startProcess(t, "--dir", dir, "--logs", list)
	t.Logf("ready with %d logs after %v, with %d MB", manyLogs, took.Round(time.Millisecond), memory>>20)
	if most := int64(200e6); memory > most && !raceEnabled {
		t.Errorf("%d MB of memory for %d logs; at most %d MB are the aim", memory/1e6, manyLogs, most/1e6)
	}
}

// BenchmarkStart is from exec to the line that says that the witness serves.
func BenchmarkStart(b *testing.B) {
	for _, n := range []int{0, 1000, manyLogs} {
		b.Run(fmt.Sprintf("logs=%d", n), func(b *testing.B) {
			dir, list := manyLogsDir(b, n)
			var most int64
			var sum time.Duration
			for b.Loop() {
				took, memory := startProcess(b, "--dir", dir, "--logs", list)
				sum += took
				most = max(most, memory)
			}
			b.ReportMetric(sum.Seconds()/float64(b.N), "s/start")
			b.ReportMetric(float64(most)/1e6, "peak-MB")
		})
	}
}

// TestEnvironmentTunesTheRuntime: what it says is not changed.
func TestEnvironmentTunesTheRuntime(t *testing.T) {
	procs, percent := runtime.GOMAXPROCS(0), debug.SetGCPercent(100)
	defer func() { runtime.GOMAXPROCS(procs); debug.SetGCPercent(percent) }()
	tuneRuntime(func(string) string { return "3" })
	if got, gc := runtime.GOMAXPROCS(0), debug.SetGCPercent(100); got != procs || gc != 100 {
		t.Errorf("with an environment: %d, %d", got, gc)
	}
	tuneRuntime(func(string) string { return "" })
	if got, gc := runtime.GOMAXPROCS(0), debug.SetGCPercent(100); got != 2*procs || gc != gcPercent {
		t.Errorf("without: %d, %d; want %d, %d", got, gc, 2*procs, gcPercent)
	}
}
