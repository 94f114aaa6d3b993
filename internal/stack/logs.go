package stack

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/mod/sumdb/note"

	"tallywood/internal/config"
	"tallywood/internal/httpx"
	"tallywood/internal/keys"
	"tallywood/log"
	"tallywood/log/ctlog"
	"tallywood/log/rekor"
)

// objectStoreFullInterval spaces the writes of a log's full checkpoint in an object store.
const objectStoreFullInterval = 10 * time.Second

// A logPart is one log and what it is served with.
type logPart struct {
	cfg config.Log

	// Read from files, or for keys from a KMS.
	keys    logKeys
	vkey    string // of the Ed25519 note key; "" if that is unasked
	rules   atomic.Pointer[logRules]
	seen    *witnessBook        // which of its witnesses answer
	storage storageProbe        // whether its bucket does
	roots   []*x509.Certificate // kind ct only, like ct and head
	token   string              // kind tlog only: what whoever adds had to send at the start; "": nothing

	shard *shardState

	// Opened.
	passing passingKey // of requests that replicas pass on
	log     *log.Log
	ct      *ctlog.Log
	head    *ctlog.TreeHead
	guard   *guard       // kind tlog only
	handler http.Handler // its own paths, relative to /
}

// logKeys are the keys of one log.
type logKeys struct {
	note   crypto.Signer    // Ed25519
	sct    crypto.Signer    // kind ct only
	public crypto.PublicKey // what trusted roots list: for kind ct the SCT key
}

// logKeys returns the keys of a log. Nothing is known of those that are unasked.
func (s *Stack) logKeys(l config.Log) (logKeys, error) {
	var k logKeys
	note := l.Key
	if l.Kind == "ct" {
		note = l.NoteKey
		signer, err := s.key(l.Key)
		if err != nil {
			return k, fmt.Errorf("reading key: %w", err)
		}
		pub, ok := signer.Public().(*ecdsa.PublicKey)
		if _, skip := signer.(unasked); !skip && (!ok || pub.Curve != elliptic.P256()) {
			return k, fmt.Errorf("key %s is a %T; a log of kind ct signs SCTs with ECDSA P-256", l.Key, signer.Public())
		}
		k.sct, k.public = signer, signer.Public()
	}
	signer, err := s.key(note)
	if err != nil {
		return k, fmt.Errorf("reading note key: %w", err)
	}
	_, ok := signer.Public().(ed25519.PublicKey)
	if _, skip := signer.(unasked); !skip && !ok {
		return k, fmt.Errorf("key %s is a %T; checkpoints are signed with Ed25519", note, signer.Public())
	}
	k.note = signer
	if l.Kind != "ct" {
		k.public = signer.Public()
	}
	return k, nil
}

// vkey returns the vkey of the Ed25519 note key of a log, "" if that is unasked.
func (k logKeys) vkey(origin string) string {
	if public, ok := k.note.Public().(ed25519.PublicKey); ok {
		return keys.VKey(origin, keys.AlgEd25519, public)
	}
	return ""
}

// readLogs reads the files of every log: keys, policies and accepted roots.
func (s *Stack) readLogs() error {
	var errs []error
	set := &logSet{}
	if s.cfg.CA != nil {
		set.ctLog = s.cfg.CA.CTLog
	}
	for _, l := range s.cfg.Logs {
		part, err := s.readLog(s.cfg, l)
		if err != nil {
			errs = append(errs, fmt.Errorf("log %q: %w", l.Name, err))
			continue
		}
		set.logs = append(set.logs, part)
	}
	s.set.Store(set)
	return errors.Join(errs...)
}

// readLog reads the files of a log of configuration c.
func (s *Stack) readLog(c *config.Config, l config.Log) (*logPart, error) {
	k, err := s.logKeys(l)
	if err != nil {
		return nil, err
	}
	part := &logPart{cfg: l, keys: k, seen: newWitnessBook(), shard: newShardState(l)}
	part.vkey = k.vkey(l.Origin)
	rules, err := s.readRules(part, l.Policy)
	if err != nil {
		return nil, err
	}
	part.rules.Store(rules)
	if l.Kind == "ct" {
		if part.roots, err = acceptedRoots(c, l); err != nil {
			return nil, err
		}
	}
	if l.AddToken != "" {
		if part.token, err = keys.ReadToken(l.AddToken); err != nil {
			return nil, fmt.Errorf("reading add_token: %w", err)
		}
	}
	return part, nil
}

