package e2e_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"tallywood/internal/config"
	"tallywood/internal/loopback"
	"tallywood/witness/policy"
)

// repository is the top of the repository, from here.
const repository = "../.."

// A block is a fenced block of a page.
type block struct {
	lang, text string
}

// A page is a page of documentation whose examples a test works through from top to bottom, as a
// reader does, in a directory of its own.
type page struct {
	name   string
	blocks []block
	dir    string
	swap   *strings.Replacer // what readers put for an example: addresses, vkeys
	env    []string
}

// openPage reads a page.
func openPage(t *testing.T, name string) *page {
	t.Helper()
	p := &page{name: name, dir: t.TempDir(), swap: strings.NewReplacer(), env: cleanEnv(t)}
	var b *block
	for line := range strings.Lines(readFile(t, repository, name)) {
		switch fence, ok := strings.CutPrefix(line, "```"); {
		case ok && b == nil:
			b = &block{lang: strings.TrimSpace(fence)}
		case ok:
			p.blocks = append(p.blocks, *b)
			b = nil
		case b != nil:
			b.text += line
		}
	}
	if b != nil {
		t.Fatalf("%s: the last block has no end", name)
	}
	return p
}

// next takes the next block of the page, which must be of that language and begin like that, and
// returns it with the example's names replaced.
func (p *page) next(t *testing.T, lang, begins string) string {
	t.Helper()
	if len(p.blocks) == 0 {
		t.Fatalf("%s has no more blocks; want one that begins %q", p.name, begins)
	}
	b := p.blocks[0]
	p.blocks = p.blocks[1:]
	if b.lang != lang || !strings.HasPrefix(b.text, begins) {
		t.Fatalf("%s: the next block is %q\n%s\nwant one of %q that begins %q", p.name, b.lang, b.text, lang, begins)
	}
	return p.swap.Replace(b.text)
}

// done checks that no example is left that nobody tried.
func (p *page) done(t *testing.T) {
	t.Helper()
	for _, b := range p.blocks {
		t.Errorf("%s: no test tries this block:\n%s", p.name, b.text)
	}
}

// file saves the next block as a file of the reader's.
func (p *page) file(t *testing.T, name, lang, begins string) {
	t.Helper()
	writeFile(t, p.dir, name, p.next(t, lang, begins))
}

// shell runs commands as a reader does, in one shell, and wants all of them to succeed.
func (p *page) shell(t *testing.T, commands string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "sh", "-e", "-c", commands)
	cmd.Dir, cmd.Env = p.dir, p.env
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s\n%s", p.name, err, commands, out)
	}
	return string(out)
}

// server starts a command that goes on, and returns the lines of its standard output up to the
// one that says "ready", and more after it. stop ends it as Ctrl-C does.
func (p *page) server(t *testing.T, command string, more int) (lines []string, stop func()) {
	t.Helper()
	cmd := exec.Command("sh", "-c", "exec "+command)
	cmd.Dir, cmd.Env = p.dir, p.env
	stderr := &lockedBuffer{}
	cmd.Stderr = stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		// An error of the signal shows in how it ends.
		_ = cmd.Process.Signal(syscall.SIGINT)
		if err := cmd.Wait(); err != nil {
			t.Errorf("%s: %s ended with %v\n%s", p.name, command, err, stderr)
		}
	}
	t.Cleanup(stop)
	sc := bufio.NewScanner(out)
	for ready := false; !ready || more >= 0; {
		if !sc.Scan() {
			stopped = true
			t.Fatalf("%s: %s was not ready: %v\n%s", p.name, command, cmd.Wait(), stderr)
		}
		if ready = ready || strings.HasPrefix(sc.Text(), "ready"); ready {
			lines = append(lines, sc.Text())
			more--
		}
	}
	go func() { _, _ = io.Copy(io.Discard, out) }()
	return lines, stop
}

// install runs the commands of a block that install programs: ours from the repository, others
// from the module proxy, all into the tests' own directory.
func (p *page) install(t *testing.T, commands string) {
	t.Helper()
	for line := range strings.Lines(commands) {
		args := strings.Fields(line)
		if len(args) != 3 || args[0] != "go" || args[1] != "install" {
			t.Fatalf("%s: %q installs nothing", p.name, line)
		}
		if pkg, version, ok := strings.Cut(args[2], "@"); ok {
			if pkg != cosignPackage || version != cosignVersion {
				t.Errorf("%s installs %s; the tests use %s@%s", p.name, args[2], cosignPackage, cosignVersion)
			}
			install(t, pkg, version)
			continue
		}
		cmd := exec.Command("go", args[1:]...)
		cmd.Dir, cmd.Env = repository, append(os.Environ(), "GOBIN="+t.TempDir(), "GOFLAGS="+os.Getenv("GOFLAGS")+" -buildvcs=false")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %s: %v\n%s", p.name, line, err, out)
		}
	}
}

