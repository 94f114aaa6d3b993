package authorize_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"tallywood/monitor/authorize"
	"tallywood/monitor/rule"
)

// additions are digests by number for a manifest.
func additions(path string, s signer, now time.Time, digests ...int) authorize.Additions {
	a := authorize.Additions{Path: path, Signer: s.note, VKey: s.vkey, Now: now}
	for _, n := range digests {
		a.Statements = append(a.Statements, authorize.Statement{Kind: authorize.Digest, Value: digest(n)})
	}
	return a
}

func TestAppendGrowsAManifest(t *testing.T) {
	s := newSigner(t, "a")
	path := filepath.Join(t.TempDir(), "releases.txt")
	set := open(t, path, s, authorize.Options{})
	out, err := authorize.Append(additions(path, s, start.Add(time.Millisecond), 1, 2))
	if err != nil || !out.Created || len(out.Added) != 2 || out.Manifest.Serial != 1 || !out.Added[0].Added.Equal(start) {
		t.Fatalf("got %+v, %v", out, err)
	}
	wantUsed(t, set, "")
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o644 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	// What is there already changes nothing; what is new, or gets an expiry, does.
	out, err = authorize.Append(additions(path, s, start.Add(time.Minute), 1))
	if err != nil || out.Created || len(out.Added) != 0 || len(out.There) != 1 || out.Manifest.Serial != 1 || !out.There[0].Added.Equal(start) {
		t.Errorf("got %+v, %v", out, err)
	}
	later := additions(path, s, start.Add(time.Minute), 1, 2, 3)
	later.Statements[0].Expires = start.Add(time.Hour)
	out, err = authorize.Append(later)
	if err != nil || len(out.Added) != 2 || len(out.There) != 1 || out.Manifest.Serial != 2 || len(out.Manifest.Statements) != 3 {
		t.Fatalf("got %+v, %v", out, err)
	}
	if first := out.Manifest.Statements[0]; !first.Added.Equal(start) || !first.Expires.Equal(start.Add(time.Hour)) {
		t.Errorf("got %+v", first)
	}
	wantUsed(t, set, "")
	if !explained(set, 3) || set.Explains("tool", rule.Facts{Digest: digest(1)}, start.Add(2*time.Hour)) {
		t.Error("the new manifest does not count")
	}
	left, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(left) != 1 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestExpiredStatementsAreTakenOut(t *testing.T) {
	s := newSigner(t, "a")
	path := filepath.Join(t.TempDir(), "releases.txt")
	set := open(t, path, s, authorize.Options{})
	begin := time.Now().Add(-time.Hour)
	first := additions(path, s, begin, 1, 2)
	first.Statements[0].Expires = begin.Add(time.Minute).UTC().Truncate(time.Second)
	if _, err := authorize.Append(first); err != nil {
		t.Fatal(err)
	}
	wantUsed(t, set, "")
	drop := additions(path, s, time.Now())
	drop.Drop = true
	out, err := authorize.Append(drop)
	if err != nil || len(out.Dropped) != 1 || out.Dropped[0].Value != digest(1) || len(out.Manifest.Statements) != 1 || out.Manifest.Serial != 2 {
		t.Fatalf("got %+v, %v", out, err)
	}
	wantUsed(t, set, "")
	if out, err = authorize.Append(drop); err != nil || out.Manifest.Serial != 2 {
		t.Errorf("with nothing to take out: %+v, %v", out, err)
	}
}

func TestAppendRefuses(t *testing.T) {
	s, other := newSigner(t, "a"), newSigner(t, "b")
	dir := t.TempDir()
	path := filepath.Join(dir, "releases.txt")
	good := s.sign(t, text(1, 1))
	unsigned := additions(path, s, start, 2)
	unsigned.Signer = nil
	wrong := additions(path, s, start, 2)
	wrong.Statements[0].Value = "sha256:2"
	for what, c := range map[string]struct {
		manifest string
		a        authorize.Additions
		want     string
	}{
		"somebody else's manifest":    {other.sign(t, text(1, 1)), additions(path, s, start, 2), "none of the keys"},
		"one that was changed":        {strings.Replace(good, digest(1), digest(2), 1), additions(path, s, start, 2), "none of the keys"},
		"one without signature":       {text(1, 1), additions(path, s, start, 2), "it has no signature"},
		"a signed one for a bundle":   {good, unsigned, "signed with a note key"},
		"a clock that is behind":      {good, additions(path, s, start.Add(-time.Hour), 2), "clocks is wrong"},
		"what is no statement":        {good, wrong, "64 lower-case"},
		"something else":              {"x", additions(path, s, start, 2), "line feed"},
		"a directory":                 {good, additions(dir, s, start, 2), "not a regular file"},
		"a file of another directory": {good, additions(filepath.Join(dir, "nowhere", "r.txt"), s, start, 2), "no such file"},
	} {
		write(t, path, c.manifest)
		if _, err := authorize.Append(c.a); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want one with %q", what, err, c.want)
		}
		if data, err := os.ReadFile(path); err != nil || string(data) != c.manifest {
			t.Errorf("%s: the manifest was changed", what)
		}
	}
}

// TestAppendsAtOnceLoseNothing has pipelines append to one manifest at the same time.
func TestAppendsAtOnceLoseNothing(t *testing.T) {
	t.Parallel()
	s := newSigner(t, "a")
	path := filepath.Join(t.TempDir(), "releases.txt")
	const pipelines, each = 4, 8
	var wg sync.WaitGroup
	errs := make([]error, pipelines)
	for p := range pipelines {
		wg.Go(func() {
			for n := range each {
				_, err := authorize.Append(additions(path, s, start, p*each+n))
				errs[p] = errors.Join(errs[p], err)
			}
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	set := open(t, path, s, authorize.Options{})
	wantUsed(t, set, "")
	for n := range pipelines * each {
		if !explained(set, n) {
			t.Errorf("digest %d was lost", n)
		}
	}
	if out, err := authorize.Append(additions(path, s, start, 0)); err != nil || out.Manifest.Serial != pipelines*each {
		t.Errorf("serial %d, %v", out.Manifest.Serial, err)
	}
}
