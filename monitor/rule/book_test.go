package rule_test

import (
	"bytes"
	"cmp"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"tallywood/monitor/rule"
)

// monday is when the scenarios begin: Monday, noon.
var monday = time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)

// A use is one entry of an identity.
type use struct {
	at        time.Duration  // since monday
	email     string         // empty: a@b.c
	uri       string         // the name, if it is none of mail
	ext       map[int]string // Fulcio's extensions
	life      time.Duration  // of the certificate; 0: 10 minutes
	key       int            // one and the same for the same number; 0: one that is used once
	bare      bool           // the key without a certificate
	digest    string         // empty: one of its own
	again     bool           // with the certificate of the use before
	certified bool           // an entry of a certificate log
	times     rule.Times

	want rule.ID       // that fires; empty: none
	as   rule.Severity // if other than the catalogue's
	says []string      // what the reason says
}

// A maker makes the entries of a scenario. Nobody has signed its certificates: no rule that remembers
// asks, and there are thousands.
type maker struct {
	t    testing.TB
	n    int64
	last *rule.Certificate
}

func newMaker(t testing.TB) *maker { return &maker{t: t} }

// spki returns the key of a number, of 0 another one each time.
func (m *maker) spki(n int) []byte {
	seed := fmt.Sprintf("key %d", n)
	if n == 0 {
		seed = rand.Text()
	}
	key := sha256.Sum256([]byte(seed))
	return asn1Of(func(b *cryptobyte.Builder) {
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) { b.AddASN1ObjectIdentifier(asn1.ObjectIdentifier{1, 3, 101, 112}) })
		b.AddASN1BitString(key[:])
	})
}

// asn1Of returns a SEQUENCE.
func asn1Of(content cryptobyte.BuilderContinuation) []byte {
	b := cryptobyte.NewBuilder(nil)
	b.AddASN1(cbasn1.SEQUENCE, content)
	return b.BytesOrPanic()
}

// san returns the extension of the name of u.
func (u use) san() pkix.Extension {
	tag, name := 0x81, cmp.Or(u.email, "a@b.c")
	if u.uri != "" {
		tag, name = 0x86, u.uri
	}
	return names(false, tag, name)
}

// certificate issues the certificate of u.
func (m *maker) certificate(u use, extra ...pkix.Extension) *rule.Certificate {
	m.t.Helper()
	m.n++
	extensions := append([]pkix.Extension{u.san()}, extra...)
	for _, n := range slices.Sorted(maps.Keys(u.ext)) {
		if n < 8 {
			extensions = append(extensions, extension(n, []byte(u.ext[n])))
		} else {
			extensions = append(extensions, utf8Extension(m.t, n, u.ext[n]))
		}
	}
	algorithm := asn1Of(func(b *cryptobyte.Builder) { b.AddASN1ObjectIdentifier(asn1.ObjectIdentifier{1, 3, 101, 112}) })
	from := monday.Add(u.at).Truncate(time.Second)
	tbs := asn1Of(func(b *cryptobyte.Builder) {
		b.AddASN1(cbasn1.Tag(0).Constructed().ContextSpecific(), func(b *cryptobyte.Builder) { b.AddASN1Int64(2) })
		b.AddASN1Int64(1000 + m.n)
		b.AddBytes(algorithm)
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {}) // issuer
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1UTCTime(from)
			b.AddASN1UTCTime(from.Add(cmp.Or(u.life, 10*time.Minute)))
		})
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {}) // subject
		b.AddBytes(m.spki(u.key))
		b.AddASN1(cbasn1.Tag(3).Constructed().ContextSpecific(), func(b *cryptobyte.Builder) {
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
				for _, e := range extensions {
					b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
						b.AddASN1ObjectIdentifier(e.Id)
						b.AddASN1OctetString(e.Value)
					})
				}
			})
		})
	})
	der := asn1Of(func(b *cryptobyte.Builder) {
		b.AddBytes(tbs)
		b.AddBytes(algorithm)
		b.AddASN1BitString([]byte("not signed"))
	})
	c, err := rule.ParseCertificate(der)
	if err != nil {
		m.t.Fatal(err)
	}
	return c
}

