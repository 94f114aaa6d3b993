package alert

import (
	"time"

	"tallywood/monitor"
)

// Sign returns the signature header for a secret in its text form.
func Sign(secret, id, timestamp, body string) string {
	key, ok := parseSecret(secret)
	if !ok {
		return "bad secret"
	}
	return sign(key, id, timestamp, []byte(body))
}

// CheckAddress is checkAddress.
var CheckAddress = checkAddress

// Render returns what a template makes of an event.
func Render(name string, e monitor.Event) ([]byte, error) {
	t, err := openTemplate(name, "")
	if err != nil {
		return nil, err
	}
	return render(t, e)
}

// Plain is plain.
var Plain = plain

// SetGrace has a hook's output be waited for so long after its end.
func SetGrace(x *Exec, d time.Duration) { x.grace = d }

// LimitFeed has a feed take no more bytes than most.
func LimitFeed(a *Atom, most int) { a.most = most }
