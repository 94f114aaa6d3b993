package authorize_test

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"tallywood/internal/faultbucket"
	"tallywood/internal/keys"
	"tallywood/monitor/authorize"
	"tallywood/monitor/rule"
	"tallywood/storage/mem"
)

// A signer signs manifests.
type signer struct {
	note note.Signer
	vkey string
}

func newSigner(t testing.TB, name string) signer {
	t.Helper()
	seed := sha256.Sum256([]byte(name))
	key := ed25519.NewKeyFromSeed(seed[:])
	s, err := keys.NoteSigner("release.example.org", key)
	if err != nil {
		t.Fatal(err)
	}
	return signer{s, keys.VKey("release.example.org", keys.AlgEd25519, key.Public().(ed25519.PublicKey))}
}

func (s signer) sign(t testing.TB, text string) string {
	t.Helper()
	signed, err := note.Sign(&note.Note{Text: text}, s.note)
	if err != nil {
		t.Fatal(err)
	}
	return string(signed)
}

const (
	commit = "2fd4e1c67a2d28fced849ee1bb76e7391b93eb12"
	run    = "https://github.com/example/tool/actions/runs/7/attempts/1"
	tag    = "refs/tags/v1.0.0"
)

var start = time.Date(2026, 11, 28, 9, 0, 0, 0, time.UTC)

// digest returns a digest by number.
func digest(n int) string { return fmt.Sprintf("sha256:%064x", n) }

// text returns a manifest with digests by number, added at start.
func text(serial int, digests ...int) string {
	m := authorize.Manifest{Serial: int64(serial), Signed: start}
	for _, n := range digests {
		m.Statements = append(m.Statements, authorize.Statement{Kind: authorize.Digest, Value: digest(n), Added: start})
	}
	return m.Text()
}

// open returns a Set of one identity, "tool", with the manifest at a location.
func open(t testing.TB, from string, s signer, o authorize.Options) *authorize.Set {
	t.Helper()
	v, err := authorize.NewKeys([]string{s.vkey})
	if err != nil {
		t.Fatal(err)
	}
	if o.State == nil {
		o.State = mem.New()
	}
	o.Identities = []authorize.Identity{{Name: "tool", From: []string{from}, Verifier: v}}
	set, err := authorize.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

func write(t testing.TB, path, data string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(data), 0o644); err != nil {
		t.Fatal(err)
	}
}

// wantUsed refreshes a set past caches and wants it to be as it should, or to be unusable with an
// error that has a text.
func wantUsed(t *testing.T, s *authorize.Set, unusable string) {
	t.Helper()
	err := s.Refresh(t.Context(), true)
	if unusable == "" && err != nil || unusable != "" && (err == nil || !strings.Contains(err.Error(), unusable)) {
		t.Errorf("refresh: %v; want one with %q", err, unusable)
	}
}

// explained reports whether a digest by number is authorized.
func explained(s *authorize.Set, n int) bool {
	return s.Explains("tool", rule.Facts{Digest: digest(n)}, start)
}

