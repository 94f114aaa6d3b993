package scenario_test

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"tallywood/internal/mint"
	"tallywood/monitor"
)

// A table is a configuration, and entries of one log with what is to be told of each under it.
type table struct {
	name     string
	settings string
	rows     []row
}

// A row is an entry. What is to be told of it is a line for each event, as [line] has it, in order;
// nothing else is, nor information.
type row struct {
	what  string
	entry mint.Entry
	want  []string
}

func judged(what string, e mint.Entry, want ...string) row { return row{what, e, want} }

var tables = slices.Concat(nameTables, extensionTables, expectTables, entryTables, likenessTables)

// TestEntriesAreJudgedOneByOne logs the entries of each table in both logs, and has each be told of as
// its row says, in both, and of nothing else.
func TestEntriesAreJudgedOneByOne(t *testing.T) {
	for _, tb := range tables {
		t.Run(tb.name, func(t *testing.T) {
			t.Parallel()
			s := play(t, tb.settings, func(s *stage) {
				s.replace("TOOLID", mint.RepositoryID("example/tool"))
				s.replace("OWNERID", mint.OwnerID("example/tool"))
				s.replace("WATCHED", must(s.world.KeyHash(p256, "watched"))(s.t))
				for _, r := range tb.rows {
					s.sign(r.entry)
				}
				s.look()
				s.look()
			})
			for _, log := range []string{origin, ctOrigin} {
				s.compare(t, log, tb.rows)
			}
		})
	}
}

// compare reports where what was told of a log's entries differs from what rows say. An entry that
// holds a key alone has a certificate in the certificate log all the same, which is not looked at.
func (s *stage) compare(t *testing.T, log string, rows []row) {
	t.Helper()
	got := map[int64][]string{}
	for _, e := range s.told {
		if e.Origin == log {
			got[e.Index] = append(got[e.Index], line(e))
		}
	}
	for i, r := range rows {
		told := got[int64(i)]
		delete(got, int64(i))
		slices.Sort(told)
		if !slices.Equal(told, r.want) && !(r.entry.Bare && log == ctOrigin) {
			t.Errorf("%s, entry %d (%s): told was %q, want %q", log, i, r.what, told, r.want)
		}
	}
	for _, index := range slices.Sorted(maps.Keys(got)) {
		t.Errorf("%s, entry %d: told besides was %q", log, index, got[index])
	}
}

// line returns an event as "identity severity rule rule…", the rules in order of their names; "-" is
// no identity.
func line(e monitor.Event) string {
	rules := []string{string(e.Rule)}
	for _, r := range e.Reasons {
		rules = append(rules, string(r.Rule))
	}
	slices.Sort(rules)
	return fmt.Sprint(cmp.Or(e.Identity, "-"), " ", e.Severity, " ", strings.Join(slices.Compact(rules), " "))
}

// A tale is a story under a configuration, and all that is to be told of it, log by log: lines in order.
type tale struct {
	name     string
	settings string
	inLog    []string // the signature log
	inCT     []string // the certificate log
	story    func(*stage)
}

// both is a tale of which the same is told in both logs.
func both(name, settings string, want []string, story func(*stage)) tale {
	return tale{name, settings, want, want, story}
}

var tales = slices.Concat(windowTales, hourTales, habitTales, releaseTales, crossTales, placeTales, lyingTales, peerTales)

// TestTalesAreToldOfWholly plays each tale.
func TestTalesAreToldOfWholly(t *testing.T) {
	for _, ta := range tales {
		t.Run(ta.name, func(t *testing.T) {
			t.Parallel()
			s := play(t, ta.settings, ta.story)
			for log, want := range map[string][]string{origin: ta.inLog, ctOrigin: ta.inCT} {
				var got []string
				for _, e := range s.told {
					if e.Origin == log {
						got = append(got, line(e))
					}
				}
				slices.Sort(got)
				if !slices.Equal(got, want) {
					t.Errorf("%s: told was %q, want %q%s", log, got, want, summary(s.told))
				}
			}
		})
	}
}

// says returns e with other values of Fulcio's extensions; an empty one leaves it out.
func says(e mint.Entry, values map[int]string) mint.Entry {
	all := map[int]string{}
	maps.Copy(all, e.Extensions)
	for n, v := range values {
		if all[n] = v; v == "" {
			delete(all, n)
		}
	}
	e.Extensions = all
	return e
}

// vouched returns e with another issuer, in both extensions.
func vouched(e mint.Entry, issuer string) mint.Entry {
	return says(e, map[int]string{1: issuer, 8: issuer})
}

// called is a certificate for one name of a kind, which an issuer of nobody's vouched for.
func called(kind mint.NameKind, value string) mint.Entry {
	return vouched(entryOf(mint.Certificate{Names: []mint.Name{{Kind: kind, Value: value}}}), evil)
}
