package conformance

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"slices"
	"strconv"
	"strings"
	"time"
)

// httpCases are about what is around the body.
func httpCases() []testCase {
	return append(append(methodCases("add-checkpoint", rulePost, func(*trial) error { return nil }), transferCases()...), largeCases()...)
}

// methodCases send an honest body with other methods.
func methodCases(endpoint string, rule Rule, ready func(*trial) error) []testCase {
	var all []testCase
	for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPut, http.MethodDelete, http.MethodPatch, http.MethodOptions} {
		all = append(all, testCase{id: "method-" + strings.ToLower(method), about: method + " " + endpoint + " with an honest body", rule: rule, run: func(ctx context.Context, t *trial) error {
			l, err := t.at(ctx, defaultAt)
			if err == nil {
				err = ready(t)
			}
			if err != nil {
				return err
			}
			a, err := t.request(ctx, t.http, method, endpoint, strings.NewReader(newRequest(l, defaultAt, defaultTo).body()), http.Header{})
			if err != nil {
				return err
			}
			want := refused(405)
			if method == http.MethodOptions && a.status == http.StatusNoContent {
				return t.probe(ctx, l) // it describes the endpoint, and does nothing
			}
			if err := want.judge(t, a); err != nil {
				return err
			}
			return t.probe(ctx, l)
		}})
	}
	return append(all, testCase{id: "allow", about: "GET " + endpoint + ": a 405 says what is allowed", rule: ruleAllow, run: func(ctx context.Context, t *trial) error {
		if err := ready(t); err != nil {
			return err
		}
		a, err := t.request(ctx, t.http, http.MethodGet, endpoint, nil, http.Header{})
		if err != nil {
			return err
		}
		if a.status == http.StatusMethodNotAllowed && !strings.Contains(a.header.Get("Allow"), http.MethodPost) {
			return fmt.Errorf("a 405 with Allow %q", a.header.Get("Allow"))
		}
		if a.status != http.StatusMethodNotAllowed {
			t.differs = fmt.Sprintf("answered %s; ours answers 405", a.short())
		}
		return nil
	}})
}

// request sends a request once, with a body of any kind.
func (t *trial) request(ctx context.Context, c *http.Client, method, endpoint string, body io.Reader, header http.Header) (answer, error) {
	r, err := http.NewRequestWithContext(ctx, method, t.url+"/"+endpoint, body)
	if err != nil {
		return answer{}, fmt.Errorf("making request: %w", err)
	}
	r.Header = header
	a, err := t.sendBy(c, r)
	t.got = a.short()
	return a, err
}

// alone returns a client with at most one connection, of its own.
func (t *trial) alone() (*http.Client, error) {
	transport, ok := t.http.Transport.(*http.Transport)
	if !ok {
		return nil, &skipError{"the suite was given an HTTP transport whose connections it cannot count"}
	}
	transport = transport.Clone()
	if c := transport.TLSClientConfig; c != nil && slices.Contains(c.NextProtos, "h2") {
		transport.ForceAttemptHTTP2 = true // the clone offers it, and would not understand it
	}
	transport.MaxConnsPerHost = 1
	transport.ExpectContinueTimeout = 10 * time.Second
	return &http.Client{Transport: transport, Timeout: t.http.Timeout, CheckRedirect: t.http.CheckRedirect}, nil
}

// unsized hides the length of a body, so that it is sent in chunks.
type unsized struct{ io.Reader }

// pieces is a reader of one byte at a time.
type pieces struct{ r io.Reader }

func (p pieces) Read(b []byte) (int, error) { return p.r.Read(b[:min(len(b), 1)]) }

