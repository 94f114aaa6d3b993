package driver_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/transparency-dev/tessera"
	"golang.org/x/mod/sumdb/note"

	"tallywood/storage"
	"tallywood/storage/driver"
	"tallywood/storage/mem"
)

const slot0 = "state/test/log/00000000000000000000"

func slotKey(n int) string { return fmt.Sprintf("state/test/log/%020d", n) }

// refuses checks that Open finds damage, and writes nothing.
func refuses(t *testing.T, o driver.Options, want string) {
	t.Helper()
	before := dump(t, o.Bucket)
	l, err := driver.Open(t.Context(), o)
	if err == nil {
		l.Close()
		t.Fatalf("Open accepted: want %q", want)
	}
	var damage *driver.DamageError
	if !errors.As(err, &damage) || !strings.Contains(err.Error(), want) {
		t.Fatalf("Open: %v, want damage that says %q", err, want)
	}
	if after := dump(t, o.Bucket); len(after) != len(before) {
		t.Fatalf("a refused log went from %d to %d objects", len(before), len(after))
	}
}

// refusesAs is refuses for a bucket that is whole.
func refusesAs(t *testing.T, o driver.Options, want error, says string) {
	t.Helper()
	before := dump(t, o.Bucket)
	_, err := driver.Open(t.Context(), o)
	if _, damaged := errors.AsType[*driver.DamageError](err); damaged || !errors.Is(err, want) || !strings.Contains(err.Error(), says) {
		t.Fatalf("Open: %v, want %v that says %q", err, want, says)
	}
	if after := dump(t, o.Bucket); !maps.EqualFunc(before, after, bytes.Equal) {
		t.Fatal("a refused log was changed")
	}
}

// dump returns the objects of b.
func dump(t testing.TB, b storage.Bucket) map[string][]byte {
	t.Helper()
	objects := make(map[string][]byte)
	for key, err := range b.List(context.Background(), "") {
		if err != nil {
			t.Fatal(err)
		}
		objects[key] = get(t, b, key)
	}
	return objects
}

// TestInitTable is the table of storage-protocol section 2: what Open does about each combination
// of the objects that init creates.
func TestInitTable(t *testing.T) {
	whole := func(t *testing.T) *mem.Bucket {
		b := mem.New()
		open(t, options(t, b))
		return b
	}
	for _, c := range []struct {
		name   string
		drop   []string
		refuse string // "" means that it opens
	}{
		{"nothing", []string{"state/test/identity", "state/test/floor", slot0}, ""},
		{"identity only", []string{"state/test/floor", slot0}, ""},
		{"identity and floor", []string{slot0}, ""},
		{"all", nil, ""},
		{"slot 0 without floor", []string{"state/test/floor"}, "slot 0 but no floor"},
		{"slot 0 alone", []string{"state/test/identity", "state/test/floor"}, "slot 0 but no floor"},
		{"floor without identity", []string{"state/test/identity", slot0}, "floor but no identity"},
		{"slot 0 and floor without identity", []string{"state/test/identity"}, "floor but no identity"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := whole(t)
			identity := get(t, b, "state/test/identity")
			if err := b.Delete(t.Context(), c.drop...); err != nil {
				t.Fatal(err)
			}
			if c.refuse != "" {
				refuses(t, options(t, b), c.refuse)
				return
			}
			open(t, options(t, b))
			if c.name != "nothing" && !bytes.Equal(get(t, b, "state/test/identity"), identity) {
				t.Error("the identity changed")
			}
			for _, key := range []string{"state/test/identity", "state/test/floor", slot0} {
				if get(t, b, key) == nil {
					t.Errorf("%s is missing", key)
				}
			}
		})
	}
}

func TestInitObjects(t *testing.T) {
	b := mem.New()
	o := options(t, b)
	o.Store = "mem:"
	open(t, o)
	var identity struct {
		Format         int
		Origin         string
		VKeys          []string
		UUID           string `json:"log_uuid"`
		Store, Created string
	}
	raw := get(t, b, "state/test/identity")
	if err := json.Unmarshal(raw, &identity); err != nil {
		t.Fatal(err)
	}
	if identity.Format != 1 || identity.Origin != origin || identity.VKeys[0] != o.VKeys[0] ||
		len(identity.UUID) != 32 || identity.Store != "mem:" || !strings.HasSuffix(identity.Created, "Z") {
		t.Errorf("identity is %s", raw)
	}
	empty := fmt.Sprintf("%x", sha256.Sum256(nil))
	want := fmt.Sprintf(`{"seq":1,"n":0,"size":0,"root":"%s","range":[],"rec":"%x","epoch":0,"leader":-1,"pub_size":0,"swept":0}`+"\n",
		empty, sha256.Sum256(raw))
	if got := get(t, b, "state/test/floor"); string(got) != want {
		t.Errorf("floor is\n%s not\n%s", got, want)
	}
}

