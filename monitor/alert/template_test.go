package alert_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"tallywood/monitor"
	"tallywood/monitor/alert"
	"tallywood/monitor/rule"
)

// A receiver takes webhooks and keeps the last.
type receiver struct {
	*httptest.Server
	header http.Header
	body   []byte
}

func newReceiver(t *testing.T) *receiver {
	t.Helper()
	r := &receiver{}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		r.header = req.Header
		r.body, _ = io.ReadAll(req.Body)
	}))
	t.Cleanup(r.Close)
	return r
}

// strictly decodes JSON into the form that a service documents: no key that it does not know.
func strictly(t *testing.T, data []byte, out any) {
	t.Helper()
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(out); err != nil {
		t.Fatalf("%v in:\n%s", err, data)
	}
	if dec.More() {
		t.Errorf("more than one value:\n%s", data)
	}
}

// pageURL is the page of an event that has one.
const pageURL = "https://alerts.example.org/a_b/alerts/00000000000000000000000000000005.html"

// The events that every template is tried with: the usual, one that would break out, a group, and
// one of the utmost length.
func templateEvents() map[string]monitor.Event {
	hostile := alarm(1)
	hostile.Summary = `"}, <!channel> <https://evil.example|click> @everyone @all [x](https://evil.example) **b** \` + "`\n\u202e"
	hostile.Subject, hostile.RunURL, hostile.Identity = hostile.Summary, hostile.Summary, hostile.Summary
	long := alarm(2)
	for _, s := range []*string{&long.Summary, &long.Subject, &long.Identity, &long.RunURL, &long.Evidence, &long.Digest, &long.Certificate, &long.Issuer} {
		*s = strings.Repeat("*é@\"<", 2000)
	}
	for range 30 {
		long.Reasons = append(long.Reasons, rule.Reason{Field: "workflow", Seen: strings.Repeat("_", 600), Expected: []string{strings.Repeat("`", 600)}})
	}
	group := alarm(3)
	group.Count = 57
	for range 50 {
		group.Group = append(group.Group, monitor.Member{Rule: rule.IDSeen, Summary: strings.Repeat("\\\"<@all>", 100), Time: time.Unix(1, 0)})
	}
	test := alarm(4)
	test.Test = true
	paged := alarm(5)
	paged.Page = pageURL
	return map[string]monitor.Event{"usual": alarm(0), "hostile": hostile, "long": long, "group": group, "test": test, "paged": paged}
}

// rendered posts every event through a template, and hands each body on.
func rendered(t *testing.T, name string, check func(t *testing.T, e monitor.Event, body []byte)) {
	t.Helper()
	t.Parallel()
	r := newReceiver(t)
	w := open(t, alert.WebhookOptions{URL: alert.Secret{Value: r.URL}, Template: name})
	for kind, e := range templateEvents() {
		t.Run(kind, func(t *testing.T) {
			if err := w.Send(t.Context(), e); err != nil {
				t.Fatal(err)
			}
			if !json.Valid(r.body) || r.header.Get("Content-Type") != "application/json" {
				t.Fatalf("%v: %s", r.header, r.body)
			}
			if text := string(r.body); !strings.Contains(text, "id.unexpected-issuer") ||
				(kind == "group") != strings.Contains(text, "and 37 more") || (kind == "test") != strings.Contains(text, "This is a test") || (kind == "paged") != strings.Contains(text, pageURL) {
				t.Errorf("body:\n%s", text)
			}
			check(t, e, r.body)
		})
	}
}

func length(t *testing.T, what, text string, most int) {
	t.Helper()
	if n := utf8.RuneCountInString(text); n == 0 || n > most {
		t.Errorf("%s has %d characters, of 1 to %d", what, n, most)
	}
}

// https://docs.slack.dev/reference/block-kit/blocks: at most 50 blocks; header 150 characters of
// plain text; section text 3000; <…> is markup unless escaped.
func TestSlackForm(t *testing.T) {
	rendered(t, "slack", func(t *testing.T, _ monitor.Event, body []byte) {
		type text struct {
			Type     string `json:"type"`
			Text     string `json:"text"`
			Emoji    *bool  `json:"emoji"`
			Verbatim bool   `json:"verbatim"`
		}
		var got struct {
			Text   string `json:"text"`
			Blocks []struct {
				Type     string `json:"type"`
				Text     *text  `json:"text"`
				Elements []text `json:"elements"`
			} `json:"blocks"`
		}
		strictly(t, body, &got)
		length(t, "text", got.Text, 40_000)
		if len(got.Blocks) > 50 {
			t.Errorf("%d blocks", len(got.Blocks))
		}
		for _, b := range got.Blocks {
			texts := b.Elements
			if b.Text != nil {
				texts = append(texts, *b.Text)
			}
			for _, x := range texts {
				length(t, b.Type, x.Text, map[string]int{"header": 150, "section": 3000, "context": 3000}[b.Type])
				if x.Type == "mrkdwn" && strings.ContainsAny(x.Text, "<>") && x.Text != "<"+pageURL+"|What it means, and what to do>" {
					t.Errorf("markup in %q", x.Text)
				}
			}
		}
	})
}

