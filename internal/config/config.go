package config

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"tallywood/internal/keys"
)

// Config is the server's configuration file. Each section that is there is a part that runs.
type Config struct {
	// Host and port to listen on, for every part.
	Address string `yaml:"address"`
	// TLS on that address, 1.2 or newer. Default: none; it speaks plain HTTP.
	TLS *TLS `yaml:"tls,omitempty"`
	// Public base URL, without a slash at the end. Default: http://ADDRESS, with tls
	// https://ADDRESS, if that names a host.
	URL string `yaml:"url,omitempty"`
	// Base URL at which other processes on the same storage reach this one: they ask it whether it
	// leads, and pass writes on to it. Default: url.
	ReplicaURL string `yaml:"replica_url,omitempty"`
	// Host and port of the Prometheus listener. Default: none.
	MetricsAddress string `yaml:"metrics_address,omitempty"`
	// The bucket that holds all state: s3://BUCKET/PREFIX?region=REGION (&endpoint=URL for stores
	// other than AWS), gs://BUCKET/PREFIX, or file:DIR.
	Storage string `yaml:"storage"`
	// Directory for caches that are rebuilt when lost. Default: none; caches are in memory.
	CacheDir string `yaml:"cache_dir,omitempty"`
	// Directory whose trust files for clients are rewritten at start. Default: none.
	ClientDir string `yaml:"client_dir,omitempty"`
	// The logs.
	Logs []Log `yaml:"logs,omitempty"`
	// The certificate authority. Default: none.
	CA *CA `yaml:"ca,omitempty"`
	// The timestamp authority. Default: none.
	TSA *TSA `yaml:"tsa,omitempty"`
	// Witnesses that run in this process, at /witness/1/ and up, for the logs of peers and lists. For
	// the logs beside it a witness is not independent.
	Witnesses []Witness `yaml:"witnesses,omitempty"`
	// Other instances: each side's witnesses cosign the other's logs.
	Peers []Peer `yaml:"peers,omitempty"`
	// How many witnesses of peers must have cosigned before anything is published, beside the quorum of
	// the log's policy. Default: the majority of the peers that are not optional.
	PeerQuorum int `yaml:"peer_quorum,omitempty"`
	// The monitor. Default: none.
	Monitor *MonitorSection `yaml:"monitor,omitempty"`
	// The development issuer, for listeners on loopback addresses only. Default: none.
	DevOIDC *DevOIDC `yaml:"dev_oidc,omitempty"`
	// What one client may take, and what may wait.
	Limits *Limits `yaml:"limits,omitempty"`

	// Dir is the directory of the file; relative paths have been resolved against it.
	Dir string `yaml:"-"`
}

// Log is one transparency log.
type Log struct {
	// Name in URLs and object keys: /logs/NAME/…, lower-case letters, digits and hyphens.
	Name string `yaml:"name"`
	// What the log takes: rekor (signatures), ct (certificates) or tlog (anything).
	Kind string `yaml:"kind"`
	// First line of its checkpoints: a bare lower-case host name.
	Origin string `yaml:"origin"`
	// Signing key, file:PATH of a PKCS#8 PEM file or awskms://… or gcpkms://… of a key in a KMS:
	// Ed25519 for rekor and tlog, ECDSA P-256 for ct.
	Key string `yaml:"key"`
	// For ct only: the Ed25519 key of the note signature that witnesses and monitors verify, in a file
	// or a KMS like key.
	NoteKey string `yaml:"note_key,omitempty"`
	// For tlog only: the bearer token that whoever adds an entry must send, file:PATH of a file that
	// holds it. Default: none; anyone may add.
	AddToken string `yaml:"add_token,omitempty"`
	// The tlog-policy file whose quorum must have cosigned before anything is published.
	// "quorum none" in it, written out, is a log without witnesses.
	Policy string `yaml:"policy"`
	// How long an add waits for the quorum before it is answered 503. Default: 3s.
	QuorumTimeout Duration `yaml:"quorum_timeout,omitempty"`
	// Least time from one commit to the next: entries that come sooner share a record, unless
	// they fill one. An add waits as much longer. Default: 0s.
	CommitInterval Duration `yaml:"commit_interval,omitempty"`
	// Least time between two publications. Default: 0s, in an object store 200ms.
	PublishInterval Duration `yaml:"publish_interval,omitempty"`
	// "skip" leads the log even if too few witnesses answer to rule out that its storage was rolled
	// back to an older copy. Default: none; the log waits for them.
	RollbackCheck string `yaml:"rollback_check,omitempty"`
	// Where clients reach it, without a slash at the end: goes into the signing config, and tells those
	// who still write to its predecessor where to go. Default: url if its host is the origin, else
	// url/logs/NAME.
	URL string `yaml:"url,omitempty"`
	// active; or frozen: it takes entries until end, if one is set, and until its successor is
	// published, then no more. It goes on being read. Default: active.
	State string `yaml:"state,omitempty"`
	// From when its signatures are to be believed. Default: when it was created; never later.
	Start Time `yaml:"start,omitempty"`
	// For frozen only: when it is to be frozen, at the earliest. Default: at once.
	End Time `yaml:"end,omitempty"`
	// For frozen only: name of the log that takes its entries. Default: for rekor the active log, for ct
	// the one of the CA, else none.
	Successor string `yaml:"successor,omitempty"`
}

