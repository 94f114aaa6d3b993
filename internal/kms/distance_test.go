package kms_test

import (
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"
)

// A distance lies before a service and makes its answers come later.
type distance struct {
	*httptest.Server
	proxy http.Handler

	mu           sync.Mutex
	delay        time.Duration
	signing      int // signatures under way
	most, signed int // the most of them at a time, and how many there were
}

func newDistance(t testing.TB, endpoint string) *distance {
	t.Helper()
	u, err := url.Parse(endpoint)
	if err != nil {
		t.Fatal(err)
	}
	proxy := httputil.NewSingleHostReverseProxy(u)
	proxy.ErrorHandler = func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) }
	d := &distance{proxy: proxy}
	d.Server = httptest.NewServer(d)
	t.Cleanup(d.Close)
	return d
}

func (d *distance) uri(key string) string {
	return "awskms:///" + key + "?region=" + localRegion + "&endpoint=" + d.URL
}

// set sets how much later answers come, and forgets what was counted.
func (d *distance) set(delay time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.delay, d.most, d.signed = delay, 0, 0
}

// count adds n to the signatures under way, and returns the delay.
func (d *distance) count(n int) time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.signing += n
	d.most = max(d.most, d.signing)
	d.signed += max(n, 0)
	return d.delay
}

// counted returns the most signatures at a time, and how many there were.
func (d *distance) counted() (most, signed int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.most, d.signed
}

func (d *distance) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if strings.HasSuffix(r.Header.Get("X-Amz-Target"), ".Sign") {
		time.Sleep(d.count(1))
		defer d.count(-1)
	}
	d.proxy.ServeHTTP(w, r)
}