func TestStatementsExplain(t *testing.T) {
	s := newSigner(t, "a")
	path := filepath.Join(t.TempDir(), "releases.txt")
	expires := start.Add(time.Hour)
	write(t, path, s.sign(t, authorize.Manifest{Serial: 1, Signed: start, Statements: []authorize.Statement{
		{Kind: authorize.Digest, Value: digest(1), Added: start},
		{Kind: authorize.Digest, Value: digest(2), Added: start, Expires: expires},
		{Kind: authorize.Run, Value: run, Added: start},
		{Kind: authorize.Commit, Value: commit, Added: start},
		{Kind: authorize.Tag, Value: tag, Added: start},
	}}.Text()))
	set := open(t, path, s, authorize.Options{})
	if explained(set, 1) {
		t.Error("explained before anything was read")
	}
	wantUsed(t, set, "")
	for what, c := range map[string]struct {
		facts rule.Facts
		at    time.Time
		want  bool
	}{
		"its digest":              {rule.Facts{Digest: digest(1), Run: "https://elsewhere.example"}, start, true},
		"another digest":          {rule.Facts{Digest: digest(3)}, start, false},
		"until it expires":        {rule.Facts{Digest: digest(2)}, expires, true},
		"after that":              {rule.Facts{Digest: digest(2)}, expires.Add(time.Second), false},
		"its run":                 {rule.Facts{Digest: digest(3), Run: run}, start, true},
		"another attempt":         {rule.Facts{Run: strings.TrimSuffix(run, "1") + "2"}, start, false},
		"commit and tag":          {rule.Facts{Commit: strings.ToUpper(commit), Ref: tag}, start, true},
		"the commit of a branch":  {rule.Facts{Commit: commit, Ref: "refs/heads/main"}, start, false},
		"the tag, another commit": {rule.Facts{Commit: strings.Repeat("0", 40), Ref: tag}, start, false},
		"nothing to go by":        {rule.Facts{}, start, false},
	} {
		if got := set.Explains("tool", c.facts, c.at); got != c.want {
			t.Errorf("%s: explained %v", what, got)
		}
	}
	if set.Explains("other", rule.Facts{Digest: digest(1)}, start) {
		t.Error("another identity is explained")
	}
}

func TestManifestThatDoesNotCountExplainsNothing(t *testing.T) {
	s, other := newSigner(t, "a"), newSigner(t, "b")
	path := filepath.Join(t.TempDir(), "releases.txt")
	set := open(t, path, s, authorize.Options{})
	wantUsed(t, set, "no such file")

	good := s.sign(t, text(2, 1))
	write(t, path, good)
	wantUsed(t, set, "")
	for what, c := range map[string]struct{ manifest, want string }{
		"signed by nobody":           {text(3, 1, 2), "no signature lines"},
		"signed by somebody else":    {other.sign(t, text(3, 1, 2)), "none of the keys has signed it"},
		"changed after signing":      {strings.Replace(good, digest(1), digest(2), 1), "none of the keys has signed it"},
		"older":                      {s.sign(t, text(1, 1, 2)), "it went back: serial 1 after 2"},
		"another of the same serial": {s.sign(t, text(2, 1, 2)), "another one of serial 2"},
		"without what was there":     {s.sign(t, text(3, 2)), "lacks what serial 2 had and has not expired: digest " + digest(1)},
		"no manifest":                {s.sign(t, "log.example.org\n2\nAAAA\n"), "first line"},
		"large":                      {strings.Repeat("x", authorize.MaxManifest+1), "larger than"},
	} {
		write(t, path, c.manifest)
		wantUsed(t, set, c.want)
		if explained(set, 2) || !explained(set, 1) {
			t.Errorf("%s: it counts, or what was verified before does not any more", what)
		}
	}
	write(t, path, s.sign(t, text(3, 1, 2)))
	if wantUsed(t, set, ""); !explained(set, 2) {
		t.Error("a newer manifest does not count")
	}
}

func TestExpiredStatementsMayGo(t *testing.T) {
	s := newSigner(t, "a")
	path := filepath.Join(t.TempDir(), "releases.txt")
	set := open(t, path, s, authorize.Options{})
	past := time.Now().Add(-time.Hour).UTC().Truncate(time.Second)
	write(t, path, s.sign(t, authorize.Manifest{Serial: 1, Signed: past, Statements: []authorize.Statement{
		{Kind: authorize.Digest, Value: digest(1), Added: past, Expires: past}}}.Text()))
	wantUsed(t, set, "")
	write(t, path, s.sign(t, text(2)))
	wantUsed(t, set, "")
}

