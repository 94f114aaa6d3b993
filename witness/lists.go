package witness

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// maxList bounds a log list; 40,000 logs take about 8 MiB.
const maxList = 32 << 20

// listRetry is when a list that could not be read is asked for again; doubled with each time in a row, up
// to the interval.
const listRetry = time.Minute

// ListsOptions configure Lists.
type ListsOptions struct {
	Witness  *Witness      // gets the logs; required
	URLs     []string      // of lists in the format of ParseList; https, or http on a loopback address
	Interval time.Duration // between two reads of a list; default 1 h
	HTTP     *http.Client  // default: one with a timeout of 30 s that follows no redirect
}

// Lists follows log lists of the public witness network. Every new origin is added; a configured
// log is never removed or changed because a list changed. What a list has named is remembered in
// the bucket of the witness, so that it is known after a restart while the list cannot be read.
type Lists struct {
	witness  *Witness
	urls     []string
	interval time.Duration
	http     *http.Client

	mu       sync.Mutex      // held while a list is taken, restored or compared
	restored map[string]bool // by source: what was remembered of it is known
}

// NewLists returns Lists that Run reads.
func NewLists(o ListsOptions) (*Lists, error) {
	l := &Lists{witness: o.Witness, urls: o.URLs, interval: o.Interval, http: o.HTTP, restored: map[string]bool{}}
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
		errs = append(errs, CheckListURL(s))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("configuring log lists: %w", err)
	}
	return l, nil
}

// CheckListURL checks that s can be the URL of a log list: https, or http on a loopback address.
func CheckListURL(s string) error {
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || u.Scheme != "https" && !(u.Scheme == "http" && loopback(u.Hostname())) {
		return fmt.Errorf("list %q is not an https URL", s)
	}
	return nil
}

func loopback(host string) bool { return host == "localhost" || host == "127.0.0.1" || host == "::1" }

// URLs returns where the lists are.
func (l *Lists) URLs() []string { return slices.Clone(l.urls) }

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
	etag := l.witness.lists.etag(u)
	for failures := 0; ctx.Err() == nil; {
		next, err := l.Read(ctx, u, etag)
		if err != nil && ctx.Err() == nil {
			l.witness.lists.failed(u)
			l.witness.log.Warn("reading log list", "key", u, "err", err)
		}
		wait := l.interval
		if err == nil {
			etag, failures = next, 0
		} else { // after a start without network it must not be hours until the logs are known
			wait = min(wait, listRetry<<min(failures, 10))
			failures++
		}
		// A tenth of jitter keeps many witnesses from asking at the same moment.
		wait -= time.Duration(rand.Int64N(int64(wait)/10 + 1))
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
}

// Read reads one list unless it still has the ETag given, adds its new logs, and returns its ETag.
func (l *Lists) Read(ctx context.Context, u, etag string) (string, error) {
	data, next, err := l.fetch(ctx, u, etag)
	if err != nil {
		return "", err
	}
	if data == nil {
		return etag, l.unchanged(ctx, u)
	}
	_, err = l.take(ctx, u, data, next, ParseList)
	return next, err
}

// Fetch reads the list at u and parses it, and does nothing with it.
func (l *Lists) Fetch(ctx context.Context, u string) ([]Log, error) {
	if err := CheckListURL(u); err != nil {
		return nil, err
	}
	data, _, err := l.fetch(ctx, u, "")
	if err != nil {
		return nil, err
	}
	return ParseList(data)
}

// fetch returns the list at u and its ETag, or nothing if it still has the ETag given.
func (l *Lists) fetch(ctx context.Context, u, etag string) (data []byte, next string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u, nil)
	if err != nil {
		return nil, "", fmt.Errorf("asking for list: %w", err)
	}
	if etag != "" {
		req.Header.Set("If-None-Match", etag)
	}
	resp, err := l.http.Do(req)
	if err != nil {
		return nil, "", fmt.Errorf("asking for list: %w", err)
	}
	defer resp.Body.Close()
	switch {
	case resp.StatusCode == http.StatusNotModified && etag != "":
		return nil, "", nil
	case resp.StatusCode != http.StatusOK:
		return nil, "", fmt.Errorf("asking for list: %s", resp.Status)
	}
	data, err = io.ReadAll(io.LimitReader(resp.Body, maxList+1))
	switch {
	case err != nil:
		return nil, "", fmt.Errorf("reading list: %w", err)
	case len(data) > maxList:
		return nil, "", fmt.Errorf("list is larger than %d bytes", maxList)
	}
	return data, resp.Header.Get("Etag"), nil
}

// Take is what Read does, with a list that is a file: its text is given, in the format of ParseLogs,
// and named by source. It returns what was new in it.
func (l *Lists) Take(ctx context.Context, source string, text []byte) ([]Change, error) {
	return l.take(ctx, source, text, "", ParseLogs)
}

// take adds the logs of a list whose origins are new, says what is different in it from what is
// known, and remembers what it named.
func (l *Lists) take(ctx context.Context, source string, text []byte, etag string, parse func([]byte) ([]Log, error)) ([]Change, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	w := l.witness
	now := w.now().UTC().Truncate(time.Second)
	sum := sha256.Sum256(text)
	if w.lists.taken(source, sum, etag, now) {
		w.lists.noted(source, now)
		return nil, nil
	}
	r, version, err := w.readRecord(ctx, source)
	if err != nil {
		return nil, err
	}
	if err := l.restore(r); err != nil {
		return nil, err
	}
	var changes []Change
	same := r.Hash == sum
	if !same {
		if changes, err = l.takeChanged(ctx, &r, text, parse); err != nil {
			return nil, err
		}
		r.Hash, r.Changed = sum, now
	}
	if same && r.ETag == etag && now.Sub(r.Read) < recordEvery {
		w.lists.read(source, r, now)
		return nil, nil
	}
	r.ETag, r.Read = etag, now
	if err := w.writeRecord(ctx, source, r, version); err != nil {
		return changes, err
	}
	w.lists.read(source, r, now) // which keeps it from being written again
	return changes, nil
}

// takeChanged takes a list that is not what r was made of.
func (l *Lists) takeChanged(ctx context.Context, r *record, text []byte, parse func([]byte) ([]Log, error)) ([]Change, error) {
	w := l.witness
	logs, err := parse(text)
	if err != nil {
		return nil, err
	}
	changes := compare(w, *r, logs)
	fresh := 0
	for _, c := range changes {
		if c.Kind == ChangeNew {
			fresh++
		}
	}
	if n := w.count() + fresh; n > maxLogs {
		return nil, fmt.Errorf("with the %d new logs of this list there would be %d; at most %d are taken", fresh, n, maxLogs)
	}
	w.logChanges(r.Source, changes)
	if err := w.raiseAlarms(ctx, r.Source, changes); err != nil {
		return nil, err
	}
	return changes, r.take(w, logs)
}

// unchanged notes that a list was read that has not changed.
func (l *Lists) unchanged(ctx context.Context, source string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	w := l.witness
	now := w.now().UTC().Truncate(time.Second)
	if now.Sub(w.lists.noted(source, now)) < recordEvery {
		return nil
	}
	r, version, err := w.readRecord(ctx, source)
	if err != nil || version == "" {
		return err
	}
	r.Read = now
	if err := w.writeRecord(ctx, source, r, version); err != nil {
		return err
	}
	w.lists.read(source, r, now)
	return nil
}
