package deploy

import (
	"bufio"
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"tallywood/storage/storagetest"
)

// patience bounds every wait.
const patience = 3 * time.Minute

// A container is a program in a root of its own that it cannot write, as a user without privileges:
// what a container engine makes of an image, without namespaces for network and processes.
type container struct {
	image  *image
	user   int
	group  int // 0 is what OpenShift gives
	mounts []mount
	env    []string
	args   []string // instead of the image's command
	strace string   // file for the system calls, if they are wanted
}

// A mount shows a file or directory of the machine in the container.
type mount struct {
	from, to string
	readOnly bool
}

// setup makes the container's mounts and becomes its program. It is called with the root, the user
// and group, pairs of ro or rw and a mount point, each already a link to its content, and the
// program.
const setup = `
root=$1; user=$2; shift 2
mount --bind "$root" "$root"
while [ "$1" != -- ]; do
  mount --bind "$2" "$root$3"
  [ "$1" = rw ] || mount -o remount,bind,ro "$root$3"
  shift 3
done
shift
mount -o remount,bind,ro "$root"
umask 077
[ -z "$WATCHDOG_USEC" ] || export WATCHDOG_PID=$$
exec chroot --userspec="$user" --groups= "$root" "$@"
`

// start starts the container's program, which ends with the test.
func (c container) start(t *testing.T) *process {
	t.Helper()
	root := newDir(t)
	linkTree(t, c.image.root, root)
	args := []string{"unshare", "--mount", "--propagation=private", "sh", "-ec", setup, "sh", root, fmt.Sprintf("%d:%d", c.user, c.group)}
	for _, m := range c.mounts {
		makeMountPoint(t, m.from, filepath.Join(root, m.to))
		mode := "rw"
		if m.readOnly {
			mode = "ro"
		}
		args = append(args, mode, m.from, m.to)
	}
	args = append(append(args, "--"), c.image.entrypoint...)
	if c.args == nil {
		c.args = c.image.command
	}
	args = append(args, c.args...)
	if c.strace != "" {
		args = append([]string{"strace", "-D", "-f", "-q", "-s", "16", "-o", c.strace}, args...)
	}
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env = append([]string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/"}, c.env...)
	return startProcess(t, cmd)
}

// linkTree makes at to what is at from, with links to its files.
func linkTree(t *testing.T, from, to string) {
	t.Helper()
	must(t, filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		target := filepath.Join(to, strings.TrimPrefix(path, from))
		if !d.IsDir() {
			return os.Link(path, target)
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if err := os.MkdirAll(target, info.Mode().Perm()); err != nil {
			return err
		}
		return os.Chmod(target, info.Mode().Perm())
	}))
}

// makeMountPoint makes what from can be mounted on, as container engines do.
func makeMountPoint(t *testing.T, from, at string) {
	t.Helper()
	info, err := os.Stat(from)
	must(t, err)
	if info.IsDir() {
		must(t, os.MkdirAll(at, 0o755))
		return
	}
	must(t, os.MkdirAll(filepath.Dir(at), 0o755), os.WriteFile(at, nil, 0o644))
}

// A process is a server under test.
type process struct {
	cmd    *exec.Cmd
	stderr *lockedBuffer
	lines  chan string // of its standard output; closed at its end
	exited chan struct{}
	err    error // of Wait, once exited is closed
}

func startProcess(t *testing.T, cmd *exec.Cmd) *process {
	t.Helper()
	p := &process{cmd: cmd, stderr: new(lockedBuffer), lines: make(chan string, 64), exited: make(chan struct{})}
	cmd.Stderr = p.stderr
	out, err := cmd.StdoutPipe()
	must(t, err, cmd.Start())
	go func() {
		defer close(p.exited)
		defer close(p.lines)
		for sc := bufio.NewScanner(out); sc.Scan(); {
			select {
			case p.lines <- sc.Text():
			default: // nobody reads so much
			}
		}
		p.err = cmd.Wait()
	}()
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("%v said:\n%s", cmd.Args[max(0, len(cmd.Args)-6):], p.stderr)
		}
	})
	return p
}

