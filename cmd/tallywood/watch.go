package main

import (
	"os"
	"time"
)

// watchInterval is how often a stack for development looks at its configuration.
const watchInterval = time.Second

// watchFile calls changed each time when the file at path is another than it was, until done is
// closed. Whoever replaces several files replaces this one last.
func watchFile(path string, done <-chan struct{}, changed func()) {
	look := time.NewTicker(watchInterval)
	defer look.Stop()
	before, _ := os.Stat(path) // a file that is not there is another one later
	for {
		select {
		case <-look.C:
		case <-done:
			return
		}
		now, err := os.Stat(path)
		if err != nil || before != nil && os.SameFile(before, now) && before.ModTime().Equal(now.ModTime()) && before.Size() == now.Size() {
			continue
		}
		before = now
		changed()
	}
}
