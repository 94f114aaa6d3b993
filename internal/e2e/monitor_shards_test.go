package e2e_test

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestMonitorGoesOnWithTheNextShard has a monitor take its logs from a stack's trusted root, from the
// file and from a TUF repository, while one of them rolls over to the next.
func TestMonitorGoesOnWithTheNextShard(t *testing.T) {
	work := t.TempDir()
	s := up(t, filepath.Join(work, "data"))
	sign := func() {
		t.Helper()
		must(t, work, "tallywood", "sign", writeFile(t, work, "f", "x"), "--yes", "--trust", s.client, "--identity-token", s.token(t, "alice@example.com"))
	}
	sign()
	file := filepath.Join(s.client, "trusted_root.json")
	r := serveTUF(t, map[string]string{"trusted_root.json": readFile(t, s.client, "trusted_root.json")})
	configs := map[string]string{}
	for name, source := range map[string]string{"file": "trusted_root: " + file, "tuf": fmt.Sprintf("tuf: {url: %q, root: %q}", r.url, r.root)} {
		configs[name] = writeFile(t, work, name+".yaml", fmt.Sprintf(`state: ./%s-state
logs:
  - %s
    policy: %q
    urls:
      log.localhost: %s/logs/signatures
      log-2.localhost: %s/logs/signatures-2
      ct.localhost: %s/logs/certificates
identities:
  - {name: alice, email: alice@example.com}
rules: {tuf.log-added: {}, tuf.root-changed: {}}
notify:
  all: {jsonl: %s.jsonl}
`, name, source, filepath.Join(s.client, "policy.txt"), s.url, s.url, s.url, name))
	}
	check := func(name string, code int, lines ...string) {
		t.Helper()
		out, got := command(t, work, "tallywood", "monitor", "check", "--config", configs[name])
		if got != code {
			t.Fatalf("%s: exit code %d; want %d\n%s", name, got, code, out)
		}
		for _, want := range lines {
			if !strings.Contains(out, want) {
				t.Errorf("%s: no %q in\n%s", name, want, out)
			}
		}
	}
	awaitSize(t, s.url+"/logs/signatures", 1)
	awaitSize(t, s.url+"/logs/certificates", 1)
	for name := range configs {
		check(name, 0, "(log.localhost, entry 0)", "(ct.localhost, entry 0)", "log.localhost: 1 of 1 entries verified")
	}
	must(t, work, "tallywood", "log", "rotate", "--config", filepath.Join(s.dir, "config.yaml"))
	eventually(t, "second shard", func() bool {
		return strings.Contains(readFile(t, s.client, "signing_config.v0.2.json"), "signatures-2")
	})
	eventually(t, "end of the first shard in the trusted root", func() bool { // which is the last change of it
		var root struct {
			TLogs []struct {
				PublicKey struct{ ValidFor struct{ End *time.Time } }
			}
		}
		if err := json.Unmarshal([]byte(readFile(t, "", file)), &root); err != nil {
			t.Fatal(err)
		}
		return len(root.TLogs) == 2 && root.TLogs[0].PublicKey.ValidFor.End != nil
	})
	sign()
	awaitSize(t, s.url+"/logs/signatures-2", 1)
	awaitSize(t, s.url+"/logs/certificates", 2)
	check("file", 5, "info: tuf.log-added", `log "log-2.localhost" was added`, "warning: tuf.root-changed",
		"(log-2.localhost, entry 0)", "(ct.localhost, entry 1)", "log-2.localhost: 1 of 1 entries verified", "log.localhost: 1 of 1 entries verified")
	check("file", 0, "log-2.localhost: 1 of 1 entries verified")
	check("tuf", 0, "(ct.localhost, entry 1)") // it has not heard of it
}
