package tsa_test

import (
	"errors"
	"net/http"
	"sync"
	"testing"
	"time"
)

func TestDoubtedClockSignsNothing(t *testing.T) {
	var mu sync.Mutex
	now, doubt := start, error(nil)
	set := func(at time.Time, err error) {
		mu.Lock()
		defer mu.Unlock()
		now, doubt = at, err
	}
	o := newAuthority(t)
	o.Now = func() time.Time { mu.Lock(); defer mu.Unlock(); return now }
	o.Guard = func(at time.Time) error {
		mu.Lock()
		defer mu.Unlock()
		if !at.Equal(now) {
			t.Errorf("the guard was asked about %v, not %v", at, now)
		}
		return doubt
	}
	h := open(t, o)
	for _, tc := range []struct {
		name   string
		at     time.Time
		doubt  error
		status int
	}{
		{"start, in the second the chain was made", start, nil, 200},
		{"an hour later", start.Add(time.Hour), nil, 200},
		{"the same second again", start.Add(time.Hour - 900*time.Millisecond), nil, 200},
		{"one second back", start.Add(time.Hour - time.Second), nil, 503},
		{"ten minutes back", start.Add(50 * time.Minute), nil, 503},
		{"a year back", start.AddDate(-1, 0, 0), nil, 503},
		{"doubted", start.Add(2 * time.Hour), errors.New("3 of 4 servers disagree"), 503},
		{"back again", start.Add(time.Hour), nil, 200},
		{"after the leaf's end", start.AddDate(5, 0, 0).Add(time.Second), nil, 503},
		{"in 2038", time.Date(2038, 1, 19, 3, 14, 8, 0, time.UTC), nil, 503},
		{"the leaf's last second", start.AddDate(5, 0, 0), nil, 200},
	} {
		set(tc.at, tc.doubt)
		w := post(h, query, derRequest(t, "artifact", nil))
		if w.Code != tc.status || (tc.status == 503) != (w.Header().Get("Retry-After") != "") {
			t.Errorf("%s: %d, Retry-After %q, %s", tc.name, w.Code, w.Header().Get("Retry-After"), w.Body)
		}
	}
}

// A request that has read the clock is overtaken by another one, which signs the next second. Its
// clock did not go back: it reads again.
func TestOvertakenRequestIsNotAClockGoneBack(t *testing.T) {
	o := newAuthority(t)
	var h http.Handler
	now, steps := start, 0
	o.Now = func() time.Time {
		read := now
		if h != nil && steps > 0 {
			steps--
			now = now.Add(time.Second)
			if w := post(h, query, derRequest(t, "overtaking", nil)); w.Code != 200 {
				t.Errorf("the overtaking request: %d %s", w.Code, w.Body)
			}
		}
		return read
	}
	h = open(t, o)
	for _, steps = range []int{1, 2} { // overtaken that often
		w := post(h, query, derRequest(t, "artifact", nil))
		if w.Code != 200 {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
		if ts := verify(t, o.Chain, w.Body.Bytes(), "artifact"); !ts.Time.Equal(now.Truncate(time.Second)) {
			t.Errorf("time %v after %v was signed", ts.Time, now)
		}
	}
}
