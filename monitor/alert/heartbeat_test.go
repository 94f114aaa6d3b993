package alert_test

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"tallywood/monitor/alert"
)

func TestHeartbeat(t *testing.T) {
	t.Parallel()
	var asked []string
	status := 200
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.Method+" "+r.URL.Path)
		w.WriteHeader(status)
	}))
	defer server.Close()
	for _, method := range []string{"", "GET", "POST"} {
		h, err := alert.OpenHeartbeat(alert.HeartbeatOptions{URL: secretFile(t, server.URL+"/ping/secret-uuid\n"), Method: method})
		if err != nil {
			t.Fatal(err)
		}
		if err := h.Beat(t.Context()); err != nil {
			t.Error(err)
		}
		status = 404
		if err := h.Beat(t.Context()); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("not found: %v", err)
		}
		status = 200
	}
	const get, post = "GET /ping/secret-uuid", "POST /ping/secret-uuid"
	if want := []string{get, get, get, get, post, post}; !slices.Equal(asked, want) {
		t.Errorf("asked %q", asked)
	}
	for _, o := range []alert.HeartbeatOptions{{}, {URL: alert.Secret{Value: "http://example.org/"}}, {URL: alert.Secret{Value: "https://example.org/"}, Method: "PUT"}} {
		if _, err := alert.OpenHeartbeat(o); err == nil {
			t.Errorf("%+v was accepted", o)
		}
	}
}
