package log_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"

	"tallywood/log"
	"tallywood/log/ctentry"
	"tallywood/storage"
	"tallywood/storage/driver"
	"tallywood/storage/mem"
)

// fullTile returns a full hash tile, and the partial ones that it replaces by width.
func fullTile() (full string, partial func(n int) string) {
	var b bytes.Buffer
	for i := range 256 {
		h := sha256.Sum256(fmt.Appendf(nil, "hash %d", i))
		b.Write(h[:])
	}
	return b.String(), func(n int) string { return b.String()[:32*n] }
}

// fullBundle does the same for an entry bundle of lengths that differ.
func fullBundle() (full string, partial func(n int) string) {
	var b bytes.Buffer
	ends := []int{0}
	for i := range 256 {
		e := strings.Repeat("x", 1+i*7%300)
		_ = binary.Write(&b, binary.BigEndian, uint16(len(e))) // a bytes.Buffer takes everything
		b.WriteString(e)
		ends = append(ends, b.Len())
	}
	return b.String(), func(n int) string { return b.String()[:ends[n]] }
}

// TestStaticServesPartialsOfFullTiles asks for partials that were collected.
func TestStaticServesPartialsOfFullTiles(t *testing.T) {
	tile, tilePart := fullTile()
	bundle, bundlePart := fullBundle()
	b := mem.New()
	for key, text := range map[string]string{
		"tile/0/x001/234": tile, "tile/1/000": tile, "tile/entries/x001/234": bundle,
		"tile/0/001.p/3": "as it is stored", "tile/0/001": tile,
		"tile/2/000": "short", "tile/entries/007": "short",
	} {
		if _, err := b.Put(t.Context(), "logs/l/"+key, []byte(text), storage.PutOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	s := httptest.NewServer(log.Static(b, "l"))
	t.Cleanup(s.Close)
	for _, n := range []int{1, 2, 100, 255} {
		for path, want := range map[string]string{
			"tile/0/x001/234": tilePart(n), "tile/1/000": tilePart(n), "tile/entries/x001/234": bundlePart(n),
		} {
			url := fmt.Sprintf("%s/%s.p/%d", s.URL, path, n)
			resp, body := do(t, "GET", url, "Accept-Encoding", "identity") // a range is of these bytes
			if resp.StatusCode != 200 || body != want || resp.Header.Get("Cache-Control") != "public, max-age=604800, immutable" {
				t.Errorf("%s: %d, %d bytes, %v; want %d bytes", url, resp.StatusCode, len(body), resp.Header, len(want))
			}
			if resp, part := do(t, "GET", url, "Range", "bytes=1-2", "If-Range", resp.Header.Get("ETag")); resp.StatusCode != 206 || part != want[1:3] {
				t.Errorf("%s: a range: %d, %d bytes", url, resp.StatusCode, len(part))
			}
			if resp, _ := do(t, "HEAD", url, "Accept-Encoding", "identity"); resp.ContentLength != int64(len(want)) {
				t.Errorf("%s: HEAD: %d", url, resp.ContentLength)
			}
		}
	}
	if resp, body := do(t, "GET", s.URL+"/tile/0/001.p/3"); resp.StatusCode != 200 || body != "as it is stored" {
		t.Errorf("a partial that is there: %d %q", resp.StatusCode, body)
	}
	for _, path := range []string{"tile/0/002.p/3", "tile/entries/002.p/3"} {
		if resp, _ := do(t, "GET", s.URL+"/"+path); resp.StatusCode != 404 || resp.Header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s, of which nothing is there: %d %v", path, resp.StatusCode, resp.Header)
		}
	}
	for _, path := range []string{"tile/2/000.p/3", "tile/entries/007.p/3"} { // what is stored is none
		if resp, body := do(t, "GET", s.URL+"/"+path); resp.StatusCode != 503 || strings.Contains(body, "short") {
			t.Errorf("%s, of a damaged full one: %d %q", path, resp.StatusCode, body)
		}
	}
}

// TestStaticServesPartialsOfCertificateBundles uses a bundle that a certificate log wrote.
func TestStaticServesPartialsOfCertificateBundles(t *testing.T) {
	var full bytes.Buffer
	var ends []int
	for i := range 256 {
		extensions, err := ctentry.MarshalExtensions(int64(i))
		if err != nil {
			t.Fatal(err)
		}
		leaf, err := ctentry.Entry{Timestamp: int64(i), Certificate: bytes.Repeat([]byte{1}, 1+i*11%400), Extensions: extensions}.TileLeaf()
		if err != nil {
			t.Fatal(err)
		}
		full.Write(leaf)
		ends = append(ends, full.Len())
	}
	if entries, err := driver.StaticCT().Split(full.Bytes()); err != nil || len(entries) != 256 {
		t.Fatalf("%d entries, %v", len(entries), err)
	}
	b := mem.New()
	if _, err := b.Put(t.Context(), "logs/l/tile/data/003", full.Bytes(), storage.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(log.Static(b, "l"))
	t.Cleanup(s.Close)
	for _, n := range []int{1, 17, 255} {
		if resp, body := do(t, "GET", fmt.Sprintf("%s/tile/data/003.p/%d", s.URL, n)); resp.StatusCode != 200 || body != full.String()[:ends[n-1]] {
			t.Errorf("%d entries: %d, %d bytes", n, resp.StatusCode, len(body))
		}
	}
}
