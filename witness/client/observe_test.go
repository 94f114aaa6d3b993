package client_test

import (
	"io"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"tallywood/internal/bubble"
	"tallywood/witness/client"
)

func TestObserveTellsWhatCameOfRequests(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		h := newHistory(t, 20, "entry")
		type answer func(w http.ResponseWriter, r *http.Request)
		for want, a := range map[client.Answer]answer{
			client.AnswerCosigned: nil,
			client.AnswerRefused:  func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "unknown log", http.StatusNotFound) },
			client.AnswerLater:    func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) },
			client.AnswerFailed:   func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) },
			client.AnswerConflict: func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "text/x.tlog.size")
				w.WriteHeader(http.StatusConflict)
				_, _ = w.Write([]byte("7\n"))
			},
			client.AnswerTimeout: func(_ http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body) // until then nobody looks whether the client is there
				<-r.Context().Done()
			},
		} {
			w := newWitness(t, "w1")
			if a != nil {
				w.replace(http.HandlerFunc(a))
			}
			var mu sync.Mutex
			told := map[client.Answer]int{}
			o := client.Options{Policy: newPolicy(t, 1, w), HTTP: &http.Client{Transport: memoryNet{"w1": w}}, Observe: func(x client.Exchange) {
				mu.Lock()
				defer mu.Unlock()
				if x.Witness != "w1" || x.Duration < 0 || x.Hedge || !slices.Contains(client.Answers(), x.Answer) {
					t.Errorf("told of %+v", x)
				}
				told[x.Answer]++
			}}
			if want == client.AnswerTimeout {
				o.HTTP.Timeout = 50 * time.Millisecond
			}
			c, err := client.New(o)
			if err != nil {
				t.Fatal(err)
			}
			// Where there is use in it, it is asked again and again.
			_, err = c.Cosign(within(t, 2*time.Second), h.checkpoint(t, 20), h.prove)
			if (err == nil) != (want == client.AnswerCosigned) {
				t.Errorf("%s: %v", want, err)
			}
			if err := c.Close(); err != nil {
				t.Error(err)
			}
			if len(told) != 1 || told[want] == 0 {
				t.Errorf("told %v; want %s", told, want)
			}
		}
	})
}
