package witness

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"tallywood/internal/httpx"
	"tallywood/storage"
)

// Handler serves the witness relative to "/": the submission prefix (POST add-checkpoint and
// sign-subtree), the monitoring prefix (GET <origin hash>/checkpoint), the evidence, status.json
// and a page for people.
func (w *Witness) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("POST /add-checkpoint", w.submission("add-checkpoint", w.addCheckpoint))
	mux.Handle("POST /sign-subtree", w.submission("sign-subtree",
		func(_ context.Context, _ netip.Prefix, body []byte) (string, error) { return w.signSubtree(body) }))
	mux.Handle("GET /{hash}/checkpoint", w.counted("checkpoint", w.serveCheckpoint))
	mux.Handle("GET /evidence/{hash}/{$}", w.counted("evidence", w.serveEvidenceList))
	mux.Handle("GET /evidence/{hash}/{name}", w.counted("evidence", w.serveEvidence))
	mux.Handle("GET /status.json", w.counted("status", w.serveStatus))
	mux.Handle("GET /{$}", w.counted("page", w.servePage))
	return httpx.CollapseSlashes(mux)
}

// submission serves an endpoint that answers a body with signature lines.
func (w *Witness) submission(endpoint string, answer func(context.Context, netip.Prefix, []byte) (string, error)) http.Handler {
	return w.counted(endpoint, func(rw http.ResponseWriter, r *http.Request) {
		sender := httpx.OutsideSender(r)
		if sender.IsValid() && w.refusals.Spent(sender, w.now()) {
			w.writeError(rw, endpoint, &unavailableError{
				after: time.Second, reason: "too many requests of this address were in vain", limited: true,
			})
			return
		}
		lines, err := w.answer(rw, r, sender, answer)
		if err != nil {
			var later *unavailableError
			if !errors.As(err, &later) || later.limited {
				w.refusals.Allow(sender, w.now())
			}
			w.writeError(rw, endpoint, err)
			return
		}
		rw.Header().Set("Content-Type", "text/plain; charset=utf-8")
		rw.Header().Set("Content-Length", strconv.Itoa(len(lines)))
		_, _ = io.WriteString(rw, lines) // the client is gone; its next request re-signs
	})
}

// answer reads the body of a request and answers it.
func (w *Witness) answer(rw http.ResponseWriter, r *http.Request, sender netip.Prefix, answer func(context.Context, netip.Prefix, []byte) (string, error)) (string, error) {
	body, err := httpx.ReadBody(rw, r, maxBody)
	if err != nil {
		status, message := httpx.BodyStatus(err)
		return "", refuse(status, "%s", message)
	}
	return answer(r.Context(), sender, body)
}

// writeError maps an error to its status. No body holds a signature line.
func (w *Witness) writeError(rw http.ResponseWriter, endpoint string, err error) {
	var (
		refused  *requestError
		conflict *ConflictError
		later    *unavailableError
	)
	switch {
	case errors.As(err, &conflict):
		// > The response MUST have a Content-Type of text/x.tlog.size.
		// Nothing may follow it: clients compare the bytes.
		rw.Header().Set("Content-Type", "text/x.tlog.size")
		rw.WriteHeader(http.StatusConflict)
		_, _ = fmt.Fprintf(rw, "%d\n", conflict.Size)
	case errors.As(err, &refused):
		http.Error(rw, refused.Error(), refused.status)
	case errors.As(err, &later):
		status := http.StatusServiceUnavailable
		if later.limited {
			status = http.StatusTooManyRequests
		}
		seconds := max(1, int64((later.after+time.Second-1)/time.Second))
		rw.Header().Set("Retry-After", strconv.FormatInt(seconds, 10))
		http.Error(rw, later.reason, status)
	default:
		w.log.Error("answering "+endpoint, "err", err)
		rw.Header().Set("Retry-After", "1")
		http.Error(rw, "internal error", http.StatusServiceUnavailable)
	}
}

