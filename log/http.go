package log

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"tallywood/internal/httpx"
)

// retryUnavailable and retryNoQuorum are what Retry-After says. Clients give up after a few
// seconds, so neither is long.
const (
	retryUnavailable = time.Second
	retryNoQuorum    = 2 * time.Second
)

// WriteAddError answers an error of Add: 413 for an entry that is too large, 503 with Retry-After
// for what may pass, saying whether the entry was logged, otherwise 500 with an id under which
// logger has the reason.
func WriteAddError(w http.ResponseWriter, logger *slog.Logger, err error) {
	var large *TooLargeError
	var rebuilding *RebuildError
	switch {
	case errors.As(err, &large):
		httpx.Error(w, http.StatusRequestEntityTooLarge, large.Error())
	case errors.Is(err, ErrUnpublished): // before ErrUnavailable, which it comes with
		httpx.RetryLater(w, retryNoQuorum,
			"nothing was logged: what the log holds has waited too long for publication, most likely for want of cosignatures; try again later")
	case errors.Is(err, ErrFull): // so is this
		httpx.RetryLater(w, retryUnavailable,
			"nothing was logged: more entries wait than the log can take in time; try again later")
	case errors.As(err, &rebuilding): // and this
		httpx.RetryLater(w, rebuilding.RetryAfter(),
			fmt.Sprintf("nothing was logged: the log takes entries when its duplicate index is rebuilt; so far %v", rebuilding.Rebuild))
	case errors.Is(err, ErrUnavailable), errors.Is(err, context.Canceled): // or nobody listens
		httpx.RetryLater(w, retryUnavailable, "the log takes no entries at the moment; try again")
	case errors.Is(err, ErrUnsigned): // before ErrNoQuorum, which it comes with
		httpx.RetryLater(w, retryNoQuorum,
			"the entry is logged, but the log's key does not sign at the moment; send the same request again for its receipt")
	case errors.Is(err, ErrNoQuorum):
		httpx.RetryLater(w, retryNoQuorum,
			"the entry is logged, but too few witnesses have cosigned it yet; send the same request again for its receipt")
	default:
		id := rand.Text()
		logger.Error("adding entry", "err", fmt.Errorf("request %s: %w", id, err))
		httpx.Error(w, http.StatusInternalServerError, "the log could not process the entry; request id "+id)
	}
}
