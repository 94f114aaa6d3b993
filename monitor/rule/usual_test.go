package rule_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"tallywood/monitor/rule"
)

const day = 24 * time.Hour

// repo is a use by a repository of o, or of another owner.
func repo(at time.Duration, name string, more ...string) use {
	owner, _, ok := strings.Cut(name, "/")
	if !ok {
		owner, name = "o", "o/"+name
	}
	u := use{at: at, uri: "https://github.com/" + name + "/.github/workflows/release.yml@refs/heads/main",
		ext: map[int]string{12: "https://github.com/" + name, 16: "https://github.com/" + owner, 17: owner, 11: "github-hosted"}}
	for i := 0; i < len(more); i += 2 {
		var n int
		fmt.Sscan(more[i], &n)
		u.ext[n] = more[i+1]
	}
	return u
}

// repos returns one use each of n repositories.
func repos(n int, from, apart time.Duration, more ...string) []use {
	out := make([]use, n)
	for i := range out {
		out[i] = repo(from+time.Duration(i)*apart, fmt.Sprintf("r%d", i), more...)
	}
	return out
}

func TestFanOut(t *testing.T) {
	on := map[rule.ID]rule.Params{rule.IDFanOut: {Max: 3, Window: 10 * time.Minute}}
	same := repos(6, 0, time.Second)
	for i := range same {
		same[i].ext[12] = "https://github.com/o/" + []string{"r1", "R1", "r2"}[i%3]
	}
	commit := []use{repo(0, "a/x", "13", "c1"), repo(1, "b/x", "13", "c1"), repo(2, "c/x", "13", "c2"), repo(3, "d/x", "13", "c1"), repo(4, "e/x", "13", "c1")}
	runner := func(name string) []use {
		return []use{repo(0, "a/x", "11", name), repo(1, "b/x", "11", name), repo(2, "c/x", "11", name), repo(3, "d/x", "11", name)}
	}
	unknown := repos(4, 0, time.Second)
	for i := range unknown {
		delete(unknown[i].ext, 12)
	}
	old := repos(4, 0, time.Second)
	for i := range old {
		old[i].ext = map[int]string{3: "c1", 5: fmt.Sprintf("o/r%d", i)}
	}
	everybody := rule.Identity{Name: "all", Domain: "github.com", Expect: rule.Expect{Issuers: []string{good}}, Rules: on}
	for name, tc := range map[string]struct {
		id   rule.Identity
		uses []use
	}{
		"as many as are usual":          {github(on), repos(3, 0, time.Second)},
		"one more":                      {github(on), firing(repos(4, 0, time.Second), rule.IDFanOut, rule.Critical, "owner", "more than 3 repositories", "o/r3")},
		"the usual ones again":          {github(on), slices.Concat(repos(3, 0, time.Second), repos(3, time.Minute, time.Second))},
		"one more, by the end":          {github(on), repos(9, 0, 200*time.Second)},
		"a repository is itself":        {github(on), same},
		"one alert":                     {github(on), append(firing(repos(4, 0, time.Second), rule.IDFanOut, rule.Critical), repos(40, 5*time.Second, 10*time.Second)...)},
		"the next one is another":       {github(on), slices.Concat(firing(repos(4, 0, time.Second), rule.IDFanOut, rule.Critical), firing(repos(4, time.Hour, time.Second), rule.IDFanOut, rule.Critical))},
		"not one that has not ended":    {github(on), slices.Concat(firing(repos(4, 0, time.Second), rule.IDFanOut, rule.Critical), repos(4, 9*time.Minute, time.Second), repos(4, 16*time.Minute, time.Second))},
		"many owners":                   {everybody, []use{repo(0, "a/x"), repo(1, "b/x"), repo(2, "c/x"), repo(3, "d/x"), repo(4, "e/x")}},
		"one commit of many owners":     {everybody, firing(commit, rule.IDFanOut, rule.Critical, "commit", "c1")},
		"a runner of many owners":       {everybody, firing(runner("self-hosted"), rule.IDFanOut, rule.Critical, "runner")},
		"a runner that is everybody's":  {everybody, runner("gitlab-hosted")},
		"of which the repo is unknown":  {github(on), unknown},
		"of certificates of before 1.8": {github(on), firing(old, rule.IDFanOut, rule.Critical, "commit")},
		"by default five":               {github(map[rule.ID]rule.Params{rule.IDFanOut: {}}), firing(repos(6, 0, time.Minute), rule.IDFanOut, rule.Critical)},
		"by default ten minutes":        {github(map[rule.ID]rule.Params{rule.IDFanOut: {}}), repos(20, 0, 2*time.Minute)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			play(t, newWatcher(t, tc.id), tc.uses)
		})
	}
}

