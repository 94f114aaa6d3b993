package ctlog_test

import (
	"context"
	"crypto/x509"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	ct "github.com/google/certificate-transparency-go"
	"github.com/google/certificate-transparency-go/client"
	"github.com/google/certificate-transparency-go/jsonclient"
	"github.com/transparency-dev/tessera"
	"github.com/transparency-dev/tessera/api/layout"
	"github.com/transparency-dev/tessera/fsck"
	"golang.org/x/mod/sumdb/note"

	"tallywood/log/ctlog"
	"tallywood/storage"
)

// stored returns the bucket's checkpoint.
func (f *fixture) stored() []byte {
	f.t.Helper()
	cp, _, err := f.bucket.Get(f.t.Context(), "logs/"+name+"/checkpoint", storage.Range{})
	if err != nil {
		f.t.Fatal(err)
	}
	return cp
}

// awaitStored waits until the bucket's checkpoint is of size.
func (f *fixture) awaitStored(size int64) {
	f.t.Helper()
	want := strings.SplitAfter(text(size), "\n")[1]
	eventually(f.t, "the stored checkpoint", func() bool {
		cp, _, err := f.bucket.Get(f.t.Context(), "logs/"+name+"/checkpoint", storage.Range{})
		return err == nil && strings.HasPrefix(string(cp), origin+"\n"+want)
	})
}

func serve(t testing.TB, log *ctlog.Log) string {
	t.Helper()
	s := httptest.NewServer(log.Handler())
	t.Cleanup(s.Close)
	return s.URL
}

func TestUnmodifiedSubmitterVerifiesOurSCTs(t *testing.T) {
	f := newFixture(t)
	log, _, _ := f.run()
	mustAdd(t, log, f.ca.submission(t))
	spki, err := x509.MarshalPKIXPublicKey(f.key.Public())
	if err != nil {
		t.Fatal(err)
	}
	c, err := client.New(serve(t, log), http.DefaultClient, jsonclient.Options{PublicKeyDER: spki})
	if err != nil {
		t.Fatal(err)
	}
	chain := func(precert bool) []ct.ASN1Cert {
		out := []ct.ASN1Cert{{Data: f.ca.leaf(t, precert, nil).Raw}}
		for _, issuer := range f.ca.chain {
			out = append(out, ct.ASN1Cert{Data: issuer.Raw})
		}
		return out
	}
	// The client verifies the SCT and fails if it is not the log's.
	for precert, add := range map[bool]func(context.Context, []ct.ASN1Cert) (*ct.SignedCertificateTimestamp, error){
		true: c.AddPreChain, false: c.AddChain,
	} {
		submission := chain(precert)
		first, err := add(t.Context(), submission)
		if err != nil {
			t.Fatal(err)
		}
		again, err := add(t.Context(), submission)
		if err != nil || again.Timestamp != first.Timestamp || string(again.Signature.Signature) != string(first.Signature.Signature) {
			t.Errorf("the duplicate got another SCT (%v)", err)
		}
		if len(first.Extensions) != 8 {
			t.Errorf("%d bytes of extensions", len(first.Extensions))
		}
	}
	roots, err := c.GetAcceptedRoots(t.Context())
	if err != nil || len(roots) != 1 || string(roots[0].Data) != string(f.ca.chain[1].Raw) {
		t.Errorf("%d roots, %v", len(roots), err)
	}
}

// fetcher reads a log as Tessera's tools do, from the paths of static-ct-api.
type fetcher struct{ bucket storage.Bucket }

func (f fetcher) get(ctx context.Context, path string) ([]byte, error) {
	data, _, err := f.bucket.Get(ctx, "logs/"+name+"/"+path, storage.Range{})
	return data, err
}

func (f fetcher) ReadCheckpoint(ctx context.Context) ([]byte, error) { return f.get(ctx, "checkpoint") }

func (f fetcher) ReadTile(ctx context.Context, l, i uint64, p uint8) ([]byte, error) {
	return f.get(ctx, layout.TilePath(l, i, p))
}

func (f fetcher) ReadEntryBundle(ctx context.Context, i uint64, p uint8) ([]byte, error) {
	return f.get(ctx, "tile/data/"+layout.NWithSuffix(0, i, p))
}

func TestTesseraFindsNoFaultInTheTree(t *testing.T) {
	f := newFixture(t)
	log, l, _ := f.run()
	const entries = 300 // more than a tile
	for range entries {
		mustAdd(t, log, f.ca.submission(t))
	}
	eventually(t, "publication", func() bool { c, ok := l.Published(); return ok && c.Size() == entries })
	f.awaitStored(entries)
	v, err := note.NewVerifier(f.vkey())
	if err != nil {
		t.Fatal(err)
	}
	hasher := tessera.NewMigrationOptions().WithCTLayout().LeafHasher()
	if err := fsck.New(origin, v, fetcher{f.bucket}, hasher, fsck.Opts{}).Check(t.Context()); err != nil {
		t.Error(err)
	}
}
