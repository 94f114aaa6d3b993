package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"tallywood/internal/loopback"
	"tallywood/witness/policy"
)

// A witnessProcess is a tallywood-witness that can be stopped and started again where it was.
type witnessProcess struct {
	*process
	name, vkey, url string
	args            []string
}

// newWitness makes the witness name in dir, as its operator does, and serves it for the logs
// listed in the file logs.
func newWitness(t *testing.T, dir, name, logs string) *witnessProcess {
	t.Helper()
	home := filepath.Join(dir, name)
	out := must(t, dir, "tallywood-witness", "init", "--dir", home, "--name", name)
	vkey, _, _ := strings.Cut(out, "\n") // the first line: Ed25519
	address := loopback.Address(t)
	w := &witnessProcess{name: name, vkey: vkey, url: "http://" + address,
		args: []string{"tallywood-witness", "serve", "--dir", home, "--listen", address, "--logs", logs}}
	w.start(t)
	return w
}

func (w *witnessProcess) start(t *testing.T) {
	t.Helper()
	w.process = start(t, 0, w.args...)
}

// A quorumLog is a served log that needs two of three witnesses.
type quorumLog struct {
	servedLog
	dir       string
	policy    *policy.Policy
	witnesses []*witnessProcess
	signer    *signer
}

// twoOfThree makes a log, three witnesses that know it, a policy of two of them, and serves it.
func twoOfThree(t *testing.T, timeout time.Duration) *quorumLog {
	t.Helper()
	dir := t.TempDir()
	const origin = "log.example.org"
	vkey := generateKey(t, dir, "log.pem", origin)
	q := &quorumLog{dir: dir}
	var text string
	text, q.witnesses = twoOfThreeWitnesses(t, dir, vkey)
	var err error
	if q.policy, err = policy.Parse([]byte(text)); err != nil {
		t.Fatal(err)
	}
	writeFile(t, dir, "policy.txt", text)
	if q.signer, err = newSigner(4); err != nil {
		t.Fatal(err)
	}
	q.serve(t, timeout)
	return q
}

// serve serves the log, which waits for witnesses as long as timeout.
func (q *quorumLog) serve(t *testing.T, timeout time.Duration) {
	t.Helper()
	q.servedLog = serveLog(t, writeFile(t, q.dir, "config.yaml", "address: 127.0.0.1:0\nstorage: file:./objects\nlogs:\n"+
		"  - {name: signatures, kind: rekor, origin: log.example.org, key: file:log.pem, policy: policy.txt, quorum_timeout: "+timeout.String()+"}\n"))
}

// twoOfThreeWitnesses makes three witnesses in dir that know a log, and a policy by which two of them
// must cosign.
func twoOfThreeWitnesses(t *testing.T, dir, vkey string) (text string, witnesses []*witnessProcess) {
	t.Helper()
	logs := writeFile(t, dir, "logs.txt", "logs/v0\n\nvkey "+vkey+"\nqpd 86400\ncontact ops@example.org\n")
	text, group := "log "+vkey+"\n", "group two-of-three 2"
	for i := range 3 {
		w := newWitness(t, dir, fmt.Sprintf("w%d.example.org", i+1), logs)
		text += fmt.Sprintf("witness %s %s %s\n", w.name, w.vkey, w.url)
		group += " " + w.name
		witnesses = append(witnesses, w)
	}
	return text + group + "\nquorum two-of-three\n", witnesses
}

// post adds entry n, by insist, and verifies what comes back.
func (q *quorumLog) post(n int64) (r receipt, err error) {
	err = insist(func() error {
		r, err = q.postOnce(n)
		return err
	})
	return r, err
}