// serveCheckpoint serves the monitoring prefix: the last note, with the log's verified lines and
// our last cosignatures, and nothing else of what was in the request.
func (w *Witness) serveCheckpoint(rw http.ResponseWriter, r *http.Request) {
	rw.Header().Set("Access-Control-Allow-Origin", "*") // a web page may know that there is none, too
	e := w.lookupHash(r.PathValue("hash"))
	if e == nil {
		http.Error(rw, "no log of this origin hash is known here", http.StatusNotFound)
		return
	}
	s, version, err := w.read(r.Context(), e)
	var note string
	if err == nil {
		note, err = w.render(e, s, version)
	}
	switch {
	case err != nil:
		w.log.Error("serving checkpoint", "origin", e.origin, "err", err)
		rw.Header().Set("Retry-After", "1")
		http.Error(rw, "the witness cannot read its state of this log", http.StatusServiceUnavailable)
		return
	case s.Note == "":
		http.Error(rw, "no checkpoint of this log was cosigned yet", http.StatusNotFound)
		return
	}
	serve(rw, r, "text/plain; charset=utf-8", "public, max-age=1", []byte(note))
}

func (w *Witness) serveEvidenceList(rw http.ResponseWriter, r *http.Request) {
	e := w.lookupHash(r.PathValue("hash"))
	if e == nil {
		http.Error(rw, "no log of this origin hash is known here", http.StatusNotFound)
		return
	}
	names, err := w.listEvidence(r.Context(), e)
	if err != nil {
		w.log.Error("serving evidence", "origin", e.origin, "err", err)
		rw.Header().Set("Retry-After", "1")
		http.Error(rw, "the evidence cannot be read now", http.StatusServiceUnavailable)
		return
	}
	serveJSON(rw, r, struct {
		Origin   string   `json:"origin"`
		Evidence []string `json:"evidence"` // names below this path
	}{e.origin, slices.Concat([]string{}, names)})
}

func (w *Witness) serveEvidence(rw http.ResponseWriter, r *http.Request) {
	hash, name := r.PathValue("hash"), r.PathValue("name")
	key := w.evidenceKey(hash, name)
	if w.lookupHash(hash) == nil || storage.CheckKey(key) != nil {
		http.Error(rw, "no such evidence", http.StatusNotFound)
		return
	}
	data, _, err := w.bucket.Get(r.Context(), key, storage.Range{})
	switch {
	case errors.Is(err, fs.ErrNotExist):
		http.Error(rw, "no such evidence", http.StatusNotFound)
	case err != nil:
		w.log.Error("serving evidence", "key", key, "err", err)
		rw.Header().Set("Retry-After", "1")
		http.Error(rw, "the evidence cannot be read now", http.StatusServiceUnavailable)
	default:
		serve(rw, r, "application/json", "public, max-age=3600", data)
	}
}

func serveJSON(rw http.ResponseWriter, r *http.Request, v any) {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil { // only our own types come here
		http.Error(rw, "encoding the answer", http.StatusInternalServerError)
		return
	}
	serve(rw, r, "application/json", "public, max-age=1", append(data, '\n'))
}

// serve answers a GET for everyone: any web page may read it, and a cache may ask whether it changed.
func serve(rw http.ResponseWriter, r *http.Request, contentType, cache string, data []byte) {
	sum := sha256.Sum256(data)
	etag := `"` + hex.EncodeToString(sum[:16]) + `"`
	h := rw.Header()
	h.Set("Access-Control-Allow-Origin", "*")
	h.Set("Cache-Control", cache)
	h.Set("Etag", etag)
	h.Set("X-Content-Type-Options", "nosniff")
	if hasETag(r.Header, etag) {
		rw.WriteHeader(http.StatusNotModified)
		return
	}
	h.Set("Content-Type", contentType)
	h.Set("Content-Length", strconv.Itoa(len(data)))
	_, _ = rw.Write(data) // the client is gone
}

// hasETag reports whether the client has what etag names. It may have several answers, and a proxy that
// compresses makes the ETag a weak one: RFC 9110, section 13.1.2, compares weakly.
func hasETag(h http.Header, etag string) bool {
	for _, list := range h.Values("If-None-Match") {
		for tag := range strings.SplitSeq(list, ",") {
			tag = strings.TrimSpace(tag)
			if tag == "*" || strings.TrimPrefix(tag, "W/") == etag {
				return true
			}
		}
	}
	return false
}

// counted counts the answers of a handler under an endpoint's name.
func (w *Witness) counted(endpoint string, h http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		rec := &recorder{ResponseWriter: rw, status: http.StatusOK}
		began := time.Now()
		h(rec, r)
		w.metrics.request(endpoint, rec.status, time.Since(began))
	})
}

// A recorder remembers the status it passes on.
type recorder struct {
	http.ResponseWriter
	status int
}

func (r *recorder) WriteHeader(status int) {
	r.status = status
	r.ResponseWriter.WriteHeader(status)
}

// Unwrap lets httpx.ReadBody and http.ResponseController reach the writer below.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }
