package config_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"tallywood/internal/config"
)

func limitsOf(t *testing.T, text string) *config.Limits {
	t.Helper()
	c, err := config.Parse([]byte(server+text), "/", env(nil))
	if err != nil {
		t.Fatal(err)
	}
	return c.Limits
}

func TestLimitsHaveDefaults(t *testing.T) {
	l := limitsOf(t, "")
	if l.RequestsPerSecond != 200 || l.Burst != 2000 || l.Connections != 1024 || l.AllConnections != 8192 ||
		time.Duration(l.QueueAge) != 2*time.Second || len(l.TrustedProxies) != 0 || fmt.Sprint(l.Exempt) != "[127.0.0.1/32 ::1/128]" {
		t.Errorf("defaults are %+v", *l)
	}
	l = limitsOf(t, "limits: {requests_per_second: 0.25, connections: 20000}\n")
	if l.Burst != 3 || l.AllConnections != 20000 {
		t.Errorf("defaults that follow are %+v", *l)
	}
}

func TestLimitsAreRead(t *testing.T) {
	l := limitsOf(t, `
limits:
  requests_per_second: 12.5
  burst: 40
  connections: 7
  all_connections: 70
  trusted_proxies: [10.0.0.0/8, "2001:db8::/32", 192.0.2.7]
  exempt: []
  queue_age: 500ms
`)
	if l.RequestsPerSecond != 12.5 || l.Burst != 40 || l.Connections != 7 || l.AllConnections != 70 ||
		fmt.Sprint(l.TrustedProxies) != "[10.0.0.0/8 2001:db8::/32 192.0.2.7/32]" || l.Exempt == nil || len(l.Exempt) != 0 ||
		time.Duration(l.QueueAge) != 500*time.Millisecond {
		t.Errorf("got %+v", *l)
	}
}

// TestLimitsArePrinted: what config print prints is read as the same.
func TestLimitsArePrinted(t *testing.T) {
	for _, text := range []string{"", "limits: {exempt: []}\n", "limits: {exempt: [10.1.0.0/16, 2001:db8::7], trusted_proxies: [10.0.0.1]}\n"} {
		c, err := config.Parse([]byte(server+text), "/", env(nil))
		if err != nil {
			t.Fatal(err)
		}
		out, err := config.Format(c)
		if err != nil {
			t.Fatal(err)
		}
		again, err := config.Parse(out, "/", env(nil))
		if err != nil {
			t.Fatalf("%v in\n%s", err, out)
		}
		if !slices.Equal(again.Limits.Exempt, c.Limits.Exempt) || !slices.Equal(again.Limits.TrustedProxies, c.Limits.TrustedProxies) ||
			again.Limits.Burst != c.Limits.Burst || again.Limits.QueueAge != c.Limits.QueueAge {
			t.Errorf("%q became %+v", text, *again.Limits)
		}
	}
}

func TestLimitsAreRefused(t *testing.T) {
	for text, want := range map[string]string{
		"requests_per_second: -1":                  "requests_per_second -1 is not a positive number",
		"requests_per_second: .nan":                "requests_per_second NaN is not a positive number",
		"requests_per_second: .inf":                "requests_per_second +Inf is not a positive number",
		"burst: -5":                                "burst -5 is not a positive number",
		"connections: -5":                          "connections -5 is not a positive number",
		"connections: 10, all_connections: 9":      "all_connections 9 is less than connections, 10",
		"trusted_proxies: [proxy.example.org]":     "want one such as 10.0.0.0/8",
		"trusted_proxies: [10.0.0.1/8]":            "want 10.0.0.0/8, or the address alone",
		"trusted_proxies: ['::ffff:10.0.0.0/104']": "is not a network",
		"exempt: ['fe80::1%eth0']":                 "is not a network",
		"queue_age: 11s":                           "queue_age 11s is longer than 10s",
		"queue_age: -1s":                           "is not a duration",
		"requests_per_second: 0":                   "requests_per_second: want more than 0",
		"requests_per_second: 0.0":                 "requests_per_second: want more than 0.0",
		"burst: 0":                                 "burst: want more than 0",
		"connections: 0":                           "connections: want more than 0",
		"queue_age: 0s":                            "queue_age: want more than 0s",
		"rate: 5":                                  `unknown key "rate"`,
	} {
		_, err := config.Parse([]byte(server+"limits: {"+text+"}\n"), "/", env(nil))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v; want %q", text, err, want)
		}
	}
}