// https://discord.com/developers/docs/resources/message: content 2000 characters, embed title 256,
// description 4096, 25 fields of 256 and 1024, 6000 in all; allowed_mentions without any.
func TestDiscordForm(t *testing.T) {
	rendered(t, "discord", func(t *testing.T, _ monitor.Event, body []byte) {
		var got struct {
			Content  string `json:"content"`
			Mentions *struct {
				Parse []string `json:"parse"`
			} `json:"allowed_mentions"`
			Embeds []struct {
				Title       string    `json:"title"`
				Description string    `json:"description"`
				Color       int       `json:"color"`
				Timestamp   time.Time `json:"timestamp"`
				Fields      []struct {
					Name  string `json:"name"`
					Value string `json:"value"`
				} `json:"fields"`
			} `json:"embeds"`
		}
		strictly(t, body, &got)
		length(t, "content", got.Content, 2000)
		if got.Mentions == nil || got.Mentions.Parse == nil || len(got.Mentions.Parse) > 0 || len(got.Embeds) != 1 {
			t.Fatalf("body:\n%s", body)
		}
		e := got.Embeds[0]
		length(t, "title", e.Title, 256)
		length(t, "description", e.Description, 4096)
		all := e.Title + e.Description
		if len(e.Fields) > 25 || len(e.Fields) == 0 {
			t.Errorf("%d fields", len(e.Fields))
		}
		for _, f := range e.Fields {
			length(t, "name", f.Name, 256)
			length(t, "value", f.Value, 1024)
			all += f.Name + f.Value
		}
		length(t, "embed", all, 6000)
		if strings.Contains(e.Description, pageURL) && !strings.Contains(e.Description, "[What it means, and what to do]("+pageURL+")") {
			t.Errorf("no link in %q", e.Description)
		}
		if strings.Contains(e.Description, "[x](") || strings.Contains(got.Content+e.Description, "@everyone") {
			t.Errorf("markup in %q", e.Description)
		}
	})
}

// https://developers.mattermost.com/integrate/reference/message-attachments/; Rocket.Chat takes the
// same keys (https://docs.rocket.chat, post message API).
func TestMattermostForm(t *testing.T) {
	for _, name := range []string{"mattermost", "rocketchat"} {
		t.Run(name, func(t *testing.T) {
			rendered(t, name, func(t *testing.T, _ monitor.Event, body []byte) {
				var got struct {
					Text        string `json:"text"`
					Attachments []struct {
						Fallback string `json:"fallback"`
						Color    string `json:"color"`
						Text     string `json:"text"`
						Fields   []struct {
							Short bool   `json:"short"`
							Title string `json:"title"`
							Value string `json:"value"`
						} `json:"fields"`
					} `json:"attachments"`
				}
				strictly(t, body, &got)
				length(t, "text", got.Text, 16383)
				a := got.Attachments[0]
				if len(a.Color) != 7 || a.Color[0] != '#' || len(a.Fields) == 0 {
					t.Errorf("attachment %+v", a)
				}
				for _, text := range []string{got.Text, a.Text, a.Fields[1].Value} {
					if strings.Contains(text, "@all") || strings.Contains(text, "@everyone") || strings.Contains(text, "[x](") {
						t.Errorf("markup in %q", text)
					}
				}
			})
		})
	}
}

