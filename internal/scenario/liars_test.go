package scenario_test

import (
	"bytes"
	"net/http"
	"strings"
	"time"

	"tallywood/internal/mint"
)

// lying is a tale of a log that grows by a hit, shows it in a way that is not right, and is looked at.
// Then it shows it as it is.
func lying(name, told string, lie func(*stage)) tale {
	want := []string{hit}
	if told != "" {
		want = []string{"- " + told, hit}
	}
	return tale{name, watchAlice, want, []string{hit}, func(s *stage) {
		s.grow(5)
		s.check()
		time.Sleep(time.Minute)
		s.sign(person(alice, evil))
		s.publish()
		honest := s.logSite.files.Copy()
		lie(s)
		s.check()
		s.check()
		s.logSite.intercept(nil)
		s.logSite.files.Become(honest)
		s.check()
	}}
}

// spoiled has the newest bundle be another one.
func spoiled(change func([]byte) []byte) func(*stage) {
	return func(s *stage) {
		const path = "tile/entries/000.p/6"
		s.put(path, change(s.logSite.files.Get(path)))
	}
}

// signed has the text of the newest checkpoint be signed otherwise.
func signed(change func(text string) string, by ...int) func(*stage) {
	return func(s *stage) {
		var witnesses []mint.Witness
		for _, n := range by {
			witnesses = append(witnesses, s.world.Witnesses()[n])
		}
		s.resign(func(l *mint.Log, text string) ([]byte, error) { return l.Sign(change(text), time.Now(), witnesses...) })
	}
}

func asItIs(text string) string { return text }

// sized has it be of another size.
func sized(size string) func(string) string {
	return func(text string) string { return strings.Replace(text, "\n6\n", "\n"+size+"\n", 1) }
}

const (
	mismatch = "critical log.bundle-mismatch"
	unsigned = "critical log.bad-signature"
	unquorum = "critical witness.quorum-lost"
)

var lyingTales = []tale{
	lying("a fork, and back", "critical log.split-view", func(s *stage) { s.logSite.files.Become(s.fork(3, 4)) }),
	lying("a bundle cut off", mismatch, spoiled(func(b []byte) []byte { return b[:len(b)-7] })),
	lying("a bundle with more than it says", mismatch, spoiled(func(b []byte) []byte { return append(b, 0, 1, 'x') })),
	lying("a bit of a bundle", mismatch, spoiled(func(b []byte) []byte { b[len(b)-40] ^= 1; return b })),
	lying("an empty bundle", mismatch, spoiled(func([]byte) []byte { return nil })),
	lying("an empty checkpoint", unsigned, func(s *stage) { s.put("checkpoint", nil) }),
	lying("the checkpoint of another log", unsigned, func(s *stage) { s.put("checkpoint", s.ctSite.files.Get("checkpoint")) }),
	lying("a login page", unsigned, func(s *stage) {
		s.logSite.intercept(func(w http.ResponseWriter, r *http.Request) bool {
			w.Write([]byte("<html>log in</html>"))
			return true
		})
	}),
	lying("another origin under its key", unsigned, signed(func(text string) string { return "x" + text }, 0, 1, 2)),
	lying("a size with a zero in front", unsigned, signed(sized("06"), 0, 1, 2)),
	lying("a size above all", unsigned, signed(sized("9223372036854775808"), 0, 1, 2)),
	lying("a line of an extension", "", signed(func(text string) string { return text + "more\n" }, 0, 1, 2)),
	lying("one witness", unquorum, signed(asItIs, 0)),
	lying("one witness thrice", unquorum, signed(asItIs, 0, 0, 0)),
	lying("two of three witnesses", "", signed(asItIs, 2, 0)),
	lying("the cosignature of a checkpoint before", unsigned, func(s *stage) {
		s.resign(func(l *mint.Log, text string) ([]byte, error) {
			before, err := l.Sign(sized("5")(text), time.Now(), s.world.Witnesses()[1])
			if err != nil {
				return nil, err
			}
			now, err := l.Sign(text, time.Now(), s.world.Witnesses()[0])
			return append(now, before[bytes.LastIndex(before, []byte("— ")):]...), err
		})
	}),
	{"smaller, three times", watchAlice, []string{"- critical log.rollback", hit}, []string{hit}, func(s *stage) {
		s.grow(3)
		before := s.logSite.files.Copy()
		time.Sleep(time.Minute)
		s.grow(4)
		s.check()
		after := s.logSite.files.Copy()
		for range 3 {
			s.logSite.files.Become(before)
			time.Sleep(time.Minute)
			s.check()
		}
		s.logSite.files.Become(after)
		s.sign(person(alice, evil))
		s.look()
	}},
	{"empty again", watchAlice, []string{"- critical log.rollback"}, nil, func(s *stage) {
		empty := s.logSite.files.Copy()
		time.Sleep(time.Minute)
		s.grow(3)
		s.check()
		time.Sleep(time.Minute)
		s.logSite.files.Become(empty)
		s.check()
	}},
	both("stale, and ever more", watchAlice, []string{"- critical log.stale", "- warning log.stale"}, func(s *stage) {
		s.grow(3)
		s.check()
		time.Sleep(16 * time.Minute)
		s.check()
		time.Sleep(50 * time.Minute)
		s.check()
		s.check()
	}),
	both("away for an hour", watchAlice, []string{"- warning log.unreachable", hit}, func(s *stage) {
		s.grow(5)
		s.check()
		time.Sleep(time.Minute)
		s.sign(person(alice, evil))
		s.publish()
		s.refuse(true)
		for range 5 {
			s.check()
			time.Sleep(12 * time.Minute)
		}
		s.refuse(false)
		s.look()
	}),
	both("the partial bundle gone, the full one there", watchAlice, []string{hit, hit}, func(s *stage) {
		s.grow(254)
		s.sign(person(alice, evil))
		s.publish()
		notes := [][]byte{s.logSite.files.Get("checkpoint"), s.ctSite.files.Get("checkpoint")}
		s.sign(person(alice, evil))
		s.publish()
		for i, site := range []*site{s.logSite, s.ctSite} {
			if err := site.files.Put("checkpoint", notes[i]); err != nil {
				s.t.Fatal(err)
			}
			for _, path := range site.files.Paths() {
				if strings.Contains(path, "000.p/") && !strings.HasPrefix(path, "tile/1/") {
					site.files.Delete(path)
				}
			}
		}
		s.check()
		time.Sleep(time.Minute)
		s.look()
	}),
}
