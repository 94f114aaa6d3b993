package alert

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"text/template"
	"time"

	"tallywood/monitor"
)

const secretPrefix = "whsec_"

// WebhookOptions configure a Webhook.
type WebhookOptions struct {
	// URL is posted to. It is https, or http to a loopback address; with AllowPrivate any http. The
	// file is read once.
	URL Secret

	// Secret signs the requests: "whsec_" and the base64 of 24 to 64 bytes. Without one they are not
	// signed.
	Secret Secret

	// Template makes the body: the name of one of Templates. Empty: the event's JSON.
	Template string
	// TemplateFile is a template of one's own instead.
	TemplateFile string

	// AllowPrivate lets the URL's host be, or resolve to, an address that is not public. A URL that
	// names a loopback address, or localhost, may have one of those anyway.
	AllowPrivate bool
}

// Webhook posts events to a URL.
type Webhook struct {
	target *target
	secret Secret
	body   *template.Template // nil: the event's JSON
}

var _ monitor.Sink = (*Webhook)(nil)

// OpenWebhook checks o and reads what it names.
func OpenWebhook(o WebhookOptions) (*Webhook, error) {
	w := &Webhook{secret: o.Secret}
	var errs []error
	address, err := o.URL.read()
	if err == nil {
		w.target, err = newTarget("webhook", address, o.AllowPrivate)
	}
	errs = append(errs, err)
	_, err = w.key()
	errs = append(errs, err)
	w.body, err = openTemplate(o.Template, o.TemplateFile)
	if err := errors.Join(append(errs, err)...); err != nil {
		return nil, err
	}
	return w, nil
}

// key returns the key that signs, nil without one.
func (w *Webhook) key() ([]byte, error) {
	if w.secret.IsZero() {
		return nil, nil
	}
	text, err := w.secret.read()
	if err != nil {
		return nil, err
	}
	key, ok := parseSecret(text)
	if !ok {
		return nil, fmt.Errorf("webhook secret %s is not %q and the base64 of 24 to 64 bytes", w.secret.File, secretPrefix)
	}
	return key, nil
}

func parseSecret(text string) ([]byte, bool) {
	text, ok := strings.CutPrefix(text, secretPrefix)
	secret, err := base64.StdEncoding.DecodeString(text)
	return secret, ok && err == nil && len(secret) >= 24 && len(secret) <= 64
}

// Send implements monitor.Sink: a 2xx answer within ten seconds takes the event.
func (w *Webhook) Send(ctx context.Context, e monitor.Event) error {
	if err := w.post(ctx, e); err != nil {
		err = fmt.Errorf("posting event %s: %w", e.ID, err)
		return hide(err, w.target.secrets...)
	}
	return nil
}

func (w *Webhook) post(ctx context.Context, e monitor.Event) error {
	body, err := render(w.body, e)
	if err != nil {
		return err
	}
	key, err := w.key()
	if err != nil {
		return err
	}
	timestamp := strconv.FormatInt(time.Now().Unix(), 10)
	header := http.Header{
		"Content-Type":      {"application/json"},
		"webhook-id":        {e.ID},
		"webhook-timestamp": {timestamp},
	}
	if key != nil {
		header["webhook-signature"] = []string{sign(key, e.ID, timestamp, body)}
	}
	a, err := w.target.ask(ctx, http.MethodPost, w.target.url, header, body, maxReason)
	switch {
	case err != nil:
		return err
	case !a.ok():
		return a.refused(time.Now(), string(a.body))
	}
	return nil
}

// sign returns the webhook-signature header.
//
//	> {msg_id}.{timestamp}.{payload} … base64 encoded … prefixed with v1, (Standard Webhooks)
func sign(secret []byte, id, timestamp string, body []byte) string {
	mac := hmac.New(sha256.New, secret)
	fmt.Fprintf(mac, "%s.%s.", id, timestamp)
	mac.Write(body)
	return "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
}
