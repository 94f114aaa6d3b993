package conformance

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// A Level says what a case is worth.
type Level string

// The levels.
const (
	Must   Level = "must"   // the specification says MUST, or defines the format
	Should Level = "should" // the specification says SHOULD
	Ours   Level = "ours"   // the specification leaves it open; it is how Tallywood's witness is
)

// An Outcome is how a case ended.
type Outcome string

// The outcomes.
const (
	Passed  Outcome = "passed"
	Differs Outcome = "differs" // permitted by the specification, but not what Tallywood's witness does
	Failed  Outcome = "failed"
	Skipped Outcome = "skipped" // the witness or its configuration lacks what the case is about
)

// A Result is how one case ended.
type Result struct {
	ID      string  `json:"id"` // topic/name
	About   string  `json:"about"`
	Level   Level   `json:"level"`
	Rule    Rule    `json:"rule"`
	Outcome Outcome `json:"outcome"`
	Got     string  `json:"got,omitempty"`    // the answer that decided, in short
	Detail  string  `json:"detail,omitempty"` // what was wrong, or why it was skipped
}

// Topic returns the part of the ID before the slash.
func (r Result) Topic() string { topic, _, _ := strings.Cut(r.ID, "/"); return topic }

// A Report is how a witness did.
type Report struct {
	URL       string        `json:"url"`
	Keys      []string      `json:"keys"` // names and types of the keys that verified its cosignatures
	Results   []Result      `json:"results"`
	Throttled int           `json:"throttled"` // requests that were repeated because of a 429 or 503 with Retry-After
	Took      time.Duration `json:"took_ns"`
}

// Count returns the number of cases with an outcome.
func (r Report) Count(o Outcome) int {
	n := 0
	for _, result := range r.Results {
		if result.Outcome == o {
			n++
		}
	}
	return n
}

// OK reports whether no case failed but such of level [Should], from which a witness may have its reasons
// to depart.
func (r Report) OK() bool {
	return !slices.ContainsFunc(r.Results, func(x Result) bool { return x.Outcome == Failed && x.Level != Should })
}

// With returns the results with an outcome, by ID.
func (r Report) With(o Outcome) []Result {
	picked := slices.DeleteFunc(slices.Clone(r.Results), func(x Result) bool { return x.Outcome != o })
	slices.SortFunc(picked, func(a, b Result) int { return cmp.Compare(a.ID, b.ID) })
	return picked
}

// WriteText writes the report for people: a line per topic, then what failed with the words of the
// specification, then the sum.
func (r Report) WriteText(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "witness %s\nkeys    %s\n\n", r.URL, strings.Join(r.Keys, ", "))
	var topics []string
	count := map[string]map[Outcome]int{}
	for _, x := range r.Results {
		if count[x.Topic()] == nil {
			count[x.Topic()] = map[Outcome]int{}
			topics = append(topics, x.Topic())
		}
		count[x.Topic()][x.Outcome]++
	}
	for _, topic := range topics {
		fmt.Fprintf(&b, "  %-12s", topic)
		for _, o := range []Outcome{Passed, Differs, Failed, Skipped} {
			if n := count[topic][o]; n > 0 || o == Passed {
				fmt.Fprintf(&b, " %4d %s", n, o)
			}
		}
		b.WriteString("\n")
	}
	for _, o := range []Outcome{Failed, Differs} {
		for _, x := range r.With(o) {
			fmt.Fprintf(&b, "\n%s %s (%s)\n  case   %s\n  found  %s\n  spec   %s\n", strings.ToUpper(string(o)), x.ID, x.Level, x.About, x.Detail, x.Rule)
		}
	}
	b.WriteString(r.skipped())
	fmt.Fprintf(&b, "\n%d cases: %d passed, %d differ, %d failed, %d skipped in %.1f s\n", len(r.Results),
		r.Count(Passed), r.Count(Differs), r.Count(Failed), r.Count(Skipped), r.Took.Seconds())
	if r.Throttled > 0 {
		fmt.Fprintf(&b, "%d requests were repeated because the witness asked to come back later\n", r.Throttled)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// skipped says what was skipped, a line per reason.
func (r Report) skipped() string {
	var reasons []string
	ids := map[string][]string{}
	for _, x := range r.With(Skipped) {
		if ids[x.Detail] == nil {
			reasons = append(reasons, x.Detail)
		}
		ids[x.Detail] = append(ids[x.Detail], x.ID)
	}
	var b strings.Builder
	for _, reason := range reasons {
		fmt.Fprintf(&b, "\nskipped %d, from %s on: %s", len(ids[reason]), ids[reason][0], reason)
	}
	if b.Len() > 0 {
		b.WriteString("\n")
	}
	return b.String()
}
