package trust

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"
	"github.com/theupdateframework/go-tuf/v2/metadata/config"
	"github.com/theupdateframework/go-tuf/v2/metadata/updater"
)

// DefaultTarget is the name of the trusted root in a TUF repository.
const DefaultTarget = "trusted_root.json"

// ErrExpired reports trust material that has expired: there may be newer one that is withheld.
var ErrExpired = errors.New("TUF metadata has expired")

// Options say where a trusted root is: in File, or in the TUF repository at URL.
type Options struct {
	File string // a trusted_root.json; then nothing else is set

	URL    string // of the directory with timestamp.json
	Root   string // file with the root.json to begin with, of any version
	Target string // empty: DefaultTarget
	Cache  string // directory of the metadata seen last, made when needed; nobody else may write there
	HTTP   *http.Client
}

// A Source is where a trusted root is read again and again.
type Source struct{ o Options }

// A Material is a trusted root as it was read.
type Material struct {
	Data    []byte // trusted_root.json
	Root    int64  // version of the TUF root; 0: from a file
	Role    string // of the metadata that expires first
	Expires time.Time
}

// New checks o, and reads the first root.
func New(o Options) (*Source, error) {
	if o.File != "" {
		if o.URL != "" || o.Root != "" || o.Target != "" {
			return nil, errors.New("both a file and a TUF repository")
		}
		return &Source{o}, nil
	}
	u, err := url.Parse(o.URL)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return nil, fmt.Errorf("%q is not an http or https URL of a TUF repository", o.URL)
	}
	if o.Cache == "" {
		return nil, errors.New("no directory for TUF metadata")
	}
	if o.Target == "" {
		o.Target = DefaultTarget
	}
	if o.HTTP == nil {
		o.HTTP = http.DefaultClient
	}
	pinned, err := os.ReadFile(o.Root)
	if err != nil {
		return nil, fmt.Errorf("reading TUF root: %w", err)
	}
	if _, err := metadata.Root().FromBytes(pinned); err != nil {
		return nil, fmt.Errorf("reading TUF root %s: %w", o.Root, err)
	}
	return &Source{o}, nil
}

// Fetch returns the trusted root as it is now. One that was older than what was seen before, or not
// signed as the root demands, is an error.
func (s *Source) Fetch(ctx context.Context) (Material, error) {
	if s.o.File != "" {
		data, err := os.ReadFile(s.o.File)
		if err != nil {
			return Material{}, fmt.Errorf("reading trusted root: %w", err)
		}
		return Material{Data: data}, nil
	}
	m, err := s.fetch(ctx)
	var expired *metadata.ErrExpiredMetadata
	if errors.As(err, &expired) {
		err = fmt.Errorf("%w: %w", ErrExpired, err)
	}
	if err != nil {
		return Material{}, fmt.Errorf("reading trusted root from %s: %w", s.o.URL, err)
	}
	return m, nil
}

func (s *Source) fetch(ctx context.Context) (Material, error) {
	root, err := s.root()
	if err != nil {
		return Material{}, err
	}
	cfg, err := config.New(s.o.URL, root)
	if err != nil {
		return Material{}, err
	}
	cfg.LocalMetadataDir, cfg.LocalTargetsDir = s.o.Cache, filepath.Join(s.o.Cache, "targets")
	cfg.Fetcher = &fetcher{s.o.HTTP, func() context.Context { return ctx }}
	u, err := updater.New(cfg)
	if err != nil {
		return Material{}, err
	}
	if err := u.Refresh(); err != nil {
		return Material{}, err
	}
	info, err := u.GetTargetInfo(s.o.Target)
	if err != nil {
		return Material{}, err
	}
	if info.Length > MaxSize {
		return Material{}, fmt.Errorf("target %s of %d bytes is larger than %d", s.o.Target, info.Length, MaxSize)
	}
	_, data, err := u.FindCachedTarget(info, "")
	if err != nil || data == nil {
		_, data, err = u.DownloadTarget(info, "", "")
	}
	if err != nil {
		return Material{}, err
	}
	m := Material{Data: data}
	set := u.GetTrustedMetadataSet()
	m.Root = set.Root.Signed.Version
	m.Role, m.Expires = metadata.ROOT, set.Root.Signed.Expires
	for _, other := range []struct { // in an order: of several that expire at once it is always the same
		role string
		at   time.Time
	}{
		{metadata.TARGETS, set.Targets[metadata.TARGETS].Signed.Expires},
		{metadata.SNAPSHOT, set.Snapshot.Signed.Expires},
		{metadata.TIMESTAMP, set.Timestamp.Signed.Expires},
	} {
		if other.at.Before(m.Expires) {
			m.Role, m.Expires = other.role, other.at
		}
	}
	return m, nil
}

// root returns the root to begin with: the newest one seen, or, if that is not there or spoiled, the
// one that is configured, from which the newest is found again.
func (s *Source) root() ([]byte, error) {
	seen, err := os.ReadFile(filepath.Join(s.o.Cache, metadata.ROOT+".json"))
	if err == nil {
		if _, err := metadata.Root().FromBytes(seen); err == nil {
			return seen, nil
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return os.ReadFile(s.o.Root)
}

// A fetcher meets fetcher.Fetcher of go-tuf, which knows no context, for one Fetch.
type fetcher struct {
	http *http.Client
	ctx  func() context.Context
}

// DownloadFile returns what is at a URL, at most limit bytes.
func (f *fetcher) DownloadFile(url string, limit int64, _ time.Duration) ([]byte, error) {
	ctx, cancel := context.WithTimeout(f.ctx(), 30*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", "tallywood-monitor")
	res, err := f.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return nil, &metadata.ErrDownloadHTTP{StatusCode: res.StatusCode, URL: url}
	}
	data, err := io.ReadAll(io.LimitReader(res.Body, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = &metadata.ErrDownloadLengthMismatch{Msg: fmt.Sprintf("%s is larger than %d bytes", url, limit)}
	}
	return data, err
}
