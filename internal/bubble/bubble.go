// Package bubble runs tests in bubbles of [synctest], as the race detector can bear it. Only tests use
// this package.
package bubble

import (
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
)

// Test is [synctest.Test]. With the race detector one processor does all the work meanwhile: of Go 1.26.8,
// the runtime would have two threads at once in what the detector keeps for a bubble's timers, and now and
// then the detector ends the whole process by "CHECK failed" (golang/go#78156). What it finds does not depend
// on how many processors there are.
func Test(t *testing.T, f func(*testing.T)) {
	t.Helper()
	if race {
		defer alone()()
	}
	synctest.Test(t, f)
}

// The bubbles that are under way, and the number of processors there were before the first of them.
var (
	mu     sync.Mutex
	count  int
	before int
)

// alone leaves one processor until the function that it returns is called, or that of a later call.
func alone() func() {
	mu.Lock()
	defer mu.Unlock()
	if count++; count == 1 {
		before = runtime.GOMAXPROCS(1)
	}
	return func() {
		mu.Lock()
		defer mu.Unlock()
		if count--; count == 0 {
			runtime.GOMAXPROCS(before)
		}
	}
}
