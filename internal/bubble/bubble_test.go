package bubble

import (
	"runtime"
	"sync"
	"testing"
	"time"
)

// TestProcessors looks at how many there are inside a bubble and after it.
func TestProcessors(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(3))
	inside := 3
	if race {
		inside = 1
	}
	Test(t, func(t *testing.T) {
		if n := runtime.GOMAXPROCS(0); n != inside {
			t.Errorf("%d processors inside, want %d", n, inside)
		}
	})
	if n := runtime.GOMAXPROCS(0); n != 3 {
		t.Errorf("%d processors afterwards, want 3", n)
	}
}

// TestSeveralAtOnce begins a second bubble before the first is over: what was before comes back after both.
func TestSeveralAtOnce(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(3))
	first, second := alone(), alone()
	for _, end := range []func(){first, second} {
		if n := runtime.GOMAXPROCS(0); n != 1 {
			t.Errorf("%d processors, want 1", n)
		}
		end()
	}
	if n := runtime.GOMAXPROCS(0); n != 3 {
		t.Errorf("%d processors afterwards, want 3", n)
	}
}

// TestTimersThatFireAtOnce has timers fire in the goroutines that wait for them, several at a time. By
// itself, with the race detector and two processors, four times as many ended the process in one run of twenty.
func TestTimersThatFireAtOnce(t *testing.T) {
	for range 50 {
		Test(t, func(*testing.T) {
			var all sync.WaitGroup
			for range 4 {
				all.Go(func() {
					for range 200 {
						<-time.NewTimer(0).C
						time.Sleep(time.Nanosecond)
					}
				})
			}
			all.Wait()
		})
	}
}
