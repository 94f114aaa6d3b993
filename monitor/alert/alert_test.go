package alert_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"tallywood/monitor"
	"tallywood/monitor/alert"
	"tallywood/monitor/rule"
)

func event(n int) monitor.Event {
	return monitor.Event{ID: fmt.Sprintf("%032x", n), Time: time.Unix(1, 0).UTC(), Rule: rule.IDSeen, Origin: "log.localhost",
		Index: int64(n), Size: int64(n) + 1, Summary: "a <b> & c", Evidence: "evidence/x", Subject: "line\nbreak\x00\xff"}
}

func lines(t *testing.T, path string) []monitor.Event {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var events []monitor.Event
	for s := bufio.NewScanner(f); s.Scan(); {
		var e monitor.Event
		if err := json.Unmarshal(s.Bytes(), &e); err != nil {
			t.Errorf("line %q: %v", s.Text(), err)
			continue
		}
		events = append(events, e)
	}
	return events
}

func TestJSONLWritesWholeLines(t *testing.T) {
	path := filepath.Join(t.TempDir(), "events.jsonl")
	j, err := alert.NewJSONL(path)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			if err := j.Send(t.Context(), event(i)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	seen := map[string]bool{}
	for _, e := range lines(t, path) {
		seen[e.ID] = true
	}
	if len(seen) != 20 {
		t.Errorf("%d events in the file, want 20", len(seen))
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("file mode %v, %v", info.Mode(), err)
	}
}

func TestJSONLAfterATornLine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "events.jsonl")
	j, err := alert.NewJSONL(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(`{"id":"cut o`), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := j.Send(t.Context(), event(1)); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil || !bytes.HasPrefix(data, []byte("{\"id\":\"cut o\n{")) || bytes.Count(data, []byte("\n")) != 2 {
		t.Errorf("file %q, %v", data, err)
	}
	// Rotated away in between: the next event begins a new file.
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := j.Send(t.Context(), event(2)); err != nil {
		t.Fatal(err)
	}
	if got := lines(t, path); len(got) != 1 || got[0].Index != 2 {
		t.Errorf("events %+v", got)
	}
}

func TestJSONLThatCannotBeWritten(t *testing.T) {
	j, err := alert.NewJSONL(filepath.Join(t.TempDir(), "no", "such", "directory"))
	if err != nil {
		t.Fatal(err)
	}
	if err := j.Send(t.Context(), event(1)); err == nil {
		t.Error("an event was lost without an error")
	}
	if _, err := alert.NewJSONL(""); err == nil {
		t.Error("an empty path was accepted")
	}
}

func secretFile(t *testing.T, text string) alert.Secret {
	t.Helper()
	path := filepath.Join(t.TempDir(), "hook.key")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return alert.Secret{File: path}
}

func open(t *testing.T, o alert.WebhookOptions) *alert.Webhook {
	t.Helper()
	w, err := alert.OpenWebhook(o)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func TestWebhookIsSignedAsStandardWebhooks(t *testing.T) {
	secret := bytes.Repeat([]byte{7}, 32)
	var got *http.Request
	var body []byte
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = r
		body, _ = io.ReadAll(r.Body)
		w.WriteHeader(http.StatusNoContent)
	}))
	defer server.Close()
	w := open(t, alert.WebhookOptions{URL: alert.Secret{Value: server.URL},
		Secret: secretFile(t, "whsec_"+base64.StdEncoding.EncodeToString(secret)+"\n")})
	if err := w.Send(t.Context(), event(5)); err != nil {
		t.Fatal(err)
	}
	mac := hmac.New(sha256.New, secret)
	fmt.Fprintf(mac, "%s.%s.%s", got.Header.Get("webhook-id"), got.Header.Get("webhook-timestamp"), body)
	want := "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
	if got.Header.Get("webhook-signature") != want || got.Method != http.MethodPost ||
		got.Header.Get("webhook-id") != event(5).ID || got.Header.Get("Content-Type") != "application/json" {
		t.Errorf("headers %v", got.Header)
	}
	var e monitor.Event
	if err := json.Unmarshal(body, &e); err != nil || e.ID != event(5).ID || e.Index != 5 {
		t.Errorf("body %s: %v", body, err)
	}
}

func TestWebhookSignatureVector(t *testing.T) {
	// From the example of the Standard Webhooks specification.
	got := alert.Sign("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", `{"test": 2432232314}`)
	if want := "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="; got != want {
		t.Errorf("signature %s, want %s", got, want)
	}
}

