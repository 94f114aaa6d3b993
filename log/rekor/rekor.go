// Package rekor serves a log over the Rekor v2 write API (github.com/sigstore/rekor-tiles) and
// its tiles over c2sp.org/tlog-tiles.
//
// In goes POST /api/v2/log/entries with a hashedrekord or DSSE request, out comes 201 with a
// TransparencyLogEntry, which clients decode strictly: it has the fields of that message and no
// others. A request seen before gets the entry it got then. The checkpoint and tiles are served at
// / and under /api/v2/.
package rekor

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime"
	"strconv"

	"tallywood/internal/httpx"
	"tallywood/log"
	"tallywood/log/entry"
	"tallywood/storage"
)

// Options configure a handler.
type Options struct {
	Log    *log.Log       // of kind rekor
	Bucket storage.Bucket // where the reads come from, the one Log is in
	Turns  *httpx.Turns   // for what takes long to verify; nil: the handler's own, at half the processors

	LogID [32]byte // logId.keyId of the replies, as the trusted root has it

	MaxBody int64 // bytes of a request; default 4 MiB

	// RejectTwins answers 409 to an ECDSA signature (r, n-s) when (r, s) is in the log. By
	// default it is answered like a duplicate, with the entry as first logged.
	RejectTwins bool
	// Successor names the log that takes entries once this one is frozen, for the 405 that answers
	// every write then. Nil: as the request to freeze it named it.
	Successor func() log.Successor

	Logger *slog.Logger // nil discards
}

const (
	defaultMaxBody = 4 << 20
	entriesPath    = "/api/v2/log/entries"

	// maxBodies is how many bytes of large requests may be in memory at the same time. Decoded they
	// take about as much again.
	maxBodies = 64 << 20
)

// New returns the handler of a log. Its paths are relative to "/".
func New(o Options) (http.Handler, error) {
	var errs []error
	if o.Log == nil {
		errs = append(errs, errors.New("no log"))
	}
	if o.Bucket == nil {
		errs = append(errs, errors.New("no bucket"))
	}
	if o.LogID == ([32]byte{}) {
		errs = append(errs, errors.New("no log ID"))
	}
	if o.MaxBody < 0 {
		errs = append(errs, errors.New("negative body limit"))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("checking options of the Rekor API: %w", err)
	}
	if o.MaxBody == 0 {
		o.MaxBody = defaultMaxBody
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Turns == nil {
		o.Turns = httpx.NewTurns(runtime.GOMAXPROCS(0) / 2)
	}
	h := &handler{o: o, bodies: httpx.NewBodyBudget(max(maxBodies, o.MaxBody))}
	static := log.Static(o.Bucket, o.Log.Name())
	add := httpx.Methods(http.HandlerFunc(h.add), http.MethodPost)
	mux := http.NewServeMux()
	mux.Handle(entriesPath, add)
	mux.Handle(entriesPath+"/{$}", add)
	mux.Handle("/checkpoint", static)
	mux.Handle("/checkpoint.full", static)
	mux.Handle("/tile/", static)
	mux.Handle("/api/v2/checkpoint", http.StripPrefix("/api/v2", static))
	mux.Handle("/api/v2/checkpoint.full", http.StripPrefix("/api/v2", static))
	mux.Handle("/api/v2/tile/", http.StripPrefix("/api/v2", static))
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		httpx.Error(w, http.StatusNotFound, "no such path: this log has "+entriesPath+", /checkpoint and /tile/…")
	})
	return httpx.CollapseSlashes(mux), nil
}

type handler struct {
	o      Options
	bodies *httpx.BodyBudget
	notes  noteCache
}

// add is POST /api/v2/log/entries.
func (h *handler) add(w http.ResponseWriter, r *http.Request) {
	if h.o.Log.Frozen() != nil {
		h.answerFrozen(w)
		return
	}
	body, release, err := h.bodies.Read(w, r, h.o.MaxBody)
	if err != nil {
		httpx.WriteBodyError(w, err)
		return
	}
	e, err := h.parse(r, body)
	release() // the entry is small, and may wait for witnesses
	if err != nil {
		h.fail(w, err)
		return
	}
	receipt, err := h.o.Log.Add(r.Context(), e)
	if err != nil {
		h.fail(w, err)
		return
	}
	if receipt.Duplicate {
		w.Header().Set("X-Log-Index", strconv.FormatInt(receipt.Index, 10))
		if h.o.RejectTwins && string(receipt.Body) != string(e.Data) {
			httpx.Error(w, http.StatusConflict, fmt.Sprintf(
				"an entry with the other form (r, n-s) of this signature exists at index %d; sign again", receipt.Index))
			return
		}
	}
	answer := h.render(receipt)
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(answer))) // else it would be sent in chunks
	w.WriteHeader(http.StatusCreated)
	// The client may be gone; the entry is logged, and posting it again answers the same.
	_, _ = w.Write(answer)
}

// parse verifies a request. What takes long waits for its client's turn, and leaves processors to the
// others.
func (h *handler) parse(r *http.Request, body []byte) (log.Entry, error) {
	e, err := entry.ParseRequestInTurn(body, func() (func(), error) {
		turn, err := h.o.Turns.Take(r.Context(), httpx.Client(r))
		return turn.Give, err
	})
	return log.Entry{Key: e.Key, Data: e.Canonical}, err // what waits needs no more of it
}

// answerFrozen answers a write to a log that takes none any more.
func (h *handler) answerFrozen(w http.ResponseWriter) {
	log.AnswerFrozen(w, h.o.Log.Successor(h.o.Successor))
}

// fail answers an error of parsing or adding an entry.
func (h *handler) fail(w http.ResponseWriter, err error) {
	var invalid *entry.InvalidError
	var large *entry.TooLargeError
	switch {
	case errors.Is(err, log.ErrFrozen):
		h.answerFrozen(w)
	case errors.As(err, &invalid):
		httpx.Error(w, http.StatusBadRequest, invalid.Error())
	case errors.As(err, &large):
		httpx.Error(w, http.StatusRequestEntityTooLarge, large.Error())
	default:
		log.WriteAddError(w, h.o.Logger, err)
	}
}
