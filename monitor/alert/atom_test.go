package alert_test

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mmcdole/gofeed/atom"

	"tallywood/monitor/alert"
)

func newAtom(t *testing.T, o alert.AtomOptions) *alert.Atom {
	t.Helper()
	a, err := alert.NewAtom(o)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// readFeed reads a feed with another author's reader, after checkFeed.
func readFeed(t *testing.T, path string) *atom.Feed {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	checkFeed(t, data)
	feed, err := (&atom.Parser{}).Parse(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	return feed
}

// checkFeed holds a feed to the rules of RFC 4287, sections 4.1.1 and 4.1.2: which elements there
// must be, and how many.
func checkFeed(t *testing.T, data []byte) {
	t.Helper()
	if !bytes.HasPrefix(data, []byte(`<?xml version="1.0" encoding="UTF-8"?>`)) {
		t.Errorf("feed begins %.60q", data)
	}
	counts := []map[string]int{{}} // of the children of the elements that are open
	var path []string
	text := ""
	dec := xml.NewDecoder(bytes.NewReader(data))
	for {
		token, err := dec.Token()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		switch tok := token.(type) {
		case xml.StartElement:
			if tok.Name.Space != "http://www.w3.org/2005/Atom" {
				t.Errorf("element %v", tok.Name)
			}
			counts[len(counts)-1][tok.Name.Local]++
			path, counts, text = append(path, tok.Name.Local), append(counts, map[string]int{}), ""
		case xml.CharData:
			text += string(tok)
		case xml.EndElement:
			checkElement(t, path, counts[len(counts)-1], text)
			path, counts = path[:len(path)-1], counts[:len(counts)-1]
		}
	}
}

func checkElement(t *testing.T, path []string, children map[string]int, text string) {
	t.Helper()
	exactly := map[string][]string{"feed": {"id", "title", "updated", "author"}, "entry": {"id", "title", "updated"}, "author": {"name"}}
	name := path[len(path)-1]
	for _, one := range exactly[name] {
		if children[one] != 1 {
			t.Errorf("%v has %d of %s", path, children[one], one)
		}
	}
	switch name {
	case "id":
		if u, err := url.Parse(text); err != nil || u.Scheme == "" {
			t.Errorf("id %q is no IRI: %v", text, err)
		}
	case "updated", "published":
		if _, err := time.Parse(time.RFC3339, text); err != nil {
			t.Errorf("%v %q: %v", path, text, err)
		}
	}
}

func TestFeedIsValidAndSurvivesRestarts(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "feed.xml")
	o := alert.AtomOptions{Path: path, URL: "https://alerts.example.org/feed.xml?a=1&b=2", Entries: 3}
	if err := newAtom(t, o).Send(t.Context(), alarm(1)); err != nil {
		t.Fatal(err)
	}
	first := readFeed(t, path)
	if len(first.Entries) != 1 || len(first.Links) != 1 || first.Links[0].Href != o.URL || first.Links[0].Rel != "self" {
		t.Errorf("feed %s", first)
	}
	if e := first.Entries[0]; e.ID != "urn:uuid:00000000-0000-0000-0000-000000000001" || !strings.Contains(e.Title, "tool releases") ||
		!strings.Contains(e.Content.Value, "<pre>a &lt;b&gt; &amp; c\n") || e.Content.Type != "html" || len(e.Categories) != 2 {
		t.Errorf("entry %+v %+v", e, e.Content)
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	for n := 2; n <= 5; n++ { // each by another process
		e := alarm(n)
		e.Time = e.Time.Add(time.Duration(n) * time.Minute)
		for range 2 { // the answer to the first was lost
			if err := newAtom(t, o).Send(t.Context(), e); err != nil {
				t.Fatal(err)
			}
		}
	}
	feed := readFeed(t, path)
	var ids []string
	for _, e := range feed.Entries {
		ids = append(ids, e.ID[len(e.ID)-1:])
	}
	if !slices.Equal(ids, []string{"5", "4", "3"}) || feed.ID != first.ID || feed.Updated != "1970-01-01T00:05:01Z" {
		t.Errorf("entries %v, feed %s, was %s, updated %s", ids, feed.ID, first.ID, feed.Updated)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if files, err := os.ReadDir(filepath.Dir(path)); err != nil || len(files) != 1 {
		t.Errorf("left behind: %v, %v", files, err)
	}
}

func TestFeedLinksToPages(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "feed.xml")
	e := alarm(1)
	e.Page = pageURL
	if err := newAtom(t, alert.AtomOptions{Path: path}).Send(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	got := readFeed(t, path).Entries[0]
	if len(got.Links) != 1 || got.Links[0].Rel != "alternate" || got.Links[0].Href != pageURL || got.Links[0].Type != "text/html" {
		t.Errorf("links %+v", got.Links)
	}
}

func TestFeedTakesAnything(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "feed.xml")
	e := event(1)
	e.Summary, e.Identity = "</content><entry>]]>\x00\x1b\xff\u202e&amp;", "<b>&\"'\x08"
	if err := newAtom(t, alert.AtomOptions{Path: path}).Send(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	feed := readFeed(t, path)
	if len(feed.Entries) != 1 || !strings.HasPrefix(feed.Entries[0].Content.Value, "<pre>&lt;/content&gt;&lt;entry&gt;]]&gt;\ufffd\ufffd\ufffd\ufffd&amp;amp;\n") {
		t.Errorf("feed %s", feed)
	}
}

func TestFeedUnderManyWriters(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "feed.xml")
	a := newAtom(t, alert.AtomOptions{Path: path})
	var wg sync.WaitGroup
	for n := range 20 {
		wg.Go(func() {
			if err := a.Send(t.Context(), event(n)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if feed := readFeed(t, path); len(feed.Entries) != 20 {
		t.Errorf("%d entries", len(feed.Entries))
	}
}

// TestFeedReplacesNothingElse keeps files that are not its own.
func TestFeedReplacesNothingElse(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"a page":       "<html><body>hello</body></html>",
		"not XML":      "hello",
		"empty":        "",
		"another feed": `<feed xmlns="http://www.w3.org/2005/Atom"><id>urn:x</id><title>blog</title><updated>2026-01-01T00:00:00Z</updated></feed>`,
	} {
		path := filepath.Join(t.TempDir(), "feed.xml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := newAtom(t, alert.AtomOptions{Path: path}).Send(t.Context(), event(1)); err == nil || !strings.Contains(err.Error(), "move it away") {
			t.Errorf("%s: %v", name, err)
		}
		if got, err := os.ReadFile(path); err != nil || string(got) != text {
			t.Errorf("%s: now %q, %v", name, got, err)
		}
	}
	if err := newAtom(t, alert.AtomOptions{Path: "/no/such/directory/feed.xml"}).Send(t.Context(), event(1)); err == nil {
		t.Error("an event was lost without an error")
	}
	for _, o := range []alert.AtomOptions{{}, {Path: "x", Entries: -1}, {Path: "x", Entries: 1 << 20}} {
		if _, err := alert.NewAtom(o); err == nil {
			t.Errorf("%+v was accepted", o)
		}
	}
}

func FuzzFeed(f *testing.F) {
	path := filepath.Join(f.TempDir(), "feed.xml")
	a, err := alert.NewAtom(alert.AtomOptions{Path: path})
	if err != nil {
		f.Fatal(err)
	}
	if err := a.Send(f.Context(), event(1)); err != nil {
		f.Fatal(err)
	}
	good, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte("<feed/>"))
	f.Add([]byte(`<feed xmlns="http://www.w3.org/2005/Atom"><generator>Tallywood monitor</generator><id>urn:uuid:x</id></feed>`))
	f.Fuzz(func(t *testing.T, data []byte) {
		path := filepath.Join(t.TempDir(), "feed.xml")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		a := newAtom(t, alert.AtomOptions{Path: path})
		if err := a.Send(t.Context(), event(1)); err != nil {
			return
		}
		if err := a.Send(t.Context(), event(2)); err != nil {
			t.Errorf("what was written cannot be read: %v", err)
		}
	})
}

// TestFeedThatWouldBeTooLargeLosesTheOldest sends events that take more together than a feed may have.
func TestFeedThatWouldBeTooLargeLosesTheOldest(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "feed.xml")
	a := newAtom(t, alert.AtomOptions{Path: path})
	const most = 20_000
	alert.LimitFeed(a, most)
	for n := range 50 {
		if err := a.Send(t.Context(), event(n)); err != nil {
			t.Fatalf("event %d: %v", n, err)
		}
	}
	feed := readFeed(t, path)
	if n := len(feed.Entries); n < 10 || n >= 50 || !strings.HasSuffix(feed.Entries[0].ID, "000000000031") {
		t.Errorf("%d entries, the first %s", n, feed.Entries[0].ID)
	}
	if info, err := os.Stat(path); err != nil || info.Size() > most {
		t.Errorf("%v, %v", info, err)
	}
	large := event(50)
	large.Summary = strings.Repeat("x", most)
	if err := a.Send(t.Context(), large); err == nil || !strings.Contains(err.Error(), "alone takes more") {
		t.Errorf("an event larger than any feed: %v", err)
	}
	if err := a.Send(t.Context(), event(51)); err != nil {
		t.Errorf("the next one: %v", err)
	}
}
