package stack

import (
	"net/http"

	"tallywood/monitor"
	"tallywood/storage"
)

// MoveJournal is the name of the file that says that a move is under way.
const MoveJournal = moveJournal

// MaxAlerts is how many alerts the page shows.
const MaxAlerts = maxAlerts

// LastAlerts are those of logs that the page shows.
func LastAlerts(logs []monitor.LogStatus) []monitor.Event { return lastAlerts(logs) }

// ReplaceFile is replaceFile.
func ReplaceFile(path string, data []byte) error { return replaceFile(path, data) }

// ReplaceAddress is replaceAddress.
func ReplaceAddress(text, old, new string) string { return replaceAddress(text, old, new) }

// WrapBucket lets s, but none of its parts, see what wrap makes of its bucket.
func (s *Stack) WrapBucket(wrap func(storage.Bucket) storage.Bucket) { s.bucket = wrap(s.bucket) }

// Routes are the paths for people.
func Routes() http.Handler {
	mux := http.NewServeMux()
	new(Stack).routePeople(mux)
	return mux
}

// Replay returns what makes copies of r, what tells whether it may, and what ends that.
func Replay(r *http.Request) (request func() *http.Request, complete func() bool, done func()) {
	b := &replay{body: r.Body}
	return func() *http.Request { return b.request(r) }, b.complete, b.close
}