func TestWhatIsUsual(t *testing.T) {
	on := func(id rule.ID, p rule.Params) map[rule.ID]rule.Params { return map[rule.ID]rule.Params{id: p} }
	tag := func(at time.Duration, ref, commit string) use { return repo(at, "tool", "14", ref, "13", commit) }
	a, b := strings.Repeat("a", 40), strings.Repeat("a", 39)+"b"
	shows := func(v string) use { return repo(0, "tool", "22", v) }
	drift := tag(2, "refs/tags/v1", b)
	drift.want, drift.says = rule.IDRefDrift, []string{"refs/tags/v1", a, b}
	oldTag := use{ext: map[int]string{5: "o/tool", 6: "refs/tags/v1", 3: a}}
	oldDrift := use{ext: map[int]string{5: "o/tool", 6: "refs/tags/v1", 3: b}, want: rule.IDRefDrift}
	private := shows("private")
	private.want, private.says = rule.IDVisibilityChange, []string{"public", "private"}
	public := shows("public")
	public.want = rule.IDVisibilityChange
	visibility, refs := github(on(rule.IDVisibilityChange, rule.Params{})), github(on(rule.IDRefDrift, rule.Params{}))
	newKey, duplicate := mine(on(rule.IDNewKey, rule.Params{})), mine(on(rule.EntryDuplicate, rule.Params{}))
	firstUse := mine(on(rule.IDFirstUse, rule.Params{}))
	week := mine(on(rule.IDFirstUse, rule.Params{After: 7 * day}))
	first := use{want: rule.IDFirstUse}
	year := 365 * day
	for name, tc := range map[string]struct {
		id   rule.Identity
		uses []use
	}{
		"a tag moves":                     {refs, []use{tag(0, "refs/tags/v1", a), tag(1, "refs/tags/v1", a), drift}},
		"it is told of once":              {refs, []use{tag(0, "refs/tags/v1", a), drift, tag(3, "refs/tags/v1", b)}},
		"a branch moves":                  {refs, []use{tag(0, "refs/heads/main", a), tag(1, "refs/heads/main", b)}},
		"another tag":                     {refs, []use{tag(0, "refs/tags/v1", a), tag(1, "refs/tags/v2", b)}},
		"the tag of another repository":   {refs, []use{tag(0, "refs/tags/v1", a), repo(1, "tools", "14", "refs/tags/v1", "13", b)}},
		"a tag of old certificates moves": {rule.Identity{Name: "us", SAN: "a@b.c", Rules: on(rule.IDRefDrift, rule.Params{}), Expect: rule.Expect{Issuers: []string{good}}}, []use{oldTag, oldDrift}},

		"becomes private":           {visibility, []use{shows("public"), shows("public"), private, shows("private"), public}},
		"another one is private":    {visibility, []use{shows("public"), repo(1, "tools", "22", "private")}},
		"visibility is not told of": {visibility, []use{shows("public"), repo(1, "tool"), shows("public")}},

		"one-time keys":              {newKey, []use{{}, {at: day}, {at: 2 * day}}},
		"a one-time certificate":     {newKey, []use{{}, {again: true}, {at: day}}},
		"a key that is kept, itself": {newKey, []use{{key: 1}, {at: day, key: 1}, {at: 2 * day, key: 1}}},
		"a key instead of it":        {newKey, []use{{key: 1}, {at: day, key: 1}, {at: 2 * day, key: 2, want: rule.IDNewKey, says: []string{"sha256:"}}, {at: 3 * day, key: 2}, {at: 4 * day, key: 1}}},
		"the key was not kept":       {newKey, []use{{key: 1}, {at: 2 * day, key: 2}}},
		"a long-lived one":           {newKey, []use{{key: 1, life: year}, {at: day, key: 1, life: year}, {at: day, key: 2, life: year, want: rule.IDNewKey}, {at: 2 * day, want: rule.IDNewKey}}},

		"the same again":                        {duplicate, []use{{digest: "x"}, {digest: "x", again: true, want: rule.EntryDuplicate, says: []string{"same digest"}}}},
		"the same with another certificate":     {duplicate, []use{{digest: "x"}, {digest: "x"}}},
		"another with the same certificate":     {duplicate, []use{{digest: "x"}, {digest: "y", again: true}}},
		"the same certificate in its log again": {duplicate, []use{{certified: true}, {certified: true}, {certified: true, again: true, want: rule.EntryDuplicate, says: []string{"same certificate"}}}},

		"the first one at all":                  {firstUse, []use{first, {at: day}}},
		"after 90 days":                         {firstUse, []use{first, {at: 91 * day, want: rule.IDFirstUse, says: []string{"91 days"}}, {at: 92 * day}}},
		"after 89 days":                         {firstUse, []use{first, {at: 89 * day}, {at: 178 * day}}},
		"after the days stated":                 {week, []use{first, {at: 7*day - time.Minute}, {at: 14 * day, want: rule.IDFirstUse}}},
		"one that is logged late is no silence": {week, []use{first, {at: 6 * day}, {at: 5 * day}, {at: 12 * day}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			play(t, newWatcher(t, tc.id), tc.uses)
		})
	}
}

