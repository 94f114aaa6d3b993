package alert

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/xml"
	"errors"
	"fmt"
	"html"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"tallywood/internal/disk"
	"tallywood/monitor"
)

const (
	atomNamespace = "http://www.w3.org/2005/Atom"
	atomEntries   = 100
	maxFeed       = 16 << 20 // bytes
	urnUUID       = "urn:uuid:"
)

// AtomOptions configure an Atom.
type AtomOptions struct {
	// Path is the feed's file. Its directory must be there.
	Path string
	// URL is where readers get it. Empty: the feed does not say.
	URL string
	// Entries is how many of the newest events it has, fewer if they take more than 16 MiB; 0: 100.
	Entries int
}

// Atom keeps a feed file (RFC 4287) of the newest events. What it knows of earlier ones is in the
// file itself, which is replaced as a whole.
type Atom struct {
	o    AtomOptions
	most int // bytes of the feed
	mu   sync.Mutex
}

var _ monitor.Sink = (*Atom)(nil)

// NewAtom checks o. The file is made by the first event.
func NewAtom(o AtomOptions) (*Atom, error) {
	if o.Path == "" {
		return nil, errors.New("no path for the feed")
	}
	if o.Entries == 0 {
		o.Entries = atomEntries
	}
	if o.Entries < 1 || o.Entries > 10_000 {
		return nil, fmt.Errorf("a feed of %d entries: want 1 to 10000", o.Entries)
	}
	return &Atom{o: o, most: maxFeed}, nil
}

// The elements that our feeds have.
type (
	atomFeed struct {
		XMLName   xml.Name    `xml:"http://www.w3.org/2005/Atom feed"`
		ID        string      `xml:"id"`
		Title     string      `xml:"title"`
		Updated   string      `xml:"updated"`
		Author    atomAuthor  `xml:"author"`
		Generator string      `xml:"generator"`
		Links     []atomLink  `xml:"link"`
		Entries   []atomEntry `xml:"entry"`
	}
	atomAuthor struct {
		Name string `xml:"name"`
	}
	atomLink struct {
		Rel  string `xml:"rel,attr"`
		Type string `xml:"type,attr,omitempty"`
		Href string `xml:"href,attr"`
	}
	atomEntry struct {
		ID         string         `xml:"id"`
		Title      string         `xml:"title"`
		Updated    string         `xml:"updated"`
		Published  string         `xml:"published"`
		Links      []atomLink     `xml:"link"`
		Categories []atomCategory `xml:"category"`
		Content    atomContent    `xml:"content"`
	}
	atomCategory struct {
		Term   string `xml:"term,attr"`
		Scheme string `xml:"scheme,attr"`
	}
	atomContent struct {
		Type string `xml:"type,attr"`
		Text string `xml:",chardata"`
	}
)

// generator marks the feeds that are ours to replace.
const generator = "Tallywood monitor"

// Probe says why no event could be taken as things are, if that can be seen. It writes nothing.
func (a *Atom) Probe() error {
	if err := probeFile(a.o.Path); err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	_, err := a.read()
	return err
}

// Send implements monitor.Sink: when it returns nil the event is in the feed, once.
func (a *Atom) Send(_ context.Context, e monitor.Event) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.add(e); err != nil {
		return fmt.Errorf("adding event %s to feed: %w", e.ID, err)
	}
	return nil
}

func (a *Atom) add(e monitor.Event) error {
	feed, err := a.read()
	if err != nil {
		return err
	}
	entry := newEntry(e)
	if slices.ContainsFunc(feed.Entries, func(other atomEntry) bool { return other.ID == entry.ID }) {
		return nil
	}
	feed.Entries = slices.Insert(feed.Entries, 0, entry)
	if len(feed.Entries) > a.o.Entries {
		feed.Entries = feed.Entries[:a.o.Entries]
	}
	feed.Links = nil
	if a.o.URL != "" {
		feed.Links = []atomLink{{Rel: "self", Type: "application/atom+xml", Href: a.o.URL}}
	}
	// RFC 3339 in UTC, all of one length: sorts as text.
	feed.Updated = max(feed.Updated, entry.Updated)
	data, err := feed.render()
	for err == nil && len(data) > a.most && len(feed.Entries) > 1 { // it could not be read again
		feed.Entries = feed.Entries[:len(feed.Entries)-(len(feed.Entries)+7)/8]
		data, err = feed.render()
	}
	switch {
	case err != nil:
		return err
	case len(data) > a.most:
		return fmt.Errorf("the event alone takes more than %d bytes", a.most)
	}
	return disk.Replace(a.o.Path, data)
}

func (f *atomFeed) render() ([]byte, error) {
	body, err := xml.MarshalIndent(f, "", " ")
	if err != nil {
		return nil, err
	}
	return slices.Concat([]byte(xml.Header), body, []byte("\n")), nil
}

// read returns the feed as it is, or a new one.
func (a *Atom) read() (*atomFeed, error) {
	f, err := os.Open(a.o.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return newFeed(), nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, int64(a.most)+1))
	switch {
	case err != nil:
		return nil, err
	case len(data) > a.most:
		return nil, fmt.Errorf("%s is larger than %d bytes", a.o.Path, a.most)
	}
	feed, err := parseFeed(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w; move it away, and a new one is made", a.o.Path, err)
	}
	return feed, nil
}

func newFeed() *atomFeed {
	var id [16]byte
	rand.Read(id[:])
	id[6], id[8] = id[6]&0x0f|0x40, id[8]&0x3f|0x80 // version 4
	return &atomFeed{ID: urnUUID + uuid(hex.EncodeToString(id[:])), Title: "Tallywood monitor",
		Author: atomAuthor{generator}, Generator: generator}
}

// parseFeed reads a feed of ours.
func parseFeed(data []byte) (*atomFeed, error) {
	dec := xml.NewDecoder(bytes.NewReader(data))
	feed := &atomFeed{}
	if err := dec.Decode(feed); err != nil {
		return nil, fmt.Errorf("not an Atom feed: %w", err)
	}
	if feed.Generator != generator || !strings.HasPrefix(feed.ID, urnUUID) {
		return nil, errors.New("not a feed of this program")
	}
	return feed, nil
}

func newEntry(e monitor.Event) atomEntry {
	at := e.Time.UTC().Format(time.RFC3339)
	entry := atomEntry{ID: urnUUID + uuid(e.ID), Title: title(e), Updated: at, Published: at,
		Content: atomContent{Type: "html", Text: "<pre>" + html.EscapeString(plain(e)) + "</pre>"}}
	entry.Categories = []atomCategory{{Term: string(e.Rule), Scheme: "tag:tallywood,2026:rule"},
		{Term: e.Severity.String(), Scheme: "tag:tallywood,2026:severity"}}
	if e.Page != "" {
		entry.Links = []atomLink{{Rel: "alternate", Type: "text/html", Href: e.Page}}
	}
	return entry
}

// uuid writes 32 hex digits in the groups of a UUID.
func uuid(digits string) string {
	if len(digits) != 32 {
		return digits
	}
	return strings.Join([]string{digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]}, "-")
}