// TestRollbackAcrossRestarts has a monitor that was restarted know what the one before it saw.
func TestRollbackAcrossRestarts(t *testing.T) {
	s := newSigner(t, "a")
	path := filepath.Join(t.TempDir(), "releases.txt")
	state := mem.New()
	write(t, path, s.sign(t, text(2, 1)))
	wantUsed(t, open(t, path, s, authorize.Options{State: state}), "")
	write(t, path, s.sign(t, text(1, 2)))
	set := open(t, path, s, authorize.Options{State: state})
	wantUsed(t, set, "it went back")
	if explained(set, 2) || !explained(set, 1) {
		t.Error("the older one counts, or the newer one is forgotten")
	}
	// Of other keys' manifests nothing is known.
	other := newSigner(t, "b")
	write(t, path, other.sign(t, text(1, 2)))
	wantUsed(t, open(t, path, other, authorize.Options{State: state}), "")
}

func TestTwoMonitorsKeepOneSource(t *testing.T) {
	s := newSigner(t, "a")
	path := filepath.Join(t.TempDir(), "releases.txt")
	state := mem.New()
	one, two := open(t, path, s, authorize.Options{State: state}), open(t, path, s, authorize.Options{State: state})
	for serial := 1; serial < 5; serial += 2 {
		write(t, path, s.sign(t, text(serial, 1)))
		wantUsed(t, one, "")
		wantUsed(t, two, "")
		write(t, path, s.sign(t, text(serial+1, 1)))
		wantUsed(t, two, "")
		wantUsed(t, one, "")
	}
	write(t, path, s.sign(t, text(3, 1)))
	wantUsed(t, one, "it went back")
	wantUsed(t, two, "it went back")
}