// CA is the certificate authority.
type CA struct {
	// PEM file with the issuing certificate first and the root last.
	Chain string `yaml:"chain"`
	// Key of the issuing certificate, file:PATH of a PKCS#8 PEM file or a key in a KMS.
	Key string `yaml:"key"`
	// Name of the log of kind ct that every certificate goes to before it is issued.
	CTLog string `yaml:"ct_log"`
	// Issuers file, in Fulcio's schema.
	Issuers string `yaml:"issuers"`
	// File to which one line of JSON is appended for every certificate before it is issued; when it
	// cannot be, none is. Monitors compare the certificate log with it (x.ca-issued-not-in-ca-audit).
	// Default: none.
	AuditFile string `yaml:"audit_file,omitempty"`
}

// TSA is the timestamp authority.
type TSA struct {
	// PEM file with the signing certificate first and the root last.
	Chain string `yaml:"chain"`
	// Key of the signing certificate, file:PATH of a PKCS#8 PEM file or a key in a KMS.
	Key string `yaml:"key"`
}

// MonitorSection starts the monitor in this process.
type MonitorSection struct {
	// The monitor's own configuration file, also for "tallywood monitor".
	Config string `yaml:"config"`
}

// DevOIDC is the development issuer.
type DevOIDC struct {
	// Its path below the base URL, such as /dev/oidc; none of another part.
	Path string `yaml:"path"`
	// Its signing key, file:PATH of a PKCS#8 PEM file. Default: a new one at each start.
	Key string `yaml:"key,omitempty"`
}

// DefaultQuorumTimeout leaves npm clients, which give up after five seconds, time to be answered.
const DefaultQuorumTimeout = 3 * time.Second

// objectStorePublishInterval is the default of publish_interval in an object store.
const objectStorePublishInterval = 200 * time.Millisecond

// maxMergeWait is what a log may wait for more entries; the merge delay of certificate logs is a minute.
const maxMergeWait = Duration(30 * time.Second)

// devPath is what may be the path of the development issuer; takenPaths are those of other parts, by
// their first element.
var (
	devPath    = regexp.MustCompile(`^(/[A-Za-z0-9_-][A-Za-z0-9._-]*)+$`)
	takenPaths = []string{"api", "checkpoint", "ct", "logs", "monitor", "tile", "witness"}
)

var logName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

// Load reads and checks the server configuration at path, with the process's environment.
func Load(path string) (*Config, error) {
	data, err := readFile(path)
	if err != nil {
		return nil, err
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("locating configuration: %w", err)
	}
	c, err := Parse(data, filepath.Dir(abs), os.LookupEnv)
	if err != nil {
		return nil, fmt.Errorf("configuration %s: %w", path, err)
	}
	return c, nil
}

// Parse reads and checks a server configuration whose relative paths are relative to dir.
func Parse(data []byte, dir string, getenv func(string) (string, bool)) (*Config, error) {
	c := &Config{Dir: dir}
	if err := decode(data, getenv, c, refuseZeros(serverAmounts)); err != nil {
		return nil, err
	}
	c.setDefaults()
	if err := errors.Join(c.checkServer(), c.checkTLS(), c.checkLogs(), c.checkShards(), c.checkParts(), c.checkPeers(), c.Limits.check(), c.resolve(), c.checkExports()); err != nil {
		return nil, err
	}
	return c, nil
}

// SetAddress puts another listen address in place of the configured one; a base URL that was
// the default follows it.
func (c *Config) SetAddress(address string) {
	if c.ReplicaURL == c.scheme()+c.Address {
		c.ReplicaURL = c.scheme() + address
	}
	if c.URL == c.scheme()+c.Address {
		c.URL = c.scheme() + address
	}
	c.Address = address
}

