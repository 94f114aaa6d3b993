package deploy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/transparency-dev/tessera/api/layout"
	"go.yaml.in/yaml/v4"

	"tallywood/internal/loopback"
	"tallywood/storage/storagetest"
	"tallywood/witness/policy"
)

// A composition is compose.yaml, as far as this test knows how to do it.
type composition struct {
	Hardened any                `yaml:"x-hardened"`
	Replica  any                `yaml:"x-replica"`
	Witness  any                `yaml:"x-witness"`
	Services map[string]service `yaml:"services"`
	Volumes  map[string]any     `yaml:"volumes"`

	dir   string            // of the file
	hosts map[string]string // "service:port" to the address it has here
}

type service struct {
	Image       string            `yaml:"image"`
	Build       *build            `yaml:"build"`
	Command     []string          `yaml:"command"`
	User        string            `yaml:"user"`
	ReadOnly    bool              `yaml:"read_only"`
	CapDrop     []string          `yaml:"cap_drop"`
	SecurityOpt []string          `yaml:"security_opt"`
	Restart     string            `yaml:"restart"`
	Environment map[string]string `yaml:"environment"`
	EnvFile     []string          `yaml:"env_file"`
	Volumes     []string          `yaml:"volumes"`
	Ports       []string          `yaml:"ports"`
	DependsOn   []string          `yaml:"depends_on"`
}

type build struct{ Context, Dockerfile, Target string }

// compose reads compose.yaml after "prepare" has been run in a copy of its directory by a user who
// is not root, and chooses an address for each service.
func compose(t *testing.T) *composition {
	t.Helper()
	c := &composition{dir: filepath.Join(newDir(t), "deploy"), hosts: map[string]string{}}
	must(t, os.Mkdir(c.dir, 0o755))
	for _, name := range []string{"compose.yaml", "prepare", "compose"} {
		output(t, exec.Command("cp", "-a", name, c.dir))
	}
	const user = 12345
	must(t, os.Chown(c.dir, user, user))
	prepare, up, _ := strings.Cut(strings.TrimSpace(example(t, "sh", "sh deploy/prepare")), "\n")
	if up != "docker compose -f deploy/compose.yaml up --build" {
		t.Errorf("docs/operate.md starts the services with %q", up)
	}
	cmd := exec.Command("sh", "-ec", prepare)
	cmd.Dir = filepath.Dir(c.dir)
	cmd.Env = []string{"PATH=" + programs(t) + ":" + os.Getenv("PATH")}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: user, Gid: user}}
	output(t, cmd)

	text, err := os.ReadFile(filepath.Join(c.dir, "compose.yaml"))
	must(t, err)
	env := environment(t, filepath.Join(c.dir, ".env"))
	if !slices.Equal(env, []string{"TALLYWOOD_UID=12345"}) {
		t.Errorf("prepare sets %v", env)
	}
	for _, e := range env {
		name, value, _ := strings.Cut(e, "=")
		text = bytes.ReplaceAll(text, []byte("${"+name+"}"), []byte(value))
	}
	must(t, yaml.Load(text, c, yaml.WithKnownFields()))
	for name, s := range c.Services {
		c.hosts[name+":"+s.port(t)] = loopback.Address(t)
	}
	return c
}

// programs returns a PATH with the programs of both images.
func programs(t *testing.T) string {
	t.Helper()
	images := built(t)
	return images["tallywood"].root + ":" + images["tallywood-witness"].root
}

// output runs cmd, which must succeed, and returns what it printed.
func output(t *testing.T, cmd *exec.Cmd) string {
	t.Helper()
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %v\n%s", cmd.Args, err, out)
	}
	return string(out)
}

// environment reads a file of NAME=VALUE lines.
func environment(t *testing.T, path string) []string {
	t.Helper()
	text, err := os.ReadFile(path)
	must(t, err)
	return strings.Split(strings.TrimSpace(string(text)), "\n")
}

