package deploy

import (
	"bytes"
	"crypto/x509"
	"debug/elf"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"tallywood/internal/loopback"
)

// repository is the top of the repository, from here.
const repository = ".."

// scratch is a directory that every user may pass through, for all tests.
var scratch string

func TestMain(m *testing.M) { os.Exit(testMain(m)) }

func testMain(m *testing.M) int {
	if os.Geteuid() != 0 {
		fmt.Fprintln(os.Stderr, `these tests run programs as other users in roots of their own, which only root may: go test -exec "sudo -E" ./deploy`)
		return 1
	}
	var err error
	if scratch, err = os.MkdirTemp("", "tallywood-deploy-"); err == nil {
		err = os.Chmod(scratch, 0o755)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(scratch)
	return m.Run()
}

// newDir makes a directory in scratch that every user may look into.
func newDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp(scratch, "")
	must(t, err, os.Chmod(dir, 0o755))
	return dir
}

func must(t *testing.T, errs ...error) {
	t.Helper()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
}

// An image is what a stage of the Containerfile makes.
type image struct {
	root       string // tree of its files
	user       string
	volumes    []string
	port       string
	entrypoint []string
	command    []string
}

var builtOnce = sync.OnceValues(func() (map[string]*image, error) { return buildImages(scratch) })

// built returns the images of the Containerfile by the names of their stages.
func built(t *testing.T) map[string]*image {
	t.Helper()
	images, err := builtOnce()
	must(t, err)
	return images
}

// buildImages does in dir what the Containerfile says: the commands of its first stage in copies of
// the files it copies, with this machine's Go, and the stages from scratch out of that.
func buildImages(dir string) (map[string]*image, error) {
	text, err := os.ReadFile("Containerfile")
	if err != nil {
		return nil, err
	}
	images := map[string]*image{}
	src, out, first := filepath.Join(dir, "src"), filepath.Join(dir, "image"), ""
	var im *image
	continued := regexp.MustCompile(`\\\n\s*`).ReplaceAllString(string(text), "")
	for line := range strings.Lines(continued) {
		word, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		args := strings.Fields(rest)
		var err error
		switch {
		case word == "" || strings.HasPrefix(word, "#"):
		case word == "FROM" && first == "" && len(args) == 3:
			if want := goImage(); args[0] != want {
				return nil, fmt.Errorf("it is built with %s; want %s", args[0], want)
			}
			first = args[2]
		case word == "FROM" && len(args) == 3 && args[0] == "scratch":
			im = &image{root: filepath.Join(out, args[2])}
			images[args[2]] = im
		case im == nil && word == "WORKDIR" && rest == "/src":
			err = os.MkdirAll(src, 0o755)
		case im == nil && word == "COPY":
			err = copyFiles(src, args)
		case im == nil && word == "RUN":
			err = runStep(src, out, rest)
		case im != nil && word == "COPY":
			if want := []string{"--from=" + first, "/image/" + filepath.Base(im.root) + "/", "/"}; !slices.Equal(args, want) {
				err = fmt.Errorf("it copies %v; want %v", args, want)
			}
		case im != nil && word == "USER":
			im.user = rest
		case im != nil && word == "EXPOSE":
			im.port = rest
		case im != nil && word == "VOLUME":
			err = json.Unmarshal([]byte(rest), &im.volumes)
		case im != nil && word == "ENTRYPOINT":
			err = json.Unmarshal([]byte(rest), &im.entrypoint)
		case im != nil && word == "CMD":
			err = json.Unmarshal([]byte(rest), &im.command)
		default:
			err = fmt.Errorf("this test does not know how to do it")
		}
		if err != nil {
			return nil, fmt.Errorf("Containerfile: %s: %w", strings.TrimSpace(line), err)
		}
	}
	return images, nil
}

// goImage is the builder image for the Go that .ci/test runs with.
func goImage() string {
	version, err := exec.Command("go", "env", "GOVERSION").Output()
	if err != nil {
		return err.Error()
	}
	return "docker.io/library/golang:" + strings.TrimPrefix(strings.TrimSpace(string(version)), "go")
}

// copyFiles copies files and directories of the repository as COPY does: the content of a
// directory, into the last of args.
func copyFiles(dir string, args []string) error {
	to := filepath.Join(dir, args[len(args)-1])
	for _, from := range args[:len(args)-1] {
		from = filepath.Join(repository, from)
		if info, err := os.Stat(from); err != nil {
			return err
		} else if info.IsDir() {
			from += "/."
		}
		if err := os.MkdirAll(to, 0o755); err != nil {
			return err
		}
		if out, err := exec.Command("cp", "-a", from, to).CombinedOutput(); err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
	}
	return nil
}

// runStep runs a command of the first stage with out for /image.
func runStep(dir, out, command string) error {
	command = regexp.MustCompile(`--mount=\S+ `).ReplaceAllString(command, "")
	cmd := exec.Command("sh", "-c", strings.ReplaceAll(command, " /image/", " "+out+"/"))
	cmd.Dir = dir
	if output, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w\n%s", err, output)
	}
	return nil
}