func (m *maker) entry(u use) *rule.Entry {
	m.t.Helper()
	digest := sha256.Sum256([]byte(u.digest))
	if u.digest == "" {
		rand.Read(digest[:])
	}
	e := &rule.Entry{Digest: digest[:], Certified: u.certified, Envelope: true}
	switch {
	case u.bare:
		spki := m.spki(u.key)
		e.Signers = []rule.Signer{{KeyHash: sha256.Sum256(spki), PublicKey: spki}}
	case u.again:
		e.Signers = []rule.Signer{{Certificate: m.last}}
	default:
		m.last = m.certificate(u)
		e.Signers = []rule.Signer{{Certificate: m.last}}
	}
	e.Signers[0].Signature = overEnvelope
	if u.certified {
		e.Digest = nil
	}
	return e
}

// A watcher judges entries as a monitor does, with a book that is written and read again.
type watcher struct {
	t    testing.TB
	set  *rule.Set
	book *rule.Book
}

// newWatcher watches from the beginning of a log.
func newWatcher(t testing.TB, ids ...rule.Identity) *watcher {
	t.Helper()
	s, err := rule.New(rule.Options{Identities: ids})
	if err != nil {
		t.Fatal(err)
	}
	w := &watcher{t, s, &rule.Book{}}
	s.Attend(w.book, 0, monday)
	return w
}

// judge returns the verdicts on an entry, for each identity that it matches.
func (w *watcher) judge(e *rule.Entry, at rule.Times) []rule.Verdict {
	var out []rule.Verdict
	for _, m := range w.set.Match(e) {
		out = append(out, w.set.Judge(w.book, e, m, at))
	}
	return out
}

// reload has the book written and read, as at a restart.
func (w *watcher) reload() {
	w.t.Helper()
	data, err := json.Marshal(w.book.Clone())
	if err != nil {
		w.t.Fatal(err)
	}
	back := &rule.Book{}
	if err := json.Unmarshal(data, back); err != nil {
		w.t.Fatalf("reading %s: %v", data, err)
	}
	again, err := json.Marshal(back)
	if err != nil || !bytes.Equal(data, again) {
		w.t.Fatalf("book %s was read as %s, %v", data, again, err)
	}
	w.book = back
}

// mine is the identity of the scenarios, with rules on.
func mine(rules map[rule.ID]rule.Params) rule.Identity {
	return rule.Identity{Name: "me", Email: "a@b.c", Expect: rule.Expect{Issuers: []string{good}}, Rules: rules}
}

func github(rules map[rule.ID]rule.Params) rule.Identity {
	return rule.Identity{Name: "us", GitHub: "o/*", Expect: rule.Expect{Issuers: []string{good}}, Rules: rules}
}

// play runs uses through w and compares what fires.
func play(t *testing.T, w *watcher, uses []use) {
	t.Helper()
	m := newMaker(t)
	for i, u := range uses {
		if u.ext = maps.Clone(u.ext); u.ext == nil { // other tests may play the same use
			u.ext = map[int]string{}
		}
		if !u.bare {
			u.ext[8] = good
		}
		verdicts := w.judge(m.entry(u), u.times)
		if len(verdicts) != 1 {
			t.Fatalf("use %d has %d verdicts", i, len(verdicts))
		}
		v := verdicts[0]
		if v.Report != (u.want != "") || v.Rule != u.want {
			t.Fatalf("use %d: report %v, %s: %q; want %q", i, v.Report, v.Rule, v.Summary(), u.want)
		}
		if u.want == "" {
			continue
		}
		r, _ := rule.Lookup(u.want)
		if want := max(r.Severity, u.as); v.Severity != want {
			t.Errorf("use %d: severity %s, want %s", i, v.Severity, want)
		}
		for _, says := range u.says {
			if !strings.Contains(v.Summary(), says) {
				t.Errorf("use %d: %q does not say %q", i, v.Summary(), says)
			}
		}
		w.reload()
	}
}

// evenly returns n uses, each so long after the one before.
func evenly(n int, from, apart time.Duration) []use {
	out := make([]use, n)
	for i := range out {
		out[i].at = from + time.Duration(i)*apart
	}
	return out
}

// firing has the last of some uses fire.
func firing(uses []use, id rule.ID, as rule.Severity, says ...string) []use {
	last := &uses[len(uses)-1]
	last.want, last.as, last.says = id, as, says
	return uses
}

