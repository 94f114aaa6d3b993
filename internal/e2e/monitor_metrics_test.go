package e2e_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"tallywood/internal/loopback"
	"tallywood/internal/mint"
)

// TestMonitorServesMetrics asks a monitor, one alone and one in a server, what it has scanned.
func TestMonitorServesMetrics(t *testing.T) {
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
	g.grow(t)
	dir, address := t.TempDir(), loopback.Address(t)
	writeFile(t, dir, "policy.txt", g.log.Policy())
	config := writeFile(t, dir, "monitor.yaml", fmt.Sprintf(`state: ./state
metrics_address: %s
logs:
  - {origin: %s, url: %q, vkey: %s, policy: policy.txt}
identities: []
notify:
  all: {jsonl: events.jsonl}
`, address, g.log.Origin, srv.URL, g.log.VKey))
	start(t, -1, "tallywood", "monitor", "run", "--config", config) // it does not say when it is ready
	wantFigure(t, "http://"+address+"/metrics", `monitor_scanned_size{origin="log.example.org"} 13`)

	address = loopback.Address(t)
	up(t, t.TempDir(), "--metrics-address", address)
	wantFigure(t, "http://"+address+"/metrics", `monitor_quorum{origin="log.localhost",state="met"} 1`)
}

// wantFigure waits for a line of metrics.
func wantFigure(t *testing.T, url, line string) {
	t.Helper()
	eventually(t, line, func() bool {
		resp, err := http.Get(url)
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK && strings.Contains(get(t, url, http.StatusOK), line+"\n")
	})
}
