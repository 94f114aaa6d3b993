package main

import (
	"encoding/json"
	"net/http"
)

// withHealth serves /healthz and /readyz beside h.
func (s *service) withHealth(h http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/", h)
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = w.Write([]byte("ok\n")) // the prober is gone
	})
	mux.HandleFunc("GET /readyz", s.serveReady)
	return mux
}

// readiness is the body of /readyz.
type readiness struct {
	Ready   bool     `json:"ready"`
	Reasons []string `json:"reasons,omitempty"` // why it is not
}

// ready tells whether logs can have their checkpoints cosigned. Details are in the log: this is public.
func (s *service) ready() readiness {
	r := readiness{Ready: true}
	not := func(reason string) { r.Ready, r.Reasons = false, append(r.Reasons, reason) }
	for _, why := range s.witness.NotSigning() {
		not(why)
	}
	reachable := s.flags.listen != ""
	for _, b := range s.reaches() {
		reachable = reachable || b.Up
	}
	if !reachable {
		not("no bastion is connected")
	}
	return r
}

func (s *service) serveReady(w http.ResponseWriter, _ *http.Request) {
	r := s.ready()
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	if !r.Ready {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	_ = json.NewEncoder(w).Encode(r) // the prober is gone
}
