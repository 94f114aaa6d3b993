package monitor_test

import (
	"bytes"
	"compress/gzip"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"tallywood/internal/keys"
	"tallywood/log/ctentry"
	"tallywood/monitor"
	"tallywood/witness/policy"
)

// A testLog is a log with real trees, tiles, signatures and cosignatures, served over HTTP from
// static files, whose operator does as the test says.
type testLog struct {
	t      testing.TB
	origin string
	ct     bool // leaves are TileLeafs
	key    ed25519.PrivateKey
	vkey   string
	policy *policy.Policy
	server *httptest.Server

	mu        sync.Mutex
	hashes    []tlog.Hash       // stored hashes
	entries   [][]byte          // as in bundles, without length prefix
	published int64             // size of the newest checkpoint
	files     map[string][]byte // what is served, by path
	gets      []string          // paths asked for
	answer    http.HandlerFunc  // if set, asked first; it reports by header that it did nothing
	cosigners []keys.Witness
	stamp     time.Time // of cosignatures; zero: now
}

func seedKey(text string) ed25519.PrivateKey {
	sum := sha256.Sum256([]byte(text))
	return ed25519.NewKeyFromSeed(sum[:])
}

// newTestLog starts an empty log, published, with three witnesses of which two must cosign.
func newTestLog(t testing.TB, origin string) *testLog {
	l := &testLog{t: t, origin: origin, key: seedKey(origin), files: map[string][]byte{}}
	l.vkey = keys.VKey(origin, keys.AlgEd25519, l.key.Public().(ed25519.PublicKey))
	text := "log " + l.vkey + "\n"
	for i := range 3 {
		name := fmt.Sprintf("w%d.example.org", i)
		w, err := keys.WitnessFromSeed(name, sha256.Sum256([]byte(name)))
		if err != nil {
			t.Fatal(err)
		}
		l.cosigners = append(l.cosigners, w)
		text += fmt.Sprintf("witness %s %s\n", name, w.VKeys()[0])
	}
	text += "group all 2 w0.example.org w1.example.org w2.example.org\nquorum all\n"
	p, err := policy.Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	l.policy = p
	l.server = httptest.NewServer(l)
	t.Cleanup(l.server.Close)
	l.publish()
	return l
}

// config returns the log as a monitor is told of it.
func (l *testLog) config(kind monitor.Kind) monitor.Log {
	return monitor.Log{Origin: l.origin, URL: l.server.URL, Kind: kind, VKey: l.vkey, Policy: l.policy}
}

// ServeHTTP serves the files.
func (l *testLog) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := strings.TrimPrefix(r.URL.Path, "/")
	l.mu.Lock()
	l.gets = append(l.gets, path)
	data, ok := l.files[path]
	answer := l.answer
	l.mu.Unlock()
	if answer != nil {
		if answer(w, r); w.Header().Get("x-passed") == "" {
			return
		}
		w.Header().Del("x-passed")
	}
	if !ok {
		http.NotFound(w, r)
		return
	}
	w.Write(data)
}

// intercept has every later request answered by f, if it returns true.
func (l *testLog) intercept(f func(w http.ResponseWriter, r *http.Request) bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.answer = nil
	if f != nil {
		l.answer = func(w http.ResponseWriter, r *http.Request) {
			if !f(w, r) {
				w.Header().Set("x-passed", "1")
			}
		}
	}
}

// replace serves other bytes at a path, nil for none, and returns how to undo it.
func (l *testLog) replace(path string, data []byte) (undo func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	old, had := l.files[path]
	if data == nil {
		delete(l.files, path)
	} else {
		l.files[path] = data
	}
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if delete(l.files, path); had {
			l.files[path] = old
		}
	}
}

// asked returns how many requests there were.
func (l *testLog) asked() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.gets)
}

// file returns what is served at a path.
func (l *testLog) file(path string) []byte {
	l.t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	data, ok := l.files[path]
	if !ok {
		l.t.Fatalf("log serves no %s, only %q", path, slices.Sorted(maps.Keys(l.files)))
	}
	return bytes.Clone(data)
}

func (l *testLog) reader() tlog.HashReader {
	return tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		out := make([]tlog.Hash, len(indexes))
		for i, x := range indexes {
			out[i] = l.hashes[x]
		}
		return out, nil
	})
}

// add appends entries and publishes.
func (l *testLog) add(entries ...[]byte) {
	l.t.Helper()
	l.sequence(entries...)
	l.publish()
}