// postOnce is post of a client that takes the first answer.
func (q *quorumLog) postOnce(n int64) (receipt, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	e, err := q.signer.entry(n)
	if err != nil {
		return receipt{}, err
	}
	r, err := add(ctx, http.DefaultClient, q.url, n, e)
	if err != nil {
		return r, err
	}
	if _, err := q.policy.Open([]byte(r.note)); err != nil {
		return r, fmt.Errorf("checkpoint of the receipt: %w\n%s", err, r.note)
	}
	_, signatures, _ := strings.Cut(r.note, "\n\n")
	if !strings.HasPrefix(signatures, "— log.example.org ") {
		return r, fmt.Errorf("the log's signature is not the first:\n%s", r.note)
	}
	return r, r.verify()
}

// published is what anyone reads, and what lies in the bucket.
func (q *quorumLog) published(t *testing.T) string {
	t.Helper()
	var note string
	eventually(t, "checkpoint that the bucket holds as it is served", func() bool { // one is written after the other
		note = get(t, q.url+"/checkpoint", http.StatusOK)
		return readFile(t, q.dir, "objects/logs/signatures/checkpoint") == note
	})
	return note
}

func TestTwoOfThreeWitnessesMustCosign(t *testing.T) {
	q := twoOfThree(t, time.Minute)
	for n := range int64(3) {
		if _, err := q.post(n); err != nil {
			t.Fatal(err)
		}
	}
	awaitSize(t, q.url, 3)
	if c, err := q.policy.Open([]byte(q.published(t))); err != nil || len(c.Cosignatures()) < 2 {
		t.Errorf("the published checkpoint: %v, %d cosignatures", err, len(c.Cosignatures()))
	}
	// One witness less is no reason for anything.
	q.witnesses[0].stop(t)
	if _, err := q.post(3); err != nil {
		t.Fatalf("with two witnesses of three: %v", err)
	}
	awaitSize(t, q.url, 4)
	q.witnesses[1].kill() // and this one does not say good-bye
	q.waitForWitness(t, 4)
	awaitSize(t, q.url, 5)

	// The same with a log that waits no longer than clients do.
	const timeout = 3 * time.Second
	q.servedLog.stop(t)
	q.serve(t, timeout)
	if _, err := q.post(5); err != nil {
		t.Fatalf("after a restart: %v", err)
	}
	awaitSize(t, q.url, 6) // and no checkpoint of the process before is under way
	q.witnesses[1].kill()
	before := q.published(t)
	q.wantUnavailable(t, 6, timeout)
	if after := q.published(t); after != before {
		t.Errorf("with one witness of three something was published:\n%s\nbefore:\n%s", after, before)
	}
	q.witnesses[1].start(t)
	// What was refused meanwhile is in the tree already, and is not logged twice.
	retried, err := q.post(6)
	if err != nil {
		t.Fatalf("the retry: %v", err)
	}
	if retried.index != 6 {
		t.Errorf("the retried entry has index %d; want 6, where it was committed", retried.index)
	}
	if r, err := q.post(7); err != nil || r.index != 7 {
		t.Errorf("a new add after the return: index %d, %v; want 7", r.index, err)
	}
	// The one that was stopped first has missed two trees, and catches up.
	q.witnesses[0].start(t)
	q.witnesses[2].stop(t)
	if r, err := q.post(8); err != nil || r.index != 8 {
		t.Errorf("with another pair of witnesses: index %d, %v; want 8", r.index, err)
	}
}

// wantUnavailable posts entry n and wants a 503 in time, with advice when to come again.
func (q *quorumLog) wantUnavailable(t *testing.T, n int64, timeout time.Duration) {
	t.Helper()
	began := time.Now()
	_, err := q.postOnce(n)
	took := time.Since(began)
	t.Logf("without a quorum the answer took %v: %v", took.Round(time.Millisecond), err)
	var refused *statusError
	if !errors.As(err, &refused) || refused.status != http.StatusServiceUnavailable {
		t.Fatalf("without a quorum: %v; want status 503", err)
	}
	if after, err := strconv.Atoi(refused.retryAfter); err != nil || after < 1 {
		t.Errorf("Retry-After %q", refused.retryAfter)
	}
	if !strings.Contains(refused.body, "witness") {
		t.Errorf("the message does not speak of witnesses: %s", refused.body)
	}
	if took < timeout/2 || took > timeout+time.Minute { // a machine may be slow
		t.Errorf("the answer took %v; want about the quorum_timeout of %v", took, timeout)
	}
}

