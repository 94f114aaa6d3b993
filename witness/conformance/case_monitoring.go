package conformance

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// monitoringCases are about the monitoring prefix. Its content is also checked wherever something
// is cosigned or refused.
func monitoringCases() []testCase {
	return append(missingCases(), servedCases()...)
}

// fetch sends a request to the monitoring prefix.
func (t *trial) fetch(ctx context.Context, method, path string, header http.Header) (answer, error) {
	a, err := t.patient(ctx, func() (*http.Request, error) {
		r, err := http.NewRequestWithContext(ctx, method, t.monitoring+path, nil)
		if err == nil {
			r.Header = header.Clone()
		}
		return r, err
	})
	t.got = a.short()
	return a, err
}

func originHash(origin string) string {
	sum := sha256.Sum256([]byte(origin))
	return hex.EncodeToString(sum[:])
}

// needServed skips a case of a witness that serves nothing, which one case is about.
func (t *trial) needServed() error {
	if !t.monitored {
		return &skipError{"the witness serves no checkpoint right after it was cosigned"}
	}
	return nil
}

func missingCases() []testCase {
	missing := func(id, about string, rule Rule, path func(l *testLog) string) testCase {
		return testCase{id: id, about: about, rule: rule, run: func(ctx context.Context, t *trial) error {
			l, err := t.at(ctx, defaultAt)
			if err != nil {
				return err
			}
			a, err := t.fetch(ctx, http.MethodGet, path(l), http.Header{})
			if err == nil && a.status != http.StatusNotFound {
				err = fmt.Errorf("answered %s; want 404", a.short())
			}
			return err
		}}
	}
	return []testCase{
		missing("unknown-hash", "GET of a hash of no log", ruleNever, func(*testLog) string { return "/" + originHash("nobody.invalid") + "/checkpoint" }),
		missing("zero-hash", "GET of a hash of zeroes", ruleNever, func(*testLog) string { return "/" + strings.Repeat("0", 64) + "/checkpoint" }),
		missing("short-hash", "GET of half the hash of a log", ruleHash, func(l *testLog) string { return "/" + originHash(l.Origin)[:32] + "/checkpoint" }),
		missing("long-hash", "GET of the hash of a log with a digit more", ruleHash, func(l *testLog) string { return "/" + originHash(l.Origin) + "0/checkpoint" }),
		missing("hash-of-hash", "GET of the hash of the hash of a log", ruleHash, func(l *testLog) string { return "/" + originHash(originHash(l.Origin)) + "/checkpoint" }),
		missing("uppercase-hash", "GET of the hash of a log in capitals", ruleHash, func(l *testLog) string { return "/" + strings.ToUpper(originHash(l.Origin)) + "/checkpoint" }),
		missing("origin-instead", "GET of the origin instead of its hash", ruleHash, func(l *testLog) string { return "/" + strings.ReplaceAll(l.Origin, "/", "%2F") + "/checkpoint" }),
		missing("hash-of-line", "GET of the hash of the origin with a newline", ruleHash, func(l *testLog) string { return "/" + originHash(l.Origin+"\n") + "/checkpoint" }),
		{id: "never-cosigned", about: "GET of a known log that was never cosigned", rule: ruleNever, run: func(ctx context.Context, t *trial) error {
			l, err := t.fresh(ctx, Plain)
			if err != nil {
				return err
			}
			return t.want404(ctx, l)
		}},
		{id: "only-refused", about: "GET of a known log of which only bad checkpoints were sent", rule: ruleNever, run: func(ctx context.Context, t *trial) error {
			l, err := t.fresh(ctx, Plain)
			if err != nil {
				return err
			}
			forged := newRequest(l, 0, 8)
			forged.lines = []string{l.signers[0].forged(forged.note())}
			proof := newRequest(l, 0, 8)
			proof.proof = []string{proof.root}
			for _, r := range []*request{forged, proof} {
				if _, err := t.post(ctx, "add-checkpoint", r.body()); err != nil {
					return err
				}
			}
			return t.want404(ctx, l)
		}},
	}
}

func (t *trial) want404(ctx context.Context, l *testLog) error {
	a, err := t.fetch(ctx, http.MethodGet, "/"+originHash(l.Origin)+"/checkpoint", http.Header{})
	if err == nil && a.status != http.StatusNotFound {
		err = fmt.Errorf("answered %s; want 404", a.short())
	}
	return err
}