func TestOpenRefusesOtherOriginOrKeys(t *testing.T) {
	b := mem.New()
	open(t, options(t, b))
	o := options(t, b)
	s, vkey := newKey(t, "other.example.org")
	o.Origin, o.Signers, o.VKeys = s.Name(), []note.Signer{s}, []string{vkey}
	refusesAs(t, o, driver.ErrOtherLog, o.VKeys[0])

	skey, vkey, err := note.GenerateKey(nil, origin)
	if err != nil {
		t.Fatal(err)
	}
	if s, err = note.NewSigner(skey); err != nil {
		t.Fatal(err)
	}
	o.Origin, o.Signers, o.VKeys = origin, []note.Signer{s}, []string{vkey}
	refusesAs(t, o, driver.ErrOtherLog, o.VKeys[0])
}

func TestOpenRefusesOtherFormat(t *testing.T) {
	b := mem.New()
	open(t, options(t, b))
	put(t, b, "state/test/identity", []byte(`{"format":2,"kind":"tlog"}`+"\n"))
	refusesAs(t, options(t, b), driver.ErrFormat, "the log has format 2, this program knows 1")
	for _, none := range []string{`{}`, `{"format":null}`, `{"format":"1"}`, `[1]`} {
		put(t, b, "state/test/identity", []byte(none+"\n"))
		refuses(t, options(t, b), "parsing identity")
	}
}

func TestOpenChecksOptions(t *testing.T) {
	_, other := newKey(t, "other.example.org")
	for name, change := range map[string]func(*driver.Options){
		"no bucket":    func(o *driver.Options) { o.Bucket = nil },
		"no name":      func(o *driver.Options) { o.Name = "" },
		"deep name":    func(o *driver.Options) { o.Name = "a/b" },
		"dots":         func(o *driver.Options) { o.Name = ".." },
		"no layout":    func(o *driver.Options) { o.Layout = driver.Layout{} },
		"no signer":    func(o *driver.Options) { o.Signers = nil },
		"no vkey":      func(o *driver.Options) { o.VKeys = nil },
		"other vkey":   func(o *driver.Options) { o.VKeys = []string{other} },
		"other origin": func(o *driver.Options) { o.Origin = "other.example.org" },
		"long URL":     func(o *driver.Options) { o.URL = strings.Repeat("a", 1025) },
		"negative":     func(o *driver.Options) { o.BatchMaxSize = -1 },
	} {
		o := options(t, mem.New())
		change(&o)
		if _, err := driver.Open(t.Context(), o); err == nil {
			t.Errorf("accepted options with %s", name)
		}
	}
}

// damaged returns a log of 300 entries of which the last 40 are not published: the bucket has the
// checkpoint of size 260 and tiles up to there.
func damaged(t *testing.T) *mem.Bucket {
	t.Helper()
	b := mem.New()
	l := open(t, options(t, b))
	stop := lead(t, l)
	add(t, l, 0, 100)
	add(t, l, 100, 260)
	quit(t, l, stop)
	published := dump(t, b)
	l = open(t, options(t, b))
	stop = lead(t, l)
	add(t, l, 260, 300)
	quit(t, l, stop)
	for key, data := range dump(t, b) {
		if !strings.HasPrefix(key, "logs/test/") {
			continue
		}
		if old, ok := published[key]; !ok {
			if err := b.Delete(t.Context(), key); err != nil {
				t.Fatal(err)
			}
		} else if !bytes.Equal(old, data) {
			put(t, b, key, old)
		}
	}
	if tree := stored(t, b); tree.N != 260 {
		t.Fatalf("checkpoint of size %d", tree.N)
	}
	return b
}

func TestOpenFinishesWhatWasNotPublished(t *testing.T) {
	b := damaged(t)
	l := open(t, options(t, b))
	if size, root := l.Head(); size != 300 || root != newOracle(t, 300).root(t, 300) {
		t.Fatalf("opened at size %d", size)
	}
	if _, ok := l.OldestUnpublished(); !ok {
		t.Error("nothing counts as unpublished")
	}
	stop := lead(t, l)
	if _, err := l.Await(t.Context(), 300); err != nil {
		t.Fatal(err)
	}
	checkProofs(t, l, newOracle(t, 300), 300)
	quit(t, l, stop)
	checkLog(t, options(t, b), 300)
}

// newest returns the newest slot.
func newest(t testing.TB, b storage.Bucket) int {
	t.Helper()
	var floor struct{ N int }
	if err := json.Unmarshal(get(t, b, "state/test/floor"), &floor); err != nil {
		t.Fatal(err)
	}
	n := floor.N
	for get(t, b, slotKey(n+1)) != nil {
		n++
	}
	return n
}

