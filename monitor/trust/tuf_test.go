package trust_test

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/theupdateframework/go-tuf/v2/metadata"

	catrust "tallywood/ca/trust"
	"tallywood/monitor/trust"
)

// A repository is a TUF repository in a directory, all of whose roles have one key.
type repository struct {
	t       *testing.T
	dir     string
	url     string
	signer  signature.Signer
	root    *metadata.Metadata[metadata.RootType]
	version int64
	expires time.Time // of the timestamp
	late    time.Time // of targets and snapshot
}

func newRepository(t *testing.T) *repository {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	r := &repository{t: t, dir: t.TempDir(), expires: time.Now().Add(10 * time.Hour), late: time.Now().Add(90 * time.Hour)}
	if r.signer, err = signature.LoadSigner(private, crypto.Hash(0)); err != nil {
		t.Fatal(err)
	}
	key, err := metadata.KeyFromPublicKey(private.Public())
	if err != nil {
		t.Fatal(err)
	}
	r.root = metadata.Root(time.Now().Add(100 * time.Hour).UTC().Truncate(time.Second))
	for _, role := range []string{metadata.ROOT, metadata.TARGETS, metadata.SNAPSHOT, metadata.TIMESTAMP} {
		if err := r.root.Signed.AddKey(key, role); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(r.dir, "targets"), 0o755); err != nil {
		t.Fatal(err)
	}
	write(r, "1.root.json", r.root)
	server := httptest.NewServer(http.FileServer(http.Dir(r.dir)))
	t.Cleanup(server.Close)
	r.url = server.URL
	return r
}

// newRoot publishes the next version of the root.
func (r *repository) newRoot() {
	r.t.Helper()
	r.root.Signed.Version++
	r.root.ClearSignatures()
	write(r, fmt.Sprintf("%d.root.json", r.root.Signed.Version), r.root)
}

// write signs a role's metadata and writes it.
func write[T metadata.Roles](r *repository, name string, m *metadata.Metadata[T]) {
	r.t.Helper()
	if _, err := m.Sign(r.signer); err != nil {
		r.t.Fatal(err)
	}
	if err := m.ToFile(filepath.Join(r.dir, name), true); err != nil {
		r.t.Fatal(err)
	}
}

// publish publishes a trusted root in the next versions of all other roles.
func (r *repository) publish(data []byte) {
	r.t.Helper()
	r.version++
	late := r.late.UTC().Truncate(time.Second)
	target, err := metadata.TargetFile().FromBytes(trust.DefaultTarget, data, "sha256")
	if err != nil {
		r.t.Fatal(err)
	}
	name := hex.EncodeToString(target.Hashes["sha256"]) + "." + trust.DefaultTarget
	if err := os.WriteFile(filepath.Join(r.dir, "targets", name), data, 0o644); err != nil {
		r.t.Fatal(err)
	}
	targets, snapshot := metadata.Targets(late), metadata.Snapshot(late)
	timestamp := metadata.Timestamp(r.expires.UTC().Truncate(time.Second))
	targets.Signed.Version, snapshot.Signed.Version, timestamp.Signed.Version = r.version, r.version, r.version
	targets.Signed.Targets[trust.DefaultTarget] = target
	snapshot.Signed.Meta["targets.json"] = metadata.MetaFile(r.version)
	timestamp.Signed.Meta["snapshot.json"] = metadata.MetaFile(r.version)
	write(r, fmt.Sprintf("%d.targets.json", r.version), targets)
	write(r, fmt.Sprintf("%d.snapshot.json", r.version), snapshot)
	write(r, "timestamp.json", timestamp)
}

func (r *repository) source(cache string) *trust.Source {
	r.t.Helper()
	s, err := trust.New(trust.Options{URL: r.url, Root: filepath.Join(r.dir, "1.root.json"), Cache: cache})
	if err != nil {
		r.t.Fatal(err)
	}
	return s
}

