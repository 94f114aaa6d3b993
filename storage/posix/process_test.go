//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package posix_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"tallywood/storage"
	"tallywood/storage/posix"
)

// The other processes of these tests are this binary again, in a role.
const (
	roleVar = "POSIX_TEST_ROLE"
	dirVar  = "POSIX_TEST_DIR"
)

var roles = map[string]func(ctx context.Context, b *posix.Bucket) error{
	"race": race,
	"lock": holdLock,
	"swap": holdSwap,
}

func TestMain(m *testing.M) {
	role, ok := roles[os.Getenv(roleVar)]
	if !ok {
		os.Exit(m.Run())
	}
	b, err := posix.Open(os.Getenv(dirVar))
	if err == nil {
		b.SetLockWait(time.Minute)
		err = role(context.Background(), b)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// A process is another user of a bucket. It prints lines and waits for its standard input to end.
type process struct {
	cmd    *exec.Cmd
	input  io.WriteCloser
	output *bufio.Scanner
}

func start(t *testing.T, role, dir string) *process {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), roleVar+"="+role, dirVar+"="+dir)
	cmd.Stderr = os.Stderr
	input, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	output, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &process{cmd, input, bufio.NewScanner(output)}
	t.Cleanup(func() { p.kill() })
	return p
}

// line returns the next line the process prints.
func (p *process) line(t *testing.T) string {
	t.Helper()
	if !p.output.Scan() {
		t.Fatalf("the other process ended: %v", p.output.Err())
	}
	return p.output.Text()
}

// kill is kill -9. Its error says that the process did not exit well, which is known.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
}

// awaitInput waits for the end of standard input.
func awaitInput() error {
	_, err := io.Copy(io.Discard, os.Stdin)
	return err
}

const raceKeys, raceSwaps = 60, 30

// raceCounters are swapped by all: one object that each swap gives another file, and one whose files
// are overwritten.
var raceCounters = []string{"logs/race/counter", "state/race/counter"}

// race creates keys and increments a counter against other processes, and prints the keys it won.
func race(ctx context.Context, b *posix.Bucket) error {
	fmt.Println("ready")
	if err := awaitInput(); err != nil {
		return err
	}
	me := fmt.Sprint(os.Getpid())
	for i := range raceKeys {
		key := fmt.Sprintf("state/race/log/%d", i)
		_, err := b.Put(ctx, key, []byte(me), storage.PutOptions{If: storage.Absent()})
		if err == nil {
			fmt.Println(key)
		} else if !errors.Is(err, storage.ErrPrecondition) {
			return err
		}
	}
	for _, counter := range raceCounters {
		for wins := 0; wins < raceSwaps; {
			data, v, err := b.Get(ctx, counter, storage.Range{})
			if err != nil {
				return err
			}
			if torn := strings.Trim(string(data), "."); torn != "" {
				return fmt.Errorf("%s is %q", counter, data)
			}
			_, err = b.Put(ctx, counter, append(data, '.'), storage.PutOptions{If: storage.Match(v)})
			if err == nil {
				wins++
			} else if !errors.Is(err, storage.ErrPrecondition) {
				return err
			}
		}
	}
	return nil
}

func TestProcessesRaceForKeys(t *testing.T) {
	const processes = 3
	dir := t.TempDir()
	b := open(t, dir)
	for _, counter := range raceCounters {
		if _, err := b.Put(t.Context(), counter, nil, storage.PutOptions{If: storage.Absent()}); err != nil {
			t.Fatal(err)
		}
	}
	var others [processes]*process
	for i := range others {
		others[i] = start(t, "race", dir)
	}
	for _, p := range others {
		p.line(t)
	}
	for _, p := range others {
		p.input.Close()
	}
	winner := make(map[string]int)
	for _, p := range others {
		for p.output.Scan() {
			key := p.output.Text()
			if winner[key] != 0 {
				t.Errorf("%s was created twice", key)
			}
			winner[key] = p.cmd.Process.Pid
		}
		if err := p.cmd.Wait(); err != nil {
			t.Error(err)
		}
	}
	if len(winner) != raceKeys {
		t.Errorf("%d of %d keys have a winner", len(winner), raceKeys)
	}
	for key, pid := range winner {
		if data, _, err := b.Get(t.Context(), key, storage.Range{}); err != nil || string(data) != fmt.Sprint(pid) {
			t.Errorf("%s, created by %d, holds %q, %v", key, pid, data, err)
		}
	}
	for _, counter := range raceCounters {
		if data, _, err := b.Get(t.Context(), counter, storage.Range{}); err != nil || len(data) != processes*raceSwaps {
			t.Errorf("%s ends at %d, %v; want %d", counter, len(data), err, processes*raceSwaps)
		}
	}
	// Each process may leave the file that it would have used next, for an hour.
	if entries, err := os.ReadDir(filepath.Join(dir, ".tmp")); err != nil || len(entries) > processes {
		t.Errorf("temporary files left: %v, %v", entries, err)
	}
}