// exampleVKeys are vkeys as the pages write them.
const (
	exampleLog     = "log.example.org+…"
	exampleWitness = "witness.example.org+…"
)

// TestReadme does what the README says, from the first command to the last.
func TestReadme(t *testing.T) {
	p := openPage(t, "README.md")
	stack, login, witness := loopback.Address(t), loopback.Address(t), loopback.Address(t)
	p.swap = strings.NewReplacer("127.0.0.1:8080", stack, "127.0.0.1:8090", login, "127.0.0.1:7380", witness)

	// Try it. The repository's directory is not written to; "go run" is the program under test.
	if got, want := p.next(t, "sh", "go run"), "go run ./cmd/tallywood up\n"; got != want {
		t.Errorf("it begins with %q; want %q", got, want)
	}
	lines, stop := p.server(t, "tallywood up --address "+stack, 2)
	for _, line := range lines[1:] {
		p.shell(t, line)
	}
	p.install(t, p.next(t, "sh", "go install ./cmd/..."))
	if out := p.shell(t, p.next(t, "sh", ". ./tallywood-data/client/env\n")); !strings.Contains(out, "Verified OK") || !strings.Contains(out, "verified: signed by you@example.com") {
		t.Errorf("cosign's demo printed:\n%s", out)
	}
	stop()
	p.next(t, "", " client --id token-->") // the picture

	// Host a log.
	vkey := p.vkey(t, p.shell(t, p.next(t, "sh", "tallywood key generate")))
	p.swap = strings.NewReplacer("127.0.0.1:8090", login, "127.0.0.1:7380", witness, exampleLog, vkey)
	p.file(t, "policy.txt", "", "log ")
	p.file(t, "config.yaml", "yaml", "address: ")
	check, serve, _ := strings.Cut(p.next(t, "sh", "tallywood config check"), "\n")
	p.shell(t, check)
	lines, stop = p.server(t, serve, 0)
	if want := "ready http://" + login; lines[0] != want {
		t.Errorf("the log said %q; want %q", lines[0], want)
	}
	addEntry(t, "http://"+login)
	stop()

	// Host a log of anything.
	p.swap = strings.NewReplacer("127.0.0.1:8091", loopback.Address(t), "127.0.0.1:7380", witness, exampleLog, vkey)
	p.shell(t, p.next(t, "sh", "tallywood key generate releases.pem"))
	p.file(t, "releases.yaml", "yaml", "address: ")
	_, stop = p.server(t, strings.TrimSpace(p.next(t, "sh", "tallywood serve --config releases.yaml")), 0)
	if out := p.shell(t, p.next(t, "sh", "sha256sum hello.txt")); !strings.Contains(out, "verified: entry 0 of releases.example.org") {
		t.Errorf("the proof's demo printed:\n%s", out)
	}
	stop()

	// Run a witness.
	p.file(t, "logs.txt", "", "logs/v0\n")
	initialize, serve, _ := strings.Cut(p.next(t, "sh", "tallywood-witness init"), "\n")
	p.shell(t, initialize)
	_, stop = p.server(t, serve, 0)
	if page := get(t, "http://"+witness+"/", 200); !strings.Contains(page, "witness.example.org") || !strings.Contains(page, "log.example.org") {
		t.Errorf("the witness's page is:\n%s", page)
	}
	stop()

	// Get alerts. The second start in the same directory goes on where the first was.
	_, stop = p.server(t, p.next(t, "sh", "tallywood up --watch"), 0)
	p.shell(t, `. ./tallywood-data/client/env
tallywood sign hello.txt --yes --identity-token "$TALLYWOOD_OIDC_ISSUER/token?email=alice@example.com"`)
	eventually(t, "event for alice", func() bool {
		data, err := os.ReadFile(filepath.Join(p.dir, "tallywood-data/events.jsonl"))
		return err == nil && strings.Contains(string(data), "alice@example.com")
	})
	stop()

	// Test it: what runs this test cannot be run by it.
	if got := p.next(t, "sh", ".ci/test"); got != ".ci/test\n" {
		t.Errorf("the tests are started with %q", got)
	}
	p.done(t)
}

// vkey finds the vkey that "key generate" or "init" printed.
func (p *page) vkey(t *testing.T, out string) string {
	t.Helper()
	for line := range strings.Lines(out) {
		line = strings.TrimPrefix(strings.TrimSpace(line), "vkey ")
		if _, err := policy.ParseVKey(line); err == nil {
			return line
		}
	}
	t.Fatalf("%s: no vkey in:\n%s", p.name, out)
	return ""
}

