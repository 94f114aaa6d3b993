package rule

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The defaults of id.fan-out.
const (
	fanOutWindow = 10 * time.Minute
	fanOutMax    = 5
)

const (
	maxGroups       = 64  // of an identity; the one whose newest entry is the oldest is forgotten first
	maxRepositories = 100 // is the most that max may be
)

// A group is what id.fan-out keeps of one owner, runner or commit: the repositories that it signed
// for within the window, one more at most than are usual, those it signed for longest ago forgotten
// first.
type group struct {
	Key          uint64 `json:"key"`
	Repositories recall `json:"repositories"` // when it last signed for each
	Raised       bool   `json:"raised,omitempty"`
}

// A common is something that a worm has in common wherever it is: who owns what it got into, where
// it runs, the commit it was made of.
type common struct{ what, value string }

// commons returns what is known of a certificate. Hosted runners are everybody's.
func commons(c *Certificate) []common {
	var out []common
	for _, x := range []common{
		{"owner", cmp.Or(c.Extensions[17], c.Extensions[16])},
		{"runner", c.Extensions[11]},
		{"commit", cmp.Or(c.Extensions[13], c.Extensions[3])},
	} {
		if x.value != "" && !(x.what == "runner" && strings.HasSuffix(x.value, "-hosted") && x.value != "self-hosted") {
			out = append(out, x)
		}
	}
	return out
}

// newFanOut returns id.fan-out: an owner, a runner or a commit signed for more than so many
// repositories within the window. It is raised once, until the repositories within the window are no
// more than half of those that are usual.
func newFanOut(p Params) (func(*judging), error) {
	window, most := p.Window, p.Max
	if window == 0 {
		window = fanOutWindow
	}
	if most == 0 {
		most = fanOutMax
	}
	if window < time.Second || most > maxRepositories {
		return nil, fmt.Errorf("window %s, max %d: the window must be of a second at least, max of %d at most", window, most, maxRepositories)
	}
	return func(j *judging) {
		c := j.signer.Certificate
		if c == nil || !j.exact {
			return
		}
		repository := strings.ToLower(repositoryOf(c))
		if repository == "" {
			return
		}
		raised := false
		var over []common
		for _, x := range commons(c) {
			g := j.memory.group(keyOf(x.what, x.value), unix(j.time), window)
			n := g.note(keyOf(repository), unix(j.time), window, most)
			switch {
			case n > most:
				raised = raised || g.Raised
				over, g.Raised = append(over, x), true
			case n <= max(1, most/2):
				g.Raised = false
			default:
				raised = raised || g.Raised
			}
		}
		if len(over) == 0 || raised {
			return
		}
		x := over[0]
		j.add(Reason{Rule: IDFanOut, Field: "repositories", Expected: []string{fmt.Sprintf("at most %d within %s", most, window)},
			Seen: fmt.Sprint(most + 1), Text: fmt.Sprintf("%s %s signed for more than %d repositories within %s, now for %s",
				x.what, quoted(x.value), most, window, quoted(repositoryOf(c)))})
	}, nil
}

// group returns the group of a key, after forgetting those of which the window is over.
func (m *memory) group(key uint64, now int64, window time.Duration) *group {
	m.FanOut = slices.DeleteFunc(m.FanOut, func(g group) bool { return g.Key != key && g.newest() <= now-int64(window/time.Second) })
	for i := range m.FanOut {
		if m.FanOut[i].Key == key {
			return &m.FanOut[i]
		}
	}
	if len(m.FanOut) == maxGroups {
		oldest := 0
		for i := range m.FanOut {
			if m.FanOut[i].newest() < m.FanOut[oldest].newest() {
				oldest = i
			}
		}
		m.FanOut = slices.Delete(m.FanOut, oldest, oldest+1)
	}
	m.FanOut = append(m.FanOut, group{Key: key})
	return &m.FanOut[len(m.FanOut)-1]
}

// newest returns when the group signed last.
func (g *group) newest() int64 {
	newest := int64(0)
	for _, x := range g.Repositories {
		newest = max(newest, timeOf(x.value))
	}
	return newest
}

// note notes that the group signed for a repository, and returns for how many it did within the
// window that ends with the newest.
func (g *group) note(repository uint64, now int64, window time.Duration, most int) int {
	if was, ok := g.Repositories.get(repository); ok {
		now = max(now, timeOf(was))
	}
	g.Repositories.put(repository, strconv.FormatInt(now, 36), most+1)
	newest := g.newest()
	g.Repositories = slices.DeleteFunc(g.Repositories, func(x record) bool { return timeOf(x.value) <= newest-int64(window/time.Second) })
	return len(g.Repositories)
}

// timeOf reads a time that a recall holds, 0 if there is none.
func timeOf(value string) int64 {
	t, err := strconv.ParseInt(value, 36, 64)
	if err != nil {
		return 0
	}
	return t
}

// repositoryOf returns the repository that a certificate is of, as it says, empty for none.
func repositoryOf(c *Certificate) string { return cmp.Or(c.Extensions[12], c.Extensions[5]) }

// quoted is text of a log entry in a sentence: clipped and safe to print.
func quoted(text string) string { return strconv.Quote(Clip(text)) }
