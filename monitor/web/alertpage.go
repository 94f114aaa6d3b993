package web

import (
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"tallywood/monitor"
	"tallywood/monitor/rule"
)

// alertData is what the page of an alert shows.
type alertData struct {
	top
	ID                      string
	Rule                    string
	Anchor                  string
	Severity                rule.Severity
	Handled                 bool
	Headline                string
	Identity, IdentityLink  string
	Summary                 string
	Reasons                 []reason
	MineTitle, ForeignTitle string
	Mine, ForeignSteps      []string
	Authorize, Handle, Show string
	Facts                   []fact
	Certificates            []certificateData
	Evidence                []copied
}

// A reason is a rule that fired: what would have been expected beside what was seen.
type reason struct {
	Rule     string
	Anchor   string
	Field    string
	Expected []string
	Seen     string
	Foreign  string // characters in Seen that are not ASCII
	Text     string
}

func (p *Pages) alertData(e monitor.Event, handled bool) (*alertData, error) {
	g := guideOf(e.Rule)
	d := &alertData{top: p.top(g.headline, "../", time.Time{}), ID: e.ID, Rule: visible(string(e.Rule)), Anchor: anchor(e.Rule), Severity: e.Severity,
		Handled: handled, Headline: g.headline, Identity: visible(e.Identity), Summary: visible(e.Summary)}
	d.Alarm = e.Severity > rule.Info && !handled
	if e.Identity != "" {
		d.IdentityLink = "../identities/" + fileName(e.Identity)
	}
	for _, r := range e.Reasons {
		d.Reasons = append(d.Reasons, newReason(r))
	}
	d.MineTitle, d.ForeignTitle = titles(e.Rule)
	d.steps(e)
	d.Handle, d.Authorize = p.handleCommand(e), p.authorizeCommand(e)
	d.facts(e)
	if e.Index >= 0 && e.LogURL != "" {
		d.Show = fmt.Sprintf("tallywood show %s %d", shellQuote(visible(e.LogURL)), e.Index)
		if key := p.vkey(e.Origin); key != "" {
			d.Show += " --vkey " + key
		}
	}
	if e.Evidence == "" {
		return d, nil
	}
	var err error
	if d.Evidence, err = p.tree.copies("alerts/" + e.ID); err != nil {
		return nil, err
	}
	d.Certificates, err = p.certificates(e.ID)
	return d, err
}

func newReason(r rule.Reason) reason {
	out := reason{Rule: visible(string(r.Rule)), Anchor: anchor(r.Rule), Field: visible(r.Field), Seen: visible(r.Seen), Foreign: foreign(r.Seen), Text: visible(r.Text)}
	for _, e := range r.Expected {
		out.Expected = append(out.Expected, visible(e))
	}
	return out
}

// steps lists what to do: by the guide of the worst rule, and what those of the others add.
func (d *alertData) steps(e monitor.Event) {
	ids := []rule.ID{e.Rule}
	for _, r := range e.Reasons {
		ids = append(ids, r.Rule)
	}
	for _, id := range ids {
		g := guideOf(id)
		d.Mine, d.ForeignSteps = append(d.Mine, g.mine...), append(d.ForeignSteps, g.foreign...)
	}
	d.Mine, d.ForeignSteps = inOrder(d.Mine), inOrder(d.ForeignSteps)
}

// inOrder returns each step once, and those that several guides share after the others: they are
// what is done once it is known what happened.
func inOrder(steps []string) []string {
	var first, last []string
	for _, s := range steps {
		to := &first
		if slices.Contains(lastSteps, s) {
			to = &last
		}
		if !slices.Contains(*to, s) {
			*to = append(*to, s)
		}
	}
	slices.SortFunc(last, func(a, b string) int { return slices.Index(lastSteps, a) - slices.Index(lastSteps, b) })
	return append(first, last...)
}

// vkey returns the verifier key of a log; empty while it is not known.
func (p *Pages) vkey(origin string) string {
	for _, v := range p.views {
		if v.Origin == origin {
			return visible(v.VKey)
		}
	}
	return ""
}

// handleCommand is how it is said that an alert has been dealt with.
func (p *Pages) handleCommand(e monitor.Event) string {
	if p.o.Handled == "" || e.Severity == rule.Info {
		return ""
	}
	return fmt.Sprintf("echo %s >> %s", e.ID, shellQuote(p.o.Handled))
}

// authorizeCommand is how it is said that what an event is about was meant to be signed.
func (p *Pages) authorizeCommand(e monitor.Event) string {
	i := slices.IndexFunc(p.o.Identities, func(id Identity) bool { return id.Name == e.Identity })
	if i < 0 || p.o.Identities[i].Manifest == "" || !slices.ContainsFunc(e.Reasons, func(r rule.Reason) bool { return r.Rule == rule.IDUnauthorized }) {
		return ""
	}
	command := "tallywood monitor authorize --manifest " + shellQuote(p.o.Identities[i].Manifest) + " --key KEYFILE"
	switch {
	case e.Digest != "":
		return command + " --digests-only --digest " + shellQuote(visible(e.Digest))
	case e.RunURL != "":
		return command + " --run " + shellQuote(visible(e.RunURL))
	}
	return ""
}