// TestWitnessPage runs a witness as the page says, and has it cosign a log with the page's policy.
func TestWitnessPage(t *testing.T) {
	p := openPage(t, "docs/witness.md")
	witness := loopback.Address(t)
	logVKey := p.vkey(t, p.shell(t, "tallywood key generate log.pem --origin log.example.org"))
	p.swap = strings.NewReplacer("127.0.0.1:7380", witness, exampleLog, logVKey)
	initialize, serve, _ := strings.Cut(p.next(t, "sh", "tallywood-witness init"), "\n")
	witnessVKey := p.vkey(t, p.shell(t, initialize))
	p.file(t, "logs.txt", "", "logs/v0\n")
	p.server(t, serve, 0)

	p.swap = strings.NewReplacer("127.0.0.1:7380", witness, exampleLog, logVKey, exampleWitness, witnessVKey)
	text := p.next(t, "", "log ")
	writeFile(t, p.dir, "policy.txt", text)
	pol, err := policy.Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	config := writeFile(t, p.dir, "config.yaml", "address: 127.0.0.1:0\nstorage: file:./objects\nlogs:\n"+
		"  - {name: signatures, kind: rekor, origin: log.example.org, key: file:log.pem, policy: policy.txt}\n")
	wantCosigned(t, pol, addEntry(t, serveLog(t, config).url), 1)
	if out := p.shell(t, p.next(t, "sh", "tallywood-witness logs add")); !strings.Contains(out, "log.example.org: added") || !strings.Contains(out, "log.example.org  1 ") {
		t.Errorf("logs add and list printed:\n%s", out)
	}
	p.done(t)
}

// TestAlertsPage has its configuration checked, with all the files that it names.
func TestAlertsPage(t *testing.T) {
	p := openPage(t, "docs/monitor-alerts.md")
	vkey := p.vkey(t, p.shell(t, "tallywood key generate log.pem --origin log.example.org"))
	writeFile(t, p.dir, "policy.txt", "log "+vkey+"\nquorum none\n")
	p.swap = strings.NewReplacer(exampleLog, vkey)
	p.file(t, "monitor.yaml", "yaml", "state: ")
	writeFile(t, p.dir, "hook.key", "whsec_"+strings.Repeat("c2VjcmV0", 4)+"\n")
	writeFile(t, p.dir, "slack.url", "https://hooks.slack.com/services/T0/B0/secret\n")
	writeFile(t, p.dir, "smtp.password", "secret\n")
	writeFile(t, p.dir, "github.token", "secret\n")
	writeFile(t, p.dir, "switch.url", "https://switch.example.org/secret\n")
	if err := os.Chmod(writeFile(t, p.dir, "page-me", "#!/bin/sh\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	p.shell(t, "tallywood config check --monitor monitor.yaml")
	p.done(t)
}

// TestOtherPagesHaveNoExamples keeps a page with a new example from going untested. Those of
// docs/operate.md are tried by the tests of deploy.
func TestOtherPagesHaveNoExamples(t *testing.T) {
	for _, name := range pages(t) {
		if slices.Contains([]string{"README.md", "docs/witness.md", "docs/monitor.md", "docs/monitor-authorize.md", "docs/monitor-alerts.md", "docs/storage.md", "docs/operate.md", "docs/verify.md", "docs/network.md", witnessReadme}, name) {
			continue
		}
		for _, b := range openPage(t, name).blocks {
			if b.lang != "" {
				t.Errorf("%s has an example that no test tries:\n%s", name, b.text)
			}
		}
	}
}

// pages are the pages that a user reads.
func pages(t *testing.T) []string {
	t.Helper()
	docs, err := filepath.Glob(filepath.Join(repository, "docs", "*.md"))
	if err != nil || len(docs) < 4 {
		t.Fatalf("found the pages %v, %v", docs, err)
	}
	names := []string{"README.md", "NEWS.md", witnessReadme}
	for _, path := range docs {
		names = append(names, "docs/"+filepath.Base(path))
	}
	return names
}

var (
	mention = regexp.MustCompile(`(tallywood(?:-witness)?) ([a-z][a-z-]*)((?: [^\n` + "`" + `]*)?)`)
	flagged = regexp.MustCompile(`--([a-z][a-z0-9-]*)`)
)

// TestCommandsAndFlagsInThePagesExist asks the programs' help for each that a page mentions.
func TestCommandsAndFlagsInThePagesExist(t *testing.T) {
	mentions := 0
	for _, name := range pages(t) {
		text := strings.ReplaceAll(readFile(t, repository, name), "\\\n", " ")
		for _, m := range mention.FindAllStringSubmatch(codeOf(text), -1) {
			mentions++
			if m[1]+" "+m[2] == "tallywood authorizations" {
				continue // the first line of a manifest
			}
			for _, command := range strings.Split(m[2], "|") {
				help, code := helpOf(t, m[1], strings.Fields(command+" "+subcommand(m[2], m[3]))...)
				if code != 0 {
					t.Errorf("%s mentions %q, which is no command", name, m[1]+" "+command)
					continue
				}
				for _, f := range flagged.FindAllStringSubmatch(m[3], -1) {
					if !strings.Contains(help, "--"+f[1]+" ") && !strings.Contains(help, "--"+f[1]+"\n") {
						t.Errorf("%s mentions --%s of %q, which its help does not", name, f[1], m[1]+" "+command)
					}
				}
			}
		}
	}
	if mentions < 20 {
		t.Errorf("found %d commands in the pages; the test does not read them", mentions)
	}
}

// subcommand returns the word after a command of which each subcommand has flags of its own.
func subcommand(name, rest string) string {
	words := strings.Fields(rest)
	if name != "monitor" || len(words) == 0 || !regexp.MustCompile(`^[a-z][a-z-]*$`).MatchString(words[0]) {
		return ""
	}
	return words[0]
}

// helpOf returns the help of a command and the exit code of asking for it.
func helpOf(t *testing.T, program string, words ...string) (string, int) {
	t.Helper()
	if program == "tallywood-witness" && (words[0] == "version" || words[0] == "help") {
		return command(t, t.TempDir(), program, words[0])
	}
	return command(t, t.TempDir(), append(append([]string{program}, words...), "--help")...)
}

// codeOf returns the code in a page, inline and fenced, one piece a line.
func codeOf(text string) string {
	var out strings.Builder
	fenced := false
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "```") {
			fenced = !fenced
			continue
		}
		if fenced {
			out.WriteString(line)
			continue
		}
		for i, piece := range strings.Split(strings.TrimSpace(line), "`") {
			if i%2 == 1 {
				fmt.Fprintln(&out, piece)
			}
		}
	}
	return out.String()
}