func TestTrustedRootFromTUF(t *testing.T) {
	r := newRepository(t)
	one := rootOf(t, []catrust.Log{{Origin: "log1.example.org", Public: edKey(t), Start: begin}}, nil)
	two := rootOf(t, []catrust.Log{{Origin: "log2.example.org", Public: edKey(t), Start: begin}}, nil)
	r.publish(one)
	cache := filepath.Join(t.TempDir(), "tuf")
	s := r.source(cache)
	m, err := s.Fetch(t.Context())
	if err != nil || string(m.Data) != string(one) || m.Root != 1 || m.Role != metadata.TIMESTAMP || m.Expires.Sub(r.expires).Abs() > 2*time.Second {
		t.Fatalf("got %+v, %v", m, err)
	}
	old, err := os.ReadFile(filepath.Join(r.dir, "timestamp.json"))
	if err != nil {
		t.Fatal(err)
	}
	r.newRoot()
	r.publish(two)
	if m, err = s.Fetch(t.Context()); err != nil || string(m.Data) != string(two) || m.Root != 2 {
		t.Fatalf("got %+v, %v", m, err)
	}
	// Whoever remembers the newer one does not go back, also after a restart.
	if err := os.WriteFile(filepath.Join(r.dir, "timestamp.json"), old, 0o644); err != nil {
		t.Fatal(err)
	}
	if m, err := r.source(cache).Fetch(t.Context()); err == nil && string(m.Data) != string(two) {
		t.Errorf("went back to %s (%v)", m.Data, err)
	}
	// A cache that a power failure spoiled is begun anew from the pinned root.
	if err := os.WriteFile(filepath.Join(cache, "root.json"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	r.publish(two)
	if m, err := r.source(cache).Fetch(t.Context()); err != nil || m.Root != 2 {
		t.Errorf("got %+v, %v", m, err)
	}
}

// TestRolesThatExpireAtOnce are one thing to tell of, not another one with each look.
func TestRolesThatExpireAtOnce(t *testing.T) {
	r := newRepository(t)
	r.expires = r.late
	r.publish(rootOf(t, []catrust.Log{{Origin: "log1.example.org", Public: edKey(t), Start: begin}}, nil))
	s := r.source(filepath.Join(t.TempDir(), "tuf"))
	for range 20 {
		if m, err := s.Fetch(t.Context()); err != nil || m.Role != metadata.TARGETS || !m.Expires.Equal(r.late.Truncate(time.Second)) {
			t.Fatalf("got %s, %s, %v", m.Role, m.Expires, err)
		}
	}
}

func TestTrustedRootThatIsNotToBeTrusted(t *testing.T) {
	one := rootOf(t, []catrust.Log{{Origin: "log1.example.org", Public: edKey(t), Start: begin}}, nil)
	t.Run("expired", func(t *testing.T) {
		r := newRepository(t)
		r.expires = time.Now().Add(-time.Hour)
		r.publish(one)
		if _, err := r.source(t.TempDir()).Fetch(t.Context()); !errors.Is(err, trust.ErrExpired) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("another repository", func(t *testing.T) {
		r, other := newRepository(t), newRepository(t)
		r.publish(one)
		other.publish(one)
		r.url = other.url
		if m, err := r.source(t.TempDir()).Fetch(t.Context()); err == nil || errors.Is(err, trust.ErrExpired) {
			t.Errorf("got %+v, %v", m, err)
		}
	})
	t.Run("another target", func(t *testing.T) {
		r := newRepository(t)
		r.publish(one)
		targets, err := filepath.Glob(filepath.Join(r.dir, "targets", "*"))
		if err != nil || len(targets) != 1 {
			t.Fatal(targets, err)
		}
		if err := os.WriteFile(targets[0], append(one[:len(one)-1:len(one)-1], ' '), 0o644); err != nil {
			t.Fatal(err)
		}
		if m, err := r.source(t.TempDir()).Fetch(t.Context()); err == nil {
			t.Errorf("got %+v", m)
		}
	})
	for name, c := range map[string]struct {
		o    trust.Options
		want string
	}{
		"both":     {trust.Options{File: "f", URL: "https://tuf.example.org"}, "both"},
		"nothing":  {trust.Options{}, "not an http"},
		"no root":  {trust.Options{URL: "https://tuf.example.org", Cache: "c", Root: "nowhere.json"}, "nowhere.json"},
		"no cache": {trust.Options{URL: "https://tuf.example.org"}, "no directory"},
		"not TUF":  {trust.Options{URL: "https://tuf.example.org", Cache: "c", Root: "testdata/sigstore-public.json"}, "sigstore-public.json"},
	} {
		if _, err := trust.New(c.o); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