// servedCase looks at what is served after a request was cosigned.
func servedCase(id, about string, level Level, rule Rule, edit func(l *testLog, r *request), check func(l *testLog, a answer) error) testCase {
	return testCase{id: id, about: about, level: level, rule: rule, run: func(ctx context.Context, t *trial) error {
		if err := t.needServed(); err != nil && id != "served" {
			return err
		}
		l, err := t.at(ctx, defaultAt)
		if err != nil {
			return err
		}
		r := newRequest(l, defaultAt, defaultAt)
		edit(l, r)
		if err := t.accept(ctx, l, r, defaultAt); err != nil {
			return err
		}
		a, err := t.fetch(ctx, http.MethodGet, "/"+originHash(l.Origin)+"/checkpoint", http.Header{})
		if err != nil {
			return err
		}
		if a.status != http.StatusOK {
			return fmt.Errorf("answered %s; want 200", a.short())
		}
		return check(l, a)
	}}
}

func servedCases() []testCase {
	plain := func(*testLog, *request) {}
	header := func(name, want string) func(*testLog, answer) error {
		return func(_ *testLog, a answer) error {
			if got := a.header.Get(name); got != want && (want != "" || got == "") {
				return fmt.Errorf("%s is %q; want %q", name, got, want)
			}
			return nil
		}
	}
	return append([]testCase{
		servedCase("served", "GET of a log that was cosigned", Should, ruleServe, plain, func(*testLog, answer) error { return nil }),
		servedCase("cosignatures", "GET: the cosignatures of the last answer are in it", Must, ruleServed, plain, func(l *testLog, a answer) error {
			for _, c := range l.last.lines {
				if !containsLines(a.body, c.line) {
					return errors.New("a line that was returned is not in it")
				}
			}
			return nil
		}),
		servedCase("log-signature", "GET: the log's signature is in it", Must, ruleServed, plain, func(l *testLog, a answer) error {
			if !containsLines(a.body, l.signers[0].line(l.last.request.note())) {
				return errors.New("the log's signature line is not in it")
			}
			return nil
		}),
		servedCase("extension", "GET: the extension line is in it, so that the signatures verify", Must, ruleServed,
			func(_ *testLog, r *request) { r.extra = []string{"extension"} }, func(l *testLog, a answer) error {
				if !strings.HasPrefix(a.body, l.last.request.note()+"\n"+emDash) {
					return errors.New("the text is not the checkpoint's")
				}
				return nil
			}),
		servedCase("nothing-else", "GET: no line of an unknown key is in it that was in the request", Ours, ruleSilent, also(strangers(3, 64)...), func(l *testLog, a answer) error {
			_, block, _ := strings.Cut(a.body, "\n\n")
			if want := 1 + len(l.last.lines); strings.Count(block, "\n") != want {
				return fmt.Errorf("there are %d signature lines; want the log's and those returned, %d", strings.Count(block, "\n"), want)
			}
			return nil
		}),
		servedCase("type", "GET: the Content-Type is text/plain in UTF-8", Ours, ruleSilent, plain, header("Content-Type", "text/plain; charset=utf-8")),
		servedCase("cors", "GET: any web page may read it", Ours, ruleSilent, plain, header("Access-Control-Allow-Origin", "*")),
		servedCase("etag", "GET: there is an ETag", Ours, ruleSilent, plain, header("Etag", "")),
		servedCase("cache", "GET: there is a Cache-Control", Ours, ruleSilent, plain, header("Cache-Control", "")),
	}, append(afterwardsCases(), growingCases()...)...)
}

// conditionalCase asks for what is served on the condition that it is none of what the client has.
func conditionalCase(id, about string, rule Rule, has func(etag string) string, moved bool, want int) testCase {
	return testCase{id: id, about: about, level: Ours, rule: rule, run: func(ctx context.Context, t *trial) error {
		l, err := t.freshAt(ctx, Plain, defaultAt)
		if err := errors.Join(err, t.needServed()); err != nil {
			return err
		}
		path := "/" + originHash(l.Origin) + "/checkpoint"
		a, err := t.fetch(ctx, http.MethodGet, path, http.Header{})
		if err == nil && moved {
			err = t.advance(ctx, l, defaultTo)
		}
		if err != nil {
			return err
		}
		again, err := t.fetch(ctx, http.MethodGet, path, http.Header{"If-None-Match": {has(a.header.Get("Etag"))}})
		if err == nil && again.status != want {
			err = fmt.Errorf("answered %s; want %d", again.short(), want)
		}
		return err
	}}
}

