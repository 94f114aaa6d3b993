package main

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A killable is a witness in a process of its own, which ends by SIGKILL.
type killable struct {
	url  string
	kill func()
}

func startKillable(t *testing.T, dir, list string) *killable {
	t.Helper()
	cmd := exec.Command("tallywood-witness", "serve", "--dir", dir, "--listen", "127.0.0.1:0", "--logs", list)
	cmd.Stderr = t.Output()
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	k := &killable{kill: func() {
		_ = cmd.Process.Kill() // twice at the end
		_ = cmd.Wait()         // it says that it was killed
	}}
	t.Cleanup(k.kill)
	line, err := bufio.NewReader(stdout).ReadString('\n')
	url, ok := strings.CutPrefix(line, "ready ")
	if err != nil || !ok {
		t.Fatalf("serve printed %q, %v", line, err)
	}
	k.url = strings.TrimSpace(url)
	return k
}

// ask sends a request. Without an answer the status is 0.
func ask(method, url, body string) (status int, answer string) {
	req, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		return 0, err.Error()
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err.Error()
	}
	return resp.StatusCode, string(data)
}

// A grownLog is a log that a witness has cosigned, and the last note that it knows of.
type grownLog struct {
	origin, hash string
	size         int64
	note         string
}

func (l *grownLog) request(t *testing.T, size int64) (body, note string) {
	t.Helper()
	var b strings.Builder
	if err := writeRequest(&b, l.origin, logKey(l.origin), l.size, size); err != nil {
		t.Fatal(err)
	}
	_, note, _ = strings.Cut(b.String(), "\n\n")
	return b.String(), note
}

// grow has the log cosigned, entry by entry, until an answer is missing. It counts the answers.
func (l *grownLog) grow(t *testing.T, url string, answers *atomic.Int64) {
	for {
		body, note := l.request(t, l.size+1)
		status, lines := ask(http.MethodPost, url+"/add-checkpoint", body)
		switch {
		case status == 0:
			return
		case status == http.StatusServiceUnavailable && strings.Contains(lines, "does not know yet"):
			time.Sleep(time.Millisecond)
		case status != http.StatusOK:
			t.Errorf("%s from %d: %d %s", l.origin, l.size, status, lines)
			return
		default:
			l.size, l.note = l.size+1, note+lines
			answers.Add(1)
		}
	}
}

// recall checks what a successor serves of the log: what was answered last, or what was under way.
func (l *grownLog) recall(t *testing.T, url string) {
	t.Helper()
	status, served := ask(http.MethodGet, url+"/"+l.hash+"/checkpoint", "")
	if status == http.StatusOK && served == l.note || status == http.StatusNotFound && l.size == 0 {
		return
	}
	_, note := l.request(t, l.size+1)
	lines, under := strings.CutPrefix(served, note)
	if status != http.StatusOK || !under || strings.Count(lines, "\n— witness.example.org ") != 1 {
		t.Errorf("%s: served is %d\n%s\nanswered was\n%s", l.origin, status, served, l.note)
		return
	}
	l.size, l.note = l.size+1, served
}

// TestKilledWitnessServesWhatItAnswered kills a witness that exports while eight logs grow, over and over.
func TestKilledWitnessServesWhatItAnswered(t *testing.T) {
	const rounds = 12
	top := t.TempDir()
	dir, list := filepath.Join(top, "w"), filepath.Join(top, "logs.txt")
	if code := run([]string{"init", "--dir", dir, "--name", "witness.example.org"}, io.Discard, t.Output()); code != 0 {
		t.Fatal(code)
	}
	config, err := os.OpenFile(filepath.Join(dir, configFile), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(config, "export: ../published\n"); err != nil {
		t.Fatal(err)
	}
	if err := config.Close(); err != nil {
		t.Fatal(err)
	}
	logs := make([]*grownLog, 8)
	text := "logs/v0\n"
	for i := range logs {
		origin := fmt.Sprintf("log-%d.example.org", i)
		hash := sha256.Sum256([]byte(origin))
		logs[i] = &grownLog{origin: origin, hash: hex.EncodeToString(hash[:])}
		text += "vkey " + logVKey(origin) + "\nqpd 1000000\ncontact x\n"
	}
	if err := os.WriteFile(list, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	for round := range rounds {
		w := startKillable(t, dir, list)
		for _, l := range logs {
			l.recall(t, w.url)
		}
		var all sync.WaitGroup
		var answers atomic.Int64
		for _, l := range logs {
			all.Go(func() { l.grow(t, w.url, &answers) })
		}
		if round%2 == 0 { // in the other rounds a slow machine may come to none
			for end := time.Now().Add(deadline); answers.Load() == 0 && time.Now().Before(end); {
				time.Sleep(time.Millisecond)
			}
		}
		time.Sleep(time.Duration(100+round*97%700) * time.Millisecond) // any moment is a good one
		w.kill()
		all.Wait()
	}
	total := int64(0)
	w := startKillable(t, dir, list)
	for _, l := range logs {
		l.recall(t, w.url)
		total += l.size
		// What was exported catches up, whatever the kills have cut short.
		var exported []byte
		for range 3000 {
			if exported, _ = os.ReadFile(filepath.Join(top, "published", l.hash, "checkpoint")); string(exported) == l.note {
				break
			}
			time.Sleep(20 * time.Millisecond)
		}
		if string(exported) != l.note {
			t.Errorf("%s: exported is\n%s\nserved is\n%s", l.origin, exported, l.note)
		}
	}
	if total < rounds/2 {
		t.Errorf("%d kills saw %d updates: the test tries nothing", rounds, total)
	}
	t.Logf("%d updates, %d kills", total, rounds)
}
