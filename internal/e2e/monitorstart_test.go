package e2e_test

import (
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"tallywood/internal/mint"
)

// entryOf returns the entry that a run makes now.
func entryOf(r mint.Run) mint.Entry {
	c := r.GitHub()
	c.NotBefore = time.Now()
	return mint.Entry{Certificate: c}
}

// quickStart is the configuration that docs/monitor.md begins with.
const quickStart = "deploy/monitor/monitor.yaml"

// TestMonitorPage does what docs/monitor.md says, against a log of the same name that is made here: the
// public one cannot be reached. What the configuration says of the public one is checked as it stands.
func TestMonitorPage(t *testing.T) {
	p := openPage(t, "docs/monitor.md")
	if p.blocks[0].text != readFile(t, repository, quickStart) {
		t.Errorf("%s is not what the page says", quickStart)
	}
	must(t, repository, "tallywood", "config", "check", "--monitor", quickStart)
	w, err := mint.New(1)
	if err != nil {
		t.Fatal(err)
	}
	const origin = "log2025-1.rekor.sigstore.dev"
	var files mint.Memory
	log, err := w.Log(origin, mint.Rekor, &files)
	if err != nil {
		t.Fatal(err)
	}
	add := func(entries ...mint.Entry) {
		t.Helper()
		for _, e := range entries {
			made, err := w.Make(e, log.Size())
			if err == nil {
				err = log.Append(made.Bytes)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if err := log.Publish(time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 20 {
		add(w.Anybody(int64(i)))
	}
	server := httptest.NewServer(&files)
	defer server.Close()
	vkey := strings.Fields(p.blocks[0].text[strings.Index(p.blocks[0].text, "vkey: ")+6:])[0]
	p.swap = strings.NewReplacer("https://"+origin, server.URL, strings.TrimSuffix(vkey, "}"), log.VKey)

	p.file(t, "monitor.yaml", "yaml", "state: ")
	if out := p.shell(t, p.next(t, "sh", "tallywood config check")); !strings.Contains(out, origin+": 20 of 20 entries verified") {
		t.Errorf("config check, init and check printed:\n%s", out)
	}
	release := mint.Run{Repository: "example/tool", Ref: "refs/tags/v1.4.2"}
	stolen := mint.Run{Repository: "example/tool", Workflow: ".github/workflows/lint.yml", Ref: "refs/heads/fix-typo", Trigger: "pull_request_target"}
	add(entryOf(release), w.Anybody(21), entryOf(stolen))

	cmd := exec.Command("sh", "-c", "exec "+p.next(t, "sh", "tallywood monitor run"))
	cmd.Dir, cmd.Env = p.dir, p.env
	stderr := &lockedBuffer{}
	cmd.Stderr = stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := false
	t.Cleanup(func() {
		if !ended {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
	})
	defer func() {
		if t.Failed() {
			a, _ := os.ReadFile(filepath.Join(p.dir, "alerts.jsonl"))
			g, _ := os.ReadFile(filepath.Join(p.dir, "pages", "index.html"))
			t.Logf("standard error:\n%s\nalerts:\n%s\npage:\n%s", stderr, a, g)
		}
	}()
	eventually(t, "alert and its page", func() bool {
		alerts, _ := os.ReadFile(filepath.Join(p.dir, "alerts.jsonl"))
		page, _ := os.ReadFile(filepath.Join(p.dir, "pages", "index.html"))
		return strings.Count(string(alerts), "\n") == 1 && strings.Contains(string(alerts), `"id.unexpected-workflow"`) && strings.Contains(string(alerts), `"index":22`) &&
			strings.Contains(string(page), "One thing needs you") && strings.Contains(string(page), "2 signatures in 30 days, 1 unexplained")
	})
	_ = cmd.Process.Signal(syscall.SIGINT)
	ended = true
	if err := cmd.Wait(); err != nil {
		t.Errorf("monitor run ended with %v\n%s", err, stderr)
	}
	if feed := readFile(t, p.dir, "pages/feed.xml"); strings.Count(feed, "<entry>") != 1 {
		t.Errorf("the feed is\n%s", feed)
	}
	p.done(t)
}
