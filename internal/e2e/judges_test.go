package e2e_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/transparency-dev/tessera"
	"golang.org/x/mod/sumdb/note"

	"tallywood/internal/loopback"
	"tallywood/storage"
	"tallywood/storage/driver"
	"tallywood/storage/posix"
	"tallywood/storage/s3"
	"tallywood/storage/storagetest"
)

const tesseraVersion = "v1.0.4"

// TestTesserasOwnToolsJudgeOurLogs loads a log on our driver with Tessera's load tool, which reads
// and verifies meanwhile, and has Tessera's fsck read what is left: on a directory and on S3.
func TestTesserasOwnToolsJudgeOurLogs(t *testing.T) {
	hammer := install(t, "github.com/transparency-dev/tessera/internal/hammer", tesseraVersion)
	for name, b := range map[string]storage.Bucket{"directory": openDirectory(t, t.TempDir()), "S3": openS3(t)} {
		t.Run(name, func(t *testing.T) {
			skey, vkey, err := note.GenerateKey(rand.Reader, "log.example.org")
			if err != nil {
				t.Fatal(err)
			}
			signer, err := note.NewSigner(skey)
			if err != nil {
				t.Fatal(err)
			}
			r, err := driver.OpenReplica(t.Context(), driver.Options{
				Bucket: b, Name: "log", Origin: "log.example.org", Layout: driver.TlogTiles(),
				Signers: []note.Signer{signer}, VKeys: []string{vkey}, QuorumTimeout: patience, // the tool takes each refusal for a fault
			})
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(context.Background())
			done := make(chan error, 1)
			go func() { done <- r.Run(ctx) }()
			server := httptest.NewServer(addEndpoint(r, b))
			defer server.Close()
			// The tool reads the bucket, which has a checkpoint later than the replica.
			eventually(t, "checkpoint", func() bool {
				_, _, err := b.Get(t.Context(), "logs/log/checkpoint", storage.Range{})
				return err == nil
			})

			run, stop := context.WithTimeout(t.Context(), 11*time.Minute)
			defer stop()
			out, err := exec.CommandContext(run, hammer, "--log_url", server.URL+"/", "--log_public_key", vkey, "--show_ui=false",
				"--max_read_ops", "200", "--num_writers", "64", "--max_write_ops", "500", "--leaf_write_goal", "2000", "--max_runtime", "10m").CombinedOutput()
			if err != nil || strings.Contains(string(out), "WARN") {
				t.Errorf("hammer: %v\n%s", err, out)
			}
			fsck(t, server.URL+"/", vkey)
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
			fsck(t, server.URL+"/", vkey)
			if p, _ := r.Published(); p.Size < 2000 {
				t.Errorf("the log has %d entries", p.Size)
			}
		})
	}
}

// fsck has Tessera's own tool verify the log below a URL.
func fsck(t *testing.T, logURL, vkey string) {
	t.Helper()
	program := install(t, "github.com/transparency-dev/tessera/cmd/fsck", tesseraVersion)
	key := writeFile(t, t.TempDir(), "vkey", vkey)
	if out, err := exec.Command(program, "--storage_url", logURL, "--public_key", key, "--ui=false", "--N", "8").CombinedOutput(); err != nil {
		t.Errorf("fsck: %v\n%s", err, out)
	}
}

// TestAnyFileServerServesALog puts nginx over logs/ of a stack's bucket.
func TestAnyFileServerServesALog(t *testing.T) {
	nginx, err := exec.LookPath("nginx")
	if err != nil {
		t.Fatal("nginx is missing: apt-get install nginx-light")
	}
	work := t.TempDir()
	s := up(t, filepath.Join(work, "data"))
	for range 3 {
		shell(t, work, s.sign)
	}
	must(t, work, "tallywood", "bench", "log", s.url, "--count", "600", "--concurrency", "16", "--duration", "20s")
	vkey := ""
	for line := range strings.Lines(readFile(t, s.client, "policy.txt")) {
		if words := strings.Fields(line); len(words) > 1 && words[0] == "log" && strings.HasPrefix(words[1], "log.localhost+") {
			vkey = words[1]
		}
	}
	address := loopback.Address(t)
	conf := writeFile(t, work, "nginx.conf", fmt.Sprintf(`daemon off; user root; worker_processes 1; pid %[1]s/pid; error_log stderr;
events {}
http { access_log off; client_body_temp_path %[1]s/a; proxy_temp_path %[1]s/b; fastcgi_temp_path %[1]s/c; uwsgi_temp_path %[1]s/d; scgi_temp_path %[1]s/e;
server { listen %[2]s; root %[3]s/data/objects/logs; } }
`, work, address, work))
	server := exec.Command(nginx, "-c", conf, "-p", work)
	log := &lockedBuffer{}
	server.Stderr = log
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = server.Process.Signal(syscall.SIGTERM) // which ends its worker too
		_ = server.Wait()
	}()
	eventually(t, "answer of nginx", func() bool {
		res, err := http.Get("http://" + address + "/signatures/checkpoint")
		if err != nil {
			return false
		}
		res.Body.Close()
		return res.StatusCode == http.StatusOK
	})
	fsck(t, "http://"+address+"/signatures/", vkey)
	if t.Failed() {
		t.Logf("nginx said:\n%s", log)
	}
}

func openDirectory(t *testing.T, dir string) storage.Bucket {
	t.Helper()
	b, err := posix.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func openS3(t *testing.T) storage.Bucket {
	t.Helper()
	t.Setenv("AWS_ACCESS_KEY_ID", storagetest.AccessKey)
	t.Setenv("AWS_SECRET_ACCESS_KEY", storagetest.SecretKey)
	dir := filepath.Join(t.TempDir(), "server")
	if err := os.MkdirAll(filepath.Join(dir, "bucket"), 0o755); err != nil {
		t.Fatal(err)
	}
	b, err := s3.Open(t.Context(), "s3://bucket/log?endpoint="+url.QueryEscape(storagetest.Versitygw(t, dir)))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// addEndpoint is the small server that Tessera's load tool knows: POST add, and the log's files.
func addEndpoint(r *driver.Replica, b storage.Bucket) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /add", func(w http.ResponseWriter, req *http.Request) {
		data, err := io.ReadAll(io.LimitReader(req.Body, 1<<16))
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		index, err := r.Add(req.Context(), tessera.NewEntry(data))()
		if err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprint(w, index.Index)
	})
	mux.HandleFunc("GET /", func(w http.ResponseWriter, req *http.Request) {
		data, _, err := b.Get(req.Context(), "logs/log"+req.URL.Path, storage.Range{})
		switch {
		case errors.Is(err, fs.ErrNotExist):
			http.NotFound(w, req)
		case err != nil:
			http.Error(w, err.Error(), http.StatusInternalServerError)
		default:
			_, _ = w.Write(data) // the client may be gone
		}
	})
	return mux
}
