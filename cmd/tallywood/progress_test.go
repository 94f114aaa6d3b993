package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestBarShowsOnTerminalsAfterTwoSeconds(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "file"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if newBar(f, "x").w != nil || newBar(new(bytes.Buffer), "x").w != nil {
		t.Error("a file or a pipe is taken for a terminal")
	}
	var out bytes.Buffer
	start := time.Unix(1000, 0)
	b := &bar{w: &out, label: "verifying signatures", start: start}
	b.tellAt(start.Add(time.Second), 1, 4)
	if out.Len() > 0 {
		t.Errorf("after a second it shows %q", out.String())
	}
	b.tellAt(start.Add(3*time.Second), 2, 4)
	b.tellAt(start.Add(3*time.Second+time.Millisecond), 3, 4)
	if got, want := out.String(), "\rverifying signatures ["+strings.Repeat("#", 15)+strings.Repeat("-", 15)+"]  50% 2 of 4 "; got != want {
		t.Errorf("after three seconds it shows %q; want %q", got, want)
	}
	b.end()
	b.tellAt(start.Add(time.Minute), 4, 4)
	if !strings.HasSuffix(out.String(), "4 \r\x1b[K") {
		t.Errorf("at the end it leaves %q", out.String())
	}
}