// kill is kill -9.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // it may have ended by itself
	<-p.exited
}

// wait waits for the end of the process.
func (p *process) wait(t *testing.T) error {
	t.Helper()
	select {
	case <-p.exited:
	case <-time.After(patience):
		t.Fatalf("%v did not end\n%s", p.cmd.Args, p.stderr)
	}
	return p.err
}

// stop ends the process as a manager does, and wants a clean end.
func (p *process) stop(t *testing.T) {
	t.Helper()
	must(t, p.cmd.Process.Signal(syscall.SIGTERM))
	if err := p.wait(t); err != nil {
		t.Errorf("after SIGTERM it ended with %v\n%s", err, p.stderr)
	}
}

// awaitLine waits for a line of its standard output.
func (p *process) awaitLine(t *testing.T, prefix string) {
	t.Helper()
	late := time.After(patience)
	for {
		select {
		case line, ok := <-p.lines:
			if !ok {
				<-p.exited
				t.Fatalf("it ended before it printed %q: %v\n%s", prefix, p.err, p.stderr)
			}
			if strings.HasPrefix(line, prefix) {
				return
			}
		case <-late:
			t.Fatalf("it did not print %q\n%s", prefix, p.stderr)
		}
	}
}

// lockedBuffer is a buffer that a process may still write while it is read.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

var s3Credentials = []string{"AWS_ACCESS_KEY_ID=" + storagetest.AccessKey, "AWS_SECRET_ACCESS_KEY=" + storagetest.SecretKey}

// startS3 starts an S3 server with one bucket, named bucket, and returns its endpoint.
func startS3(t *testing.T) string {
	t.Helper()
	dir := newDir(t)
	must(t, os.Mkdir(filepath.Join(dir, "bucket"), 0o755))
	return storagetest.Versitygw(t, dir)
}

// An entry is one that a log has confirmed.
type entry struct {
	index      int64
	body       []byte
	checkpoint string
}

// addEntry adds a new entry at base. On a slow machine witnesses may take longer than the log waits for
// them: then another one is added.
func addEntry(t *testing.T, base string) entry {
	t.Helper()
	for deadline := time.Now().Add(patience); ; {
		began := time.Now()
		e, err := tryAdd(base)
		if err == nil {
			return e
		}
		late := time.Since(began) > 3*time.Second && strings.Contains(err.Error(), "503 Service Unavailable")
		if !late || time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

func tryAdd(base string) (e entry, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return e, err
	}
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return e, err
	}
	digest := sha256.Sum256(spki)
	sig, err := key.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		return e, err
	}
	b64 := base64.StdEncoding.EncodeToString
	res, err := http.Post(base+"/api/v2/log/entries", "application/json", strings.NewReader(fmt.Sprintf(
		`{"hashedRekordRequestV002":{"digest":%q,"signature":{"content":%q,"verifier":{"publicKey":{"rawBytes":%q},"keyDetails":"PKIX_ECDSA_P256_SHA_256"}}}}`,
		b64(digest[:]), b64(sig), b64(spki))))
	if err != nil {
		return e, err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		return e, err
	}
	if res.StatusCode != http.StatusCreated {
		return e, fmt.Errorf("adding an entry at %s: %s\n%s", base, res.Status, text)
	}
	var answer struct {
		LogIndex          string
		CanonicalizedBody []byte
		InclusionProof    struct{ Checkpoint struct{ Envelope string } }
	}
	if err := json.Unmarshal(text, &answer); err != nil {
		return e, err
	}
	e.body, e.checkpoint = answer.CanonicalizedBody, answer.InclusionProof.Checkpoint.Envelope
	e.index, err = strconv.ParseInt(answer.LogIndex, 10, 64)
	return e, err
}

// get fetches a URL; whatever goes wrong is an error.
func get(url string) (string, error) {
	res, err := http.Get(url)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("GET %s: %s", url, res.Status)
	}
	return string(text), err
}

// eventually waits until try returns nil.
func eventually(t *testing.T, try func() error) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		err := try()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not in time: %v", err)
		}
	}
}