// image returns the image of a service that is built here, and nil for another.
func (s service) image(t *testing.T) *image {
	t.Helper()
	if s.Build == nil {
		return nil
	}
	if *s.Build != (build{"..", "deploy/Containerfile", s.Image}) {
		t.Fatalf("image %s is built by %+v", s.Image, *s.Build)
	}
	im := built(t)[s.Image]
	if im == nil {
		t.Fatalf("the Containerfile has no stage %s", s.Image)
	}
	return im
}

// port returns the port that a service listens on in its container.
func (s service) port(t *testing.T) string {
	t.Helper()
	if im := s.image(t); im != nil {
		return im.port
	}
	if len(s.Command) < 2 || s.Command[0] != "--port" {
		t.Fatalf("image %s is called with %v; this test looks for --port :PORT", s.Image, s.Command)
	}
	return strings.TrimPrefix(s.Command[1], ":")
}

// local returns text with the names of services, and the address that service itself listens on,
// replaced by what they are here.
func (c *composition) local(t *testing.T, name, text string) string {
	t.Helper()
	port := c.Services[name].port(t)
	own := c.hosts[name+":"+port]
	pairs := []string{"0.0.0.0:" + port, own}
	for host, address := range c.hosts {
		pairs = append(pairs, host, address)
	}
	if text == ":"+port {
		return own
	}
	return strings.NewReplacer(pairs...).Replace(text)
}

// mounts returns the mounts of a service: directories of the example as they are, files with the
// names in them replaced, and empty volumes with the mode that they have in the image.
func (c *composition) mounts(t *testing.T, name string) []mount {
	t.Helper()
	var out []mount
	for _, v := range c.Services[name].Volumes {
		parts := strings.Split(v, ":")
		m := mount{to: parts[1], readOnly: len(parts) == 3 && parts[2] == "ro"}
		if _, named := c.Volumes[parts[0]]; named {
			m.from = filepath.Join(c.dir, "volumes", parts[0])
			if _, err := os.Stat(m.from); errors.Is(err, fs.ErrNotExist) {
				info, err := os.Stat(filepath.Join(c.Services[name].image(t).root, m.to))
				must(t, err, os.MkdirAll(m.from, 0o755), os.Chmod(m.from, info.Mode().Perm()))
			}
			out = append(out, m)
			continue
		}
		m.from = filepath.Join(c.dir, parts[0])
		info, err := os.Stat(m.from)
		must(t, err)
		if !info.IsDir() {
			text, err := os.ReadFile(m.from)
			must(t, err)
			owner := info.Sys().(*syscall.Stat_t)
			m.from = filepath.Join(newDir(t), filepath.Base(m.from))
			must(t, os.WriteFile(m.from, []byte(c.local(t, name, string(text))), 0o600),
				os.Chown(m.from, int(owner.Uid), int(owner.Gid)), os.Chmod(m.from, info.Mode().Perm()))
		}
		out = append(out, m)
	}
	return out
}

// start starts a service.
func (c *composition) start(t *testing.T, name string) *process {
	t.Helper()
	s := c.Services[name]
	userName, group, _ := strings.Cut(s.User, ":")
	user, err := strconv.Atoi(userName)
	must(t, err)
	if !s.ReadOnly || group != "0" || user == 0 || !slices.Equal(s.CapDrop, []string{"ALL"}) ||
		!slices.Equal(s.SecurityOpt, []string{"no-new-privileges:true"}) || s.Restart != "on-failure" {
		t.Errorf("service %s is not confined, or not started again: %+v", name, s)
	}
	var env, args []string
	for _, file := range s.EnvFile {
		env = append(env, environment(t, filepath.Join(c.dir, file))...)
	}
	for key, value := range s.Environment {
		env = append(env, key+"="+c.local(t, name, value))
	}
	im := s.image(t)
	if im != nil && s.Command == nil {
		s.Command = im.command
	}
	for _, arg := range s.Command {
		args = append(args, c.local(t, name, arg))
	}
	if im != nil {
		return container{image: im, user: user, mounts: c.mounts(t, name), env: env, args: args}.start(t)
	}
	if s.Image != "docker.io/versity/versitygw:v1.8.0" {
		t.Fatalf("there is no image %s here", s.Image)
	}
	for _, m := range c.mounts(t, name) { // its program is not static, so it sees the machine's files
		for i := range args {
			if args[i] == m.to {
				args[i] = m.from
			}
		}
	}
	program := filepath.Join(newDir(t), "versitygw")
	output(t, exec.Command("cp", storagetest.VersitygwProgram(t), program))
	cmd := exec.Command(program, args...)
	cmd.Env = env
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(user), Gid: 0}}
	return startProcess(t, cmd)
}