func transferCases() []testCase {
	type sender func(ctx context.Context, t *trial, body string) (answer, error)
	honest := func(id, about string, level Level, rule Rule, send sender) testCase {
		return testCase{id: id, about: about, level: level, rule: rule, run: func(ctx context.Context, t *trial) error {
			l, err := t.at(ctx, defaultAt)
			if err != nil {
				return err
			}
			r := newRequest(l, defaultAt, defaultAt)
			a, err := send(ctx, t, r.body())
			if err != nil {
				return err
			}
			return t.accepted(ctx, l, r, defaultAt, a)
		}}
	}
	headed := func(name, value string) sender {
		return func(ctx context.Context, t *trial, body string) (answer, error) {
			return t.request(ctx, t.http, http.MethodPost, "add-checkpoint", strings.NewReader(body), http.Header{name: {value}})
		}
	}
	all := []testCase{
		honest("no-content-type", "an honest request without a Content-Type", Must, rule200, headed("X-Nothing", "")),
		honest("chunked", "an honest request in chunks", Must, ruleChunked, func(ctx context.Context, t *trial, body string) (answer, error) {
			return t.request(ctx, t.http, http.MethodPost, "add-checkpoint", unsized{strings.NewReader(body)}, http.Header{})
		}),
		honest("small-chunks", "an honest request in chunks of a byte", Must, ruleChunked, func(ctx context.Context, t *trial, body string) (answer, error) {
			return t.request(ctx, t.http, http.MethodPost, "add-checkpoint", unsized{pieces{strings.NewReader(body)}}, http.Header{})
		}),
		honest("expect-continue", "an honest request that waits for 100 Continue", Must, ruleExpect, func(ctx context.Context, t *trial, body string) (answer, error) {
			c, err := t.alone()
			if err != nil {
				return answer{}, err
			}
			defer c.CloseIdleConnections()
			return t.request(ctx, c, http.MethodPost, "add-checkpoint", strings.NewReader(body), http.Header{"Expect": {"100-continue"}})
		}),
		{id: "broken-off", about: "an honest request whose connection ends in the middle of the body", rule: ruleSequence, run: brokenOff},
	}
	for _, typ := range []string{"text/plain", "application/octet-stream", "application/json", "application/x-www-form-urlencoded", "multipart/form-data", "text/x.tlog.size"} {
		_, name, _ := strings.Cut(typ, "/")
		all = append(all, honest("type-"+strings.ReplaceAll(name, ".", "-"), "an honest request with Content-Type "+typ, Must, rule200, headed("Content-Type", typ)))
	}
	return append(append(all, pathCases()...), keepAliveCases()...)
}

// pathCases post to what is none of the protocol's paths.
func pathCases() []testCase {
	return []testCase{
		{id: "trailing-slash", about: "POST of an honest request to add-checkpoint with a slash after it", level: Ours, rule: ruleSilent, run: func(ctx context.Context, t *trial) error {
			l, err := t.at(ctx, defaultAt)
			if err != nil {
				return err
			}
			a, err := t.post(ctx, "add-checkpoint/", newRequest(l, defaultAt, defaultTo).body())
			if err != nil {
				return err
			}
			if err := refused(404).judge(t, a); err != nil {
				t.drop(l)
				return err
			}
			return t.probe(ctx, l)
		}},
		{id: "unknown-path", about: "POST to a path that is none of the protocol's", level: Ours, rule: ruleSilent, run: func(ctx context.Context, t *trial) error {
			a, err := t.post(ctx, "no-such-endpoint", "")
			if err != nil {
				return err
			}
			return refused(404).judge(t, a)
		}},
	}
}

// brokenOff sends half of a body, which is a whole one but for the announced length.
func brokenOff(ctx context.Context, t *trial) error {
	l, err := t.at(ctx, defaultAt)
	if err != nil {
		return err
	}
	body := newRequest(l, defaultAt, defaultTo).body()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, t.url+"/add-checkpoint", io.MultiReader(strings.NewReader(body), failing{}))
	if err != nil {
		return err
	}
	r.ContentLength = int64(2 * len(body))
	if a, err := t.send(r); err == nil && a.status == http.StatusOK {
		t.drop(l)
		return errors.New("a request that was not complete was answered 200")
	}
	if err := t.probe(ctx, l); err != nil {
		t.drop(l)
		return fmt.Errorf("after half a request the state is another one: %w", err)
	}
	return nil
}

