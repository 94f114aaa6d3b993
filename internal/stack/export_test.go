package stack

import (
	"crypto/ed25519"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/semaphore"

	"tallywood/internal/config"
	"tallywood/monitor"
	"tallywood/storage"
)

// MoveJournal is the name of the file that says that a move is under way.
const MoveJournal = moveJournal

// StorageInterval is for how long an answer of the storage is believed.
const StorageInterval = storageInterval

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

// LimitWrites lets the requests of a listener through to h as far as c goes, and those that a replica
// of a log with that key has passed on.
func LimitWrites(c *config.Limits, key PassingKey, h http.Handler) http.Handler {
	l := newLimits(c)
	return l.identify(l.write(h, key.counted))
}

// A PassingKey is what replicas of a log authenticate passed-on requests with.
type PassingKey = passingKey

// NewPassingKey derives it from the log's key.
func NewPassingKey(note ed25519.PrivateKey) (PassingKey, error) { return newPassingKey(note) }

// Note and OpenNote make and check what a request that is passed on carries in ForwardedHeader.
func Note(k PassingKey, client netip.Prefix, now time.Time) string { return k.note(client, now) }

func OpenNote(k PassingKey, note string, now time.Time) (netip.Prefix, bool) {
	return k.open(note, now)
}

// CouldLead reports whether a probe makes a leader without quorum hand over.
func CouldLead(k PassingKey, r *http.Request) bool { return k.couldLead(r) }

const (
	ForwardedHeader = forwardedHeader
	LeadingHeader   = leadingHeader
	PassingTime     = passingTime
)

// ServePassed serves a request that another replica has passed on.
var ServePassed = servePassed

// Routes are the paths for people.
func Routes() http.Handler {
	mux := http.NewServeMux()
	new(Stack).routePeople(mux)
	return mux
}

// Room is what the bodies of requests that may be sent again take together.
type Room = *semaphore.Weighted

// NewRoom returns the room of one stack.
func NewRoom() Room { return semaphore.NewWeighted(maxReplays) }

// Replay returns what makes copies of r, what tells whether it may, and what ends that.
func Replay(r *http.Request, room Room) (request func() *http.Request, complete func() bool, done func()) {
	b := &replay{body: r.Body, room: room}
	return func() *http.Request { return b.request(r) }, b.complete, b.close
}

// MetricNames are the names of all metrics of a stack, those without series too.
func MetricNames(s *Stack) []string {
	descs := make(chan *prometheus.Desc)
	go func() {
		defer close(descs)
		s.metrics.registry.Describe(descs)
	}()
	var names []string
	for d := range descs {
		_, name, _ := strings.Cut(d.String(), `fqName: "`)
		name, _, _ = strings.Cut(name, `"`)
		if strings.HasPrefix(name, "tallywood_") {
			names = append(names, name)
		}
	}
	return names
}

// ServePages serves the pages of a monitor that writes them to dir.
func ServePages(dir string) http.Handler {
	s := &Stack{}
	s.pages.Store(&dir)
	return http.HandlerFunc(s.servePages)
}
