package client_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"tallywood/witness/client"
)

// FuzzAnswer has a client read an answer of a witness. It takes lines from it only if they make a note that
// the policy accepts, and says what is wrong otherwise, in few words.
func FuzzAnswer(f *testing.F) {
	h := newHistory(f, 9, "entry")
	w := newWitness(f, "w1")
	checkpoint := h.checkpoint(f, 5)
	r, err := http.NewRequest(http.MethodPost, "/add-checkpoint", strings.NewReader("old 0\n\n"+string(checkpoint)))
	if err != nil {
		f.Fatal(err)
	}
	honest := w.ask(r).Body.Bytes()
	signed := time.Now()
	f.Add(200, "text/plain", "", honest)
	f.Add(200, "text/plain", "", append(honest, flip(string(honest))...))
	f.Add(200, "", "", []byte("— w1 AAAAAAA=\n"))
	f.Add(200, "", "", []byte("\n\n"))
	f.Add(409, "text/x.tlog.size", "", []byte("7\n"))
	f.Add(409, "text/x.tlog.size", "", []byte("18446744073709551616\n"))
	f.Add(429, "", "5", []byte("later"))
	f.Add(503, "", "Sat, 28 Nov 2026 06:00:00 GMT", []byte("later"))
	f.Add(422, "", "", []byte("a fork\x00\xff"))
	f.Add(500, "", "", []byte{})
	p := parsePolicy(f, "log "+logVKey()+"\nwitness w1 "+w.vkeys[0]+" "+w.url+"\nwitness w1-pq "+w.vkeys[1]+" "+w.url+
		"\ngroup g any w1 w1-pq\nquorum g\n")
	c, err := client.New(client.Options{Policy: p, Now: func() time.Time { return signed }})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { c.Close() })
	f.Fuzz(func(t *testing.T, status int, contentType, retryAfter string, answer []byte) {
		header := http.Header{"Content-Type": {contentType}, "Retry-After": {retryAfter}}
		note, err := client.Read(c, checkpoint, status, header, answer)
		switch {
		case err != nil && (note != nil || err.Error() == "" || len(err.Error()) > 2000):
			t.Errorf("note %q, error %.3000q", note, err)
		case err == nil && status != http.StatusOK:
			t.Errorf("status %d gave %q", status, note)
		case err == nil:
			if cp, err := p.Open(note); err != nil || cp.Size() != 5 || !strings.HasPrefix(string(note), string(checkpoint)) {
				t.Errorf("%v in %q", err, note)
			}
		}
	})
}