// failing is a reader that fails.
type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errors.New("broken off, as the case wants") }

// keepAliveCases send something on a connection, and an honest request after it.
func keepAliveCases() []testCase {
	var all []testCase
	for _, c := range []struct {
		status int
		edit   func(l *testLog, r *request)
	}{
		{200, func(*testLog, *request) {}},
		{400, first("old 05")},
		{403, func(l *testLog, r *request) { r.lines = []string{l.signers[0].forged(r.note())} }},
		{404, func(_ *testLog, r *request) { r.origin += "x" }},
		{409, first("old 4")},
		{422, func(_ *testLog, r *request) { r.proof = []string{r.root} }},
	} {
		about := fmt.Sprintf("an honest request on the connection of one that was answered %d", c.status)
		all = append(all, testCase{id: "keep-alive-" + strconv.Itoa(c.status), about: about, level: Should, rule: ruleKeepAlive, run: func(ctx context.Context, t *trial) error {
			return t.keepAlive(ctx, c.edit)
		}})
	}
	return all
}

func (t *trial) keepAlive(ctx context.Context, edit func(l *testLog, r *request)) error {
	l, err := t.at(ctx, defaultAt)
	if err != nil {
		return err
	}
	client, err := t.alone()
	if err != nil {
		return err
	}
	defer client.CloseIdleConnections()
	reused := false
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(i httptrace.GotConnInfo) { reused = i.Reused }})
	before := newRequest(l, defaultAt, defaultAt)
	edit(l, before)
	if _, err := t.request(ctx, client, http.MethodPost, "add-checkpoint", strings.NewReader(before.body()), http.Header{}); err != nil {
		return err
	}
	r := newRequest(l, defaultAt, defaultAt)
	a, err := t.request(ctx, client, http.MethodPost, "add-checkpoint", strings.NewReader(r.body()), http.Header{})
	if err != nil {
		return err
	}
	if err := t.accepted(ctx, l, r, defaultAt, a); err != nil {
		return err
	}
	if !reused {
		return errors.New("the witness closed the connection after its answer")
	}
	return nil
}

// largeCases have bodies that no honest client sends. Whoever reads them all must not answer that
// it has failed itself.
func largeCases() []testCase {
	var all []testCase
	for _, c := range []struct {
		id, about string
		body      func(honest string) string
	}{
		{"200-kilobytes", "an honest request, then 200 kB of lines", func(b string) string { return b + strings.Repeat("line\n", 40_000) }},
		{"200-kilobytes-one-line", "a body of 200 kB in one line", func(string) string { return strings.Repeat("A", 200_000) }},
		{"2-megabytes", "a body of 2 MiB", func(b string) string { return b + strings.Repeat("line\n", 2<<20/5) }},
	} {
		all = append(all, testCase{id: c.id, about: c.about, level: Ours, rule: ruleClientErr, run: func(ctx context.Context, t *trial) error {
			l, err := t.at(ctx, defaultAt)
			if err != nil {
				return err
			}
			a, err := t.post(ctx, "add-checkpoint", c.body(newRequest(l, defaultAt, defaultTo).body()))
			var timeout interface{ Timeout() bool }
			if errors.As(err, &timeout) && timeout.Timeout() || ctx.Err() != nil {
				return err
			}
			// A server may close the connection of who sends too much, and its answer be lost then.
			a.closed = err != nil
			t.got = a.short()
			if err := refused(413).judge(t, a); err != nil {
				t.drop(l)
				return err
			}
			if a.closed {
				t.differs = ""
			}
			return t.probe(ctx, l)
		}})
	}
	return all
}
