package main

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestWatchFileSeesEachChange(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.yaml")
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write(path, "a")
	done, changes := make(chan struct{}), make(chan struct{}, 8)
	ended := make(chan struct{})
	go func() {
		watchFile(path, done, func() { changes <- struct{}{} })
		close(ended)
	}()
	wait := func(what string) {
		t.Helper()
		select {
		case <-changes:
		case <-time.After(time.Minute):
			t.Fatalf("%s was not seen", what)
		}
	}
	time.Sleep(2 * watchInterval)
	if len(changes) > 0 {
		t.Error("a change was seen where none was")
	}
	write(path, "bb")
	wait("another content")
	write(path+".new", "cc")
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
	wait("another file")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	time.Sleep(2 * watchInterval)
	write(path, "dd")
	wait("a file after there was none")
	close(done)
	<-ended
}