// sequence appends entries without publishing.
func (l *testLog) sequence(entries ...[]byte) {
	l.t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range entries {
		leaf := tlog.RecordHash(e)
		if l.ct {
			h, err := ctentry.LeafHash(e)
			if err != nil {
				l.t.Fatal(err)
			}
			leaf = tlog.Hash(h)
		}
		stored, err := tlog.StoredHashesForRecordHash(int64(len(l.entries)), leaf, l.reader())
		if err != nil {
			l.t.Fatal(err)
		}
		l.hashes = append(l.hashes, stored...)
		l.entries = append(l.entries, e)
	}
}

func tilePath(dir string, n int64, width int) string {
	path := fmt.Sprintf("%03d", n%1000)
	for n >= 1000 {
		n /= 1000
		path = fmt.Sprintf("x%03d/%s", n%1000, path)
	}
	if width < 256 {
		path += fmt.Sprintf(".p/%d", width)
	}
	return "tile/" + dir + "/" + path
}

// publish writes tiles and bundles and then the checkpoint of all that was sequenced.
func (l *testLog) publish() {
	l.t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	size := int64(len(l.entries))
	for _, tile := range tlog.NewTiles(8, l.published, size) {
		data, err := tlog.ReadTileData(tile, l.reader())
		if err != nil {
			l.t.Fatal(err)
		}
		l.files[tilePath(fmt.Sprint(tile.L), tile.N, tile.W)] = data
	}
	for n := l.published / 256; n*256 < size; n++ {
		end := min(size, (n+1)*256)
		l.files[tilePath(l.dir(), n, int(end-n*256))] = l.bundle(l.entries[n*256 : end])
	}
	l.published = size
	l.files["checkpoint"] = l.sign(size, l.root(size))
}

func (l *testLog) dir() string {
	if l.ct {
		return "data"
	}
	return "entries"
}

func (l *testLog) bundle(entries [][]byte) []byte {
	var b bytes.Buffer
	for _, e := range entries {
		if !l.ct {
			binary.Write(&b, binary.BigEndian, uint16(len(e)))
		}
		b.Write(e)
	}
	return b.Bytes()
}

func (l *testLog) root(size int64) tlog.Hash {
	root, err := tlog.TreeHash(size, l.reader())
	if err != nil {
		l.t.Fatal(err)
	}
	return root
}

// sign returns the checkpoint of a tree, signed by the log and cosigned by its witnesses.
func (l *testLog) sign(size int64, root tlog.Hash) []byte {
	l.t.Helper()
	text := fmt.Sprintf("%s\n%d\n%s\n", l.origin, size, base64.StdEncoding.EncodeToString(root[:]))
	return l.signText(text)
}

func (l *testLog) signText(text string) []byte {
	l.t.Helper()
	s, err := keys.NoteSigner(l.origin, l.key)
	if err != nil {
		l.t.Fatal(err)
	}
	signed, err := note.Sign(&note.Note{Text: text}, s)
	if err != nil {
		l.t.Fatal(err)
	}
	stamp := l.stamp
	if stamp.IsZero() {
		stamp = time.Now()
	}
	for _, w := range l.cosigners {
		k, err := policy.ParseVKey(w.VKeys()[0])
		if err != nil {
			l.t.Fatal(err)
		}
		sig := binary.BigEndian.AppendUint64(nil, uint64(stamp.Unix()))
		sig = append(sig, ed25519.Sign(w.Ed25519.(ed25519.PrivateKey), policy.CosignatureMessage(stamp.Unix(), text))...)
		signed = append(signed, policy.FormatSignature(w.Name, k.ID(), sig)...)
	}
	return signed
}

// setCheckpoint serves another checkpoint.
func (l *testLog) setCheckpoint(note []byte) (undo func()) { return l.replace("checkpoint", note) }

// fork returns a log with the same key and witnesses, and the first n entries the same.
func (l *testLog) fork(n int) *testLog {
	l.t.Helper()
	f := newTestLog(l.t, l.origin)
	f.ct = l.ct
	l.mu.Lock()
	defer l.mu.Unlock()
	f.sequence(l.entries[:n]...)
	return f
}

// become serves what another log serves.
func (l *testLog) become(other *testLog) (undo func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	old := l.files
	other.mu.Lock()
	l.files = maps.Clone(other.files)
	other.mu.Unlock()
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.files = old
	}
}

func gzipped(data []byte) []byte {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	z.Write(data)
	z.Close()
	return b.Bytes()
}

// newTestLogKey returns the vkey of another key of the same name.
func newTestLogKey(origin, seed string) string {
	return keys.VKey(origin, keys.AlgEd25519, seedKey(seed).Public().(ed25519.PublicKey))
}
