package e2e_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tallywood/internal/mint"
)

const (
	monitorLives = 100 // of the monitor that is killed
	lifeEntries  = 13  // that the log grows by in each
)

// A minted log grows while it is watched; one entry of each life is Alice's, by an issuer that she does
// not know.
type grownLog struct {
	world   *mint.World
	log     *mint.Log
	files   *mint.Memory
	planted []int64
}

// grow adds entries and publishes them.
func (g *grownLog) grow(t *testing.T) {
	t.Helper()
	for range lifeEntries {
		index := g.log.Size()
		c := mint.ForEmail("bob@example.com", "https://accounts.example.com")
		if index%lifeEntries == 4 {
			c = mint.ForEmail("alice@example.com", "https://accounts.evil.example")
			g.planted = append(g.planted, index)
		}
		made, err := g.world.Make(mint.Entry{Certificate: c}, index)
		if err != nil {
			t.Fatal(err)
		}
		if err := g.log.Append(made.Bytes); err != nil {
			t.Fatal(err)
		}
	}
	if err := g.log.Publish(time.Now()); err != nil {
		t.Fatal(err)
	}
}

// TestMonitorThatIsKilledLosesNoAlert kills the monitor at 100 random points, while the log grows, and
// wants an alert for each entry that deserves one: under one ID, whatever it was told twice.
func TestMonitorThatIsKilledLosesNoAlert(t *testing.T) {
	world, err := mint.New(6)
	if err != nil {
		t.Fatal(err)
	}
	g := &grownLog{world: world, files: &mint.Memory{}}
	if g.log, err = world.Log("log.example.org", mint.Rekor, g.files); err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(g.files)
	t.Cleanup(srv.Close)
	dir := t.TempDir()
	writeFile(t, dir, "policy.txt", g.log.Policy())
	config := writeFile(t, dir, "monitor.yaml", fmt.Sprintf(`state: ./state
poll: 5ms
logs:
  - {origin: %s, url: %q, vkey: %s, policy: policy.txt}
identities:
  - {name: alice, email: alice@example.com, expect: {issuers: ["https://accounts.example.com"]}}
notify:
  all: {jsonl: events.jsonl}
`, g.log.Origin, srv.URL, g.log.VKey))
	g.grow(t)
	// Until all is told, which says how long a life may be of interest, unless the machine was busy then.
	whole := min(g.life(t, dir, config, nil), 2*time.Second)
	random := rand.New(rand.NewPCG(6, 6))
	for range monitorLives {
		g.grow(t)
		pause := time.Duration(random.Int64N(int64(whole + whole/2)))
		g.life(t, dir, config, &pause)
	}
	must(t, dir, "tallywood", "config", "check", "--monitor", config)
	if out, code := command(t, dir, "tallywood", "monitor", "check", "--config", config); code != 3 && code != 0 {
		t.Fatalf("the last check ended with %d:\n%s", code, out)
	}
	g.toldOnce(t, dir)
}

// life starts the monitor and kills it after a pause, or without one when all is told, and returns how
// long that took.
func (g *grownLog) life(t *testing.T, dir, config string, pause *time.Duration) time.Duration {
	t.Helper()
	cmd := exec.Command(filepath.Join(bin, "tallywood"), "monitor", "run", "--config", config)
	cmd.Dir, cmd.Env = dir, cleanEnv(t)
	began := time.Now()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if pause != nil {
		time.Sleep(*pause)
	} else {
		eventually(t, "alert", func() bool { return len(g.told(t, dir)) == len(g.planted) })
	}
	took := time.Since(began)
	if err := cmd.Process.Kill(); err != nil {
		t.Errorf("the monitor ended by itself: %v", err)
	}
	_ = cmd.Wait() // it was killed
	return took
}

// told reads the sink's file: the IDs under which each entry was told.
func (g *grownLog) told(t *testing.T, dir string) map[int64]map[string]int {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, "events.jsonl"))
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	out := map[int64]map[string]int{}
	for line := range strings.Lines(string(data)) {
		var e event
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			continue // a line that the kill cut off, which is sent again
		}
		if out[e.Index] == nil {
			out[e.Index] = map[string]int{}
		}
		out[e.Index][e.ID]++
	}
	return out
}

// toldOnce wants exactly the planted entries told, each under one ID and with its evidence.
func (g *grownLog) toldOnce(t *testing.T, dir string) {
	t.Helper()
	told := g.told(t, dir)
	again := 0
	for _, index := range g.planted {
		if len(told[index]) != 1 {
			t.Errorf("entry %d was told under %d IDs", index, len(told[index]))
		}
		for id, n := range told[index] {
			again += n - 1
			if _, err := os.Stat(filepath.Join(dir, "state", "evidence", id, "inclusion.tlog-proof")); err != nil {
				t.Errorf("entry %d: %v", index, err)
			}
		}
		delete(told, index)
	}
	if len(told) > 0 {
		t.Errorf("entries were told that nobody wants to hear of: %v", told)
	}
	evidence, err := os.ReadDir(filepath.Join(dir, "state", "evidence"))
	if err != nil {
		t.Fatal(err)
	}
	whole := 0
	for _, e := range evidence {
		if !strings.HasPrefix(e.Name(), ".") {
			whole++
		}
	}
	if whole != len(g.planted) {
		t.Errorf("evidence of %d events, want %d", whole, len(g.planted))
	}
	t.Logf("%d alerts, %d of them sent again under their ID, after %d kills", len(g.planted), again, monitorLives)
}