func TestBurst(t *testing.T) {
	tight := map[rule.ID]rule.Params{rule.IDBurst: {Max: 4, Window: 10 * time.Minute}}
	learned := map[rule.ID]rule.Params{rule.IDBurst: {}}
	day := 24 * time.Hour
	// releases returns daily releases of so many files each.
	releases := func(days, files int) []use {
		var out []use
		for d := range days {
			out = append(out, evenly(files, time.Duration(d)*day, time.Second)...)
		}
		return out
	}
	late := evenly(5, 0, time.Minute)
	late[4].at = 30 * time.Second // logged last, and not made last
	for name, tc := range map[string]struct {
		rules map[rule.ID]rule.Params
		uses  []use
	}{
		"as many as are usual":          {tight, evenly(4, 0, time.Second)},
		"one more, by the end":          {tight, append(evenly(4, 0, 2*time.Minute), use{at: 10 * time.Minute})},
		"one more, in time":             {tight, firing(append(evenly(4, 0, 2*time.Minute), use{at: 10*time.Minute - time.Second}), rule.IDBurst, rule.Warning, "5 entries", "4 are usual")},
		"steadily, at the limit":        {tight, evenly(50, 0, 150*time.Second)},
		"steadily, above it":            {tight, append(firing(evenly(5, 0, 100*time.Second), rule.IDBurst, rule.Warning), evenly(30, 500*time.Second, 100*time.Second)...)},
		"one alert, then a graver one":  {tight, slices.Concat(firing(evenly(5, 0, 0), rule.IDBurst, rule.Warning), evenly(7, 0, time.Second), firing(evenly(1, 10*time.Second, 0), rule.IDBurst, rule.Critical, "13 entries"), evenly(200, 11*time.Second, time.Second))},
		"the next burst is another":     {tight, slices.Concat(firing(evenly(5, 0, 0), rule.IDBurst, rule.Warning), firing(evenly(5, time.Hour, 0), rule.IDBurst, rule.Warning))},
		"not one that has not ended":    {tight, slices.Concat(firing(evenly(5, 0, 0), rule.IDBurst, rule.Warning), evenly(3, 9*time.Minute, 10*time.Second), evenly(2, 11*time.Minute, time.Second))},
		"in another order":              {tight, firing(late, rule.IDBurst, rule.Warning)},
		"of one":                        {map[rule.ID]rule.Params{rule.IDBurst: {Max: 1}}, slices.Concat(firing(evenly(2, 0, 0), rule.IDBurst, rule.Warning), evenly(1, time.Hour, 0), firing(evenly(1, time.Hour, 0), rule.IDBurst, rule.Warning))},
		"nothing learned yet":           {learned, evenly(20, 0, time.Second)},
		"nothing learned yet, too many": {learned, firing(evenly(21, 0, time.Second), rule.IDBurst, rule.Warning)},
		"large releases are usual":      {learned, append(releases(8, 15), evenly(60, 8*day, time.Second)...)},
		"far more than large releases":  {learned, append(releases(8, 15), firing(evenly(61, 8*day, time.Second), rule.IDBurst, rule.Warning, "60 are usual")...)},
		"small releases are usual":      {learned, append(releases(8, 2), evenly(10, 8*day, time.Second)...)},
		"far more than small releases":  {learned, append(releases(8, 2), firing(evenly(11, 8*day, time.Second), rule.IDBurst, rule.Warning, "10 are usual")...)},
		"84 versions in six minutes":    {learned, append(releases(8, 2), slices.Concat(firing(evenly(11, 8*day, 4*time.Second), rule.IDBurst, rule.Warning), evenly(19, 8*day+44*time.Second, 4*time.Second), firing(evenly(1, 8*day+2*time.Minute, 0), rule.IDBurst, rule.Critical), evenly(53, 8*day+124*time.Second, 4*time.Second))...)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			play(t, newWatcher(t, mine(tc.rules)), tc.uses)
		})
	}
}

