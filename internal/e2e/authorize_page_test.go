package e2e_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"
)

// A workflow is as much of a GitHub workflow as the page's example has.
type workflow struct {
	Jobs map[string]struct {
		Steps []struct {
			Name, Uses, Run string
			Env             map[string]string
		}
	}
}

// A forge plays the service that the page's workflow runs on: a repository with its branch of
// manifests, tokens of identity, and a secret.
type forge struct {
	t      *testing.T
	page   *page
	work   string // the checkout
	temp   string
	bare   string
	server *httptest.Server
}

func newForge(t *testing.T, p *page, s *stack) *forge {
	t.Helper()
	f := &forge{t: t, page: p, work: filepath.Join(p.dir, "checkout"), temp: t.TempDir(), bare: filepath.Join(t.TempDir(), "tool.git")}
	f.git(p.dir, "init", "-q", "--bare", f.bare)
	f.git(p.dir, "clone", "-q", f.bare, f.work)
	f.git(f.work, "switch", "-q", "--orphan", "releases")
	f.git(f.work, "commit", "-q", "--allow-empty", "-m", "manifests")
	f.git(f.work, "push", "-q", "origin", "releases")
	f.git(f.work, "switch", "-q", "--orphan", "main")
	writeFile(t, f.work, "Makefile", "all:\n\tmkdir dist\n\techo program >dist/tool\n")
	f.git(f.work, "add", "Makefile")
	f.git(f.work, "commit", "-q", "-m", "tool")
	token := s.token(t, "alice@example.com")
	mux := http.NewServeMux()
	mux.HandleFunc("GET /token", func(w http.ResponseWriter, r *http.Request) {
		_ = json.NewEncoder(w).Encode(map[string]string{"value": token})
	})
	mux.HandleFunc("GET /example/tool/releases/releases.txt", func(w http.ResponseWriter, r *http.Request) {
		out, err := exec.Command("git", "-C", f.bare, "show", "releases:releases.txt").Output()
		if err != nil {
			http.NotFound(w, r)
			return
		}
		_, _ = w.Write(out)
	})
	f.server = httptest.NewServer(mux)
	t.Cleanup(f.server.Close)
	return f
}

func (f *forge) git(dir string, args ...string) string {
	f.t.Helper()
	cmd := exec.Command("git", append([]string{"-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "init.defaultBranch=main"}, args...)...)
	cmd.Dir, cmd.Env = dir, f.page.env
	out, err := cmd.CombinedOutput()
	if err != nil {
		f.t.Fatalf("git %q: %v\n%s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// run runs the steps of the only job of a workflow, as a push of a tag does.
func (f *forge) run(text, secret string, s *stack) (output string) {
	f.t.Helper()
	var w workflow
	if err := yaml.Load([]byte(text), &w); err != nil || len(w.Jobs) != 1 {
		f.t.Fatalf("the workflow has %d jobs, %v", len(w.Jobs), err)
	}
	env := append(f.page.env, "GITHUB_ACTIONS=true", "GITHUB_SERVER_URL=https://github.com", "GITHUB_REPOSITORY=example/tool",
		"GITHUB_RUN_ID=7", "GITHUB_RUN_ATTEMPT=1", "GITHUB_REF=refs/tags/v1.0.0", "GITHUB_REF_NAME=v1.0.0",
		"GITHUB_SHA="+f.git(f.work, "rev-parse", "HEAD"), "RUNNER_TEMP="+f.temp, "TALLYWOOD_TRUST="+s.client,
		"ACTIONS_ID_TOKEN_REQUEST_URL="+f.server.URL+"/token?v=1", "ACTIONS_ID_TOKEN_REQUEST_TOKEN=t")
	for _, job := range w.Jobs {
		for _, step := range job.Steps {
			if step.Uses != "" {
				continue // newForge has checked it out
			}
			cmd := exec.Command("sh", "-e", "-c", step.Run)
			cmd.Dir, cmd.Env = f.work, env
			for name, value := range step.Env {
				cmd.Env = append(cmd.Env, name+"="+strings.ReplaceAll(value, "${{ secrets.RELEASE_KEY }}", secret))
			}
			out, err := cmd.CombinedOutput()
			if err != nil {
				f.t.Fatalf("step %q: %v\n%s", step.Name, err, out)
			}
			output += string(out)
		}
	}
	return output
}

// TestAuthorizePage has the page's pipeline release something, and the page's monitor watch: it is
// silent about the release, and about something else once that is said to have been us.
func TestAuthorizePage(t *testing.T) {
	p := openPage(t, "docs/monitor-authorize.md")
	s := up(t, filepath.Join(t.TempDir(), "data"))
	f := newForge(t, p, s)
	p.shell(t, p.next(t, "sh", "tallywood key generate release.pem"))
	out := f.run(p.next(t, "yaml", "name: release"), readFile(t, p.dir, "release.pem"), s)
	for _, want := range []string{"authorized digest sha256:", "authorized run https://github.com/example/tool/actions/runs/7/attempts/1",
		"authorized tag refs/tags/v1.0.0", "releases.txt: serial 1, 4 statements", "signed as alice@example.com"} {
		if !strings.Contains(out, want) {
			t.Errorf("the job did not print %q:\n%s", want, out)
		}
	}
	if _, err := os.Stat(filepath.Join(f.temp, "release.pem")); !os.IsNotExist(err) {
		t.Errorf("the key is left on the runner: %v", err)
	}
	var vkey string
	for line := range strings.Lines(readFile(t, s.client, "policy.txt")) {
		if w := strings.Fields(line); len(w) > 1 && w[0] == "log" && strings.HasPrefix(w[1], "log.localhost+") {
			vkey = w[1]
		}
	}
	writeFile(t, p.dir, "policy.txt", readFile(t, s.client, "policy.txt"))
	p.swap = strings.NewReplacer(exampleLog, vkey, "https://log.example.org", s.url, "origin: log.example.org", "origin: log.localhost",
		"github: example/tool", "email: alice@example.com", "https://token.actions.githubusercontent.com", s.issuer(),
		"https://raw.githubusercontent.com", f.server.URL, "required: true", "required: true\n        grace: 1ms")
	p.file(t, "monitor.yaml", "yaml", "state: ")
	awaitSize(t, s.url, 1)
	p.shell(t, "tallywood monitor check --config monitor.yaml")

	surprise := writeFile(t, p.dir, "surprise", "x")
	must(t, p.dir, "tallywood", "sign", surprise, "--yes", "--trust", s.client, "--identity-token", s.token(t, "alice@example.com"))
	awaitSize(t, s.url, 2)
	if out, code := command(t, p.dir, "tallywood", "monitor", "check", "--config", "monitor.yaml"); code != 3 || !strings.Contains(out, "critical: id.unauthorized") {
		t.Fatalf("exit code %d; want 3\n%s", code, out)
	}
	var e event
	if err := json.Unmarshal([]byte(readFile(t, p.dir, "events.jsonl")), &e); err != nil {
		t.Fatal(err)
	}
	wantEvidence(t, e)
	p.swap = strings.NewReplacer("0123456789abcdef0123456789abcdef", e.ID)
	writeFile(t, p.dir, "releases.txt", f.git(f.bare, "show", "releases:releases.txt")+"\n")
	out = p.shell(t, p.next(t, "sh", "tallywood monitor authorize"))
	if want := fmt.Sprintf("(event %.8s, id.unauthorized)\nreleases.txt: serial 2, 5 statements", e.ID); !strings.Contains(out, want) {
		t.Errorf("printed\n%s\nwant %q in it", out, want)
	}
	p.next(t, "", "tallywood authorizations v1")
	p.done(t)
}