// openLog opens a log that has been read.
func (s *Stack) openLog(ctx context.Context, part *logPart) error {
	l := part.cfg
	if err := s.checkThere(ctx, l); err != nil {
		return err
	}
	signer, err := keys.NoteSigner(l.Origin, part.keys.note)
	if err != nil {
		return err
	}
	if part.passing, err = newPassingKey(part.keys.note); err != nil {
		return err
	}
	signers, vkeys := []note.Signer{signer}, []string{part.vkey}
	if l.Kind == "ct" {
		part.head, err = ctlog.NewTreeHead(ctlog.TreeHeadOptions{Origin: l.Origin, Name: l.Name, Bucket: s.bucket, Key: part.keys.sct})
		if err != nil {
			return err
		}
		signers, vkeys = append(signers, part.head), append(vkeys, part.head.VKey())
	}
	rules := part.rules.Load().engine(l.Origin)
	o := log.Options{
		Name: l.Name, Origin: l.Origin, Kind: logKind[l.Kind], Bucket: s.bucket,
		Signers: signers, VKeys: vkeys, Policy: rules.Policy, Cosigner: rules.Cosigner, Full: rules.Full,
		QuorumTimeout: time.Duration(l.QuorumTimeout), CommitInterval: time.Duration(l.CommitInterval),
		PublishInterval: time.Duration(l.PublishInterval),
		MaxQueueAge:     time.Duration(s.cfg.Limits.QueueAge),
		CacheDir:        s.cfg.CacheDir, URL: s.cfg.ReplicaURL, Probe: s.probe(l.Name, part.passing), SkipGate: l.RollbackCheck == "skip",
		Observe: s.metrics.stageOf(l.Name), Log: s.log,
	}
	s.metrics.expect(l.Name, part.policy())
	if strings.HasPrefix(s.cfg.Storage, "gs://") {
		o.SwapInterval = gcsSwapInterval
	}
	if config.IsObjectStore(s.cfg.Storage) {
		o.FullInterval = objectStoreFullInterval // each write costs money
	}
	if part.log, err = log.Open(ctx, o); err != nil {
		return err
	}
	s.closers = append(s.closers, part.log)
	if err := checkState(part, l); err != nil {
		return err
	}
	if err := s.serveLog(part); err != nil {
		return err
	}
	part.handler = s.metrics.countLimited(l.Name, s.limits.write(part.handler, part.passing.counted))
	return nil
}

// serveLog makes the handler of a log.
func (s *Stack) serveLog(part *logPart) error {
	l, logger := part.cfg, s.log.With("origin", part.cfg.Origin)
	var h http.Handler
	var err error
	switch l.Kind {
	case "ct":
		part.ct, err = ctlog.New(ctlog.Options{Log: part.log, TreeHead: part.head, Roots: part.roots, Successor: s.successor(l.Name), Logger: logger})
		if err == nil {
			h = part.ct.Handler()
		}
	case "tlog":
		part.guard = &guard{}
		h, err = part.guard, s.guardLog(part, part.token)
	default:
		var id [32]byte
		if id, err = keys.LogID(l.Origin, part.keys.public); err == nil {
			h, err = rekor.New(rekor.Options{Log: part.log, Bucket: s.bucket, LogID: id, Turns: s.limits.turns,
				Successor: s.successor(l.Name), Logger: logger})
		}
	}
	if err != nil {
		return err
	}
	part.handler = s.forward(part, "/logs/"+l.Name, h)
	return nil
}

// routeLogs serves every log under its name, and those in charge at the paths clients know. Logs of kind
// tlog have no such paths: there may be any number of them.
func (s *Stack) routeLogs(mux *http.ServeMux) {
	mux.HandleFunc("/logs/", func(w http.ResponseWriter, r *http.Request) { s.current().handler.ServeHTTP(w, r) })
	signatures := s.serveInCharge((*logSet).signatures)
	for _, path := range signaturePaths {
		mux.Handle(path, signatures)
	}
	mux.Handle("/ct/", http.StripPrefix("/ct", s.serveInCharge((*logSet).certificates)))
}

// byName serves each of the logs under its name.
func byName(logs []*logPart) http.Handler {
	mux := http.NewServeMux()
	for _, l := range logs {
		prefix := "/logs/" + l.cfg.Name
		mux.Handle(prefix+"/", http.StripPrefix(prefix, l.handler))
		mux.Handle("GET "+prefix+leaderPath, serveLeader(l.log, l.passing))
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		httpx.Error(w, http.StatusNotFound, "no log of that name is served here")
	})
	return mux
}

// byOrigin gives requests whose Host is a log's origin to that log, all others to mux. At the host of url
// the other parts have their paths, too: clients are told to find them there.
func (s *Stack) byOrigin(mux *http.ServeMux) http.Handler {
	own := ""
	if u, err := url.Parse(s.cfg.URL); err == nil {
		own = strings.ToLower(u.Hostname())
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host := r.Host
		if i := strings.LastIndexByte(host, ':'); i >= 0 {
			host = host[:i]
		}
		host = strings.ToLower(host)
		for _, l := range s.parts() {
			if l.cfg.Origin == host && (host != own || l.owns(mux, r)) {
				l.handler.ServeHTTP(w, r)
				return
			}
		}
		mux.ServeHTTP(w, r)
	})
}

// signaturePaths are those of the signature log in charge.
var signaturePaths = []string{"/api/v2/log/", "/api/v2/checkpoint", "/api/v2/checkpoint.full", "/api/v2/tile/",
	"/checkpoint", "/checkpoint.full", "/tile/"}

// owns reports whether a request at the host of url, which is the log's origin, is the log's: it is, where
// any log of its kind has that path, and where no part has it.
func (l *logPart) owns(mux *http.ServeMux, r *http.Request) bool {
	if l.cfg.Kind == "ct" && strings.HasPrefix(r.URL.Path, "/ct/v1/") {
		return true
	}
	_, pattern := mux.Handler(r)
	if strings.HasPrefix(pattern, "/api/v2/") && l.cfg.Kind != "rekor" {
		return false
	}
	return pattern == "/" || slices.Contains(signaturePaths, pattern)
}
