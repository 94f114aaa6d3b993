package e2e_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"tallywood/internal/config"
	"tallywood/internal/loopback"
)

const frozenLine = "This log has been frozen, please switch to the latest log."

// TestRotationUnderLoad rotates both logs of a stack while clients sign all the time: some read the
// signing config before each signature, others know the old log's address alone. Nobody gets another
// answer than a receipt, or from the frozen log where to go; all that was acknowledged is in the log
// that acknowledged it; bundles of before and after verify; the old log stays frozen.
func TestRotationUnderLoad(t *testing.T) {
	work := t.TempDir()
	data := filepath.Join(work, "data")
	config := filepath.Join(data, "config.yaml")
	s := up(t, data)
	before := writeFile(t, work, "before", "signed before")
	must(t, work, "tallywood", "sign", before, "--yes", "--trust", s.client, "--identity-token", s.token(t, "ann@example.com"))
	stale := filepath.Join(work, "stale")
	if out, err := exec.Command("cp", "-a", s.client, stale).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	r := newRotation(t, 20, filePolicy(filepath.Join(s.client, "policy.txt")))
	old, err := signingURL(s.client)
	if err != nil {
		t.Fatal(err)
	}
	follow, keep := r.followers(t, 6, s.client), r.keepers(t, 6, old)
	defer follow()
	defer keep()
	time.Sleep(time.Second)
	out := must(t, work, "tallywood", "log", "rotate", "--config", config)
	out += must(t, work, "tallywood", "log", "rotate", "certificates", "--config", config)
	for _, part := range []string{"signatures is followed by signatures-2", "certificates is followed by certificates-2", "vkey log-2.localhost+", "keys/signatures-2.pem"} {
		if !strings.Contains(out, part) {
			t.Errorf("rotate does not say %q:\n%s", part, out)
		}
	}
	r.awaitMove(t, s.client, old)
	eventually(t, "end of both logs", func() bool {
		logs := shardStatuses(t, config)
		return logs["signatures"].State == "frozen" && logs["certificates"].State == "frozen"
	})
	time.Sleep(time.Second)
	keep()
	follow()
	r.report(t)
	if r.pointed.Load() == 0 {
		t.Error("nobody was told by the frozen log where to go")
	}
	next, err := signingURL(s.client)
	if err != nil || next == old {
		t.Fatalf("the signing config names %s still, %v", next, err)
	}
	for _, url := range []string{old, next} {
		m := r.of(t, url)
		t.Logf("%s: %d receipts, tree of size %d", url, m.count(), m.verify(t, url))
	}
	r.judgeBundles(t, s, work, before, stale)
	r.judgeRest(t, s, config, old)
}

// awaitMove waits until the signing config names another log, and clients have posted there.
func (r *rotation) awaitMove(t *testing.T, dir, old string) {
	t.Helper()
	eventually(t, "receipt of the new log", func() bool {
		at, err := signingURL(dir)
		return err == nil && at != old && r.of(t, at).count() > 100 && r.pointed.Load() > 0
	})
}

// judgeBundles verifies a bundle of before and one of after the rotation, and signs as somebody who
// does not know of it.
func (r *rotation) judgeBundles(t *testing.T, s *stack, work, before, stale string) {
	t.Helper()
	after := writeFile(t, work, "after", "signed after")
	must(t, work, "tallywood", "sign", after, "--yes", "--trust", s.client, "--identity-token", s.token(t, "ann@example.com"))
	for _, file := range []string{before, after} {
		out := must(t, work, "tallywood", "verify", file, "--bundle", file+".sigstore.json", "--trust", s.client,
			"--certificate-identity", "ann@example.com", "--certificate-oidc-issuer", s.issuer())
		if !strings.Contains(out, "cosigned by witness-") {
			t.Errorf("tallywood verify printed:\n%s", out)
		}
		if out, code := cosignVerify(t, s, work, file+".sigstore.json", file, "ann@example.com"); code != 0 {
			t.Errorf("cosign verify-blob %s: exit code %d\n%s", file, code, out)
		}
		verifyWithLibrary(t, s, file+".sigstore.json", file, "ann@example.com")
	}
	next, err := signingURL(s.client)
	if err != nil {
		t.Fatal(err)
	}
	late := writeFile(t, work, "late", "signed with an old signing config")
	out, code := command(t, work, "tallywood", "sign", late, "--yes", "--trust", stale, "--identity-token", s.token(t, "ann@example.com"))
	if code != 1 || !strings.Contains(out, frozenLine) || !strings.Contains(out, next) {
		t.Errorf("signing with the old signing config: exit code %d; want to be told of %s\n%s", code, next, out)
	}
}