// TestStateThatFailsLetsNothingCount: without what was kept an older manifest could not be told.
func TestStateThatFailsLetsNothingCount(t *testing.T) {
	s := newSigner(t, "a")
	path := filepath.Join(t.TempDir(), "releases.txt")
	write(t, path, s.sign(t, text(1, 1)))
	inner := mem.New()
	for op := range 2 { // reading, then writing
		b := faultbucket.New(inner)
		b.FailAt(op, faultbucket.Fail)
		set := open(t, path, s, authorize.Options{State: b})
		if err := set.Refresh(t.Context(), true); err == nil || explained(set, 1) {
			t.Errorf("operation %d failed: refresh says %v, explained %v", op, err, explained(set, 1))
		}
		if wantUsed(t, set, ""); !explained(set, 1) {
			t.Errorf("not explained after operation %d was done again", op)
		}
		for key := range inner.List(t.Context(), "") {
			if err := inner.Delete(t.Context(), key); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// A shelf serves one manifest over HTTP, with validators.
type shelf struct {
	mu      sync.Mutex
	data    string
	etag    string
	status  int
	gets    int
	bodies  int
	noCache int
}

func (s *shelf) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gets++
	if r.Header.Get("Cache-Control") == "no-cache" {
		s.noCache++
	}
	if s.status != 0 {
		w.WriteHeader(s.status)
		return
	}
	w.Header().Set("ETag", s.etag)
	if r.Header.Get("If-None-Match") == s.etag {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	s.bodies++
	fmt.Fprint(w, s.data)
}

func (s *shelf) put(data, etag string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.data, s.etag, s.status = data, etag, 0
}

func TestManifestIsFetchedOnceUntilItChanges(t *testing.T) {
	s := newSigner(t, "a")
	sh := &shelf{}
	server := httptest.NewServer(sh)
	defer server.Close()
	state := mem.New()
	sh.put(s.sign(t, text(1, 1)), `"one"`)
	set := open(t, server.URL+"/releases.txt?key=secret", s, authorize.Options{State: state})
	for range 3 { // not urgent: one look does for a minute
		if err := set.Refresh(t.Context(), false); err != nil {
			t.Fatal(err)
		}
	}
	if sh.gets != 1 || sh.noCache != 0 || !explained(set, 1) {
		t.Errorf("%d requests, %d past caches", sh.gets, sh.noCache)
	}
	wantUsed(t, set, "")
	set = open(t, server.URL+"/releases.txt?key=secret", s, authorize.Options{State: state}) // after a restart
	wantUsed(t, set, "")
	if sh.bodies != 1 || sh.noCache != 2 || !explained(set, 1) {
		t.Errorf("%d bodies, %d requests past caches", sh.bodies, sh.noCache)
	}
	sh.put(s.sign(t, text(2, 1, 2)), `"two"`)
	if wantUsed(t, set, ""); !explained(set, 2) {
		t.Error("the new one does not count")
	}
	sh.status = http.StatusServiceUnavailable
	wantUsed(t, set, server.URL+"/releases.txt cannot be used: answered 503")
	if err := set.Refresh(t.Context(), false); err == nil || strings.Contains(err.Error(), "secret") || !explained(set, 2) {
		t.Errorf("got %v", err)
	}
	sh.put("something else", `"three"`)
	wantUsed(t, set, "cannot be used")
	sh.put(s.sign(t, text(2, 1, 2)), `"two"`)
	wantUsed(t, set, "")
	server.Close()
	if err := set.Refresh(t.Context(), true); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("got %v", err)
	}
}

func TestRedirectsStayOnTheHost(t *testing.T) {
	s := newSigner(t, "a")
	sh := &shelf{data: s.sign(t, text(1, 1)), etag: `"one"`}
	elsewhere := httptest.NewServer(sh)
	defer elsewhere.Close()
	server := httptest.NewServer(http.RedirectHandler(elsewhere.URL, http.StatusFound))
	defer server.Close()
	set := open(t, server.URL, s, authorize.Options{})
	if wantUsed(t, set, "redirect to another host"); explained(set, 1) {
		t.Error("it counts")
	}
}

func TestOptionsAreChecked(t *testing.T) {
	s := newSigner(t, "a")
	v, err := authorize.NewKeys([]string{s.vkey})
	if err != nil {
		t.Fatal(err)
	}
	ok := authorize.Identity{Name: "tool", From: []string{"releases.txt"}, Verifier: v}
	for want, ids := range map[string][]authorize.Identity{
		"no identities":              nil,
		"nobody's signature":         {{Name: "tool", From: ok.From}},
		"no file or URL":             {{Name: "tool", Verifier: v}},
		"no file or URL of":          {{Name: "tool", From: []string{""}, Verifier: v}},
		"twice":                      {ok, ok},
		"neither an https URL":       {{Name: "tool", From: []string{"http://releases.example.org/r.txt"}, Verifier: v}},
		"http URL of this machine":   {{Name: "tool", From: []string{"ftp://localhost/r.txt"}, Verifier: v}},
		"https://u:xxxxx@x.example/": {{Name: "tool", From: []string{"https://u:pass@x.example/#r"}, Verifier: v}},
	} {
		if _, err := authorize.New(authorize.Options{State: mem.New(), Identities: ids}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want one with %q", err, want)
		}
	}
	if _, err := authorize.New(authorize.Options{Identities: []authorize.Identity{ok}}); err == nil {
		t.Error("no state is accepted")
	}
	p256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := authorize.NewSigner("x", p256); err == nil || !strings.Contains(err.Error(), "manifests are signed with Ed25519") {
		t.Errorf("a P-256 key signs: %v", err)
	}
	w, err := keys.WitnessFromSeed("w.example.org", sha256.Sum256(nil))
	if err != nil {
		t.Fatal(err)
	}
	for want, vkeys := range map[string][]string{"no keys": nil, "name+hash+base64": {"x"}, "of type 0x04": w.VKeys()[:1], "of type 0x06": w.VKeys()[1:]} {
		if _, err := authorize.NewKeys(vkeys); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("keys %q: got %v", vkeys, err)
		}
	}
	if got, err := authorize.ParseKeys([]byte("# release key\n\n a+1+b \nc+2+d")); err != nil || strings.Join(got, " ") != "a+1+b c+2+d" {
		t.Errorf("got %q, %v", got, err)
	}
	if _, err := authorize.ParseKeys([]byte("# nothing\n")); err == nil {
		t.Error("a file without keys is accepted")
	}
}
