package main

import (
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"tallywood/internal/bubble"
)

func TestWatchFileSeesEachChange(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.yaml")
	bubble.Test(t, func(t *testing.T) { watchFileSeesEachChange(t, path) })
}

func watchFileSeesEachChange(t *testing.T, path string) {
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	write := func(name, text string) {
		t.Helper()
		must(os.WriteFile(name, []byte(text), 0o644))
	}
	write(path, "a")
	done, ended := make(chan struct{}), make(chan struct{})
	changes := 0
	go func() {
		watchFile(path, done, func() { changes++ })
		close(ended)
	}()
	// seen waits for two looks and compares how many changes they saw.
	seen := func(what string, want int) {
		t.Helper()
		time.Sleep(2 * watchInterval)
		synctest.Wait()
		if changes != want {
			t.Errorf("%s: %d changes were seen; want %d", what, changes, want)
		}
		changes = 0
	}
	synctest.Wait() // it has looked once
	seen("nothing", 0)
	// What comes within no time has another size each: the clock of a file system is coarse.
	write(path, "bb")
	seen("another content", 1)
	write(path+".new", "ccc")
	must(os.Rename(path+".new", path))
	seen("another file", 1)
	must(os.Remove(path))
	seen("no file", 0)
	write(path, "dddd")
	seen("a file after there was none", 1)
	close(done)
	<-ended
}