// TestFirstUseOfALogReadFromItsMiddle: what was there before is not known.
func TestFirstUseOfALogReadFromItsMiddle(t *testing.T) {
	w := newWatcher(t, mine(map[rule.ID]rule.Params{rule.IDFirstUse: {}}))
	w.book = &rule.Book{}
	w.set.Attend(w.book, 1000, monday)
	play(t, w, []use{{}, {at: day}, {at: 100 * day, want: rule.IDFirstUse}})
}

func TestKeyReuse(t *testing.T) {
	on := map[rule.ID]rule.Params{rule.IDKeyReuse: {}}
	ids := []rule.Identity{mine(on), {Name: "other", Email: "x@y.z", Expect: rule.Expect{Issuers: []string{good}}, Rules: on},
		{Name: "silent", Email: "s@y.z", Expect: rule.Expect{Issuers: []string{good}}}}
	reused := use{at: 1, key: 1, email: "x@y.z", want: rule.IDKeyReuse, says: []string{"a@b.c", "x@y.z"}}
	ref := func(ref string) use {
		return use{key: 1, uri: "https://github.com/o/r/.github/workflows/release.yml@refs/tags/" + ref}
	}
	for name, tc := range map[string]struct {
		ids  []rule.Identity
		uses []use
	}{
		"two identities":             {ids, []use{{key: 1}, reused}},
		"one identity, twice":        {ids, []use{{key: 1}, {at: 1, key: 1}}},
		"two keys":                   {ids, []use{{key: 1}, {at: 1, key: 2, email: "x@y.z"}}},
		"a long-lived certificate":   {ids, []use{{key: 1, life: 48 * time.Hour}, {key: 1, life: 48 * time.Hour, email: "x@y.z"}}},
		"of one that does not look":  {ids, []use{{key: 1, email: "s@y.z"}, {at: 1, key: 1}}},
		"one workflow, two tags":     {[]rule.Identity{github(on)}, []use{ref("v1"), ref("v2")}},
		"two identities of one rule": {[]rule.Identity{github(on)}, []use{ref("v1"), {key: 1, uri: "https://github.com/o/r/.github/workflows/x.yml@refs/tags/v1", want: rule.IDKeyReuse}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			play(t, newWatcher(t, tc.ids...), tc.uses)
		})
	}
}