func (c *Config) setDefaults() {
	if host, port, err := net.SplitHostPort(c.Address); c.URL == "" && err == nil {
		if everyHost(host) && c.ClientDir == "" { // nobody else is told
			host = "localhost"
		}
		if !everyHost(host) {
			c.URL = c.scheme() + net.JoinHostPort(host, port)
		}
	}
	if c.ReplicaURL == "" {
		c.ReplicaURL = c.URL
	}
	if c.Limits == nil {
		c.Limits = &Limits{}
	}
	c.Limits.setDefaults()
	for i := range c.Logs {
		l := &c.Logs[i]
		if l.QuorumTimeout == 0 {
			l.QuorumTimeout = Duration(DefaultQuorumTimeout)
		}
		if l.PublishInterval == 0 && IsObjectStore(c.Storage) {
			l.PublishInterval = Duration(objectStorePublishInterval) // each costs requests
		}
		if l.State == "" {
			l.State = StateActive
		}
	}
	c.setSuccessors()
	c.setPeers()
}

func (c *Config) checkServer() error {
	var errs []error
	host, _, err := net.SplitHostPort(c.Address)
	if err != nil {
		errs = append(errs, fmt.Errorf("address %q is not HOST:PORT", c.Address))
	}
	if c.MetricsAddress != "" {
		if _, _, err := net.SplitHostPort(c.MetricsAddress); err != nil {
			errs = append(errs, fmt.Errorf("metrics_address %q is not HOST:PORT", c.MetricsAddress))
		}
	}
	if c.URL == "" && err == nil {
		errs = append(errs, fmt.Errorf("url is missing: address %q names no host that clients could reach; want url: http(s)://HOST[:PORT], which goes into the trust files in client_dir", c.Address))
	}
	for key, value := range map[string]string{"url": c.URL, "replica_url": c.ReplicaURL} {
		if value != "" && !baseURL(value) {
			if u, err := url.Parse(value); err == nil {
				value = u.Redacted()
			}
			errs = append(errs, fmt.Errorf("%s %q is not http(s)://HOST[:PORT] without a slash at the end", key, value))
		}
	}
	if c.DevOIDC != nil && !Loopback(host) {
		errs = append(errs, fmt.Errorf("dev_oidc needs a loopback address: it gives anyone who can reach it any identity; address is %q", c.Address))
	}
	return errors.Join(errs...)
}

// everyHost reports whether host, of a listen address, stands for all addresses of the machine.
func everyHost(host string) bool {
	ip := net.ParseIP(host)
	return host == "" || ip != nil && ip.IsUnspecified()
}

// Loopback reports whether host is localhost or a loopback IP address.
func Loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func (c *Config) checkLogs() error {
	var errs []error
	names, origins := map[string]bool{}, map[string]bool{}
	for i, l := range c.Logs {
		fail := func(format string, args ...any) {
			errs = append(errs, fmt.Errorf("log %d (%q): %w", i+1, l.Name, fmt.Errorf(format, args...)))
		}
		if l.RollbackCheck != "" && l.RollbackCheck != "skip" {
			fail("rollback_check %q is not skip", l.RollbackCheck)
		}
		if !logName.MatchString(l.Name) {
			fail("the name must be lower-case letters, digits and hyphens")
		}
		if names[l.Name] || origins[l.Origin] {
			fail("another log has the same name or origin")
		}
		names[l.Name], origins[l.Origin] = true, true
		if err := keys.CheckOrigin(l.Origin); err != nil {
			fail("%w", err)
		}
		if err := l.checkKind(); err != nil {
			fail("%w", err)
		}
		if l.Policy == "" {
			fail("policy is missing; a log without witnesses says so with a policy file of the line \"quorum none\" and its own key")
		}
		switch {
		case l.Kind != "ct" && l.CommitInterval+l.PublishInterval >= l.QuorumTimeout:
			fail("adds wait for a publication, so commit_interval (%v) and publish_interval (%v) together must be shorter than quorum_timeout (%v)",
				time.Duration(l.CommitInterval), time.Duration(l.PublishInterval), time.Duration(l.QuorumTimeout))
		case l.CommitInterval+l.PublishInterval > maxMergeWait:
			fail("commit_interval and publish_interval together are longer than %v: a certificate log must publish within a minute", time.Duration(maxMergeWait))
		}
	}
	return errors.Join(errs...)
}

// checkKind says which keys are missing from a log of its kind, or belong to others.
func (l Log) checkKind() error {
	var errs []error
	fail := func(wrong bool, text string) {
		if wrong {
			errs = append(errs, errors.New(text))
		}
	}
	if !slices.Contains([]string{"rekor", "ct", "tlog"}, l.Kind) {
		return fmt.Errorf("kind %q is not rekor, ct or tlog", l.Kind)
	}
	fail(l.Kind == "ct" && l.NoteKey == "", "a log of kind ct needs a note_key (Ed25519) beside its key (ECDSA P-256)")
	fail(l.Kind != "ct" && l.NoteKey != "", "note_key belongs to logs of kind ct")
	fail(l.Kind != "tlog" && l.AddToken != "", "add_token belongs to logs of kind tlog")
	return errors.Join(errs...)
}

