package witness

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/base64"
	"html/template"
	"net/http"
	"slices"
	"strings"
	"time"

	"tallywood/witness/policy"
)

// A snapshot is what the status page shows of a log without touching its state.
type snapshot struct {
	loaded     bool // the fields below but unreadable and lastSeen are known
	size       int64
	root       [32]byte
	timestamp  int64
	frozen     bool
	unreadable bool // when the state was last read, that failed
	lastSeen   time.Time
}

func (e *entry) snap() snapshot {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.snapshot
}

// status is the body of status.json.
type status struct {
	Name  string      `json:"name"`
	VKeys []string    `json:"vkeys"` // of the keys that sign now: Ed25519, then ML-DSA-44
	Keys  []keyStatus `json:"keys"`  // all of them
	About string      `json:"about,omitempty"`
	Specs []string    `json:"specs"`
	Time  time.Time   `json:"time"`
	Via   []Reach     `json:"bastions,omitempty"` // through which it is reached
	Logs  []logStatus `json:"logs"`
	More  int         `json:"more_logs,omitempty"` // known, but not listed here

	Alarms []alarm      `json:"alarms"`
	Lists  []listStatus `json:"lists"`

	Signing    bool          `json:"signing"`
	NotSigning []string      `json:"not_signing,omitempty"` // why it does not
	Export     *exportStatus `json:"export,omitempty"`
}

// keyStatus is a key and when it signs.
type keyStatus struct {
	Alg       string     `json:"algorithm"`
	VKey      string     `json:"vkey"`
	Signs     bool       `json:"signs"` // now
	NotBefore *time.Time `json:"not_before,omitempty"`
	NotAfter  *time.Time `json:"not_after,omitempty"`
	Past      bool       `json:"past,omitempty"` // only recognized
}

// algorithms are the names of the types of own keys.
var algorithms = map[byte]string{policy.AlgCosignatureV1: "Ed25519", policy.AlgMLDSA44: "ML-DSA-44"}

// shownKey is how many characters of a vkey the page shows at once: one of Ed25519 is shown whole.
const shownKey = 400

// Long returns how many characters of the vkey are not in Short.
func (k keyStatus) Long() int { return len(k.VKey) - len(k.Short()) }

// Short returns the beginning of a vkey that is long, or all of it.
func (k keyStatus) Short() string {
	if len(k.VKey) <= shownKey {
		return k.VKey
	}
	name, _, _ := strings.Cut(k.VKey, "+")
	return k.VKey[:len(name)+40]
}

// A Reach is a bastion (c2sp.org/https-bastion) through which the witness is reached.
type Reach struct {
	Bastion string    `json:"bastion"` // host:port
	URL     string    `json:"url"`     // submission and monitoring prefix through it
	Up      bool      `json:"up"`
	Since   time.Time `json:"since"` // when Up last changed
}

type logStatus struct {
	Origin   string     `json:"origin"`
	Hash     string     `json:"hash"`
	Known    bool       `json:"known"` // size, root and cosigned are set; else the state was not read yet
	Size     int64      `json:"size"`
	Root     string     `json:"root,omitempty"`
	Cosigned *time.Time `json:"cosigned,omitempty"`  // the last cosignature
	LastSeen *time.Time `json:"last_seen,omitempty"` // the last checkpoint since the start
	Frozen   bool       `json:"frozen"`

	Unreadable bool   `json:"unreadable,omitempty"` // its state cannot be read: it is answered 503
	Disabled   bool   `json:"disabled,omitempty"`   // by the operator: not cosigned
	Contact    string `json:"contact,omitempty"`

	Source   string `json:"source,omitempty"`      // the file or list that names it
	Lag      int64  `json:"lag_seconds,omitempty"` // since the last cosignature
	QPD      int64  `json:"qpd,omitempty"`         // requests per day; 0: no limit
	Left     int64  `json:"quota_left,omitempty"`  // of them, now
	Evidence int    `json:"evidence,omitempty"`    // pairs of trees that contradict each other
}

var specs = []string{"c2sp.org/tlog-witness (July 2026)", "c2sp.org/tlog-cosignature (July 2026)", "c2sp.org/tlog-checkpoint"}

// Limits of one status page: what it lists, and for how many it reads the state.
const (
	maxListed = 1000
	maxLoads  = 50
)