// shellQuote returns text as one word of a shell command.
func shellQuote(text string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("/._-+:@=,", r)
	}
	if text != "" && strings.IndexFunc(text, func(r rune) bool { return !plain(r) }) < 0 {
		return text
	}
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
}

// facts lists what is known, what there is nothing of left out.
func (d *alertData) facts(e monitor.Event) {
	add := func(name, value, note string, code bool) {
		if value != "" {
			d.Facts = append(d.Facts, fact{Name: name, Value: value, Note: note, Code: code})
		}
	}
	add("Name that matched", visible(e.Subject), "", true)
	add("Issuer", visible(e.Issuer), "", true)
	if e.Origin != "" {
		d.Facts = append(d.Facts, fact{Name: "Log", Value: visible(e.Origin), Link: "../logs/" + fileName(e.Origin)})
	}
	if e.Index >= 0 {
		add("Entry", thousands(e.Index), fmt.Sprintf("of a tree of %s", thousands(e.Size)), false)
	} else if e.Size > 0 {
		add("Tree size", thousands(e.Size), "", false)
	}
	add("Logged", logged(e), "", false)
	add("Found", clock(e.Time), "", false)
	add("What was signed", visible(e.Digest), "", true)
	add("Certificate", visible(e.Certificate), "", true)
	add("Run", visible(e.RunURL), "as the certificate has it; copy it only if you know the forge", true)
	d.Facts = append(d.Facts, fact{Name: "Address of the log", Value: visible(e.LogURL), Link: link(e.LogURL)})
	add("Alert", e.ID, "", true)
}

// logged says when an entry was logged, as far as cosignatures tell.
func logged(e monitor.Event) string {
	switch {
	case e.LoggedBefore.IsZero():
		return ""
	case e.LoggedAfter.IsZero():
		return "before " + clock(e.LoggedBefore)
	}
	return "between " + clock(e.LoggedAfter) + " and " + clock(e.LoggedBefore)
}

// certificateData is a certificate as the page of an alert shows it.
type certificateData struct {
	Title string
	Facts []fact
}

// extensionNames are the names of Fulcio's extensions, by the last number of their OID.
var extensionNames = map[int]string{1: "Issuer (old form)", 2: "Trigger (old form)", 3: "Commit (old form)", 4: "Workflow name (old form)",
	5: "Repository (old form)", 6: "Branch or tag (old form)", 7: "Other name", 8: "Issuer", 9: "Build signer", 10: "Build signer's commit",
	11: "Runner", 12: "Source repository", 13: "Commit", 14: "Branch or tag", 15: "Repository number", 16: "Owner", 17: "Owner number",
	18: "Build configuration", 19: "Build configuration's commit", 20: "Trigger", 21: "Run", 22: "Visibility", 23: "Deployment environment",
	24: "Token subject"}

// laterForm is the extension that says what an old one says, and what it puts before it.
var laterForm = map[int]struct {
	n      int
	prefix string
}{1: {8, ""}, 2: {20, ""}, 3: {13, ""}, 5: {12, "https://github.com/"}, 6: {14, ""}}

var nameTypes = map[rule.NameType]string{rule.Email: "Mail address", rule.DNS: "DNS name", rule.URI: "URI", rule.IP: "IP address", rule.Other: "Other name"}

// certificates reads the certificates among the evidence of an alert.
func (p *Pages) certificates(id string) ([]certificateData, error) {
	data, err := os.ReadFile(filepath.Join(p.o.Dir, "alerts", id, "certificate.pem"))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading certificate: %w", err)
	}
	var out []certificateData
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		out = append(out, newCertificateData(block.Bytes))
	}
	if len(out) > 1 {
		for i := range out {
			out[i].Title = fmt.Sprintf("Certificate %d of %d", i+1, len(out))
		}
	}
	return out, nil
}

func newCertificateData(der []byte) certificateData {
	d := certificateData{Title: "Certificate"}
	c, err := rule.ParseCertificate(der)
	for _, n := range c.Names {
		d.Facts = append(d.Facts, fact{Name: nameTypes[n.Type], Value: visible(rule.Clip(n.Value)), Note: "subject alternative name"})
	}
	numbers := make([]int, 0, len(c.Extensions))
	for n := range c.Extensions {
		numbers = append(numbers, n)
	}
	slices.Sort(numbers)
	for _, n := range numbers {
		if now, ok := laterForm[n]; ok && c.Extensions[now.n] == now.prefix+c.Extensions[n] {
			continue // said below
		}
		name, ok := extensionNames[n]
		if !ok {
			name = "Extension"
		}
		d.Facts = append(d.Facts, fact{Name: name, Value: visible(rule.Clip(c.Extensions[n])), Note: fmt.Sprintf("1.%d", n)})
	}
	fingerprint, key := c.Fingerprint(), c.KeyHash()
	d.Facts = append(d.Facts, fact{Name: "SHA-256 of the certificate", Value: fmt.Sprintf("%x", fingerprint)}, fact{Name: "SHA-256 of its key", Value: fmt.Sprintf("%x", key)})
	if err != nil {
		d.Facts = append(d.Facts, fact{Name: "Not all of it could be read", Value: visible(rule.Clip(err.Error()))})
	}
	return d
}
