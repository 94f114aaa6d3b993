package e2e_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"
)

// TestALyingWitnessStopsNoLog puts a liar in the place of one of three witnesses: it says that it has
// cosigned more than the log has, to the log that runs, and to one that starts.
func TestALyingWitnessStopsNoLog(t *testing.T) {
	for name, lie := range map[string]func(w http.ResponseWriter){
		"a huge size": func(w http.ResponseWriter) { conflict(w, 1<<62) },
		"one more":    func(w http.ResponseWriter) { conflict(w, 4) },
		"a fork":      func(w http.ResponseWriter) { w.WriteHeader(http.StatusUnprocessableEntity) },
	} {
		t.Run(name, func(t *testing.T) {
			q := twoOfThree(t, time.Minute)
			if _, err := q.post(0); err != nil {
				t.Fatal(err)
			}
			address := q.witnesses[0].url[len("http://"):]
			q.witnesses[0].stop(t)
			var asked atomic.Int64
			liar := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Method != http.MethodPost {
					http.NotFound(w, r)
					return
				}
				asked.Add(1)
				_, _ = io.Copy(io.Discard, r.Body)
				lie(w)
			}))
			liar.Listener.Close()
			var err error
			if liar.Listener, err = net.Listen("tcp", address); err != nil {
				t.Fatal(err)
			}
			liar.Start()
			defer liar.Close()
			for n := int64(1); n < 4; n++ {
				if _, err := q.post(n); err != nil {
					t.Fatalf("while one lies: %v", err)
				}
			}
			q.servedLog.stop(t)
			q.serve(t, time.Minute)
			if r, err := q.post(4); err != nil || r.index != 4 {
				t.Errorf("after a start while one lies: index %d, %v", r.index, err)
			}
			if asked.Load() < 3 {
				t.Errorf("the liar was asked %d times", asked.Load())
			}
		})
	}
}

// conflict answers 409 with a size.
func conflict(w http.ResponseWriter, size int64) {
	w.Header()["Content-Type"] = []string{"text/x.tlog.size"}
	w.WriteHeader(http.StatusConflict)
	fmt.Fprintf(w, "%d\n", size)
}