// url returns where a service is reached.
func (c *composition) url(t *testing.T, name string) string {
	t.Helper()
	return "http://" + c.hosts[name+":"+c.Services[name].port(t)]
}

// up starts all services, those that others need first, and returns the replicas' processes.
func (c *composition) up(t *testing.T) map[string]*process {
	t.Helper()
	started := map[string]*process{}
	for len(started) < len(c.Services) {
		before := len(started)
		for name, s := range c.Services {
			if started[name] != nil || slices.ContainsFunc(s.DependsOn, func(n string) bool { return started[n] == nil }) {
				continue
			}
			started[name] = c.start(t, name)
			if s.Build == nil { // engines do not wait either, and start a replica again that came too early
				eventually(t, func() error {
					_, err := get(c.url(t, name))
					if err != nil && strings.HasSuffix(err.Error(), ": 403 Forbidden") { // by who listens, and not in a port
						return nil
					}
					return err
				})
			}
		}
		if len(started) == before {
			t.Fatal("services need each other")
		}
	}
	for name, p := range started {
		if c.Services[name].Build != nil {
			p.awaitLine(t, "ready ")
		}
	}
	return started
}

// TestComposition runs the example: entries are added at each replica and found at the other, and
// adds go on when the one that leads is killed, and when it is back.
func TestComposition(t *testing.T) {
	c := compose(t)
	started := c.up(t)
	text, err := os.ReadFile(filepath.Join(c.dir, "data/policy.txt"))
	must(t, err)
	pol, err := policy.Parse(text)
	must(t, err)
	one, two := "tallywood-1", "tallywood-2"
	for _, name := range []string{one, two} {
		if want := []string{"127.0.0.1:808" + name[len(name)-1:] + ":8080"}; !slices.Equal(c.Services[name].Ports, want) {
			t.Errorf("%s is published at %v; want %v", name, c.Services[name].Ports, want)
		}
	}
	c.addAndFind(t, pol, one, two)
	c.addAndFind(t, pol, two, one)

	leader, other := one, two
	eventually(t, func() error {
		first, second := c.leads(t, one), c.leads(t, two)
		if first == second {
			return fmt.Errorf("%s leads: %v, %s leads: %v", one, first, two, second)
		}
		if second {
			leader, other = two, one
		}
		return nil
	})
	started[leader].kill()
	eventually(t, func() error {
		_, err := tryAdd(c.url(t, other))
		return err
	})
	eventually(t, func() error { // a slow machine may have lost the lead again for a moment
		if !c.leads(t, other) {
			return fmt.Errorf("%s took an entry and does not lead", other)
		}
		return nil
	})
	c.start(t, leader).awaitLine(t, "ready ") // as the engine does
	c.addAndFind(t, pol, leader, other)
	c.addAndFind(t, pol, other, leader)
	started[other].stop(t)
	eventually(t, func() error {
		_, err := tryAdd(c.url(t, leader))
		return err
	})
}

// leads reports whether a replica leads the log.
func (c *composition) leads(t *testing.T, name string) bool {
	t.Helper()
	text, err := get(c.url(t, name) + "/logs/signatures/leader")
	must(t, err)
	var answer struct{ Leading bool }
	must(t, json.Unmarshal([]byte(text), &answer))
	return answer.Leading
}

