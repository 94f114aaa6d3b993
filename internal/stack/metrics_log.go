package stack

import (
	"math/bits"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"tallywood/log"
	"tallywood/storage/driver"
	"tallywood/witness/client"
	"tallywood/witness/policy"
)

// answering is how long a witness counts as one that answers after its last cosignature. An idle log
// asks for one every ten minutes.
const answering = 15 * time.Minute

// expect makes the series of a log that only events would make, so that an alert finds a zero.
func (m *metrics) expect(name string, p *policy.Policy) {
	for _, o := range log.Outcomes() {
		m.adds.WithLabelValues(name, string(o))
	}
	m.addSeconds.WithLabelValues(name)
	for _, s := range driver.Stages() {
		m.stageSeconds.WithLabelValues(name, string(s))
		m.stageFailures.WithLabelValues(name, string(s))
	}
	for _, w := range p.Witnesses() {
		for _, a := range client.Answers() {
			m.answers.WithLabelValues(name, w.Name, string(a))
		}
		m.hedges.WithLabelValues(name, w.Name)
	}
}

// stageOf is log.Options.Observe of the log of that name.
func (m *metrics) stageOf(name string) func(driver.Stage, time.Duration, error) {
	return func(s driver.Stage, d time.Duration, err error) {
		m.stageSeconds.WithLabelValues(name, string(s)).Observe(d.Seconds())
		if err != nil {
			m.stageFailures.WithLabelValues(name, string(s)).Inc()
		}
	}
}

// countAdds counts the adds to the log of that name that h answers. With logged, only those count of
// which the log has heard: h answers other requests too.
func (m *metrics) countAdds(name string, h http.Handler, logged bool) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost {
			h.ServeHTTP(w, r)
			return
		}
		began := time.Now()
		ctx, outcome := log.WithOutcome(r.Context())
		rec := &statusRecorder{ResponseWriter: w, status: http.StatusOK}
		h.ServeHTTP(rec, r.WithContext(ctx))
		if *outcome == "" && !logged {
			*outcome = refusalOf(rec.status)
		}
		if *outcome == "" {
			return
		}
		m.adds.WithLabelValues(name, string(*outcome)).Inc()
		if !logged && (*outcome == log.OutcomeCreated || *outcome == log.OutcomeDuplicate) {
			m.addSeconds.WithLabelValues(name).Observe(time.Since(began).Seconds())
		}
	})
}

// countLimited counts the adds to the log of that name that h refuses because their client sends too many.
func (m *metrics) countLimited(name string, h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rec := &statusRecorder{ResponseWriter: w, status: http.StatusOK}
		h.ServeHTTP(rec, r)
		if rec.status == http.StatusTooManyRequests && r.Method == http.MethodPost {
			m.adds.WithLabelValues(name, string(log.OutcomeLimited)).Inc()
		}
	})
}

// refusalOf is the outcome of an add that a handler refused with a status before the log heard of it;
// "" if it was none.
func refusalOf(status int) log.Outcome {
	switch status {
	case http.StatusNotFound:
		return "" // no path of the log
	case http.StatusTooManyRequests:
		return "" // countLimited counts it
	case http.StatusBadRequest, http.StatusUnsupportedMediaType, http.StatusUnprocessableEntity:
		return log.OutcomeInvalid
	case http.StatusUnauthorized, http.StatusForbidden:
		return log.OutcomeDenied
	case http.StatusMethodNotAllowed, http.StatusGone:
		return log.OutcomeFrozen
	case http.StatusRequestTimeout:
		return log.OutcomeGone
	case http.StatusRequestEntityTooLarge:
		return log.OutcomeTooLarge
	case http.StatusServiceUnavailable:
		return log.OutcomeBusy
	case http.StatusInternalServerError:
		return log.OutcomeFailed
	}
	return log.OutcomeOther
}

// A witnessBook knows when each witness of a log has last cosigned, and whether it did when it was
// asked last.
type witnessBook struct {
	mu   sync.Mutex
	last map[string]time.Time // by name: of the last cosignature
	fine map[string]bool
}

func newWitnessBook() *witnessBook {
	return &witnessBook{last: map[string]time.Time{}, fine: map[string]bool{}}
}

func (b *witnessBook) note(witness string, a client.Answer) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch a {
	case client.AnswerCosigned:
		b.last[witness], b.fine[witness] = time.Now(), true
	case client.AnswerConflict: // it is asked again at once, with the size that it said
	default:
		b.fine[witness] = false
	}
}

// cosigned returns when each witness has last cosigned.
func (b *witnessBook) cosigned() map[string]time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := make(map[string]time.Time, len(b.last))
	for w, t := range b.last {
		out[w] = t
	}
	return out
}

// maxMarginWitnesses bounds the work of margin, which looks at their subsets.
const maxMarginWitnesses = 14

// margin returns how many of the witnesses that answer may fail before p has no quorum: -1 if it has
// none now. It is not known of very many witnesses.
func (b *witnessBook) margin(p *policy.Policy, now time.Time) (int, bool) {
	b.mu.Lock()
	var up []string
	for _, w := range p.Witnesses() {
		if b.fine[w.Name] && now.Sub(b.last[w.Name]) < answering {
			up = append(up, w.Name)
		}
	}
	b.mu.Unlock()
	if len(up) > maxMarginWitnesses {
		return 0, false
	}
	least := len(up) + 1 // failures that cost the quorum
	for set := range 1 << len(up) {
		if lost := len(up) - bits.OnesCount(uint(set)); lost < least &&
			!p.Satisfied(func(name string) bool { i := slices.Index(up, name); return i >= 0 && set>>i&1 == 1 }) {
			least = lost
		}
	}
	return least - 1, true
}

