package witness

import (
	"net/http"
	"slices"
)

// SetDisabled says which logs are not cosigned from now on, by their origins; it replaces what was
// said before. An origin need not be known yet: a log that a list brings later is disabled from its
// first request. Requests of a disabled log are answered as those of an unknown one, with a text that
// says it. Its state stays and is served, so that it goes on from there when it is enabled again.
func (w *Witness) SetDisabled(origins []string) {
	disabled := make(map[string]struct{}, len(origins))
	for _, o := range origins {
		disabled[o] = struct{}{}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.disabled = disabled
}

// Disabled returns the origins that are disabled, sorted.
func (w *Witness) Disabled() []string {
	w.mu.RLock()
	defer w.mu.RUnlock()
	origins := make([]string, 0, len(w.disabled))
	for o := range w.disabled {
		origins = append(origins, o)
	}
	slices.Sort(origins)
	return origins
}

// serving returns the log of an origin if it is cosigned, or the refusal of its request.
//
// > If the checkpoint origin is unknown, the witness MUST respond with a "404 Not Found"
// > HTTP status code. (c2sp.org/tlog-witness)
func (w *Witness) serving(origin string) (*entry, error) {
	w.mu.RLock()
	defer w.mu.RUnlock()
	e := w.logs[origin]
	if e == nil {
		return nil, refuse(http.StatusNotFound, "log %q is not known here", shorten(origin))
	}
	if _, off := w.disabled[origin]; off {
		return nil, refuse(http.StatusNotFound, "log %q is not cosigned here any more: this witness's operator has disabled it", shorten(origin))
	}
	return e, nil
}
