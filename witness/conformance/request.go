package conformance

import (
	"strconv"
	"strings"
)

// A request is an add-checkpoint request in its parts, for a case to spoil one of them.
type request struct {
	first  string   // the old size line, or the range line
	second []string // the subtree hash line, of sign-subtree
	proof  []string // lines
	gap    string   // what is between them and the note
	origin string
	size   string
	root   string
	extra  []string            // further lines of the text
	text   string              // instead of the four fields above, if it is not empty
	by     []signer            // who signs the text
	lines  []string            // signature lines, instead of what they sign, if not nil
	gap2   string              // between text and signature lines
	mangle func(string) string // changes the whole body at last
}

// newRequest returns an honest request of l from old to size.
func newRequest(l *testLog, old, size int64) *request {
	return &request{
		first: oldLine(old), proof: encode(l.tree.proof(old, size)), gap: "\n",
		origin: l.Origin, size: strconv.FormatInt(size, 10), root: l.tree.root(0, size).String(),
		by: l.signers[:1], gap2: "\n",
	}
}

func oldLine(size int64) string { return "old " + strconv.FormatInt(size, 10) }

// note returns the text of the checkpoint.
func (r *request) note() string {
	if r.text != "" {
		return r.text
	}
	return strings.Join(append([]string{r.origin, r.size, r.root}, r.extra...), "\n") + "\n"
}

// signed sets the signature lines to what the log signs, so that a case can change or add some.
func (r *request) signed() []string {
	if r.lines == nil {
		r.lines = []string{}
		for _, s := range r.by {
			r.lines = append(r.lines, s.line(r.note()))
		}
	}
	return r.lines
}

// body returns the request as it is sent.
func (r *request) body() string {
	var b strings.Builder
	b.WriteString(r.first + "\n")
	for _, line := range append(append([]string{}, r.second...), r.proof...) {
		b.WriteString(line + "\n")
	}
	b.WriteString(r.gap + r.note() + r.gap2)
	for _, line := range r.signed() {
		b.WriteString(line + "\n")
	}
	if r.mangle != nil {
		return r.mangle(b.String())
	}
	return b.String()
}