// conditionalCases are about caches.
func conditionalCases() []testCase {
	same := func(etag string) string { return etag }
	return []testCase{
		conditionalCase("not-modified", "GET with the ETag of the last answer", ruleSilent, same, false, 304),
		conditionalCase("modified", "GET with the ETag of an older answer", ruleSilent, same, true, 200),
		conditionalCase("not-modified-weak", "GET with the ETag of the last answer as a weak one, as a proxy that compresses makes it", ruleWeakETag,
			func(etag string) string { return "W/" + etag }, false, 304),
		conditionalCase("not-modified-list", "GET with a list of ETags, the last of which is that of the last answer", ruleWeakETag,
			func(etag string) string { return `"other", ` + etag }, false, 304),
		conditionalCase("not-modified-other", "GET with another ETag", ruleWeakETag, func(string) string { return `"other"` }, false, 200),
	}
}

// afterwardsCases are about more than one GET.
func afterwardsCases() []testCase {
	return append(conditionalCases(), []testCase{
		{id: "head", about: "HEAD of a log that was cosigned", level: Ours, rule: ruleSilent, run: func(ctx context.Context, t *trial) error {
			l, err := t.at(ctx, defaultAt)
			if err := errors.Join(err, t.needServed()); err != nil {
				return err
			}
			a, err := t.fetch(ctx, http.MethodHead, "/"+originHash(l.Origin)+"/checkpoint", http.Header{})
			if err == nil && (a.status != http.StatusOK || a.body != "") {
				err = fmt.Errorf("answered %s with %d bytes; want 200 and none", a.short(), len(a.body))
			}
			return err
		}},
		{id: "head-missing", about: "HEAD of a known log that was never cosigned", level: Ours, rule: ruleNever, run: func(ctx context.Context, t *trial) error {
			l, err := t.fresh(ctx, Plain)
			if err := errors.Join(err, t.needServed()); err != nil {
				return err
			}
			a, err := t.fetch(ctx, http.MethodHead, "/"+originHash(l.Origin)+"/checkpoint", http.Header{})
			if err == nil && (a.status != http.StatusNotFound || a.body != "") {
				err = fmt.Errorf("answered %s with %d bytes; want 404 and none", a.short(), len(a.body))
			}
			return err
		}},
		{id: "cors-missing", about: "GET of a known log that was never cosigned: any web page may read that", level: Ours, rule: ruleSilent, run: func(ctx context.Context, t *trial) error {
			l, err := t.fresh(ctx, Plain)
			if err := errors.Join(err, t.needServed()); err != nil {
				return err
			}
			a, err := t.fetch(ctx, http.MethodGet, "/"+originHash(l.Origin)+"/checkpoint", http.Header{})
			if err == nil && a.header.Get("Access-Control-Allow-Origin") != "*" {
				err = fmt.Errorf("answered %s with Access-Control-Allow-Origin %q", a.short(), a.header.Get("Access-Control-Allow-Origin"))
			}
			return err
		}},
		{id: "post", about: "POST to the checkpoint of a log", level: Ours, rule: ruleServeGet, run: func(ctx context.Context, t *trial) error {
			l, err := t.at(ctx, defaultAt)
			if err != nil {
				return err
			}
			a, err := t.fetch(ctx, http.MethodPost, "/"+originHash(l.Origin)+"/checkpoint", http.Header{})
			if err != nil {
				return err
			}
			return refused(405).judge(t, a)
		}},
	}...)
}

// growingCases are about what is served after more than one answer.
func growingCases() []testCase {
	return []testCase{
		{id: "both-keys", about: "GET of a log with two keys, both of which signed", rule: ruleServed, run: func(ctx context.Context, t *trial) error {
			if err := t.needServed(); err != nil {
				return err
			}
			l, err := t.fresh(ctx, Rotated)
			if err != nil {
				return err
			}
			r := newRequest(l, 0, 4)
			r.by = l.signers
			if err := t.accept(ctx, l, r, 4); err != nil {
				return err
			}
			a, err := t.get(ctx, l)
			if err == nil && slices.ContainsFunc(r.lines, func(line string) bool { return !containsLines(a.body, line) }) {
				err = errors.New("the line of one of the two keys is missing")
			}
			return err
		}},
		{id: "keeps-up", about: "GET after each of ten sizes", level: Should, rule: ruleDelay, run: func(ctx context.Context, t *trial) error {
			if err := t.needServed(); err != nil {
				return err
			}
			l, err := t.freshAt(ctx, Plain, 1) // accept compares each time
			for size := int64(2); size <= 11 && err == nil; size++ {
				err = t.advance(ctx, l, size)
			}
			return err
		}},
	}
}