func holdLock(_ context.Context, b *posix.Bucket) error {
	if _, err := b.Lock("state/l/lock"); err != nil {
		return err
	}
	fmt.Println("locked")
	return awaitInput()
}

func TestLockEndsWithItsProcess(t *testing.T) {
	dir := t.TempDir()
	b := open(t, dir)
	p := start(t, "lock", dir)
	p.line(t)
	_, err := b.Lock("state/l/lock")
	if !errors.Is(err, posix.ErrLocked) || !strings.Contains(err.Error(), fmt.Sprintf("process %d", p.cmd.Process.Pid)) {
		t.Errorf("lock that process %d holds: %v", p.cmd.Process.Pid, err)
	}
	if unlock, err := b.Lock("state/other/lock"); err != nil || unlock() != nil {
		t.Errorf("another lock: %v", err)
	}
	p.kill()
	unlock, err := b.Lock("state/l/lock")
	if err != nil {
		t.Fatalf("lock of a process that was killed: %v", err)
	}
	if _, err := b.Lock("state/l/lock"); !errors.Is(err, posix.ErrLocked) {
		t.Errorf("lock that is ours already: %v", err)
	}
	for range 2 {
		if err := unlock(); err != nil {
			t.Errorf("unlocking: %v", err)
		}
	}
	if unlock, err := open(t, dir).Lock("state/l/lock"); err != nil || unlock() != nil {
		t.Errorf("lock that was released: %v", err)
	}
}

// holdSwap stops in the middle of a compare-and-swap, its lock held.
func holdSwap(ctx context.Context, b *posix.Bucket) error {
	_, v, err := b.Get(ctx, "state/key", storage.Range{})
	if err != nil {
		return err
	}
	b.SetAround(func(e posix.Effect, run func() error) error {
		if e.Op == "rename" || e.Op == "exchange" {
			fmt.Println("holding")
			if err := awaitInput(); err != nil {
				return err
			}
		}
		return run()
	})
	_, err = b.Put(ctx, "state/key", []byte("theirs"), storage.PutOptions{If: storage.Match(v)})
	return err
}

func TestStoppedLockHolderDoesNotStopOthersForEver(t *testing.T) {
	dir := t.TempDir()
	b := open(t, dir)
	v, err := b.Put(t.Context(), "state/key", []byte("old"), storage.PutOptions{})
	if err != nil {
		t.Fatal(err)
	}
	p := start(t, "swap", dir)
	p.line(t)

	swap := storage.PutOptions{If: storage.Match(v)}
	b.SetLockWait(50 * time.Millisecond)
	if _, err := b.Put(t.Context(), "state/key", []byte("ours"), swap); !errors.Is(err, posix.ErrLocked) || errors.Is(err, storage.ErrPrecondition) {
		t.Errorf("swap while another process holds the lock: %v", err)
	}
	if err := b.Delete(t.Context(), "state/key"); !errors.Is(err, posix.ErrLocked) {
		t.Errorf("delete while another process holds the lock: %v", err)
	}
	b.SetLockWait(time.Minute)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := b.Put(ctx, "state/key", []byte("ours"), swap); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("swap with little patience: %v", err)
	}
	if data, _, err := b.Get(t.Context(), "state/key", storage.Range{}); err != nil || string(data) != "old" {
		t.Errorf("meanwhile: %q, %v", data, err)
	}
	p.kill()
	if _, err := b.Put(t.Context(), "state/key", []byte("ours"), swap); err != nil {
		t.Errorf("swap after the other process was killed: %v", err)
	}
	open(t, dir)
	wantTemps(t, dir, 1+b.Spares()) // one of the killed process, for an hour
}

// alternating sends one operation to this bucket, the next to that.
type alternating struct {
	buckets [2]*posix.Bucket
	n       atomic.Uint32
}

func (b *alternating) next() *posix.Bucket { return b.buckets[b.n.Add(1)%2] }

func (b *alternating) Get(ctx context.Context, key string, r storage.Range) ([]byte, storage.Version, error) {
	return b.next().Get(ctx, key, r)
}

func (b *alternating) Put(ctx context.Context, key string, data []byte, opts storage.PutOptions) (storage.Version, error) {
	return b.next().Put(ctx, key, data, opts)
}

func (b *alternating) Delete(ctx context.Context, keys ...string) error {
	return b.next().Delete(ctx, keys...)
}

func (b *alternating) List(ctx context.Context, prefix string) iter.Seq2[string, error] {
	return b.next().List(ctx, prefix)
}