func (w *Witness) status(ctx context.Context) status {
	s := status{
		Name: w.signer.name, VKeys: []string{}, Keys: w.signer.status(w.now().Unix()),
		About: w.about, Via: w.via(), Specs: specs, Time: w.now().UTC().Truncate(time.Second), Logs: []logStatus{},
	}
	for _, k := range s.Keys {
		if k.Signs {
			s.VKeys = append(s.VKeys, k.VKey)
		}
	}
	s.NotSigning = w.NotSigning()
	s.Signing = len(s.NotSigning) == 0
	if w.exporter.bucket != nil {
		export := w.exporter.status()
		s.Export = &export
	}
	disabled, evidence := w.Disabled(), w.evidenceCounts(ctx)
	w.lookAgain(ctx)
	loads := 0
	for _, e := range w.entries() {
		if len(s.Logs) == maxListed {
			s.More++
			continue
		}
		snap := e.snap()
		if (!snap.loaded || snap.unreadable) && loads < maxLoads {
			loads++
			w.loadForStatus(ctx, e, false)
			snap = e.snap()
		}
		ls := w.logStatus(e, snap)
		ls.Evidence = evidence[e.hash].forks
		_, ls.Disabled = slices.BinarySearch(disabled, e.origin)
		s.Logs = append(s.Logs, ls)
	}
	s.Alarms, s.Lists = w.alarmsNow(ctx, evidence), w.publicLists()
	return s
}

// status says of each key whether it signs now, and when.
func (s *signer) status(now int64) []keyStatus {
	out := make([]keyStatus, len(s.keys))
	for i, k := range s.keys {
		out[i] = keyStatus{Alg: algorithms[k.Alg()], VKey: k.String(), Signs: k.validAt(now), Past: k.signer == nil || k.until != 0 && now >= k.until}
		if k.from != 0 {
			t := time.Unix(k.from, 0).UTC()
			out[i].NotBefore = &t
		}
		if k.until != 0 {
			t := time.Unix(k.until, 0).UTC()
			out[i].NotAfter = &t
		}
	}
	return out
}

// lookAgain reads the state of frozen logs afresh, of a few of them: they may not ask for an hour, and
// whoever sets a floor is another process.
func (w *Witness) lookAgain(ctx context.Context) {
	loads := 0
	for _, e := range w.entries() {
		if e.snap().frozen && loads < maxLoads {
			loads++
			w.loadForStatus(ctx, e, true)
		}
	}
}

// loadForStatus reads a log's state if nobody is busy with it. Errors show as not known.
func (w *Witness) loadForStatus(ctx context.Context, e *entry, fresh bool) {
	select {
	case e.lock <- struct{}{}:
		_ = w.load(ctx, e, fresh)
		<-e.lock
	default:
	}
}

func (w *Witness) logStatus(e *entry, s snapshot) logStatus {
	l := e.log()
	ls := logStatus{
		Origin: e.origin, Hash: e.hash, Known: s.loaded, Size: s.size, Frozen: s.frozen, Unreadable: s.unreadable,
		Contact: l.Contact, Source: publicSource(l.Source),
	}
	ls.Left, ls.QPD = e.quota.left(w.now())
	if s.loaded && s.timestamp != 0 {
		ls.Lag = max(0, w.now().Unix()-s.timestamp)
		ls.Root = base64.StdEncoding.EncodeToString(s.root[:])
		t := time.Unix(s.timestamp, 0).UTC()
		ls.Cosigned = &t
	}
	if !s.lastSeen.IsZero() {
		t := s.lastSeen.UTC().Truncate(time.Second)
		ls.LastSeen = &t
	}
	return ls
}

func (w *Witness) serveStatus(rw http.ResponseWriter, r *http.Request) {
	serveJSON(rw, r, w.status(r.Context()))
}

//go:embed status.html
var pageText string

var page = template.Must(template.New("status.html").Funcs(template.FuncMap{"span": span, "since": since}).Parse(pageText))

func (w *Witness) servePage(rw http.ResponseWriter, r *http.Request) {
	var b bytes.Buffer
	if err := page.Execute(&b, w.status(r.Context())); err != nil {
		w.log.Error("rendering the status page", "err", err)
		http.Error(rw, "the status page could not be rendered; see status.json", http.StatusInternalServerError)
		return
	}
	rw.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'")
	serve(rw, r, "text/html; charset=utf-8", "public, max-age=1", b.Bytes())
}