// https://learn.microsoft.com/microsoftteams, webhooks of Workflows: a message with one Adaptive
// Card, of 28 KB at most.
func TestTeamsForm(t *testing.T) {
	rendered(t, "teams", func(t *testing.T, _ monitor.Event, body []byte) {
		type block struct {
			Type    string `json:"type"`
			Size    string `json:"size"`
			Weight  string `json:"weight"`
			Wrap    bool   `json:"wrap"`
			Spacing string `json:"spacing"`
			Color   string `json:"color"`
			Text    string `json:"text"`
			Facts   []struct {
				Title string `json:"title"`
				Value string `json:"value"`
			} `json:"facts"`
		}
		var got struct {
			Type        string `json:"type"`
			Attachments []struct {
				ContentType string `json:"contentType"`
				ContentURL  any    `json:"contentUrl"`
				Content     struct {
					Schema  string            `json:"$schema"`
					Type    string            `json:"type"`
					Version string            `json:"version"`
					Teams   map[string]string `json:"msteams"`
					Body    []block           `json:"body"`
				} `json:"content"`
			} `json:"attachments"`
		}
		strictly(t, body, &got)
		if len(body) > 28<<10 || got.Type != "message" || len(got.Attachments) != 1 {
			t.Fatalf("%d bytes:\n%s", len(body), body)
		}
		a := got.Attachments[0]
		if a.ContentType != "application/vnd.microsoft.card.adaptive" || a.Content.Type != "AdaptiveCard" || a.Content.Version != "1.4" || len(a.Content.Body) < 3 {
			t.Errorf("attachment %+v", a)
		}
		for _, b := range a.Content.Body {
			if b.Type != "FactSet" && b.Text == "" || strings.Contains(b.Text, "[x](") {
				t.Errorf("block %+v", b)
			}
		}
	})
}

// https://matrix-org.github.io/matrix-hookshot, generic webhooks: text, html, username.
func TestMatrixForm(t *testing.T) {
	rendered(t, "matrix", func(t *testing.T, e monitor.Event, body []byte) {
		var got struct {
			Text     string `json:"text"`
			HTML     string `json:"html"`
			Username string `json:"username"`
		}
		strictly(t, body, &got)
		length(t, "text", got.Text, 60_000)
		if strings.Contains(got.HTML, "<https") || strings.Contains(got.HTML, "<!") || !strings.Contains(got.HTML, "<li><b>Rule</b>") {
			t.Errorf("html %s", got.HTML)
		}
	})
}

