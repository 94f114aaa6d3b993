package scenario_test

import (
	"crypto/sha256"
	"fmt"
	"strings"
	"time"

	"tallywood/internal/mint"
)

// peer is a tale of another monitor that shows, of a log of five entries that ours has read, what is not
// nil. Later the log has grown by a hit.
func peer(name string, want []string, shows func(*stage) []byte) tale {
	return tale{"another monitor shows " + name, "peers: [\"EXTRA\"]\n" + watchAlice, append(want, hit), []string{hit}, func(s *stage) {
		s.grow(5)
		s.check()
		time.Sleep(2 * time.Minute)
		if note := shows(s); note != nil {
			if err := s.extra.files.Put(fmt.Sprintf("checkpoints/%x", sha256.Sum256([]byte(origin))), note); err != nil {
				s.t.Fatal(err)
			}
		}
		s.check()
		time.Sleep(2 * time.Minute)
		s.sign(person(alice, evil))
		s.look()
		time.Sleep(2 * time.Minute)
		s.look()
	}}
}

const split = "- critical log.split-view"

var peerTales = []tale{
	peer("nothing", nil, func(s *stage) []byte { return nil }),
	peer("the same", nil, func(s *stage) []byte { return s.logSite.files.Get("checkpoint") }),
	peer("an older one", nil, func(s *stage) []byte { return s.fork(3, 0).Get("checkpoint") }),
	peer("another tree of the size", []string{split}, func(s *stage) []byte { return s.fork(4, 1).Get("checkpoint") }),
	peer("a smaller other tree", []string{split}, func(s *stage) []byte { return s.fork(2, 2).Get("checkpoint") }),
	peer("a larger other tree, which the log comes to", []string{split}, func(s *stage) []byte { return s.fork(5, 1).Get("checkpoint") }),
	peer("a larger other tree, which the log does not come to", nil, func(s *stage) []byte { return s.fork(5, 40).Get("checkpoint") }),
	peer("another tree that the log has not signed", nil, func(s *stage) []byte { return s.strangers(9) }),
	peer("something else", nil, func(s *stage) []byte { return []byte("<html>") }),
	peer("another tree, which no witness cosigned", []string{split}, func(s *stage) []byte {
		var files mint.Memory
		l := must(s.world.Log(origin, mint.Rekor, &files))(s.t)
		for i := range 5 {
			if err := l.Append(fmt.Appendf(nil, "entry %d", i)); err != nil {
				s.t.Fatal(err)
			}
		}
		return must(l.Sign(l.Checkpoint(), time.Now()))(s.t)
	}),
	peer("a tree too large for any", nil, func(s *stage) []byte {
		text := strings.Replace(s.log.Checkpoint(), "\n5\n", fmt.Sprintf("\n%d\n", int64(1)<<62), 1)
		return must(s.log.Sign(text, time.Now(), s.world.Witnesses()...))(s.t)
	}),
	peer("the largest tree", nil, func(s *stage) []byte {
		text := strings.Replace(s.log.Checkpoint(), "\n5\n", fmt.Sprintf("\n%d\n", int64(1)<<62-1), 1)
		return must(s.log.Sign(text, time.Now(), s.world.Witnesses()...))(s.t)
	}),
}