// TestImagesHoldAProgramAndCertificatesOnly lists the files of the images.
func TestImagesHoldAProgramAndCertificatesOnly(t *testing.T) {
	want := map[string][]string{
		"tallywood": {"drwxr-xr-x .", "drwxrwx--- cache", "drwxr-xr-x etc", "drwxr-xr-x etc/ssl", "drwxr-xr-x etc/ssl/certs",
			"-rw-r--r-- etc/ssl/certs/ca-certificates.crt", "-rwxr-xr-x tallywood"},
		"tallywood-witness": {"drwxr-xr-x .", "drwxr-xr-x etc", "drwxr-xr-x etc/ssl", "drwxr-xr-x etc/ssl/certs",
			"-rw-r--r-- etc/ssl/certs/ca-certificates.crt", "-rwxr-xr-x tallywood-witness", "drwxrwx--- witness"},
	}
	images := built(t)
	if len(images) != len(want) {
		t.Errorf("the Containerfile makes %d images; want %d", len(images), len(want))
	}
	for name, im := range images {
		if got := tree(t, im.root); !slices.Equal(got, want[name]) {
			t.Errorf("image %s has\n%s\nwant\n%s", name, strings.Join(got, "\n"), strings.Join(want[name], "\n"))
		}
		program, err := elf.Open(filepath.Join(im.root, im.entrypoint[0]))
		must(t, err)
		for _, p := range program.Progs {
			if p.Type == elf.PT_INTERP || p.Type == elf.PT_DYNAMIC {
				t.Errorf("image %s: %s is not static: it has a header %v", name, im.entrypoint[0], p.Type)
			}
		}
		must(t, program.Close())
		rest, err := os.ReadFile(filepath.Join(im.root, "etc/ssl/certs/ca-certificates.crt"))
		must(t, err)
		n := 0
		for block, more := pem.Decode(rest); block != nil; block, more = pem.Decode(more) {
			_, err := x509.ParseCertificate(block.Bytes)
			must(t, err)
			n++
		}
		if n < 50 {
			t.Errorf("image %s has %d CA certificates", name, n)
		}
		if user, group, _ := strings.Cut(im.user, ":"); user == "0" || user == "root" || group != "0" {
			t.Errorf("image %s runs as %q; want a user that is not root, in group 0", name, im.user)
		}
		if info, err := os.Stat(filepath.Join(im.root, im.volumes[0])); len(im.volumes) != 1 || err != nil || !info.IsDir() {
			t.Errorf("image %s has the volumes %v (%v); want one that it has a directory for", name, im.volumes, err)
		}
	}
}

// tree lists what lies below dir, with modes.
func tree(t *testing.T, dir string) []string {
	t.Helper()
	var out []string
	must(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		out = append(out, info.Mode().String()+" "+rel)
		return err
	}))
	slices.SortFunc(out, func(a, b string) int { return strings.Compare(a[11:], b[11:]) })
	return out
}

// TestImageRunsAsAnyUser runs the server as OpenShift does: a user that nobody knows, group 0, a
// read-only root, and the key in a secret that root owns.
func TestImageRunsAsAnyUser(t *testing.T) {
	const user = 1000650000
	dir, s3 := newDir(t), startS3(t)
	vkey := field(t, runProgram(t, dir, "tallywood", "key", "generate", "log.pem", "--origin", "log.example.org"), "vkey ")
	address := loopback.Address(t)
	writeFile(t, dir, "config.yaml", "address: "+address+"\nstorage: s3://bucket/log?endpoint="+s3+"\ncache_dir: /cache\nlogs:\n"+
		"  - {name: signatures, kind: rekor, origin: log.example.org, key: file:log.pem, policy: policy.txt}\n")
	writeFile(t, dir, "policy.txt", "log "+vkey+"\nquorum none\n")
	for _, c := range []struct {
		mode         os.FileMode
		owner, group int
		ok           bool
	}{
		{0o444, 0, 0, false},      // everyone's
		{0o460, 0, 0, false},      // the group may write it
		{0o440, user, 0, false},   // its own, and it lets others read it
		{0o440, 10001, 0, false},  // another user's
		{0o600, user, user, true}, // its own
		{0o440, 0, 0, true},       // a secret
	} {
		key := filepath.Join(dir, "log.pem")
		must(t, os.Chown(key, c.owner, c.group), os.Chmod(key, c.mode))
		cache := newDir(t)
		must(t, os.Chmod(cache, 0o770))
		box := container{image: built(t)["tallywood"], user: user, env: s3Credentials,
			mounts: []mount{{dir, "/etc/tallywood", true}, {cache, "/cache", false}}}
		p := box.start(t)
		if !c.ok {
			if err := p.wait(t); p.cmd.ProcessState.ExitCode() != 2 || !strings.Contains(p.stderr.String(), "private file /etc/tallywood/log.pem has mode") {
				t.Errorf("key of %d:%d with mode %v: it ended with %v\n%s", c.owner, c.group, c.mode, err, p.stderr)
			}
			continue
		}
		p.awaitLine(t, "ready ")
		addEntry(t, "http://"+address)
		p.stop(t)
		if left := tree(t, cache); len(left) < 2 {
			t.Errorf("nothing is in its cache: %v", left)
		}
	}
}

// runProgram runs one of the images' programs in dir, as a user of it, and returns its output.
func runProgram(t *testing.T, dir, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(filepath.Join(built(t)[name].root, name), args...)
	cmd.Dir = dir
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %v\n%s", cmd.Args, err, &stderr)
	}
	return string(out)
}

// field returns the rest of the first line of text that begins with prefix.
func field(t *testing.T, text, prefix string) string {
	t.Helper()
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(strings.TrimSpace(line), prefix); ok {
			return rest
		}
	}
	t.Fatalf("no line begins with %q:\n%s", prefix, text)
	return ""
}

func writeFile(t *testing.T, dir, name, text string) {
	t.Helper()
	must(t, os.MkdirAll(filepath.Join(dir, filepath.Dir(name)), 0o755), os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644))
}
