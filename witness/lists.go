package witness

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"time"

	"golang.org/x/sync/errgroup"
)

// maxList bounds a log list; 40,000 logs take about 8 MiB.
const maxList = 32 << 20

// ListsOptions configure Lists.
type ListsOptions struct {
	Witness  *Witness      // gets the logs; required
	URLs     []string      // of lists in the format of ParseList; https, or http on a loopback address
	Interval time.Duration // between two reads of a list; default 1 h
	HTTP     *http.Client  // default: one with a timeout of 30 s that follows no redirect
}

// Lists follows log lists of the public witness network. Every new origin is added; a configured
// log is never removed or changed because a list changed.
type Lists struct {
	witness  *Witness
	urls     []string
	interval time.Duration
	http     *http.Client
}

// NewLists returns Lists that Run reads.
func NewLists(o ListsOptions) (*Lists, error) {
	l := &Lists{witness: o.Witness, urls: o.URLs, interval: o.Interval, http: o.HTTP}
	if l.interval == 0 {
		l.interval = time.Hour
	}
	if l.http == nil {
		l.http = &http.Client{
			Timeout:       30 * time.Second,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}
	}
	var errs []error
	if l.witness == nil {
		errs = append(errs, errors.New("no witness"))
	}
	for _, s := range l.urls {
		u, err := url.Parse(s)
		if err != nil || u.Host == "" || u.Scheme != "https" && !(u.Scheme == "http" && loopback(u.Hostname())) {
			errs = append(errs, fmt.Errorf("list %q is not an https URL", s))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("configuring log lists: %w", err)
	}
	return l, nil
}

func loopback(host string) bool { return host == "localhost" || host == "127.0.0.1" || host == "::1" }

// Run reads every list at once and then at its interval, until ctx ends or the witness has failed:
// it runs that, too, and returns what [Witness.Run] does. A list that cannot be read changes
// nothing, and is logged.
func (l *Lists) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, u := range l.urls {
		g.Go(func() error { l.follow(ctx, u); return nil })
	}
	g.Go(func() error { return l.witness.Run(ctx) })
	return g.Wait()
}

// ReadAll reads every list once, and returns what went wrong with any of them.
func (l *Lists) ReadAll(ctx context.Context) error {
	var errs []error
	for _, u := range l.urls {
		if _, err := l.Read(ctx, u, ""); err != nil {
			errs = append(errs, fmt.Errorf("reading log list %s: %w", u, err))
		}
	}
	return errors.Join(errs...)
}

func (l *Lists) follow(ctx context.Context, u string) {
	etag := ""
	for ctx.Err() == nil {
		next, err := l.Read(ctx, u, etag)
		if err != nil && ctx.Err() == nil {
			l.witness.log.Warn("reading log list", "key", u, "err", err)
		}
		if err == nil {
			etag = next
		}
		// A tenth of jitter keeps many witnesses from asking at the same moment.
		wait := l.interval - time.Duration(rand.Int64N(int64(l.interval)/10+1))
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
}

// Read reads one list unless it still has the ETag given, adds its new logs, and returns its ETag.
func (l *Lists) Read(ctx context.Context, u, etag string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u, nil)
	if err != nil {
		return "", fmt.Errorf("asking for list: %w", err)
	}
	if etag != "" {
		req.Header.Set("If-None-Match", etag)
	}
	resp, err := l.http.Do(req)
	if err != nil {
		return "", fmt.Errorf("asking for list: %w", err)
	}
	defer resp.Body.Close()
	switch {
	case resp.StatusCode == http.StatusNotModified && etag != "":
		l.witness.metrics.listRead(u, l.witness.now())
		return etag, nil
	case resp.StatusCode != http.StatusOK:
		return "", fmt.Errorf("asking for list: %s", resp.Status)
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxList+1))
	switch {
	case err != nil:
		return "", fmt.Errorf("reading list: %w", err)
	case len(data) > maxList:
		return "", fmt.Errorf("list is larger than %d bytes", maxList)
	}
	logs, err := ParseList(data)
	if err != nil {
		return "", err
	}
	l.witness.addListed(logs, u)
	l.witness.metrics.listRead(u, l.witness.now())
	return resp.Header.Get("Etag"), nil
}

// addListed adds the logs of a list whose origins are new, and says so.
func (w *Witness) addListed(logs []Log, source string) {
	for _, log := range logs {
		added, err := w.AddLog(log)
		switch {
		case err != nil:
			w.log.Error("log list names another key for a known origin", "origin", log.Origin, "key", source, "err", err)
		case added:
			w.log.Info("log added from list", "origin", log.Origin, "key", source)
		}
	}
}
