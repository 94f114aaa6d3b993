package e2e_test

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"tallywood/internal/config"
)

const frozenLine = "This log has been frozen, please switch to the latest log."

// A shardStatus is what "log status" says of a log.
type shardStatus struct {
	Name, State, Successor string
	Start, End             *time.Time
	Size                   int64
}

func shardStatuses(t *testing.T, config string) map[string]shardStatus {
	t.Helper()
	var out struct{ Logs []shardStatus }
	text := must(t, filepath.Dir(config), "tallywood", "log", "status", "--config", config, "--json")
	if err := json.Unmarshal([]byte(text), &out); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	logs := map[string]shardStatus{}
	for _, l := range out.Logs {
		logs[l.Name] = l
	}
	return logs
}

// TestFreezeAndUndo freezes a log that a server runs, which nothing but the one command takes back.
func TestFreezeAndUndo(t *testing.T) {
	dir := t.TempDir()
	vkey := generateKey(t, dir, "log.pem", "log.example.org")
	writeFile(t, dir, "policy.txt", "log "+vkey+"\nquorum none\n")
	config := writeFile(t, dir, "config.yaml", "address: 127.0.0.1:0\nstorage: file:./objects\nlogs:\n"+
		"  - {name: signatures, kind: rekor, origin: log.example.org, key: file:log.pem, policy: policy.txt} # mine\n")
	log := serveLog(t, config)
	if status, _, body := postEntry(t, log.url); status != http.StatusCreated {
		t.Fatalf("status %d: %s", status, body)
	}
	out := must(t, dir, "tallywood", "log", "freeze", "signatures", "--config", config)
	if !strings.Contains(out, "signatures is frozen since ") || !strings.Contains(out, "with 1 entries") {
		t.Errorf("log freeze printed %q", out)
	}
	for range 2 {
		if status, header, body := postEntry(t, log.url); status != http.StatusMethodNotAllowed || body != frozenLine+"\n" || header.Get("Link") != "" {
			t.Errorf("a frozen log without successor: %d %q", status, body)
		}
		if text := get(t, log.url+"/checkpoint", http.StatusOK); !strings.HasPrefix(text, "log.example.org\n1\n") {
			t.Errorf("its checkpoint is %q", text)
		}
		get(t, log.url+"/readyz", http.StatusOK)
		if st := shardStatuses(t, config)["signatures"]; st.State != "frozen" || st.End == nil || st.Size != 1 {
			t.Errorf("status %+v", st)
		}
		log.stop(t)
		log = serveLog(t, config)
	}
	log.stop(t)
	text := readFile(t, dir, "config.yaml")
	active := regexp.MustCompile(`, state: frozen, end: [^}]*`).ReplaceAllString(text, "")
	if active == text || !strings.HasSuffix(text, "} # mine\n") {
		t.Fatalf("the configuration is:\n%s", text)
	}
	writeFile(t, dir, "config.yaml", active)
	out, code := command(t, dir, "tallywood", "serve", "--config", config)
	if code != 2 || !strings.Contains(out, "was frozen at") || !strings.Contains(out, "tallywood log freeze signatures --undo --config") {
		t.Errorf("a frozen log that is configured as active: exit code %d\n%s", code, out)
	}
	writeFile(t, dir, "config.yaml", text)
	must(t, dir, "tallywood", "log", "freeze", "signatures", "--undo", "--config", config)
	if got := readFile(t, dir, "config.yaml"); !strings.Contains(got, "state: active} # mine") {
		t.Errorf("the configuration is:\n%s", got)
	}
	log = serveLog(t, config)
	if status, _, body := postEntry(t, log.url); status != http.StatusCreated {
		t.Errorf("after it was taken back: %d %s", status, body)
	}
	if st := shardStatuses(t, config)["signatures"]; st.State != "active" || st.End != nil {
		t.Errorf("status %+v", st)
	}
}

// TestRotatingALogAsThePageSays tries the examples of docs/operate.md.
func TestRotatingALogAsThePageSays(t *testing.T) {
	p := openPage(t, "docs/operate.md")
	var commands, shown string
	for _, b := range p.blocks {
		if strings.HasPrefix(b.text, "tallywood log rotate ") {
			commands = b.text
		}
		if strings.HasPrefix(b.text, "logs:\n  - {name: log2026,") {
			shown = b.text
		}
	}
	rotate, status, _ := strings.Cut(commands, "\n")
	_, stop := p.server(t, "tallywood up --address "+freeAddress(t), 0)
	stop()
	if out := p.shell(t, rotate); !strings.Contains(out, "signatures is followed by signatures-2") {
		t.Errorf("rotate printed:\n%s", out)
	}
	p.server(t, "tallywood up", 0)
	eventually(t, "frozen log in the status", func() bool {
		return regexp.MustCompile(`(?m)^signatures +rekor +frozen -> signatures-2 +0 `).MatchString(p.shell(t, status))
	})
	c, err := config.Parse([]byte("address: 127.0.0.1:8090\nstorage: file:./objects\n"+shown), p.dir, os.LookupEnv)
	if err != nil || c.Logs[0].Successor != "log2027" {
		t.Errorf("the page's configuration: %v\n%s", err, shown)
	}
}