func TestOffHours(t *testing.T) {
	work := []string{"mon", "tue", "wed", "thu", "fri"}
	at := func(text string) time.Duration {
		when, err := time.Parse("2006-01-02 15:04", text)
		if err != nil {
			t.Fatal(err)
		}
		return when.Sub(monday)
	}
	for name, tc := range map[string]struct {
		p    rule.Params
		at   string
		fire bool
	}{
		"in hours":               {rule.Params{Hours: "09:00-18:00"}, "2026-05-04 09:00", false},
		"too early":              {rule.Params{Hours: "09:00-18:00"}, "2026-05-04 08:59", true},
		"too late":               {rule.Params{Hours: "09:00-18:00"}, "2026-05-04 18:00", true},
		"in the zone's hours":    {rule.Params{Hours: "09:00-18:00", Zone: "America/New_York"}, "2026-05-04 21:59", false},
		"not in the zone's":      {rule.Params{Hours: "09:00-18:00", Zone: "America/New_York"}, "2026-05-04 12:59", true},
		"on a weekday":           {rule.Params{Days: work}, "2026-05-08 23:59", false},
		"at the weekend":         {rule.Params{Days: work}, "2026-05-09 00:00", true},
		"a weekend elsewhere":    {rule.Params{Days: work, Zone: "Asia/Tokyo"}, "2026-05-08 15:00", true},
		"at night":               {rule.Params{Hours: "22:00-06:00", Days: work}, "2026-05-04 22:00", false},
		"at night, after it":     {rule.Params{Hours: "22:00-06:00", Days: work}, "2026-05-05 06:00", true},
		"in Friday's night":      {rule.Params{Hours: "22:00-06:00", Days: work}, "2026-05-09 05:59", false},
		"in Sunday's night":      {rule.Params{Hours: "22:00-06:00", Days: work}, "2026-05-04 05:59", true},
		"until midnight":         {rule.Params{Hours: "09:00-24:00"}, "2026-05-04 23:59", false},
		"at midnight, after all": {rule.Params{Hours: "09:00-24:00"}, "2026-05-05 00:00", true},
	} {
		u := use{at: at(tc.at)}
		if tc.fire {
			u.want, u.says = rule.IDOffHours, []string{tc.p.Hours}
		}
		t.Run(name, func(t *testing.T) {
			play(t, newWatcher(t, mine(map[rule.ID]rule.Params{rule.IDOffHours: tc.p})), []use{u})
		})
	}
}

func TestTimeOutsideValidity(t *testing.T) {
	bounds := func(after, before time.Duration) rule.Times {
		return rule.Times{After: monday.Add(after), Before: monday.Add(before), Now: monday.Add(before)}
	}
	on := mine(map[rule.ID]rule.Params{rule.EntryOutsideCert: {}})
	for name, u := range map[string]use{
		"while it is valid":        {times: bounds(time.Minute, 2*time.Minute)},
		"perhaps while it is":      {times: bounds(-time.Hour, time.Hour)},
		"clocks are not quite one": {times: bounds(-3*time.Minute, -time.Minute)},
		"before":                   {times: bounds(-time.Hour, -5*time.Minute), want: rule.EntryOutsideCert},
		"after":                    {times: bounds(13*time.Minute, 14*time.Minute), want: rule.EntryOutsideCert, says: []string{"2026-05-04T12:13:00Z", "2026-05-04T12:10:00Z"}},
		"after, by the first look": {times: rule.Times{Before: monday.Add(time.Hour), Now: monday.Add(time.Hour)}},
		"after, in a backlog":      {times: rule.Times{Now: monday.Add(day)}},
	} {
		t.Run(name, func(t *testing.T) { play(t, newWatcher(t, on), []use{u}) })
	}
}

// TestTimeThatTheBoundsContradict: such a certificate does not say when it was used.
func TestTimeThatTheBoundsContradict(t *testing.T) {
	on := mine(map[rule.ID]rule.Params{rule.IDOffHours: {Hours: "09:00-18:00"}})
	future := rule.Times{After: monday, Before: monday.Add(time.Minute), Now: monday.Add(time.Minute)}
	night := monday.Add(11 * time.Hour)
	play(t, newWatcher(t, on), []use{
		{at: 10 * day, times: future}, // says another day's noon; it was logged at noon
		{at: 10*day + 11*time.Hour, times: future},
		{at: 10*day + 11*time.Hour, times: rule.Times{Now: monday}}, // and here nobody knows
		{at: -11 * time.Hour, times: rule.Times{After: night, Before: night.Add(time.Minute)}, want: rule.IDOffHours, says: []string{"23:01"}},
	})
}

// TestForgedEntriesTeachNothing: of a certificate by another CA nothing is usual.
func TestForgedEntriesTeachNothing(t *testing.T) {
	ca := newIssuer(t)
	s, err := rule.New(rule.Options{Identities: []rule.Identity{mine(map[rule.ID]rule.Params{rule.IDBurst: {Max: 2}})}, CAs: chainOf(ca)})
	if err != nil {
		t.Fatal(err)
	}
	w, m := &watcher{t, s, &rule.Book{}}, newMaker(t)
	for range 9 {
		for _, v := range w.judge(m.entry(use{ext: map[int]string{8: good}}), rule.Times{}) {
			if v.Rule != rule.IDUnknownCA || len(v.Reasons) != 1 {
				t.Errorf("verdict %+v", v)
			}
		}
	}
}