func TestTemplateOfOnesOwn(t *testing.T) {
	t.Parallel()
	r := newReceiver(t)
	file := func(text string) string {
		path := filepath.Join(t.TempDir(), "template")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	url := alert.Secret{Value: r.URL}
	w := open(t, alert.WebhookOptions{URL: url, TemplateFile: file(
		`{{define "x"}}{{.Summary}}{{end}}{"s": "{{.Summary}}", "again": "{{template "x" .}}", "severity": "{{.Severity}}", "index": {{.Index}}, "all": {{json .Event}},
		"how": "{{if eq .Severity.String "critical"}}loud{{else}}{{.Subject}}{{end}}", "facts": [{{range $i, $f := .Facts}}{{if $i}}, {{end}}"{{$f.Name}}"{{end}}],
		{{with $x := .Identity}}"who": "{{$x}}",{{end}} "at": "{{.Time}}"}`)})
	e := alarm(7)
	e.Summary = "\", \"injected\": \"\\"
	if err := w.Send(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	var got struct {
		S, Again, Severity, How, Who string
		Index                        int
		All                          monitor.Event
		Facts                        []string
		At                           time.Time
	}
	strictly(t, r.body, &got)
	if got.S != e.Summary || got.Again != e.Summary || got.Severity != "critical" || got.How != "loud" || got.Index != 7 || got.All.ID != e.ID ||
		got.Who != e.Identity || len(got.Facts) < 5 || !got.At.Equal(e.Time) {
		t.Errorf("got %+v from\n%s", got, r.body)
	}

	for name, c := range map[string]struct{ text, want string }{
		"value without quotes": {`{"s": {{.Summary}}}`, "write values inside quotes"},
		"unknown field":        {`{"s": "{{.NoSuchField}}"}`, "NoSuchField"},
		"unknown function":     {`{"s": "{{shell .Summary}}"}`, "shell"},
		"not closed":           {`{"s": "{{.Summary"}`, "parsing template"},
		"not JSON":             {`hello`, "does not make JSON"},
		"two values":           {`{}{}`, "does not make JSON"},
		"fails for some":       {`{"s": "{{index .Reasons 0}}"}`, "rendering template"},
		"endless":              {`{"s": "{{range head 3 .Facts}}{{printf "%300000s" .Name}}{{end}}"}`, "more than 262144 bytes"},
		"far too long":         {`{"s": "` + strings.Repeat("x", 70_000) + `"}`, "larger than"},
	} {
		_, err := alert.OpenWebhook(alert.WebhookOptions{URL: url, TemplateFile: file(c.text)})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, o := range []alert.WebhookOptions{{URL: url, Template: "slick"}, {URL: url, Template: "slack", TemplateFile: file("{}")}, {URL: url, TemplateFile: "/no/such/file"}} {
		if _, err := alert.OpenWebhook(o); err == nil {
			t.Errorf("%+v was accepted", o)
		}
	}
}

// TestLinksCannotBeBrokenOutOf has a page's URL in which there is what ends links.
func TestLinksCannotBeBrokenOutOf(t *testing.T) {
	t.Parallel()
	e := alarm(1)
	e.Page = "https://alerts.example.org/a)b>c|d\"e f<g\\h'\n"
	for _, name := range alert.Templates() {
		body, err := alert.Render(name, e)
		if err != nil || !bytes.Contains(body, []byte("https://alerts.example.org/a%29b%3Ec%7Cd%22e%20f%3Cg%5Ch%27%0A")) {
			t.Errorf("%s: %v:\n%s", name, err, body)
		}
	}
}

// TestWebhookSignatureSatisfiesTheirLibrary has the reference library of Standard Webhooks verify.
func TestWebhookSignatureSatisfiesTheirLibrary(t *testing.T) {
	t.Parallel()
	const secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
	theirs, err := standardwebhooks.NewWebhook(secret)
	if err != nil {
		t.Fatal(err)
	}
	for _, template := range []string{"", "slack"} {
		r := newReceiver(t)
		w := open(t, alert.WebhookOptions{URL: alert.Secret{Value: r.URL}, Secret: alert.Secret{Value: secret}, Template: template})
		for _, e := range templateEvents() {
			if err := w.Send(t.Context(), e); err != nil {
				t.Fatal(err)
			}
			if err := theirs.Verify(r.body, r.header); err != nil {
				t.Errorf("%q: %v", template, err)
			}
		}
		if theirs.Verify(append(r.body, ' '), r.header) == nil {
			t.Error("any body verifies")
		}
	}
}

func TestWebhookThatSaysWhenToComeAgain(t *testing.T) {
	t.Parallel()
	after, status := "", 429
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if after != "" {
			w.Header().Set("Retry-After", after)
		}
		w.WriteHeader(status)
		io.WriteString(w, "slow down, "+"/hook?token=hidden\n\x1b[31m")
	}))
	defer server.Close()
	w := open(t, alert.WebhookOptions{URL: alert.Secret{Value: server.URL + "/hook?token=hidden"}})
	for _, c := range []struct {
		after    string
		least    time.Duration
		most     time.Duration
		is       bool
		response int
	}{
		{"30", 30 * time.Second, 30 * time.Second, true, 429},
		{"0.25", 250 * time.Millisecond, 250 * time.Millisecond, true, 429},
		{"120", 2 * time.Minute, 2 * time.Minute, true, 503},
		{time.Now().Add(time.Hour).UTC().Format(http.TimeFormat), 50 * time.Minute, time.Hour, true, 429},
		{time.Now().Add(-time.Hour).UTC().Format(http.TimeFormat), 0, 0, true, 429},
		{"1e300", 24 * time.Hour, 24 * 365 * time.Hour, true, 429},
		{"-1", 0, 0, false, 429}, {"soon", 0, 0, false, 429}, {"NaN", 0, 0, false, 429}, {"", 0, 0, false, 500},
	} {
		after, status = c.after, c.response
		err := w.Send(t.Context(), event(1))
		var again *monitor.RetryError
		is := asRetry(err, &again)
		if err == nil || is != c.is || is && (again.After < c.least || again.After > c.most) {
			t.Errorf("Retry-After %q: %v, %+v", c.after, err, again)
		}
		if strings.ContainsRune(err.Error(), '\x1b') || strings.Contains(err.Error(), "hidden") || !strings.Contains(err.Error(), "slow down") {
			t.Errorf("error %q", err)
		}
	}
}

// FuzzTemplates has logs and configurations say anything: what comes out is JSON.
func FuzzTemplates(f *testing.F) {
	for _, e := range templateEvents() {
		f.Add(e.Summary, e.Identity, e.Subject, e.Count)
	}
	f.Fuzz(func(t *testing.T, summary, identity, subject string, count int) {
		e := alarm(1)
		e.Summary, e.Identity, e.Subject, e.Count = summary, identity, subject, count
		e.Group = []monitor.Member{{Rule: rule.IDSeen, Summary: summary}}
		for _, name := range alert.Templates() {
			if body, err := alert.Render(name, e); err != nil || !json.Valid(body) {
				t.Errorf("%s: %v:\n%s", name, err, body)
			}
		}
	})
}
