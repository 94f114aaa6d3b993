package scenario_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"time"

	"tallywood/internal/mint"
	"tallywood/monitor/rule"
)

// asked is a configuration in which a witness is asked what it cosigned last.
const asked = nobody + "rules: {witness.conflict: {}}\n"

var witnessScenarios = []scenario{
	{rule: rule.WitnessMissing, settings: nobody + "rules: {witness.missing: {after: 1h}}\n",
		trigger: seen(5, func(s *stage) { s.without(2, 80*time.Minute) }),
		near: seen(5, func(s *stage) {
			s.without(2, 50*time.Minute)
			s.after(20 * time.Minute)
			s.without(1, 50*time.Minute)
		})},
	{rule: rule.WitnessMissing, what: "of those that are named", settings: nobody + "rules: {witness.missing: {after: 1h, witnesses: [witness-3.example.org]}}\n",
		trigger: seen(5, func(s *stage) { s.without(2, 80*time.Minute) }),
		near:    seen(5, func(s *stage) { s.without(1, 80*time.Minute) })},
	{rule: rule.WitnessClockSkew, settings: nobody + "rules: {witness.clock-skew: {window: 10m}}\n",
		trigger: seen(5, func(s *stage) { s.off(12 * time.Minute) }),
		near:    seen(5, func(s *stage) { s.off(8 * time.Minute) })},
	{rule: rule.WitnessConflict, settings: asked,
		trigger: seen(5, func(s *stage) { s.witnessShows(s.strangers(9)) }),
		near: seen(5, func(s *stage) {
			s.grow(1)
			s.witnessShows(s.logSite.files.Get("checkpoint"))
		})},
	{rule: rule.LogSplitView, what: "that a witness shows", settings: asked, beside: []rule.ID{rule.WitnessConflict},
		trigger: seen(5, func(s *stage) { s.witnessShows(s.fork(3, 2).Get("checkpoint")) }),
		near:    seen(5, func(s *stage) { s.witnessShows(s.fork(5, 0).Get("checkpoint")) })},
}

// without has the witness of a number, from 0, not cosign for a while.
func (s *stage) without(n int, d time.Duration) {
	s.t.Helper()
	by := slices.Delete(slices.Clone(s.world.Witnesses()), n, n+1)
	for range d / (10 * time.Minute) {
		time.Sleep(10 * time.Minute)
		s.publish()
		s.resign(func(l *mint.Log, text string) ([]byte, error) { return l.Sign(text, time.Now(), by...) })
		s.check()
	}
}

// off has the clock of a witness be wrong by so much.
func (s *stage) off(by time.Duration) {
	s.t.Helper()
	s.grow(1)
	s.resign(func(l *mint.Log, text string) ([]byte, error) {
		wrong, err := l.Sign(text, time.Now().Add(by), s.world.Witnesses()[2])
		if err != nil {
			return nil, err
		}
		signed, err := l.Sign(text, time.Now(), s.world.Witnesses()[:2]...)
		return append(signed, wrong[bytes.LastIndex(wrong, []byte("— ")):]...), err
	})
}

// witnessShows has the first witness show a note as the newest that it cosigned.
func (s *stage) witnessShows(note []byte) {
	s.t.Helper()
	s.onLog = fmt.Sprintf(", witnesses: [{name: %s, url: %q}]", s.world.Witnesses()[0].Name, s.extra.url)
	if err := s.extra.files.Put(fmt.Sprintf("%x/checkpoint", sha256.Sum256([]byte(origin))), note); err != nil {
		s.t.Fatal(err)
	}
}

// strangers is a checkpoint of another tree that the witnesses cosigned, and the log did not sign.
func (s *stage) strangers(seed uint64) []byte {
	s.t.Helper()
	var files mint.Memory
	other := must(must(mint.New(seed))(s.t).Log(origin, mint.Rekor, &files))(s.t)
	for i := range 5 {
		if err := other.Append(fmt.Appendf(nil, "entry %d", i)); err != nil {
			s.t.Fatal(err)
		}
	}
	return must(other.Sign(other.Checkpoint(), time.Now(), s.world.Witnesses()...))(s.t)
}

// A below keeps files below a path of others.
type below struct {
	files mint.Files
	path  string
}

func (b below) Put(path string, data []byte) error { return b.files.Put(b.path+"/"+path, data) }

// shardName is the origin of a log of the trusted root.
func shardName(n int) string { return strings.Repeat("x", n+1) + ".example.org" }
