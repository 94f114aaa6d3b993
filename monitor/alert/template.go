package alert

import (
	"bytes"
	"embed"
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"text/template"
	"text/template/parse"
	"time"

	"tallywood/monitor"
	"tallywood/monitor/rule"
)

// maxTemplate bounds a template's file, and maxBody what it makes, in bytes.
const (
	maxTemplate = 64 << 10
	maxBody     = 256 << 10
)

//go:embed templates/*.json
var builtIn embed.FS

// Templates returns the names of the templates of WebhookOptions.Template, in order: chat services
// whose incoming webhooks take the JSON they make.
func Templates() []string {
	return slices.Sorted(maps.Keys(templateFiles))
}

// templateFiles has the file of each; services that take the same form share one.
var templateFiles = map[string]string{
	"discord":    "templates/discord.json",
	"matrix":     "templates/matrix.json",
	"mattermost": "templates/mattermost.json",
	"rocketchat": "templates/mattermost.json",
	"slack":      "templates/slack.json",
	"teams":      "templates/teams.json",
}

// A message is what templates see: the event, and what they would have to make of it.
type message struct {
	monitor.Event
	Title  string   // in a few words, safe
	Facts  []Fact   // name and value
	Listed []string // of a group, one line each
	More   int      // of a group, beside those
}

func newMessage(e monitor.Event) message {
	m := message{Event: e, Title: title(e), Facts: facts(e)}
	m.Listed, m.More = listed(e)
	return m
}

// functions of templates. What an action prints is a piece of a JSON string, made so by escape,
// unless its last function is json.
var functions = template.FuncMap{
	"json":     func(v any) (string, error) { b, err := json.Marshal(v); return string(b), err },
	"clip":     clip,
	"slack":    slackText,
	"markdown": markdown,
	"color":    color,
	"url":      plainURL,
	"head":     func(n int, all []Fact) []Fact { return all[:min(n, len(all))] },
	"rfc3339":  func(t time.Time) string { return t.UTC().Format(time.RFC3339) },
	escapeName: escape,
}

const escapeName = "_escape"