func TestWebhookTakesOnlySuccessForAnAnswer(t *testing.T) {
	redirected := false
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { redirected = true }))
	defer elsewhere.Close()
	status := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Location", elsewhere.URL)
		w.WriteHeader(status)
	}))
	defer server.Close()
	w := open(t, alert.WebhookOptions{URL: alert.Secret{Value: server.URL + "/hook?token=hidden"}})
	for _, status = range []int{301, 302, 303, 307, 308, 400, 401, 404, 410, 429, 500, 503} {
		if err := w.Send(t.Context(), event(1)); err == nil {
			t.Errorf("status %d was taken for success", status)
		}
	}
	if redirected {
		t.Error("a redirect was followed")
	}
	for _, status = range []int{200, 201, 202, 204} {
		if err := w.Send(t.Context(), event(1)); err != nil {
			t.Errorf("status %d: %v", status, err)
		}
	}
	server.Close()
	if err := w.Send(t.Context(), event(1)); err == nil || strings.Contains(err.Error(), "hidden") {
		t.Errorf("server gone: %v", err)
	}
}

func TestWebhookThatHangsIsLeft(t *testing.T) {
	release := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
	defer server.Close()
	defer close(release)
	w := open(t, alert.WebhookOptions{URL: alert.Secret{Value: server.URL}})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	begin := time.Now()
	if err := w.Send(ctx, event(1)); err == nil || time.Since(begin) > time.Minute {
		t.Errorf("after %s: %v", time.Since(begin), err)
	}
}

func TestWebhookReachesNoPrivateAddress(t *testing.T) {
	for _, url := range []string{
		"https://10.0.0.1/", "https://192.168.1.1/", "https://172.16.0.1/", "https://169.254.169.254/latest",
		"https://[fe80::1]/", "https://[fd00::1]/", "https://[fec0::1]/", "https://[2001:0:7f00:1::1]/", "https://[::10.0.0.1]/", "https://0.0.0.0/", "https://100.64.0.1/", "https://224.0.0.1/",
		"https://[::ffff:10.0.0.1]/", "https://[64:ff9b::a00:1]/", "https://[2002:a00:1::]/", "https://255.255.255.255/",
	} {
		w := open(t, alert.WebhookOptions{URL: alert.Secret{Value: url}})
		err := w.Send(t.Context(), event(1))
		if errors.Is(err, syscall.EAFNOSUPPORT) { // this machine has no IPv6 that could be asked
			host := strings.TrimPrefix(url, "https://")
			err = alert.CheckAddress(false, false, host[:strings.Index(host, "/")]+":443")
		}
		if err == nil || !strings.Contains(err.Error(), "not a public address") {
			t.Errorf("%s: %v", url, err)
		}
	}
	// A public name whose DNS points to us is not a loopback URL: dialed here by address.
	if err := alert.CheckAddress(false, false, "127.0.0.1:80"); err == nil {
		t.Error("loopback was allowed to a URL of another host")
	}
	if err := alert.CheckAddress(false, true, "10.0.0.1:80"); err != nil {
		t.Errorf("private addresses, allowed: %v", err)
	}
	if err := alert.CheckAddress(true, false, "10.0.0.1:80"); err == nil {
		t.Error("a private address was allowed to localhost")
	}
	if err := alert.CheckAddress(false, false, "93.184.216.34:443"); err != nil {
		t.Errorf("a public address: %v", err)
	}
}

func TestWebhookOptionsAreChecked(t *testing.T) {
	for name, o := range map[string]alert.WebhookOptions{
		"no URL":         {},
		"other scheme":   {URL: alert.Secret{Value: "ftp://example.org/"}},
		"no host":        {URL: alert.Secret{Value: "https:///x"}},
		"plain http":     {URL: alert.Secret{Value: "http://example.org/"}},
		"no such file":   {URL: alert.Secret{Value: "https://example.org/"}, Secret: alert.Secret{File: "/no/such/file"}},
		"no prefix":      {URL: alert.Secret{Value: "https://example.org/"}, Secret: secretFile(t, strings.Repeat("A", 44))},
		"short secret":   {URL: alert.Secret{Value: "https://example.org/"}, Secret: secretFile(t, "whsec_AAAA")},
		"odd characters": {URL: alert.Secret{Value: "https://example.org/"}, Secret: secretFile(t, "whsec_"+strings.Repeat("!", 44))},
	} {
		if _, err := alert.OpenWebhook(o); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	open(t, alert.WebhookOptions{URL: alert.Secret{Value: "http://hooks.internal/x"}, AllowPrivate: true})
}

func asRetry(err error, again **monitor.RetryError) bool { return errors.As(err, again) }