// TestBurstOfBareKeys: a bare key says nothing of when it was used; narrow bounds do.
func TestBurstOfBareKeys(t *testing.T) {
	m := newMaker(t)
	id := rule.Identity{Name: "key", Key: fmt.Sprintf("%x", sha256.Sum256(m.spki(1))),
		Rules: map[rule.ID]rule.Params{rule.IDBurst: {Max: 2}, rule.IDSeen: {Off: true}}}
	now := rule.Times{After: monday.Add(-time.Minute), Before: monday, Now: monday}
	backlog := rule.Times{After: monday.Add(-48 * time.Hour), Before: monday, Now: monday}
	for name, tc := range map[string]struct {
		times rule.Times
		fires bool
	}{"followed": {now, true}, "backlog": {backlog, false}, "no bounds": {rule.Times{Now: monday}, false}} {
		w := newWatcher(t, id)
		fired := 0
		for range 5 {
			for _, v := range w.judge(m.entry(use{bare: true, key: 1}), tc.times) {
				if v.Report {
					fired++
				}
			}
		}
		if fired != 1 && tc.fires || fired != 0 && !tc.fires {
			t.Errorf("%s: %d alerts, want one: %v", name, fired, tc.fires)
		}
	}
}

func chainOf(ca *issuer) []*x509.Certificate { return []*x509.Certificate{ca.cert} }

// remembering is an identity with all rules on that remember something.
func remembering() rule.Identity {
	id := github(map[rule.ID]rule.Params{rule.IDOffHours: {Days: []string{"mon"}}})
	for _, r := range []rule.ID{rule.IDBurst, rule.IDFanOut, rule.IDRefDrift, rule.IDNewKey, rule.IDKeyReuse, rule.IDFirstUse,
		rule.IDVisibilityChange, rule.EntryDuplicate, rule.EntryOutsideCert, rule.XCertWithoutEntry, rule.XEntryWithoutCert} {
		id.Rules[r] = rule.Params{}
	}
	return id
}

// flood judges n entries, all of them different in all that is remembered.
func flood(t testing.TB, w *watcher, n int) {
	m := newMaker(t)
	for i := range n {
		u := repo(time.Duration(i)*time.Second, fmt.Sprintf("r%d", i), "8", good, "13", fmt.Sprintf("%040d", i),
			"14", fmt.Sprintf("refs/tags/%d", i), "22", "public")
		w.judge(m.entry(u), rule.Times{})
	}
}

// TestBookIsBounded: whoever floods an identity does not grow the state without end.
func TestBookIsBounded(t *testing.T) {
	w := newWatcher(t, remembering())
	flood(t, w, 1500)
	w.reload()
	before, err := json.Marshal(w.book)
	if err != nil {
		t.Fatal(err)
	}
	flood(t, w, 200)
	after, err := json.Marshal(w.book)
	if err != nil || len(after) > 100_000 || len(after) > len(before)+100 {
		t.Errorf("book of %d bytes grew to %d, %v", len(before), len(after), err)
	}
	t.Logf("full book of one identity: %d bytes", len(after))
}

// TestClonesShareNothing: what is judged after a commit is not in what was committed.
func TestClonesShareNothing(t *testing.T) {
	w := newWatcher(t, remembering())
	flood(t, w, 20)
	committed := w.book.Clone()
	want, err := json.Marshal(committed)
	if err != nil {
		t.Fatal(err)
	}
	flood(t, w, 20)
	other := &watcher{t, w.set, committed.Clone()}
	flood(t, other, 5)
	if got, err := json.Marshal(committed); err != nil || !bytes.Equal(got, want) {
		t.Errorf("a book that was committed changed from %s to %s, %v", want, got, err)
	}
	if mine, err := json.Marshal(w.book); err != nil || bytes.Equal(mine, want) {
		t.Errorf("nothing was noted, %v", err)
	}
}