// openTemplate returns the template of that name or file, nil for neither.
func openTemplate(name, file string) (*template.Template, error) {
	switch {
	case name == "" && file == "":
		return nil, nil
	case name != "" && file != "":
		return nil, errors.New("both a template and a file with one")
	case file == "":
		path, ok := templateFiles[name]
		if !ok {
			return nil, fmt.Errorf("template %q is none of %s", name, strings.Join(Templates(), ", "))
		}
		text, err := builtIn.ReadFile(path)
		if err != nil {
			return nil, err
		}
		return parseTemplate(name, string(text))
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("reading template: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxTemplate+1))
	if err != nil {
		return nil, fmt.Errorf("reading template: %w", err)
	}
	if len(text) > maxTemplate {
		return nil, fmt.Errorf("template %s is larger than %d bytes", file, maxTemplate)
	}
	return parseTemplate(file, string(text))
}

// parseTemplate makes every action escape what it prints, and tries the template on events of
// several kinds.
func parseTemplate(name, text string) (*template.Template, error) {
	t, err := template.New(name).Option("missingkey=error").Funcs(functions).Parse(text)
	if err != nil {
		return nil, fmt.Errorf("parsing template: %w", err)
	}
	for _, part := range t.Templates() {
		if part.Tree != nil {
			escapeList(part.Tree.Root)
		}
	}
	for _, e := range samples() {
		if _, err := render(t, e); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// render returns the body for an event: one JSON value.
func render(t *template.Template, e monitor.Event) ([]byte, error) {
	if t == nil {
		return encode(e)
	}
	b := &bounded{most: maxBody}
	if err := t.Execute(b, newMessage(e)); err != nil {
		return nil, fmt.Errorf("rendering template: %w", err)
	}
	if !json.Valid(b.Bytes()) {
		return nil, fmt.Errorf("template %s does not make JSON: write values inside quotes, as in \"{{.Summary}}\", or without as {{json .Index}}", t.Name())
	}
	return b.Bytes(), nil
}

// A bounded buffer refuses more than its most bytes.
type bounded struct {
	bytes.Buffer
	most int
}

// Write implements io.Writer.
func (b *bounded) Write(p []byte) (int, error) {
	if b.Len()+len(p) > b.most {
		return 0, fmt.Errorf("more than %d bytes", b.most)
	}
	return b.Buffer.Write(p)
}

// escapeList has every action in l escape what it prints.
func escapeList(l *parse.ListNode) {
	if l == nil {
		return
	}
	for _, node := range l.Nodes {
		switch n := node.(type) {
		case *parse.ActionNode:
			escapeAction(n)
		case *parse.IfNode:
			escapeList(n.List)
			escapeList(n.ElseList)
		case *parse.RangeNode:
			escapeList(n.List)
			escapeList(n.ElseList)
		case *parse.WithNode:
			escapeList(n.List)
			escapeList(n.ElseList)
		}
	}
}

func escapeAction(n *parse.ActionNode) {
	if len(n.Pipe.Decl) > 0 { // {{$x := …}} prints nothing
		return
	}
	last := n.Pipe.Cmds[len(n.Pipe.Cmds)-1]
	if id, ok := last.Args[0].(*parse.IdentifierNode); ok && id.Ident == "json" {
		return
	}
	escaper := parse.NewIdentifier(escapeName).SetTree(nil).SetPos(n.Pos)
	n.Pipe.Cmds = append(n.Pipe.Cmds, &parse.CommandNode{NodeType: parse.NodeCommand, Pos: n.Pos, Args: []parse.Node{escaper}})
}

// escape returns v as a piece of a JSON string.
func escape(v any) (string, error) {
	text := fmt.Sprint(v)
	if m, ok := v.(encoding.TextMarshaler); ok {
		b, err := m.MarshalText()
		if err != nil {
			return "", err
		}
		text = string(b)
	}
	b, err := json.Marshal(text)
	if err != nil {
		return "", err
	}
	return string(b[1 : len(b)-1]), nil
}

// slackText escapes what Slack gives a meaning in text.
//
//	> & < > (https://docs.slack.dev, formatting message text: three characters to escape)
func slackText(s string) string {
	return strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;").Replace(oneLine(s))
}

// markdown returns s so that it reads the same as Markdown, and calls nobody: a space of no width
// parts an @ from the name after it.
func markdown(s string) string {
	var b strings.Builder
	for _, r := range oneLine(s) {
		switch {
		case strings.ContainsRune("\\`*_[]()<>#|~&", r):
			b.WriteRune('\\')
			b.WriteRune(r)
		case r == '@':
			b.WriteString("@\u200b")
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

// plainURL returns a URL in which nothing can end a link, in any form of message.
func plainURL(u string) string {
	var b strings.Builder
	for _, c := range []byte(u) {
		if c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || strings.IndexByte(":/?#[]@!$&+,;=-._~%", c) >= 0 {
			b.WriteByte(c)
			continue
		}
		fmt.Fprintf(&b, "%%%02X", c)
	}
	return b.String()
}

// color returns red, orange or blue as a number 0xRRGGBB.
func color(s rule.Severity) int {
	switch s {
	case rule.Critical:
		return 0xc62828
	case rule.Warning:
		return 0xef6c00
	}
	return 0x1565c0
}

// samples are events with everything that a template may stumble over.
func samples() []monitor.Event {
	const odd = "\"'\\{}[]<>&\n\x00\xff,:@everyone"
	at := time.Unix(1, 0)
	full := monitor.Event{ID: strings.Repeat("0", 32), Time: at, Rule: rule.IDSeen, Identity: odd, Origin: odd, Index: 1, Size: 2,
		Summary: odd, Evidence: odd, Subject: odd, Issuer: odd, Expected: []string{odd}, Digest: odd, Certificate: odd,
		RunURL: odd, LogURL: odd, Page: odd, LoggedAfter: at, LoggedBefore: at,
		Reasons: []rule.Reason{{Rule: rule.IDSeen, Text: odd, Field: odd, Expected: []string{odd}, Seen: odd}}}
	group := monitor.Event{Rule: rule.IDSeen, Severity: rule.Warning, Count: 3, Index: monitor.NoIndex,
		Group: []monitor.Member{{Rule: rule.IDSeen, Summary: odd}, {Rule: rule.IDNewKey, Severity: rule.Warning}}}
	return []monitor.Event{full, group, {Rule: rule.LogRollback, Severity: rule.Critical, Index: monitor.NoIndex, Test: true}}
}
