package e2e_test

import (
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"tallywood/internal/loopback"
	"tallywood/storage/storagetest"
)

var (
	longLog    = flag.Int64("long-log", 70_000, "how many entries the long log has; another has a tenth of them")
	storeDelay = flag.Duration("store-delay", 0, "how much longer each request to the store of these two takes")
)

const longOrigin = "long.example.org"

// A store is an S3 server behind a proxy that counts what is read, and can hold back full entry bundles.
type store struct {
	gets    atomic.Int64
	bundles atomic.Int64 // how many are let through; negative: all
	server  *httptest.Server
	direct  string // without the proxy
}

func newStore(t *testing.T) *store {
	t.Helper()
	t.Setenv("AWS_ACCESS_KEY_ID", storagetest.AccessKey)
	t.Setenv("AWS_SECRET_ACCESS_KEY", storagetest.SecretKey)
	dir := filepath.Join(t.TempDir(), "server")
	if err := os.MkdirAll(filepath.Join(dir, "bucket"), 0o755); err != nil {
		t.Fatal(err)
	}
	s := &store{direct: storagetest.Versitygw(t, dir)}
	s.bundles.Store(-1)
	target, err := url.Parse(s.direct)
	if err != nil {
		t.Fatal(err)
	}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.Out.Host = r.In.Host // it is signed
		},
		Transport: &http.Transport{MaxIdleConnsPerHost: 256},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) { // its client has left
			w.WriteHeader(http.StatusBadGateway)
		},
	}
	s.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(*storeDelay)
		if r.Method == http.MethodGet {
			s.gets.Add(1)
			if strings.Contains(r.URL.Path, "/tile/entries/") && !strings.Contains(r.URL.Path, ".p/") {
				s.hold(r)
			}
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(s.server.Close)
	return s
}

// hold waits until another bundle is let through, or nobody waits for it any more.
func (s *store) hold(r *http.Request) {
	for {
		n := s.bundles.Load()
		if n < 0 || n > 0 && s.bundles.CompareAndSwap(n, n-1) {
			return
		}
		select {
		case <-time.After(5 * time.Millisecond):
		case <-r.Context().Done():
			return
		}
	}
}

func (s *store) url(endpoint, prefix string) string {
	return "s3://bucket/" + prefix + "?endpoint=" + url.QueryEscape(endpoint)
}

// fill makes a log of size entries in the store and returns the configurations of two replicas of it,
// without duplicate indexes.
func (s *store) fill(t *testing.T, dir, prefix string, size int64) (configs, urls, metrics [2]string) {
	t.Helper()
	shell := &page{dir: dir, env: cleanEnv(t, "AWS_ACCESS_KEY_ID="+storagetest.AccessKey, "AWS_SECRET_ACCESS_KEY="+storagetest.SecretKey)}
	out := shell.shell(t, fmt.Sprintf("tallywood bench fill '%s' --key log.pem --origin %s --entries %d", s.url(s.direct, prefix), longOrigin, size))
	t.Logf("%s", strings.TrimSpace(out))
	if !strings.Contains(out, fmt.Sprintf("filled %s: %d entries, ", longOrigin, size)) {
		t.Fatalf("bench fill printed:\n%s", out)
	}
	for i := range configs {
		address, other := loopback.Address(t), loopback.Address(t)
		urls[i], metrics[i] = "http://"+address, "http://"+other+"/metrics"
		configs[i] = writeFile(t, dir, fmt.Sprintf("%s-%d.yaml", prefix, i), "address: "+address+"\nmetrics_address: "+other+"\n"+
			"storage: "+s.url(s.server.URL, prefix)+"\ncache_dir: "+filepath.Join(dir, fmt.Sprintf("cache-%s-%d", prefix, i))+"\nlogs:\n"+
			"  - {name: signatures, kind: rekor, origin: "+longOrigin+", key: file:log.pem, policy: policy.txt}\n")
	}
	return configs, urls, metrics
}

// A started server is one that may not be ready yet.
type started struct {
	process *process
	err     error
}

// begin starts a server without waiting for it.
func begin(config string) <-chan started {
	c := make(chan started, 1)
	go func() {
		p, err := tryStart(0, "tallywood", "serve", "--config", config)
		c <- started{p, err}
	}()
	return c
}

// A startup is what a start took.
type startup struct {
	took   time.Duration // from exec to the ready line
	gets   int64
	memory int64 // peak of the resident set, in KiB
}

// startup starts a server with its duplicate index intact and stops it, or kills it.
func (s *store) startup(t *testing.T, config string, kill bool) (u startup) {
	t.Helper()
	before, begun := s.gets.Load(), time.Now()
	p := start(t, 0, "tallywood", "serve", "--config", config)
	u.took, u.gets = time.Since(begun), s.gets.Load()-before
	status := readFile(t, "/proc", strconv.Itoa(p.cmd.Process.Pid)+"/status")
	if m := regexp.MustCompile(`VmHWM:\s+(\d+) kB`).FindStringSubmatch(status); m != nil {
		u.memory, _ = strconv.ParseInt(m[1], 10, 64)
	}
	if u.memory == 0 {
		t.Fatalf("no VmHWM in:\n%s", status)
	}
	if kill {
		p.kill()
	} else {
		p.stop(t)
	}
	return u
}