// witnessOf is client.Options.Observe of the log of that name.
func (m *metrics) witnessOf(name string, book *witnessBook) func(client.Exchange) {
	if m == nil {
		return nil // the configuration is only checked
	}
	return func(x client.Exchange) {
		m.answers.WithLabelValues(name, x.Witness, string(x.Answer)).Inc()
		m.answerSeconds.WithLabelValues(name, x.Witness).Observe(x.Duration.Seconds())
		if x.Hedge {
			m.hedges.WithLabelValues(name, x.Witness).Inc()
		}
		book.note(x.Witness, x.Answer)
	}
}

// logCollector reads the logs' figures when it is asked.
type logCollector struct{ logs func() []*logPart }

func logDesc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("tallywood_log_"+name, help, append([]string{"log"}, labels...), nil)
}

var (
	descReady      = logDesc("ready", "1 if the log takes entries or knows who does, else 0.")
	descLeading    = logDesc("leading", "1 if this process leads the log, else 0.")
	descCommitted  = logDesc("committed_size", "Entries that are durable. What does not lead knows the published ones alone.")
	descIntegrated = logDesc("integrated_size", "Entries that are in tiles.")
	descSize       = logDesc("published_size", "Entries under the newest published checkpoint.")
	descStored     = logDesc("stored_size", "Entries under the checkpoint in the bucket.")
	descPublished  = logDesc("published_timestamp_seconds", "When the newest checkpoint was published, or found in the bucket.")
	descOldest     = logDesc("oldest_unpublished_seconds", "Age of the oldest entry that no published checkpoint covers; 0 without.")
	descQueue      = logDesc("queue_entries", "Entries that are not durable yet.")
	descQueueBytes = logDesc("queue_bytes", "Bytes of the entries that are not durable yet.")
	descRecords    = logDesc("uncollected_records", "Records that are not deleted yet.")
	descPartials   = logDesc("uncollected_partials", "Partial tiles and bundles that are not deleted yet.")
	descIndexed    = logDesc("index_entries", "Entries of which the duplicate index knows.")
	descLacks      = logDesc("index_lacks", "Entries that the duplicate index is about to take from the log, all of them while it is rebuilt.")
	descWaiting    = logDesc("index_waiting_adds", "Adds that the duplicate index does not know yet.")
	descLookups    = logDesc("index_lookups_total", "Lookups in the duplicate index, by what they found: duplicate or new.", "result")
	descCosigned   = logDesc("witness_cosigned_timestamp_seconds", "When a witness has last cosigned; 0 if not since the start.", "witness")
	descFailing    = logDesc("witness_failing", "1 if a witness keeps failing and is tried at intervals only, else 0.", "witness")
	descMargin     = logDesc("quorum_margin", "Witnesses of those that answer that may fail before the quorum is lost; -1 if it is. Of the leader alone.")
)

// Describe implements prometheus.Collector.
func (c *logCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descReady, descLeading, descCommitted, descIntegrated, descSize, descStored, descPublished,
		descOldest, descQueue, descQueueBytes, descRecords, descPartials, descIndexed, descLacks, descWaiting, descLookups,
		descCosigned, descFailing, descMargin} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c *logCollector) Collect(ch chan<- prometheus.Metric) {
	for _, l := range c.logs() {
		collectLog(l, now(), func(d *prometheus.Desc, v float64, labels ...string) {
			kind := prometheus.GaugeValue
			if d == descLookups {
				kind = prometheus.CounterValue
			}
			ch <- prometheus.MustNewConstMetric(d, kind, v, append([]string{l.cfg.Name}, labels...)...)
		})
	}
}

func collectLog(l *logPart, at time.Time, put func(d *prometheus.Desc, v float64, labels ...string)) {
	truth := map[bool]float64{true: 1}
	s := l.log.Stats()
	put(descReady, truth[l.log.Ready() == nil])
	put(descLeading, truth[s.Leading])
	put(descCommitted, float64(s.Committed))
	put(descIntegrated, float64(s.Integrated))
	put(descStored, float64(s.Stored))
	if cp, ok := l.log.Published(); ok {
		put(descSize, float64(cp.Size()))
		put(descPublished, float64(s.PublishedAt.UnixMilli())/1000)
	}
	oldest := 0.0
	if !s.OldestUnpublished.IsZero() {
		oldest = max(at.Sub(s.OldestUnpublished), 0).Seconds()
	}
	put(descOldest, oldest)
	put(descQueue, float64(s.Queued))
	put(descQueueBytes, float64(s.QueuedBytes))
	if s.Leading {
		put(descRecords, float64(s.Records))
		put(descPartials, float64(s.Partials))
	}
	put(descIndexed, float64(s.Indexed))
	rebuild, _ := l.log.Rebuilding()
	put(descLacks, float64(rebuild.Total-rebuild.Written))
	put(descWaiting, float64(s.Waiting))
	put(descLookups, float64(s.Found), "duplicate")
	put(descLookups, float64(s.Lookups-s.Found), "new")
	cosigned, rules, failing := l.seen.cosigned(), l.policy(), map[string]bool{}
	if c := l.rules.Load().cosigner; c != nil {
		failing = c.Failing()
	}
	for _, w := range rules.Witnesses() {
		t := 0.0
		if at, ok := cosigned[w.Name]; ok {
			t = float64(at.UnixMilli()) / 1000
		}
		put(descCosigned, t, w.Name)
		put(descFailing, truth[failing[w.Name]], w.Name)
	}
	if margin, ok := l.seen.margin(rules, at); ok && s.Leading && !rules.None() {
		put(descMargin, float64(margin))
	}
}
