package demo

import (
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"time"
	"unicode"

	"tallywood/monitor"
)

// width is how many characters a line of the story has at most.
const width = 88

// A teller prints the story. What it is given to print may come from servers and files.
type teller struct {
	out io.Writer
	err error // the first of printing
}

func (t *teller) line(format string, args ...any) {
	text := strings.Map(func(r rune) rune {
		if r != '\n' && unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp) {
			return '?'
		}
		return r
	}, fmt.Sprintf(format, args...))
	if _, err := fmt.Fprintln(t.out, text); err != nil && t.err == nil {
		t.err = fmt.Errorf("telling the story: %w", err)
	}
}

// paragraph prints text, broken into lines, after a word in the margin.
func (t *teller) paragraph(margin, text string) {
	const indent = 15
	for _, line := range broken(text, width-indent) {
		t.line("  %-*s%s", indent-2, margin, line)
		margin = ""
	}
}

// The parts of a step: what somebody tried, what came of it, and what that is good for.
func (t *teller) tried(format string, args ...any) {
	t.paragraph("tried", fmt.Sprintf(format, args...))
}
func (t *teller) happened(format string, args ...any) {
	t.paragraph("happened", fmt.Sprintf(format, args...))
}
func (t *teller) refused(format string, args ...any) {
	t.paragraph("REFUSED", fmt.Sprintf(format, args...))
}
func (t *teller) meaning(format string, args ...any) {
	t.paragraph("that is", fmt.Sprintf(format, args...))
}
func (t *teller) why(format string, args ...any) { t.paragraph("so", fmt.Sprintf(format, args...)) }

func (t *teller) step(n, of int, title string) {
	head := fmt.Sprintf("Step %d of %d: %s", n, of, title)
	t.line("\n%s\n%s", head, strings.Repeat("-", len(head)))
}

func (t *teller) opening(dir string, keep bool) {
	files := dir + ", which is removed at the end."
	if keep {
		files = dir + "."
	}
	t.line("What is a transparency log for? Five things that can happen to a signed program, tried out.\n")
	for _, text := range []string{
		"Programs are signed so that you can tell who made them. But logins get stolen, and whoever keeps the records may lie. A transparency log makes both show.",
		"All of this is real: a log, its witnesses, a monitor, signatures. It runs on this machine alone, with its files in " + files,
	} {
		for _, line := range broken(text, width) {
			t.line("%s", line)
		}
	}
	t.line("")
	t.paragraph("Alice", "writes a program, and signs it with her login, "+alice+".")
	t.paragraph("the log", "is a public list of signatures, numbered from 0. Lines are added, and never changed.")
	t.paragraph("witnesses", "are three outsiders; in real life other people run each. They countersign the log's summary (how many lines, and a fingerprint of them all), but only if it grew out of the last one they saw. A signature counts when two of them have done so.")
	t.paragraph("the monitor", "reads the whole log for Alice, and tells her when something is wrong.")
	t.paragraph("Mallory", "is up to no good. In steps 2 to 4 those who run the log help her.")
}

// alert prints an alert as Alice gets it.
func (t *teller) alert(e monitor.Event, page string, after time.Duration) {
	t.paragraph("ALERT", fmt.Sprintf("%.1f seconds later Alice has this from her monitor:", after.Seconds()))
	show := func(name, text string) {
		if text != "" {
			t.line("               | %-9s %s", name, text)
		}
	}
	t.line("               | %s: %s", strings.ToUpper(e.Severity.String()), e.Rule)
	for _, line := range broken(e.Summary, width-19) {
		t.line("               | %s", line)
	}
	for _, r := range e.Reasons {
		if len(r.Expected) > 0 {
			show("expected", strings.Join(r.Expected, ", "))
			show("seen", r.Seen)
		}
	}
	if e.Index != monitor.NoIndex {
		show("entry", fmt.Sprintf("%d of %s", e.Index, e.Origin))
	}
	show("signed", e.Digest)
	show("page", page)
	show("evidence", e.Evidence)
}

// broken breaks text into lines; a word that is longer than one is not broken.
func broken(text string, most int) []string {
	var lines []string
	line := ""
	for _, word := range strings.Fields(text) {
		if line != "" && len([]rune(line))+1+len([]rune(word)) > most {
			lines, line = append(lines, line), ""
		}
		line = strings.TrimPrefix(line+" "+word, " ")
	}
	return append(lines, line)
}

func (t *teller) closing(took time.Duration, s *stage, keep bool) {
	t.line("\nAll of it was caught, in %.0f seconds.", took.Seconds())
	if keep {
		t.line("\nThe files are in %s. The pages of all alerts, for a browser:\n  %s\nThe last alert's evidence, shown and verified again:\n  tallywood show --evidence %s \\\n    --trust %s",
			s.dir, filepath.Join(s.dir, "pages", "index.html"), s.last.Evidence, s.client)
		return
	}
	t.line("\nTo go on: \"tallywood up\" starts such a stack to play with; \"tallywood monitor --help\" says\nhow to watch a log for your own name. With --keep the demo leaves its files and evidence.")
}
