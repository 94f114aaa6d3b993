package config

import (
	"errors"
	"fmt"
)

// Notify is one sink.
type Notify struct {
	// A file to which each event is appended as one line of JSON.
	JSONL string `yaml:"jsonl,omitempty"`
	// A URL to which each event is posted.
	Webhook *Webhook `yaml:"webhook,omitempty"`
	// info, warning or critical. Default: info.
	MinSeverity string `yaml:"min_severity,omitempty"`
}

// Webhook is a URL that takes events (Standard Webhooks).
type Webhook struct {
	// Where to post.
	URL string `yaml:"url"`
	// File with the secret that signs the requests. Default: unsigned.
	SecretFile string `yaml:"secret_file,omitempty"`
	// Whether the URL may lie in a private network. Loopback is always allowed. Default: false.
	AllowPrivate bool `yaml:"allow_private,omitempty"`
}

func (m *Monitor) checkNotify() error {
	var errs []error
	if len(m.Notify) == 0 {
		errs = append(errs, errors.New("notify is empty: nobody would be told"))
	}
	for name, n := range m.Notify {
		if (n.JSONL == "") == (n.Webhook == nil) {
			errs = append(errs, fmt.Errorf("notify %q: want exactly one of jsonl and webhook", name))
		}
		if n.Webhook != nil && n.Webhook.URL == "" {
			errs = append(errs, fmt.Errorf("notify %q: the webhook has no url", name))
		}
		switch n.MinSeverity {
		case "", "info", "warning", "critical":
		default:
			errs = append(errs, fmt.Errorf("notify %q: min_severity %q is not info, warning or critical", name, n.MinSeverity))
		}
	}
	return errors.Join(errs...)
}
