package alert_test

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"tallywood/monitor/alert"
)

// TestMailPasswordIsHiddenAsItWasSaid has servers that repeat what they do not take.
func TestMailPasswordIsHiddenAsItWasSaid(t *testing.T) {
	t.Parallel()
	for _, way := range []string{"PLAIN", "LOGIN"} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		go func() {
			c, err := l.Accept()
			if err != nil {
				return
			}
			defer c.Close()
			io.WriteString(c, "220 hello\r\n")
			for lines := bufio.NewScanner(c); lines.Scan(); {
				switch line := lines.Text(); {
				case strings.HasPrefix(line, "EHLO"):
					io.WriteString(c, "250-hello\r\n250 AUTH "+way+"\r\n")
				case line == "AUTH LOGIN":
					io.WriteString(c, "334 UGFzc3dvcmQ6\r\n") // Password:
				default:
					io.WriteString(c, "535 no: "+line+"\r\n")
				}
			}
		}()
		o := alert.SMTPOptions{Server: l.Addr().String(), TLS: alert.NoTLS, User: "monitor", Password: secretFile(t, mailPassword),
			From: "a@example.org", To: []string{"b@example.org"}}
		err = openSMTP(t, o).Send(t.Context(), alarm(1))
		if err == nil || !strings.Contains(err.Error(), "logging in: 535 \"no: ") || !strings.Contains(err.Error(), "(secret)") {
			t.Errorf("%s: %v", way, err)
		}
		for _, field := range strings.Fields(fmt.Sprint(err)) {
			if decoded, _ := base64.StdEncoding.DecodeString(field); strings.Contains(field+string(decoded), mailPassword) {
				t.Errorf("%s: the password is in %v", way, err)
			}
		}
	}
}

// TestWebhookPasswordIsHiddenAsItWasSaid has a receiver that repeats the header it does not take.
func TestWebhookPasswordIsHiddenAsItWasSaid(t *testing.T) {
	t.Parallel()
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Error(w, "not "+r.Header.Get("Authorization"), http.StatusForbidden)
	}))
	t.Cleanup(receiver.Close)
	address := strings.Replace(receiver.URL, "://", "://monitor:hunter2@", 1)
	w, err := alert.OpenWebhook(alert.WebhookOptions{URL: alert.Secret{Value: address}})
	if err != nil {
		t.Fatal(err)
	}
	said := base64.StdEncoding.EncodeToString([]byte("monitor:hunter2"))
	if err := w.Send(t.Context(), alarm(1)); err == nil || strings.Contains(err.Error(), said) || !strings.Contains(err.Error(), "not Basic (secret)") {
		t.Errorf("error %v", err)
	}
}