// TestOpenRefusesTampering changes one object at a time, of a log with an unpublished tail.
func TestOpenRefusesTampering(t *testing.T) {
	flip := func(at int) func([]byte) []byte {
		return func(b []byte) []byte {
			if at < 0 {
				at += len(b)
			}
			b[at] ^= 1
			return b
		}
	}
	gone := func([]byte) []byte { return nil }
	for _, c := range []struct {
		name, key string
		change    func([]byte) []byte
		want      string
	}{
		{"tile", "logs/test/tile/0/001.p/4", flip(0), "do not lead to its root"},
		{"upper tile", "logs/test/tile/1/000.p/1", flip(0), "do not lead to its root"},
		{"short tile", "logs/test/tile/0/001.p/4", func(b []byte) []byte { return b[:64] }, "bytes at the edge"},
		{"missing tile", "logs/test/tile/0/001.p/4", gone, "is missing"},
		{"bundle", "logs/test/tile/entries/001.p/4", flip(-1), "does not match its tile"},
		{"cut bundle", "logs/test/tile/entries/001.p/4", flip(1), "entry bundle"},
		{"missing bundle", "logs/test/tile/entries/001.p/4", gone, "is missing"},
		{"checkpoint", "logs/test/checkpoint", flip(len(origin) + 1), "opening the stored checkpoint"},
		{"missing checkpoint", "logs/test/checkpoint", gone, ""},
		{"identity", "state/test/identity", func(b []byte) []byte {
			return bytes.Replace(b, []byte(`"store":""`), []byte(`"store":"x"`), 1)
		}, "floor is not that of the identity"},
		{"identity syntax", "state/test/identity", flip(0), "parsing identity"},
		{"floor", "state/test/floor", flip(10), "parsing floor"},
		{"tail payload", "newest but one", flip(-1), "not those of the header"},
		{"tail header", "newest but one", flip(5), "slot"},
		{"last header", "newest", flip(5), "slot"},
		{"hint", "state/test/head", func([]byte) []byte { return []byte(`{"n":99999,"seq":1}`) }, ""},
		{"hint syntax", "state/test/head", flip(0), ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := damaged(t)
			switch c.key {
			case "newest": // the released record
				c.key = slotKey(newest(t, b))
			case "newest but one":
				c.key = slotKey(newest(t, b) - 1)
			}
			if data := c.change(get(t, b, c.key)); data != nil {
				put(t, b, c.key, data)
			} else if err := b.Delete(t.Context(), c.key); err != nil {
				t.Fatal(err)
			}
			if c.want != "" {
				refuses(t, options(t, b), c.want)
				return
			}
			l := open(t, options(t, b))
			if size, _ := l.Head(); size != 300 {
				t.Errorf("opened at size %d", size)
			}
		})
	}
}

// TestOpenRefusesRollback puts an older state back: a checkpoint that no record of the bucket covers.
func TestOpenRefusesRollback(t *testing.T) {
	b := mem.New()
	l := open(t, options(t, b))
	stop := lead(t, l)
	add(t, l, 0, 10)
	quit(t, l, stop)
	old := dump(t, b)
	l = open(t, options(t, b))
	stop = lead(t, l)
	add(t, l, 10, 20)
	quit(t, l, stop)
	for key := range dump(t, b) {
		if _, ok := old[key]; !ok && strings.HasPrefix(key, "state/test/log/") {
			if err := b.Delete(t.Context(), key); err != nil {
				t.Fatal(err)
			}
		}
	}
	refuses(t, options(t, b), "the checkpoint of size 20 is of no record")

	// The same sizes, but a fork of the same log: records of another history.
	fork := mem.New()
	for key, data := range old {
		put(t, fork, key, data)
	}
	l = open(t, options(t, fork))
	stop = lead(t, l)
	add(t, l, 10, 15)
	quit(t, l, stop)
	put(t, fork, "logs/test/checkpoint", get(t, b, "logs/test/checkpoint"))
	refuses(t, options(t, fork), "has size 15")

	// Another history up to the very size.
	fork = mem.New()
	for key, data := range old {
		put(t, fork, key, data)
	}
	l = open(t, options(t, fork))
	stop = lead(t, l)
	for i := range int64(10) {
		if _, err := l.Add(t.Context(), tessera.NewEntry(data(i)))(); err != nil {
			t.Fatal(err)
		}
	}
	quit(t, l, stop)
	put(t, fork, "logs/test/checkpoint", get(t, b, "logs/test/checkpoint"))
	refuses(t, options(t, fork), "has another root")
}
