package conformance

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Options say which witness is tested, and how.
type Options struct {
	URL        string   // submission prefix; required
	Monitoring string   // monitoring prefix; default: URL
	VKeys      []string // verifier keys of the witness, of types 0x04 and 0x06; required
	Logs       *Logs    // throw-away logs that the witness was told about; required
	Kinds      []Kind   // which of them it was told about; default: those of Listed
	// Restart kills the witness as a crash would (kill -9) and returns when it serves again at the
	// same URL. It may be called while requests are under way. nil: restarts are not tested.
	Restart func(ctx context.Context) error
	Only    []string          // only cases whose ID begins with one of these; default: all
	Timeout time.Duration     // for one request; default 20 s
	HTTP    http.RoundTripper // default: one of its own; no redirect is followed
	Each    func(Result)      // called after each case; optional
}

// A testCase is one question to a witness. An error of run is a failure, unless it is a skipError.
type testCase struct {
	id    string
	about string // what is sent, and when
	level Level
	rule  Rule
	run   func(ctx context.Context, t *trial) error
}

// Cases returns what the suite asks, as results that have no outcome yet.
func Cases() []Result {
	var all []Result
	for _, c := range cases() {
		all = append(all, c.result())
	}
	return all
}

func (c testCase) result() Result {
	return Result{ID: c.id, About: c.about, Level: c.level, Rule: c.rule}
}

// cases returns all cases in their order: what may leave a witness in trouble comes last.
func cases() []testCase {
	var all []testCase
	for _, topic := range []struct {
		name  string
		cases []testCase
	}{
		{"size", sizeCases()},
		{"request", requestCases()},
		{"checkpoint", checkpointCases()},
		{"note", noteCases()},
		{"signature", signatureCases()},
		{"order", orderCases()},
		{"proof", proofCases()},
		{"cosignature", cosignatureCases()},
		{"http", httpCases()},
		{"monitoring", monitoringCases()},
		{"subtree", subtreeCases()},
		{"race", raceCases()},
		{"huge", hugeCases()},
		{"restart", restartCases()},
	} {
		for _, c := range topic.cases {
			c.id = topic.name + "/" + c.id
			if c.level == "" {
				c.level = Must
			}
			all = append(all, c)
		}
	}
	return all
}

// Run asks a witness every question. Its error means that the suite could not begin, or that ctx
// has ended; what is wrong with the witness is in the report.
func Run(ctx context.Context, o Options) (Report, error) {
	s, err := newSession(o)
	if err != nil {
		return Report{}, fmt.Errorf("configuring conformance suite: %w", err)
	}
	defer s.http.CloseIdleConnections()
	begin := time.Now()
	r := Report{URL: s.url}
	for _, k := range s.keys {
		r.Keys = append(r.Keys, fmt.Sprintf("%s (%s)", k.name, algNames[k.alg]))
	}
	if err := s.begin(ctx); err != nil {
		return r, fmt.Errorf("beginning with %s: %w", s.url, err)
	}
	for _, c := range cases() {
		if len(o.Only) > 0 && !slices.ContainsFunc(o.Only, func(prefix string) bool { return strings.HasPrefix(c.id, prefix) }) {
			continue
		}
		result := s.try(ctx, c)
		if err := ctx.Err(); err != nil {
			return r, fmt.Errorf("trying %s: %w", c.id, err)
		}
		r.Results = append(r.Results, result)
		if o.Each != nil {
			o.Each(result)
		}
	}
	r.Throttled, r.Took = int(s.throttled.Load()), time.Since(begin)
	return r, nil
}

// try runs one case.
func (s *session) try(ctx context.Context, c testCase) Result {
	t := &trial{session: s}
	err := c.run(ctx, t)
	result := c.result()
	result.Got = t.got
	var skip *skipError
	switch {
	case errors.As(err, &skip):
		result.Outcome, result.Detail = Skipped, skip.reason
	case err != nil:
		result.Outcome, result.Detail = Failed, err.Error()
	case t.differs != "":
		result.Outcome, result.Detail = Differs, t.differs
	default:
		result.Outcome = Passed
	}
	return result
}

// A skipError says that a case cannot be asked of this witness.
type skipError struct{ reason string }

func (e *skipError) Error() string { return e.reason }

func (o Options) check() error {
	var errs []error
	for _, prefix := range []string{o.URL, o.Monitoring} {
		if u, err := url.Parse(prefix); err != nil || prefix != "" && (u.Host == "" || u.Scheme != "http" && u.Scheme != "https") {
			errs = append(errs, fmt.Errorf("%q is not a URL with http or https and a host", prefix))
		}
	}
	if o.URL == "" {
		errs = append(errs, errors.New("no URL of the witness"))
	}
	if len(o.VKeys) == 0 {
		errs = append(errs, errors.New("no verifier key of the witness"))
	}
	if o.Logs == nil {
		errs = append(errs, errors.New("no throw-away logs"))
	}
	return errors.Join(errs...)
}