// judgeRest looks at what else follows the rotation: the trust files, the monitor, the next start.
func (r *rotation) judgeRest(t *testing.T, s *stack, config, old string) {
	t.Helper()
	var root struct {
		Logs, CTLogs []struct {
			BaseURL   string `json:"baseUrl"`
			PublicKey struct {
				ValidFor struct{ Start, End *time.Time } `json:"validFor"`
			} `json:"publicKey"`
		}
	}
	text := strings.Replace(readFile(t, s.client, "trusted_root.json"), `"tlogs"`, `"logs"`, 1)
	if err := json.Unmarshal([]byte(text), &root); err != nil {
		t.Fatal(err)
	}
	for _, logs := range [][]struct {
		BaseURL   string `json:"baseUrl"`
		PublicKey struct {
			ValidFor struct{ Start, End *time.Time } `json:"validFor"`
		} `json:"publicKey"`
	}{root.Logs, root.CTLogs} {
		if len(logs) != 2 || logs[0].PublicKey.ValidFor.End == nil || logs[1].PublicKey.ValidFor.End != nil || logs[1].PublicKey.ValidFor.Start == nil {
			t.Errorf("the trusted root has the logs %+v", logs)
		}
	}
	eventually(t, "monitor that follows the new logs", func() bool {
		page := get(t, s.url+"/", http.StatusOK)
		return regexp.MustCompile(`<td>log-2\.localhost<td>[1-9][0-9]* of`).MatchString(page) &&
			regexp.MustCompile(`<td>ct-2\.localhost<td>[1-9][0-9]* of`).MatchString(page)
	})
	if out, code := command(t, filepath.Dir(config), "tallywood", "log", "freeze", "signatures", "--undo", "--config", config); code != 2 || !strings.Contains(out, "is active already") {
		t.Errorf("two active logs: exit code %d\n%s", code, out)
	}
	s.stop(t)
	again := readStack(t, start(t, 2, "tallywood", "up", "--data", s.dir), s.dir)
	if next, ok := r.post(t, t.Context(), old, old, r.next.Add(1)-1); ok || next == "" {
		t.Errorf("after the next start the old log is not frozen: it says to go to %q", next)
	}
	at, err := signingURL(again.client)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := r.post(t, t.Context(), at, at, r.next.Add(1)-1); !ok {
		t.Errorf("after the next start the new log takes nothing")
	}
	must(t, filepath.Dir(config), "tallywood", "storage", "fsck", filepath.Join(s.dir, "objects"))
	r.report(t)
}

// TestFreezeAndUndo freezes a log that a server runs, which nothing but the one command takes back.
func TestFreezeAndUndo(t *testing.T) {
	dir := t.TempDir()
	vkey := generateKey(t, dir, "log.pem", "log.example.org")
	writeFile(t, dir, "policy.txt", "log "+vkey+"\nquorum none\n")
	config := writeFile(t, dir, "config.yaml", "address: 127.0.0.1:0\nstorage: file:./objects\nlogs:\n"+
		"  - {name: signatures, kind: rekor, origin: log.example.org, key: file:log.pem, policy: policy.txt} # mine\n")
	log := serveLog(t, config)
	addEntry(t, log.url)
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
		awaitReady(t, log.url)
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
	addEntry(t, log.url) // after it was taken back
	if st := shardStatuses(t, config)["signatures"]; st.State != "active" || st.End != nil {
		t.Errorf("status %+v", st)
	}
}

