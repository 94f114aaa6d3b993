package stack

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"tallywood/ca/trust"
	"tallywood/storage"
)

// WriteClientFiles writes what clients need into the configured client directory: the trusted
// root, the signing config, the policy of the signature logs, and env for shells; a stack that has
// nothing for clients of Sigstore leaves their files out. Files that are right already are left
// alone. It returns the names of those that changed.
func (s *Stack) WriteClientFiles(ctx context.Context) ([]string, error) {
	dir := s.cfg.ClientDir
	if dir == "" {
		return nil, nil
	}
	s.writing.Lock()
	defer s.writing.Unlock()
	files, err := s.sigstoreFiles(ctx)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("creating client directory: %w", err)
	}
	files = append(files, clientFile{"env", s.clientEnv()})
	policies := s.clientPolicies()
	for _, name := range slices.Sorted(maps.Keys(policies)) {
		file := name
		if s.ownPolicy(filepath.Join(dir, name)) {
			if len(s.cfg.RequiredPeers()) == 0 {
				continue
			}
			file = strings.TrimSuffix(name, ".txt") + "-with-peers.txt" // what clients are to demand is more than it says
		}
		files = append(files, clientFile{file, policies[name]})
	}
	var changed []string
	for _, f := range files {
		path := filepath.Join(dir, f.name)
		if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, f.data) {
			continue
		} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return changed, fmt.Errorf("reading client file: %w", err)
		}
		if err := replaceFile(path, f.data); err != nil {
			return changed, err
		}
		changed = append(changed, f.name)
	}
	return changed, nil
}

// A clientFile is a file of the client directory.
type clientFile struct {
	name string
	data []byte
}

// sigstoreFiles returns the files for clients of Sigstore, which know signatures, certificates and
// timestamps, and no log of anything else.
func (s *Stack) sigstoreFiles(ctx context.Context) ([]clientFile, error) {
	services := s.cfg.CA != nil || s.cfg.TSA != nil || s.hasKind("rekor")
	var files []clientFile
	if services || s.hasKind("ct") {
		root, err := s.trustedRoot(ctx)
		if err != nil {
			return nil, fmt.Errorf("writing trusted root: %w", err)
		}
		files = append(files, clientFile{"trusted_root.json", root})
	}
	if services {
		signing, err := s.signingConfig(ctx)
		if err != nil {
			return nil, fmt.Errorf("writing signing config: %w", err)
		}
		if signing != nil { // after the trusted root, which knows a log before anyone uses it
			files = append(files, clientFile{"signing_config.v0.2.json", signing})
		}
	}
	return files, nil
}

// hasKind reports whether one of the logs is of that kind.
func (s *Stack) hasKind(kind string) bool {
	return slices.ContainsFunc(s.parts(), func(l *logPart) bool { return l.cfg.Kind == kind })
}

// logStart is when a log began, as its identity object says: no signature of it is older.
func logStart(ctx context.Context, b storage.Bucket, name string) (time.Time, error) {
	data, _, err := b.Get(ctx, "state/"+name+"/identity", storage.Range{})
	if err != nil {
		return time.Time{}, fmt.Errorf("reading identity: %w", err)
	}
	var identity struct {
		Created time.Time `json:"created"`
	}
	if err := json.Unmarshal(data, &identity); err != nil {
		return time.Time{}, fmt.Errorf("parsing identity: %w", err)
	}
	return identity.Created.UTC().Truncate(time.Second), nil
}

// afterEnd is how much longer than a log takes entries its key is to be believed: a bundle's timestamp
// may be made after its entry, but within the life of its certificate.
const afterEnd = 10 * time.Minute

// validity returns from when to when the key of a log is to be believed; the end is zero while it signs.
func (s *Stack) validity(ctx context.Context, l *logPart) (start, end time.Time, err error) {
	if start, err = logStart(ctx, s.bucket, l.cfg.Name); err != nil {
		return start, end, fmt.Errorf("log %q: %w", l.cfg.Name, err)
	}
	if given := l.want().Start.Time; !given.IsZero() && given.Before(start) {
		start = given
	}
	if f := l.log.Frozen(); f != nil {
		end = f.Time.Add(afterEnd)
	}
	return start, end, nil
}

func (s *Stack) trustedRoot(ctx context.Context) ([]byte, error) {
	var root trust.Root
	for _, l := range s.parts() {
		start, end, err := s.validity(ctx, l)
		if err != nil {
			return nil, err
		}
		tl := trust.Log{Origin: l.cfg.Origin, Public: l.keys.public, Start: start, End: end}
		switch l.cfg.Kind {
		case "ct":
			root.CTLogs = append(root.CTLogs, tl)
		case "rekor":
			root.Logs = append(root.Logs, tl)
		}
	}
	// The chains in force: what is in the files now may have been refused at a reload.
	if s.ca != nil {
		root.CAs = []trust.Authority{{URI: s.cfg.URL, Chain: s.ca.current.Load().chain}}
	}
	if s.tsa != nil {
		root.TSAs = []trust.Authority{{URI: s.tsaURL(), Chain: s.tsa.current.Load().chain}}
	}
	return root.TrustedRoot()
}

func (s *Stack) tsaURL() string { return s.cfg.URL + "/api/v1/timestamp" }

// signingConfig returns the signing config, nil if there is nothing to sign with: every log is frozen.
func (s *Stack) signingConfig(ctx context.Context) ([]byte, error) {
	u, err := url.Parse(s.cfg.URL)
	if err != nil {
		return nil, err
	}
	c := trust.SigningConfig{Operator: u.Hostname()}
	if s.ca != nil {
		c.CAURL, c.Start = s.cfg.URL, s.ca.current.Load().chain[0].NotBefore.UTC()
	}
	if s.cfg.TSA != nil {
		c.TSAURL = s.tsaURL()
	}
	if s.cfg.DevOIDC != nil {
		c.OIDCURL = s.devIssuer()
	}
	// One log, since npm clients take any of several: the one that takes entries, and not its
	// successor before that does.
	if l := s.current().signatures(); l != nil && !l.ended() {
		c.RekorURL = s.cfg.LogURL(l.want())
		if c.RekorStart, _, err = s.validity(ctx, l); err != nil {
			return nil, err
		}
		if c.Start.IsZero() {
			c.Start = c.RekorStart
		}
	}
	if c.CAURL == "" && c.OIDCURL == "" && c.RekorURL == "" && c.TSAURL == "" {
		return nil, nil
	}
	return c.JSON()
}

// clientEnv is a shell script that sets what tallywood and scripts around it look for.
func (s *Stack) clientEnv() []byte {
	var out strings.Builder
	set := func(name, value string) {
		fmt.Fprintf(&out, "export %s='%s'\n", name, strings.ReplaceAll(value, "'", `'\''`))
	}
	set("TALLYWOOD_URL", s.cfg.URL)
	set("TALLYWOOD_TRUST", s.cfg.ClientDir)
	if s.cfg.DevOIDC != nil {
		set("TALLYWOOD_OIDC_ISSUER", s.devIssuer())
	}
	return []byte(out.String())
}
