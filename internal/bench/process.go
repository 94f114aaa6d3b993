package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

// A process is what Linux says about one, of which the differences count (proc(5)).
type process struct {
	cpu     time.Duration // user and system time
	rss     int64         // peak resident memory, bytes, since the last read
	written int64         // bytes sent to disk
}

// tick is the unit of CPU times in /proc on every architecture Go runs on.
const tick = time.Second / 100

// readProcess reads the counters of process pid, and has the peak of its memory count anew. It
// returns zeros for pid 0.
func readProcess(pid int) (process, error) {
	if pid == 0 {
		return process{}, nil
	}
	var p process
	dir := fmt.Sprintf("/proc/%d/", pid)
	stat, err := os.ReadFile(dir + "stat")
	if err != nil {
		return process{}, fmt.Errorf("reading counters of process %d: %w", pid, err)
	}
	// The program's name in parentheses may hold anything, so count from its end: utime and stime
	// are fields 14 and 15 of the line, the 12th and 13th after the name.
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(fields) < 13 {
		return process{}, fmt.Errorf("reading counters of process %d: malformed stat", pid)
	}
	for _, field := range fields[11:13] {
		ticks, err := strconv.ParseInt(string(field), 10, 64)
		if err != nil {
			return process{}, fmt.Errorf("reading CPU time of process %d: %w", pid, err)
		}
		p.cpu += time.Duration(ticks) * tick
	}
	status, err := os.ReadFile(dir + "status")
	if err != nil {
		return process{}, fmt.Errorf("reading memory of process %d: %w", pid, err)
	}
	p.rss = counter(status, "VmHWM:") << 10 // in kB
	disk, err := os.ReadFile(dir + "io")
	if err != nil && !errors.Is(err, fs.ErrPermission) { // another user's process hides it
		return process{}, fmt.Errorf("reading disk use of process %d: %w", pid, err)
	}
	p.written = counter(disk, "write_bytes:")
	// Resets VmHWM; where that is not allowed, the peak is the one since the server's start.
	_ = os.WriteFile(dir+"clear_refs", []byte("5"), 0)
	return p, nil
}

// readProcesses is readProcess for a server of several processes: the sums of what they use.
func readProcesses(pids []int) (process, error) {
	var sum process
	for _, pid := range pids {
		p, err := readProcess(pid)
		if err != nil {
			return process{}, err
		}
		sum.cpu += p.cpu
		sum.rss += p.rss
		sum.written += p.written
	}
	return sum, nil
}

// residentInterval is how often memory is looked at during a measurement.
const residentInterval = 250 * time.Millisecond

// watchResident looks at the resident memory of process pid until the function it returns is called,
// which returns the sizes in their order; of pid 0 none.
func watchResident(pid int) (stop func() []int64) {
	if pid == 0 {
		return func() []int64 { return nil }
	}
	var sizes []int64
	var watching sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background())
	look := func() {
		// A process that has gone shows in readProcess.
		if status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid)); err == nil {
			sizes = append(sizes, counter(status, "VmRSS:")<<10)
		}
	}
	look()
	watching.Go(func() {
		for wait(ctx, residentInterval) {
			look()
		}
	})
	return func() []int64 {
		cancel()
		watching.Wait()
		look()
		return sizes
	}
}

// counter finds the number after name in lines of "name number unit"; 0 if there is none.
func counter(lines []byte, name string) int64 {
	for line := range strings.Lines(string(lines)) {
		fields := strings.Fields(line)
		if len(fields) >= 2 && fields[0] == name {
			n, _ := strconv.ParseInt(fields[1], 10, 64)
			return n
		}
	}
	return 0
}
