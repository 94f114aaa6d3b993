package e2e_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// quietLog writes the configuration of a log without witnesses, with more lines at its end, and
// returns its path.
func quietLog(t *testing.T, more string) string {
	t.Helper()
	dir := t.TempDir()
	vkey := generateKey(t, dir, "log.pem", "log.example.org")
	writeFile(t, dir, "policy.txt", "log "+vkey+"\nquorum none\n")
	return writeFile(t, dir, "config.yaml", "address: 127.0.0.1:0\nstorage: file:./objects\ncache_dir: ./cache\nlogs:\n"+
		"  - {name: signatures, kind: rekor, origin: log.example.org, key: file:log.pem, policy: policy.txt, quorum_timeout: 1m}\n"+more)
}

// rawPost is the bytes of a request, so that a test knows exactly what it has sent.
func rawPost(request string) string {
	return fmt.Sprintf("POST %s HTTP/1.1\r\nHost: log.example.com\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", entriesPath, len(request), request)
}

// A poster posts one new entry after the other over one connection, until that ends.
type poster struct {
	logged  []signedEntry // answered 201
	refused int           // answered 503
	unread  *signedEntry  // sent, and the connection ended without a byte of an answer
	err     error         // what went wrong
}

func (p *poster) run(conn net.Conn, next func() (signedEntry, error), answered func(), pause time.Duration) {
	defer conn.Close()
	br := bufio.NewReader(conn)
	for closed := false; !closed; time.Sleep(pause) {
		e, err := next()
		if err == nil {
			err = conn.SetDeadline(time.Now().Add(time.Minute))
		}
		if err != nil {
			p.err = err
			return
		}
		if _, err := io.WriteString(conn, rawPost(e.request)); err != nil {
			p.ended(e, err)
			return
		}
		if _, err := br.Peek(1); err != nil {
			p.ended(e, err)
			return
		}
		res, err := http.ReadResponse(br, nil)
		if err == nil {
			_, err = io.Copy(io.Discard, res.Body)
		}
		switch {
		case err != nil:
			p.err = fmt.Errorf("an answer that had begun: %w", err)
			return
		case res.StatusCode == http.StatusCreated:
			p.logged = append(p.logged, e)
			answered()
		case res.StatusCode == http.StatusServiceUnavailable && res.Header.Get("Retry-After") != "":
			p.refused++
		default:
			p.err = fmt.Errorf("answered %s", res.Status)
			return
		}
		closed = res.Close
	}
}

// ended judges the end of a connection after e was sent.
func (p *poster) ended(e signedEntry, err error) {
	if errors.Is(err, io.EOF) || errors.Is(err, syscall.EPIPE) { // closed in order, before or meanwhile
		p.unread = &e
		return
	}
	p.err = fmt.Errorf("the connection ended with: %w", err)
}

// TestSIGTERMAnswersWhatItReads ends a log that clients with connections of their own load. Every
// request they have sent is answered in full, or nothing of it was read and the connection was
// closed in order: none is reset. What was answered is logged, and what was not read is not.
func TestSIGTERMAnswersWhatItReads(t *testing.T) {
	config := quietLog(t, "")
	log := serveLog(t, config)
	signer, err := newSigner(7)
	if err != nil {
		t.Fatal(err)
	}
	var n, answers atomic.Int64
	next := func() (signedEntry, error) { return signer.entry(n.Add(1)) }
	posters := make([]poster, 48)
	var posting sync.WaitGroup
	for i := range posters {
		conn, err := net.Dial("tcp", strings.TrimPrefix(log.url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		pause := []time.Duration{0, 0, 10 * time.Millisecond, time.Second}[i%4]
		posting.Go(func() { posters[i].run(conn, next, func() { answers.Add(1) }, pause) })
	}
	eventually(t, "load", func() bool { return answers.Load() > 300 })
	log.stop(t)
	posting.Wait()

	logged, unread := 0, 0
	for i, p := range posters {
		if p.err != nil {
			t.Errorf("client %d: %v", i, p.err)
		}
		logged += len(p.logged)
	}
	again := serveLog(t, config)
	for i, p := range posters {
		if p.unread != nil {
			unread++
			if header, body := addRequest(t, again.url, p.unread.request); header.Get("X-Log-Index") != "" {
				t.Errorf("client %d: what was not answered was logged, at index %q: %.200s", i, header.Get("X-Log-Index"), body)
			}
		}
		if len(p.logged) > 0 {
			last := p.logged[len(p.logged)-1]
			if header, body := addRequest(t, again.url, last.request); header.Get("X-Log-Index") == "" {
				t.Errorf("client %d: what was answered last was not logged: %.200s", i, body)
			}
		}
	}
	t.Logf("%d entries were logged, %d requests not read", logged, unread)
}