// TestEveryKeyIsInThePages compares the tables with what the configuration decodes.
func TestEveryKeyIsInThePages(t *testing.T) {
	for name, of := range map[string]any{"docs/operate.md": config.Config{}, "docs/monitor*.md": config.Monitor{}} {
		paths, err := filepath.Glob(filepath.Join(repository, name))
		if err != nil || len(paths) == 0 {
			t.Fatalf("found no %s: %v", name, err)
		}
		text := ""
		for _, path := range paths {
			text += readFile(t, filepath.Dir(path), filepath.Base(path))
		}
		for _, key := range yamlKeys(reflect.TypeOf(of)) {
			if !regexp.MustCompile("`([a-z*]+\\.)*" + key + "(\\[\\])?`").MatchString(text) {
				t.Errorf("%s does not explain the key %q", name, key)
			}
		}
	}
}

// yamlKeys returns the keys of a struct type and of those inside it.
func yamlKeys(t reflect.Type) []string {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice || t.Kind() == reflect.Map {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct {
		return nil
	}
	var out []string
	for i := range t.NumField() {
		f := t.Field(i)
		if key, _, _ := strings.Cut(f.Tag.Get("yaml"), ","); key != "" && key != "-" {
			out = append(append(out, key), yamlKeys(f.Type)...)
		}
	}
	return out
}

// TestLinksLeadSomewhere follows the links between the pages, looks for gaps that were to be filled
// in, and counts the README's lines.
func TestLinksLeadSomewhere(t *testing.T) {
	for _, name := range pages(t) {
		for _, m := range regexp.MustCompile(`\]\(([^)#:]+)(#[^)]*)?\)`).FindAllStringSubmatch(readFile(t, repository, name), -1) {
			if _, err := os.Stat(filepath.Join(repository, filepath.Dir(name), m[1])); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		if gap := regexp.MustCompile(`@[A-Z]+@`).FindString(readFile(t, repository, name)); gap != "" {
			t.Errorf("%s: nothing stands yet for %s", name, gap)
		}
	}
	if n := strings.Count(readFile(t, repository, "README.md"), "\n"); n > 200 {
		t.Errorf("the README has %d lines; 200 are what a stranger reads", n)
	}
}

// TestPathsInThePagesAnswer asks a stack for each path of the table that has no variable part.
func TestPathsInThePagesAnswer(t *testing.T) {
	s := up(t, filepath.Join(t.TempDir(), "data"))
	table := regexp.MustCompile("(?m)^\\| (`/.*?) \\|").FindAllStringSubmatch(readFile(t, repository, "docs/operate.md"), -1)
	asked := 0
	for _, row := range table {
		for i, path := range strings.Split(row[1], "`") {
			if i%2 == 0 || strings.Contains(path, "…") {
				continue
			}
			asked++
			if status := statusOf(t, s.url+path); status == 404 || status >= 500 {
				t.Errorf("GET %s: status %d", path, status)
			}
		}
	}
	if asked < 12 {
		t.Errorf("found %d paths in docs/operate.md; the test does not read it", asked)
	}
}