// LogNamed returns the log of that name.
func (c *Config) LogNamed(name string) (Log, bool) {
	for _, l := range c.Logs {
		if l.Name == name {
			return l, true
		}
	}
	return Log{}, false
}

func (c *Config) checkParts() error {
	var errs []error
	missing := func(section, key, value string) {
		if value == "" {
			errs = append(errs, fmt.Errorf("%s: %s is missing", section, key))
		}
	}
	if ca := c.CA; ca != nil {
		missing("ca", "chain", ca.Chain)
		missing("ca", "issuers", ca.Issuers)
		if l, ok := c.LogNamed(ca.CTLog); !ok || l.Kind != "ct" {
			errs = append(errs, fmt.Errorf("ca: ct_log %q is not a log of kind ct", ca.CTLog))
		} else if l.State == StateFrozen {
			errs = append(errs, fmt.Errorf("ca: ct_log %q is frozen; name the log that certificates go to now", ca.CTLog))
		}
	}
	if c.TSA != nil {
		missing("tsa", "chain", c.TSA.Chain)
	}
	if c.Monitor != nil {
		missing("monitor", "config", c.Monitor.Config)
	}
	if c.DevOIDC != nil && !devPath.MatchString(c.DevOIDC.Path) {
		errs = append(errs, fmt.Errorf("dev_oidc: path %q is not one such as /dev/oidc", c.DevOIDC.Path))
	} else if c.DevOIDC != nil {
		if first, _, _ := strings.Cut(c.DevOIDC.Path[1:], "/"); slices.Contains(takenPaths, first) {
			errs = append(errs, fmt.Errorf("dev_oidc: path %q is among those of other parts; want one such as /dev/oidc", c.DevOIDC.Path))
		}
	}
	errs = append(errs, c.checkWitnesses())
	if len(c.Logs) == 0 && c.CA == nil && c.TSA == nil && len(c.Witnesses) == 0 && c.Monitor == nil {
		errs = append(errs, errors.New("nothing to run: no logs, ca, tsa, witnesses or monitor"))
	}
	return errors.Join(errs...)
}

// resolve makes the paths absolute; file: URLs become paths. Keys in a KMS stay what they are.
func (c *Config) resolve() error {
	var errs []error
	for _, f := range c.files() {
		if f.kms && InKMS(*f.field) {
			continue
		}
		path, err := resolveFile(c.Dir, *f.field)
		if err != nil && f.kms {
			err = fmt.Errorf("%w, awskms://… or gcpkms://…", err)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", f.name, err))
			continue
		}
		*f.field = path
	}
	path := func(field *string) { *field = resolve(c.Dir, *field) }
	path(&c.CacheDir)
	path(&c.ClientDir)
	c.resolveTLS()
	for i := range c.Logs {
		path(&c.Logs[i].Policy)
	}
	if c.CA != nil {
		path(&c.CA.Chain)
		path(&c.CA.Issuers)
		path(&c.CA.AuditFile)
	}
	if c.TSA != nil {
		path(&c.TSA.Chain)
	}
	if c.Monitor != nil {
		path(&c.Monitor.Config)
	}
	return errors.Join(errs...)
}

// IsObjectStore reports whether storage is the URL of a bucket in an object store, s3:// or gs://;
// else it is a directory.
func IsObjectStore(storage string) bool {
	return strings.HasPrefix(storage, "s3://") || strings.HasPrefix(storage, "gs://")
}

// MarshalYAML writes c as Parse reads it: paths that are file: URLs in the file are URLs again.
func (c *Config) MarshalYAML() (any, error) {
	type plain Config // without this method
	out := *c
	out.Logs, out.Witnesses = slices.Clone(c.Logs), slices.Clone(c.Witnesses)
	for i := range out.Witnesses {
		out.Witnesses[i].Rotation = slices.Clone(c.Witnesses[i].Rotation)
	}
	out.CA, out.TSA, out.DevOIDC = clone(c.CA), clone(c.TSA), clone(c.DevOIDC)
	for _, f := range out.files() {
		if !InKMS(*f.field) {
			*f.field = "file:" + *f.field
		}
	}
	return plain(out), nil
}

// clone returns a pointer to a copy of what p points to.
func clone[T any](p *T) *T {
	if p == nil {
		return nil
	}
	v := *p
	return &v
}