// waitForWitness posts entry n without a quorum and brings a witness back while it waits.
func (q *quorumLog) waitForWitness(t *testing.T, n int64) {
	t.Helper()
	type answer struct {
		receipt
		err error
	}
	answered := make(chan answer, 1)
	began := time.Now()
	go func() {
		r, err := q.postOnce(n)
		answered <- answer{r, err}
	}()
	time.Sleep(400 * time.Millisecond)
	select {
	case a := <-answered:
		t.Fatalf("an add was answered without a quorum: %+v", a)
	default:
	}
	q.witnesses[1].start(t)
	back := time.Now()
	a := <-answered
	if a.err != nil {
		t.Fatalf("an add that waited when a witness returned: %v (%v after the return, %v after it began)", a.err, time.Since(back), time.Since(began))
	}
	took := time.Since(back)
	t.Logf("the waiting add was answered %v after the witness returned", took.Round(time.Millisecond))
	if took > 40*time.Second { // the log asks it every half second, and on a slow machine late
		t.Errorf("the waiting add was answered %v after the witness returned", took)
	}
	if a.index != n {
		t.Errorf("the waiting add has index %d; want %d", a.index, n)
	}
}

func TestALogSaysHowItIsWitnessed(t *testing.T) {
	dir := t.TempDir()
	const origin = "log.example.org"
	vkey := generateKey(t, dir, "log.pem", origin)
	config := func(policy string) string {
		return writeFile(t, dir, "config.yaml", "address: 127.0.0.1:0\nstorage: file:./objects\nlogs:\n"+
			"  - {name: signatures, kind: rekor, origin: "+origin+", key: file:log.pem"+policy+"}\n")
	}
	for name, c := range map[string]struct{ key, text, want string }{
		"no policy":           {"", "", "quorum none"},
		"no policy file":      {", policy: lost.txt", "", "lost.txt"},
		"an empty policy":     {", policy: policy.txt", "", "quorum"},
		"no quorum line":      {", policy: policy.txt", "log " + vkey + "\n", "quorum"},
		"a policy of no log":  {", policy: policy.txt", "quorum none\n", origin},
		"another log's key":   {", policy: policy.txt", "log " + generateKey(t, dir, "other.pem", origin) + "\nquorum none\n", origin},
		"an unknown witness":  {", policy: policy.txt", "log " + vkey + "\nquorum nobody\n", "nobody"},
		"no URL of a witness": {", policy: policy.txt", "log " + vkey + "\nwitness w " + someVKey(t) + "\nquorum w\n", "URL"},
	} {
		writeFile(t, dir, "policy.txt", c.text)
		out, code := command(t, dir, "tallywood", "serve", "--config", config(c.key))
		if code != 2 || !strings.Contains(out, "tallywood: error: ") || !strings.Contains(out, c.want) {
			t.Errorf("%s: exit code %d; want 2 and %q\n%s", name, code, c.want, out)
		}
		if _, err := os.Stat(filepath.Join(dir, "objects/logs/signatures/checkpoint")); err == nil {
			t.Fatalf("%s: something was published", name)
		}
	}
	writeFile(t, dir, "policy.txt", "log "+vkey+"\nquorum none\n")
	log := serveLog(t, config(", policy: policy.txt"))
	note := addEntry(t, log.url)
	if _, signatures, _ := strings.Cut(note, "\n\n"); strings.Count(signatures, "\n") != 1 {
		t.Errorf("a log without witnesses wrote:\n%s", note)
	}
}

// someVKey is the vkey of some witness.
func someVKey(t *testing.T) string {
	t.Helper()
	out := must(t, t.TempDir(), "tallywood-witness", "init", "--dir", "w", "--name", "w.example.org")
	vkey, _, _ := strings.Cut(out, "\n")
	return vkey
}
