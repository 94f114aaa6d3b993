// Package tlog serves a log whose entries are bytes of any meaning. Who adds one gets the proof that
// it is in the log, a tlog-proof (https://c2sp.org/tlog-proof); everyone reads the log as
// https://c2sp.org/tlog-tiles lays it out.
//
// In goes POST /add with the entry as its body, 1 to 65,535 bytes that nothing here looks into, and
// a bearer token if the log has one. Out comes 201 with the proof, under a checkpoint that satisfies
// the log's policy. An entry that was added before gets 201 as well, and a proof of the index it got
// then: a client that was not answered in time sends the same again. A frozen log answers 405 and says
// where to go.
package tlog

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"log/slog"
	"mime"
	"net/http"
	"strconv"
	"strings"

	"tallywood/internal/httpx"
	"tallywood/log"
	"tallywood/log/entry"
	"tallywood/storage"
)

// Options configure a handler.
type Options struct {
	Log    *log.Log       // of kind tlog
	Bucket storage.Bucket // where the reads come from, the one Log is in

	// Token is the bearer token that whoever adds an entry must send. Empty: anyone may add.
	Token string

	// Successor names the log that takes entries once this one is frozen, for the 405 that answers
	// every add then. Nil: as the request to freeze it named it.
	Successor func() log.Successor

	Logger *slog.Logger // nil discards
}

const (
	addPath = "/add"

	// maxBodies is how many bytes the entries of more than 16 KiB may have that are being added at
	// the same time.
	maxBodies = 16 << 20
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
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("checking options of a generic log: %w", err)
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	h := &handler{o: o, token: sha256.Sum256([]byte(o.Token)), bodies: httpx.NewBodyBudget(maxBodies)}
	static := log.Static(o.Bucket, o.Log.Name())
	add := httpx.Methods(http.HandlerFunc(h.add), http.MethodPost)
	mux := http.NewServeMux()
	mux.Handle(addPath, add)
	mux.Handle(addPath+"/{$}", add)
	mux.Handle("/checkpoint", static)
	mux.Handle("/checkpoint.full", static)
	mux.Handle("/tile/", static)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		httpx.Error(w, http.StatusNotFound, "no such path: this log has "+addPath+", /checkpoint and /tile/…")
	})
	return httpx.CollapseSlashes(mux), nil
}

type handler struct {
	o      Options
	token  [32]byte // SHA-256 of o.Token: of one length, whatever is sent
	bodies *httpx.BodyBudget
}

// add is POST /add.
func (h *handler) add(w http.ResponseWriter, r *http.Request) {
	if h.o.Log.Frozen() != nil {
		log.AnswerFrozen(w, h.o.Log.Successor(h.o.Successor))
		return
	}
	if !h.authorized(w, r) || form(w, r) {
		return
	}
	body, release, err := h.bodies.Read(w, r, entry.MaxSize)
	if err != nil {
		httpx.WriteBodyError(w, err)
		return
	}
	defer release() // the body is the entry, and is in use until the end
	if len(body) == 0 {
		httpx.Error(w, http.StatusBadRequest, fmt.Sprintf("the request body is empty; it is the entry, of 1 to %d bytes", entry.MaxSize))
		return
	}
	receipt, err := h.o.Log.Add(r.Context(), log.Entry{Key: sha256.Sum256(body), Data: body})
	if errors.Is(err, log.ErrFrozen) {
		log.AnswerFrozen(w, h.o.Log.Successor(h.o.Successor))
		return
	}
	if err != nil {
		log.WriteAddError(w, h.o.Logger, err)
		return
	}
	proof, header := receipt.Proof().Format(), w.Header()
	if receipt.Duplicate {
		header.Set("X-Log-Index", strconv.FormatInt(receipt.Index, 10))
	}
	header.Set("Content-Type", "text/plain; charset=utf-8")
	header.Set("Content-Length", strconv.Itoa(len(proof)))
	header.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(http.StatusCreated)
	// The client may be gone; the entry is logged, and posting it again answers the same.
	_, _ = w.Write(proof)
}

// authorized reports whether a request has the log's token, if there is one, and answers those that
// have not.
//
// > [...] the resource server MUST include the HTTP "WWW-Authenticate" response header field
// > (RFC 6750 section 3)
func (h *handler) authorized(w http.ResponseWriter, r *http.Request) bool {
	if h.o.Token == "" {
		return true
	}
	challenge := fmt.Sprintf("Bearer realm=%q", h.o.Log.Name())
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		w.Header().Set("WWW-Authenticate", challenge)
		httpx.Error(w, http.StatusUnauthorized, "entries are taken from those who have the log's token; send it as \"Authorization: Bearer TOKEN\"")
		return false
	}
	sent := sha256.Sum256([]byte(strings.TrimLeft(token, " ")))
	if subtle.ConstantTimeCompare(sent[:], h.token[:]) != 1 {
		w.Header().Set("WWW-Authenticate", challenge+`, error="invalid_token"`)
		httpx.Error(w, http.StatusUnauthorized, "the bearer token is not the log's")
		return false
	}
	return true
}

// form reports whether the body of a request is a multipart form, and answers it: what would be logged
// is not the file that the client has. Any other media type will do, also the one that curl sends by
// default.
func form(w http.ResponseWriter, r *http.Request) bool {
	// What does not parse is no form either.
	media, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if media != "multipart/form-data" {
		return false
	}
	httpx.Error(w, http.StatusUnsupportedMediaType, "forms are not accepted; send the entry as the body itself (curl --data-binary @FILE)")
	return true
}
