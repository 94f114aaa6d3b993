package scenario_test

import (
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"tallywood/internal/mint"
	"tallywood/monitor/authorize"
	"tallywood/monitor/rule"
)

// watchReleases is a project that lists what it releases.
const watchReleases = `
identities:
  - name: tool
    github: example/tool
    expect:
      issuers: ["https://token.actions.githubusercontent.com"]
      authorize: {required: true, grace: 15m, from: ["DIR/manifest"], keys: ["DIR/release.vkey"]}
RULES
`

// authorize lists statements in the manifest.
func (s *stage) authorize(kind authorize.Kind, values ...string) {
	s.t.Helper()
	var statements []authorize.Statement
	for _, v := range values {
		statements = append(statements, authorize.Statement{Kind: kind, Value: v})
	}
	s.list("manifest", "releases", statements...)
}

// list lists statements in a manifest, which the key of a name signs. The first such key is the one that
// the configuration has.
func (s *stage) list(file, key string, statements ...authorize.Statement) {
	s.t.Helper()
	sum := sha256.Sum256([]byte(key))
	signer, vkey, err := authorize.NewSigner("releases.example.org", ed25519.NewKeyFromSeed(sum[:]))
	if err != nil {
		s.t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(s.dir, "release.vkey")); errors.Is(err, fs.ErrNotExist) {
		s.write("release.vkey", []byte(vkey+"\n"))
	}
	path := filepath.Join(s.dir, file)
	if _, err := authorize.Append(authorize.Additions{Path: path, Signer: signer, VKey: vkey, Statements: statements, Now: time.Now()}); err != nil {
		s.t.Fatal(err)
	}
}

// authorized begins a story with a manifest that lists one run, of long ago.
func authorized(story func(*stage)) func(*stage) {
	return func(s *stage) {
		s.replace("RULES", "")
		s.authorize(authorize.Run, "https://github.com/example/tool/actions/runs/1/attempts/1")
		s.look()
		story(s)
	}
}

// release has the tool released, and returns the digest.
func (s *stage) release(run int64) string {
	s.t.Helper()
	e := entryOf(mint.Run{Repository: "example/tool", Ref: "refs/tags/v1.0.0", ID: run}.GitHub())
	made := s.sign(e)[0]
	s.look()
	return fmt.Sprintf("sha256:%x", made.Digest)
}

var authorizeScenarios = []scenario{
	{rule: rule.IDUnauthorized, settings: watchReleases,
		trigger: authorized(func(s *stage) {
			s.release(7)
			s.after(20 * time.Minute)
		}),
		near: authorized(func(s *stage) { // listed before its grace time is over
			digest := s.release(7)
			s.after(10 * time.Minute)
			s.authorize(authorize.Digest, digest)
			s.after(20 * time.Minute)
		})},
	{rule: rule.IDUnauthorized, what: "beside one that was meant", settings: watchReleases,
		trigger: authorized(func(s *stage) {
			s.authorize(authorize.Run, "https://github.com/example/tool/actions/runs/7/attempts/1")
			s.release(7)
			s.release(8)
			s.after(20 * time.Minute)
		}),
		near: authorized(func(s *stage) {
			s.authorize(authorize.Run, "https://github.com/example/tool/actions/runs/7/attempts/1")
			s.release(7)
			s.release(7)
			s.after(20 * time.Minute)
		})},
	{rule: rule.IDMissing, settings: strings.Replace(watchReleases, "RULES", "    rules: {id.missing: {grace: 1h}}", 1),
		trigger: func(s *stage) { s.announced(false) },
		near:    func(s *stage) { s.announced(true) }},
	{rule: rule.AuthorizeUnusable, settings: watchReleases,
		trigger: authorized(func(s *stage) { s.spoilManifest("digest sha256:") }),
		near:    authorized(func(s *stage) { s.look() })},
}

// announced has the digest of a release listed, which is logged or not.
func (s *stage) announced(comes bool) {
	s.t.Helper()
	m := s.issue(entryOf(mint.Run{Repository: "example/tool", Ref: "refs/tags/v1.0.0", ID: 7}.GitHub()))
	s.authorize(authorize.Digest, fmt.Sprintf("sha256:%x", m.Digest))
	s.look()
	s.after(30 * time.Minute)
	if comes {
		s.logEntry(m.Bytes)
	}
	s.after(40 * time.Minute)
}

// spoilManifest adds text to the manifest that nobody has signed.
func (s *stage) spoilManifest(text string) {
	s.t.Helper()
	path := filepath.Join(s.dir, "manifest")
	data, err := os.ReadFile(path)
	if err != nil {
		s.t.Fatal(err)
	}
	s.write("manifest", append([]byte(text), data...))
	s.release(7)
	s.look()
}