// TestALongLogStartsLikeAShortOne, and a lost duplicate index is rebuilt before adds are taken, with
// its progress shown to whoever asks. What a start takes is printed; -long-log 1000000 is a million
// entries.
func TestALongLogStartsLikeAShortOne(t *testing.T) {
	s, dir := newStore(t), t.TempDir()
	vkey := generateKey(t, dir, "log.pem", longOrigin)
	writeFile(t, dir, "policy.txt", "log "+vkey+"\nquorum none\n")
	logs := map[string]int64{"short": *longLog / 10, "long": *longLog}
	starts := map[string]startup{}
	for prefix, size := range logs {
		configs, urls, metrics := s.fill(t, dir, prefix, size)
		if prefix == "long" {
			s.rebuild(t, configs, urls, metrics)
		} else {
			start(t, 0, "tallywood", "serve", "--config", configs[0]).stop(t)
		}
		var all []startup
		for range 3 {
			u := s.startup(t, configs[0], false)
			t.Logf("%d entries: ready after %.2f s, %d reads, %d MB", size, u.took.Seconds(), u.gets, u.memory>>10)
			all = append(all, u)
		}
		u := slices.MinFunc(all, func(a, b startup) int { return int(a.gets - b.gets) })
		u.memory = slices.MinFunc(all, func(a, b startup) int { return int(a.memory - b.memory) }).memory
		starts[prefix] = u
		s.startup(t, configs[0], true)
		u = s.startup(t, configs[0], false)
		t.Logf("%d entries, after kill -9: ready after %.2f s, %d reads, %d MB", size, u.took.Seconds(), u.gets, u.memory>>10)
	}
	short, long := starts["short"], starts["long"]
	if long.gets > short.gets+40 {
		t.Errorf("of the long log a start takes %d reads, of the short one %d", long.gets, short.gets)
	}
	if long.memory > short.memory*3/2+16<<10 {
		t.Errorf("of the long log a start takes %d KiB, of the short one %d", long.memory, short.memory)
	}
}

// patiently is eventually on a machine that has just written a long log.
func patiently(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience + time.Duration(*longLog)*time.Millisecond); !done(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("no %s in time", what)
		}
	}
}

// rebuild starts two replicas without their duplicate indexes and looks at what they say while the
// store holds back all but some entry bundles.
func (s *store) rebuild(t *testing.T, configs, urls, metrics [2]string) {
	t.Helper()
	const some = 20
	s.bundles.Store(some)
	var servers []<-chan started
	t.Cleanup(func() {
		s.bundles.Store(-1)
		for _, c := range servers { // those that are not stopped yet
			if up := <-c; up.err == nil {
				up.process.stop(t)
			}
		}
	})
	servers = append(servers, begin(configs[0]))
	patiently(t, "progress", func() bool {
		return strings.Contains(ready(urls[0]), fmt.Sprintf(" of %d entries are read", *longLog))
	})
	servers = append(servers, begin(configs[1]))
	patiently(t, "standby", func() bool { return strings.HasPrefix(ready(urls[1]), "200 ") })
	for i, url := range urls { // the leader says so itself, the standby passes it on
		showsRebuild(t, url, some)
		if want := fmt.Sprintf("tallywood_log_index_lacks{log=%q} %d\n", "signatures", *longLog); !strings.Contains(metricsAt(t, metrics[i]), want) {
			t.Errorf("the metrics of replica %d do not have %s", i, want)
		}
	}
	begun := time.Now()
	s.bundles.Store(-1)
	for i, c := range servers {
		up := <-c
		servers = servers[1:]
		if up.err != nil {
			t.Fatalf("starting replica %d: %v", i, up.err)
		}
		patiently(t, "index", func() bool { // a standby may be ready before
			return strings.Contains(up.process.stderr.String(), "duplicate index caught up")
		})
		t.Logf("replica %d has its lost index of %d entries %.2f s after the store let all through", i, *longLog, time.Since(begun).Seconds())
		if text := up.process.stderr.String(); *longLog > 1<<16 && !strings.Contains(text, `"msg":"rebuilding duplicate index"`) {
			t.Errorf("replica %d did not log its progress:\n%s", i, text)
		}
		up.process.stop(t)
	}
}

// ready returns what the probe of readiness answers, or why it does not.
func ready(url string) string {
	resp, err := http.Get(url + "/readyz")
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return err.Error()
	}
	return resp.Status + " " + string(text)
}

// metricsAt returns the metrics at url, with large numbers written out.
func metricsAt(t *testing.T, url string) string {
	t.Helper()
	return regexp.MustCompile(`[0-9.]+e\+[0-9]+`).ReplaceAllStringFunc(get(t, url, http.StatusOK), func(number string) string {
		f, err := strconv.ParseFloat(number, 64)
		if err != nil {
			t.Fatal(err)
		}
		return strconv.FormatFloat(f, 'f', -1, 64)
	})
}

// showsRebuild wants adds refused and everything else served, with the progress of the leader's
// rebuild after some bundles.
func showsRebuild(t *testing.T, url string, some int64) {
	t.Helper()
	progress := regexp.MustCompile(fmt.Sprintf(`so far (\d+) of %d entries are read, 0 indexed`, *longLog))
	var text, after string
	var read int64
	patiently(t, "answer that shows the progress", func() bool {
		status, header, body := postEntry(t, url)
		text, after = body, header.Get("Retry-After")
		if m := progress.FindStringSubmatch(body); m != nil {
			read, _ = strconv.ParseInt(m[1], 10, 64) // the pattern has digits alone
		}
		return status == http.StatusServiceUnavailable && read >= 256
	})
	if read > some*256+255 || after == "" {
		t.Errorf("%s says %s with Retry-After %q", url, text, after)
	}
	if page := get(t, url+"/", http.StatusOK); !strings.Contains(page, "entries are read, 0 indexed") {
		t.Errorf("the page of %s does not show the progress:\n%s", url, page)
	}
	get(t, url+"/checkpoint", http.StatusOK)
	get(t, url+"/tile/0/000", http.StatusOK)
}