// addAndFind adds an entry at one replica and waits until the other shows it, under a checkpoint
// with its quorum.
func (c *composition) addAndFind(t *testing.T, pol *policy.Policy, at, from string) {
	t.Helper()
	e := addEntry(t, c.url(t, at))
	if _, err := pol.Open([]byte(e.checkpoint)); err != nil {
		t.Errorf("the receipt of %s: %v", at, err)
	}
	body, signatures, _ := strings.Cut(e.checkpoint, "\n\n")
	for _, lines := range []int{1, 2} { // the log's signature, and one witness's
		few := strings.Join(strings.SplitAfter(signatures, "\n")[:lines], "")
		if _, err := pol.Open([]byte(body + "\n\n" + few)); err == nil {
			t.Errorf("the policy is content with %d of the signatures\n%s", lines, signatures)
		}
	}
	base := c.url(t, from) + "/logs/signatures/"
	eventually(t, func() error {
		note, err := get(base + "checkpoint")
		if err != nil {
			return err
		}
		checkpoint, err := pol.Open([]byte(note))
		if err != nil {
			return err
		}
		if checkpoint.Size() <= e.index {
			return fmt.Errorf("%s shows %d entries; want entry %d", from, checkpoint.Size(), e.index)
		}
		bundle := e.index / layout.EntryBundleWidth
		width := layout.PartialTileSize(0, uint64(bundle), uint64(checkpoint.Size()))
		entries, err := get(base + layout.EntriesPath(uint64(bundle), width))
		if err == nil && !strings.Contains(entries, string(e.body)) {
			err = fmt.Errorf("entry %d of %s is not the one that was added at %s", e.index, from, at)
		}
		return err
	})
}

// TestPrepareReplacesNothing runs it twice.
func TestPrepareReplacesNothing(t *testing.T) {
	dir := newDir(t)
	output(t, exec.Command("cp", "-a", "prepare", dir))
	run := func() (string, error) {
		cmd := exec.Command("sh", filepath.Join(dir, "prepare"))
		cmd.Env = []string{"PATH=" + programs(t) + ":" + os.Getenv("PATH")}
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	must(t, os.MkdirAll(filepath.Join(dir, "data.new", "witness-1"), 0o700)) // one was cut short
	if out, err := run(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	before, err := os.ReadFile(filepath.Join(dir, "data/log.pem"))
	must(t, err)
	if out, err := run(); err == nil || !strings.Contains(out, "keys are never replaced") {
		t.Errorf("the second time: %v\n%s", err, out)
	}
	after, err := os.ReadFile(filepath.Join(dir, "data/log.pem"))
	must(t, err)
	if !bytes.Equal(before, after) {
		t.Error("the key was replaced")
	}
	if left := tree(t, filepath.Join(dir, "data")); left[0] != "drwx------ ." {
		t.Errorf("others can read what it made:\n%s", strings.Join(left, "\n"))
	}
}

var fence = regexp.MustCompile("(?ms)^```([a-z]*)\n(.*?)^```$")

// example returns the block of docs/operate.md of that language that begins like that.
func example(t *testing.T, lang, begins string) string {
	t.Helper()
	for _, b := range examples(t) {
		if b[1] == lang && strings.HasPrefix(b[2], begins) {
			return b[2]
		}
	}
	t.Fatalf("docs/operate.md has no block of %q that begins %q", lang, begins)
	return ""
}

// TestEveryExampleIsTried knows the beginnings of the blocks that the tests here look for, or those of
// internal/e2e.
func TestEveryExampleIsTried(t *testing.T) {
	known := []string{"sh deploy/prepare\n", "tallywood log rotate ", "logs:\n  - {name: log2026,", "witness w1 ", // by internal/e2e
		`install -D -m 0755 "$(go env GOPATH)/bin/tallywood" `,
		`install -D -m 0755 "$(go env GOPATH)/bin/tallywood-witness" `, "address: 127.0.0.1:8090\n"}
	for _, b := range examples(t) {
		if i := slices.IndexFunc(known, func(k string) bool { return strings.HasPrefix(b[2], k) }); i >= 0 {
			known = slices.Delete(known, i, i+1)
			continue
		}
		t.Errorf("docs/operate.md: no test tries this block:\n%s", b[2])
	}
	if len(known) > 0 {
		t.Errorf("docs/operate.md has no blocks that begin %q", known)
	}
}

func examples(t *testing.T) [][]string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(repository, "docs/operate.md"))
	must(t, err)
	return fence.FindAllStringSubmatch(string(text), -1)
}