// TestChunksDoNotMatter: whenever the book is written and read again, the same fires.
func TestChunksDoNotMatter(t *testing.T) {
	m := newMaker(t)
	var entries []*rule.Entry
	for i := range 60 {
		u := repo(time.Duration(i)*7*time.Second, fmt.Sprintf("r%d", i%9), "8", good, "13", fmt.Sprint(i/7), "14", fmt.Sprintf("refs/tags/v%d", i/10), "22", "public")
		u.key = i % 11
		entries = append(entries, m.entry(u))
	}
	var want []string
	for chunk := range 10 {
		w := newWatcher(t, remembering())
		var got []string
		for i, e := range entries {
			if chunk > 0 && i%chunk == 0 {
				w.reload()
			}
			for _, v := range w.judge(e, rule.Times{}) {
				got = append(got, fmt.Sprintf("%d %s %s", i, v.Severity, v.Summary()))
			}
		}
		if chunk == 0 {
			want = got
		}
		if !slices.Equal(got, want) {
			t.Fatalf("written every %d entries: %q, never: %q", chunk, got, want)
		}
	}
	if fired := strings.Join(want, "\n"); !strings.Contains(fired, "repositories") || !strings.Contains(fired, "entries for") || !strings.Contains(fired, "was commit") {
		t.Errorf("not all rules fired: %s", fired)
	}
}

// TestIdentitiesNoLongerWatched: some are remembered, in case they come back.
func TestIdentitiesNoLongerWatched(t *testing.T) {
	w := newWatcher(t, mine(map[rule.ID]rule.Params{rule.IDFirstUse: {}}))
	play(t, w, []use{{want: rule.IDFirstUse}})
	mineWas := w.book
	for i := range 200 {
		id := rule.Identity{Name: fmt.Sprintf("n%d", i), Email: "a@b.c", Rules: map[rule.ID]rule.Params{rule.IDFirstUse: {}}}
		other := newWatcher(t, id)
		other.book = w.book
		other.set.Attend(other.book, 0, monday)
		other.judge(newMaker(t).entry(use{at: time.Duration(i-300) * day}), rule.Times{})
		w.book = other.book
	}
	if w.book != mineWas {
		t.Fatal("another book")
	}
	data, err := json.Marshal(w.book)
	if err != nil {
		t.Fatal(err)
	}
	var names map[string]any
	if err := json.Unmarshal(data, &names); err != nil || len(names) != 65 || names["me"] == nil {
		t.Errorf("%d identities are remembered: %s, %v", len(names), data, err)
	}
}

// FuzzBook: what is accepted is written and accepted again, the same, and can be judged with.
func FuzzBook(f *testing.F) {
	w := newWatcher(f, remembering())
	flood(f, w, 40)
	data, err := json.Marshal(w.book)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte(`{}`))
	f.Add([]byte(`null`))
	f.Add([]byte(`{"us":{"last":5,"burst":{"counts":[5,1,2,7],"slot":1,"in_slot":1},"fan_out":[{"key":1,"repositories":"AAAAAAAAAAEBMQ"}],"refs":"AAAAAAAAAAEA","certificates":{"since":5,"seen":""}}}`))
	for _, bad := range []string{`{"us":null}`, `{"us":{"x":1}}`, `{"us":{"last":-1}}`, `{"us":{"refs":"AAAA"}}`, `{"us":{"refs":"AAAAAAAAAAEAAAAAAAAAAAEA"}}`,
		`{"us":{"burst":{"counts":[5,0]}}}`, `{"us":{"burst":{"counts":[5]}}}`, `{"us":{"burst":{"raised":3}}}`} {
		f.Add([]byte(bad))
		if json.Unmarshal([]byte(bad), &rule.Book{}) == nil {
			f.Errorf("%s was accepted", bad)
		}
	}
	m := newMaker(f)
	e := m.entry(repo(0, "r", "8", good, "13", "c", "14", "refs/tags/v1", "22", "public"))
	f.Fuzz(func(t *testing.T, data []byte) {
		b := &rule.Book{}
		if json.Unmarshal(data, b) != nil {
			return
		}
		once, err := json.Marshal(b)
		if err != nil {
			t.Fatal(err)
		}
		again := &rule.Book{}
		if err := json.Unmarshal(once, again); err != nil {
			t.Fatalf("%s was written as %s: %v", data, once, err)
		}
		if twice, err := json.Marshal(again); err != nil || !bytes.Equal(once, twice) {
			t.Fatalf("%s was written as %s, then as %s, %v", data, once, twice, err)
		}
		for range 3 {
			for _, match := range w.set.Match(e) {
				w.set.Judge(b, e, match, rule.Times{})
			}
		}
		if _, err := json.Marshal(b); err != nil {
			t.Fatal(err)
		}
	})
}