// TestRotationWaitsForWitnessesAndReplicas rotates the log of two replicas whose witnesses do not know
// the new log yet. One replica reloads, the other one is started again, and nothing stops; when the
// witnesses know it, both move over.
func TestRotationWaitsForWitnessesAndReplicas(t *testing.T) {
	dir := t.TempDir()
	vkey := generateKey(t, dir, "log.pem", "log.example.org")
	list := "logs/v0\n\nvkey " + vkey + "\nqpd 8640000\ncontact ops@example.org\n"
	logs := writeFile(t, dir, "logs.txt", list)
	text, group := "log "+vkey+"\n", "group two-of-three 2"
	var witnesses []*witnessProcess
	for i := range 3 {
		w := newWitness(t, dir, fmt.Sprintf("w%d.example.org", i+1), logs)
		text += fmt.Sprintf("witness %s %s %s\n", w.name, w.vkey, w.url)
		group += " " + w.name
		witnesses = append(witnesses, w)
	}
	writeFile(t, dir, "policy.txt", text+group+"\nquorum two-of-three\n")
	a, b := loopback.Address(t), loopback.Address(t)
	of := func(text, address, name string) string {
		return strings.NewReplacer("ADDRESS", address, "./client", "./client-"+name).Replace(text)
	}
	template := "address: ADDRESS\nurl: http://" + a + "\nreplica_url: http://ADDRESS\nclient_dir: ./client\nstorage: file:./objects\nlogs:\n" +
		"  - {name: log2026, kind: rekor, origin: log.example.org, key: file:log.pem, policy: policy.txt}\n"
	configs := []string{writeFile(t, dir, "a.yaml", of(template, a, "a")), writeFile(t, dir, "b.yaml", of(template, b, "b"))}
	first := start(t, 0, "tallywood", "serve", "--config", configs[0])
	second := start(t, 0, "tallywood", "serve", "--config", configs[1])

	r := newRotation(t, 21, filePolicy(filepath.Join(dir, "policy.txt")))
	old := "http://" + a + "/logs/log2026"
	keep := r.keepers(t, 6, old)
	defer keep()
	must(t, dir, "tallywood", "log", "rotate", "--config", configs[0], "--origin", "log2027.example.org")
	rotated := readFile(t, dir, "a.yaml")
	if !strings.Contains(rotated, "name: log2027") {
		t.Fatalf("the configuration is:\n%s", rotated)
	}
	writeFile(t, dir, "b.yaml", strings.NewReplacer("address: "+a, "address: "+b, "replica_url: http://"+a, "replica_url: http://"+b, "client-a", "client-b").Replace(rotated))
	if err := first.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	second.stop(t)
	start(t, 0, "tallywood", "serve", "--config", configs[1])
	eventually(t, "new log at the first replica", func() bool {
		return statusOf(t, "http://"+a+"/logs/log2027/leader") == http.StatusOK
	})
	// Its witnesses know nothing of the new log: nothing changes, however long that takes.
	for range 5 {
		time.Sleep(time.Second)
		for i, at := range []string{a, b} {
			awaitReady(t, "http://"+at)
			for _, url := range []string{"http://" + at, "http://" + at + "/logs/log2026"} {
				if _, ok := r.post(t, t.Context(), old, url, r.next.Add(1)-1); !ok {
					t.Errorf("%s takes nothing while witnesses do not know its successor", url)
				}
			}
			if url, err := signingURL(filepath.Join(dir, "client-"+string(rune('a'+i)))); err != nil || url != old {
				t.Errorf("the signing config names %q, %v; want %s", url, err, old)
			}
		}
	}
	if st := shardStatuses(t, configs[0]); st["log2026"].State != "freezing" || st["log2027"].State != "active" {
		t.Errorf("status %+v", st)
	}
	p, err := filePolicy(filepath.Join(dir, "policy.txt"))()
	if err != nil || len(p.Logs()) != 2 {
		t.Fatalf("the policy has %d logs, %v", len(p.Logs()), err)
	}
	writeFile(t, dir, "logs.txt", list+"\nvkey "+p.Logs()[1].Key.String()+"\nqpd 8640000\ncontact ops@example.org\n")
	for _, w := range witnesses {
		if err := w.cmd.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
	}
	next := "http://" + a + "/logs/log2027"
	for _, name := range []string{"a", "b"} {
		r.awaitMove(t, filepath.Join(dir, "client-"+name), old)
	}
	time.Sleep(time.Second)
	keep()
	for _, at := range []string{a, b} {
		if to, ok := r.post(t, t.Context(), old, "http://"+at+"/logs/log2026", r.next.Add(1)-1); ok || to != next {
			t.Errorf("the frozen log at %s says to go to %q", at, to)
		}
		for _, url := range []string{"http://" + at, "http://" + at + "/logs/log2027"} {
			if _, ok := r.post(t, t.Context(), next, url, r.next.Add(1)-1); !ok {
				t.Errorf("%s takes nothing", url)
			}
		}
	}
	for _, url := range []string{old, next} {
		m := r.of(t, url)
		t.Logf("%s: %d receipts, tree of size %d", url, m.count(), m.verify(t, url))
	}
	r.report(t)
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
	p.server(t, "tallywood up --address "+loopback.Address(t), 0)
	if out := p.shell(t, rotate); !strings.Contains(out, "signatures is followed by signatures-2") {
		t.Errorf("rotate printed:\n%s", out)
	}
	eventually(t, "frozen log in the status", func() bool {
		return regexp.MustCompile(`(?m)^signatures +rekor +frozen -> signatures-2 +0 `).MatchString(p.shell(t, status))
	})
	c, err := config.Parse([]byte("address: 127.0.0.1:8090\nstorage: file:./objects\n"+shown), p.dir, os.LookupEnv)
	if err != nil || c.Logs[0].Successor != "log2027" {
		t.Errorf("the page's configuration: %v\n%s", err, shown)
	}
}
