package stack

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"

	"tallywood/internal/config"
	"tallywood/internal/keys"
	"tallywood/log"
	"tallywood/log/ctlog"
	"tallywood/log/rekor"
	"tallywood/witness/client"
	"tallywood/witness/policy"
)

// A logPart is one log and what it is served with.
type logPart struct {
	cfg     config.Log
	log     *log.Log
	ct      *ctlog.Log // kind ct only, like head
	head    *ctlog.TreeHead
	policy  *policy.Policy
	public  crypto.PublicKey // what trusted roots list: for kind ct the SCT key
	vkey    string           // of the Ed25519 note key
	handler http.Handler     // its own paths, relative to /
}

// logKeys are the keys of one log.
type logKeys struct {
	note   ed25519.PrivateKey
	sct    crypto.Signer // kind ct only
	public crypto.PublicKey
}

func readLogKeys(l config.Log) (logKeys, error) {
	var k logKeys
	notePath := l.Key
	if l.Kind == "ct" {
		notePath = l.NoteKey
		signer, err := keys.ReadSigner(l.Key)
		if err != nil {
			return k, fmt.Errorf("reading key: %w", err)
		}
		pub, ok := signer.Public().(*ecdsa.PublicKey)
		if !ok || pub.Curve != elliptic.P256() {
			return k, fmt.Errorf("key %s is a %T; a log of kind ct signs SCTs with ECDSA P-256", l.Key, signer.Public())
		}
		k.sct, k.public = signer, pub
	}
	signer, err := keys.ReadSigner(notePath)
	if err != nil {
		return k, fmt.Errorf("reading note key: %w", err)
	}
	ed, ok := signer.(ed25519.PrivateKey)
	if !ok {
		return k, fmt.Errorf("key %s is a %T; checkpoints are signed with Ed25519", notePath, signer.Public())
	}
	k.note = ed
	if k.public == nil {
		k.public = ed.Public()
	}
	return k, nil
}

// readPolicy reads the tlog-policy of a log and checks that it speaks of that log.
func readPolicy(path, vkey string) (*policy.Policy, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading policy: %w", err)
	}
	p, err := policy.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("policy %s: %w", path, err)
	}
	for _, l := range p.Logs() {
		if l.Key.String() == vkey {
			return p, nil
		}
	}
	return nil, fmt.Errorf("policy %s does not list this log; it needs the line \"log %s\"", path, vkey)
}

func (s *Stack) openLog(ctx context.Context, l config.Log) (*logPart, error) {
	k, err := readLogKeys(l)
	if err != nil {
		return nil, fmt.Errorf("log %q: %w", l.Name, err)
	}
	signer, err := keys.NoteSigner(l.Origin, k.note)
	if err != nil {
		return nil, err
	}
	part := &logPart{cfg: l, public: k.public,
		vkey: keys.VKey(l.Origin, keys.AlgEd25519, k.note.Public().(ed25519.PublicKey))}
	if part.policy, err = readPolicy(l.Policy, part.vkey); err != nil {
		return nil, fmt.Errorf("log %q: %w", l.Name, err)
	}
	signers, vkeys := []note.Signer{signer}, []string{part.vkey}
	if l.Kind == "ct" {
		part.head, err = ctlog.NewTreeHead(ctlog.TreeHeadOptions{Origin: l.Origin, Name: l.Name, Bucket: s.bucket, Key: k.sct})
		if err != nil {
			return nil, err
		}
		signers, vkeys = append(signers, part.head), append(vkeys, part.head.VKey())
	}
	o := log.Options{
		Name: l.Name, Origin: l.Origin, Kind: logKind[l.Kind], Bucket: s.bucket,
		Signers: signers, VKeys: vkeys, Policy: part.policy,
		QuorumTimeout: time.Duration(l.QuorumTimeout), PublishInterval: time.Duration(l.PublishInterval),
		CacheDir: s.cfg.CacheDir, URL: s.cfg.URL, Log: s.log,
	}
	if !part.policy.None() {
		c, err := client.New(client.Options{Policy: part.policy, Log: s.log})
		if err != nil {
			return nil, fmt.Errorf("log %q: reaching witnesses: %w", l.Name, err)
		}
		s.closers = append(s.closers, c)
		o.Cosigner = c
	}
	if part.log, err = log.Open(ctx, o); err != nil {
		return nil, err
	}
	if err := s.serveLog(part, k); err != nil {
		return nil, errors.Join(err, part.log.Close())
	}
	return part, nil
}

// serveLog makes the handler of a log.
func (s *Stack) serveLog(part *logPart, k logKeys) error {
	l := part.cfg
	if l.Kind == "ct" {
		roots, err := s.acceptedRoots(l)
		if err != nil {
			return err
		}
		part.ct, err = ctlog.New(ctlog.Options{Log: part.log, TreeHead: part.head, Roots: roots, Logger: s.log.With("origin", l.Origin)})
		if err != nil {
			return err
		}
		part.handler = part.ct.Handler()
		return nil
	}
	id, err := keys.LogID(l.Origin, k.public)
	if err != nil {
		return err
	}
	part.handler, err = rekor.New(rekor.Options{Log: part.log, Bucket: s.bucket, LogID: id, Logger: s.log.With("origin", l.Origin)})
	return err
}

// routeLogs serves every log under its name, and the active ones at the paths clients know.
func (s *Stack) routeLogs(mux *http.ServeMux) {
	for _, l := range s.logs {
		prefix := "/logs/" + l.cfg.Name
		mux.Handle(prefix+"/", http.StripPrefix(prefix, l.handler))
		if l.cfg.Kind == "ct" {
			if s.cfg.CA == nil || s.cfg.CA.CTLog == l.cfg.Name {
				mux.Handle("/ct/", http.StripPrefix("/ct", l.handler))
			}
			continue
		}
		for _, path := range []string{"/api/v2/log/", "/api/v2/checkpoint", "/api/v2/tile/", "/checkpoint", "/tile/"} {
			mux.Handle(path, l.handler)
		}
	}
}

// byOrigin gives requests whose Host is a log's origin to that log, all others to h.
func (s *Stack) byOrigin(h http.Handler) http.Handler {
	origins := map[string]http.Handler{}
	for _, l := range s.logs {
		origins[l.cfg.Origin] = l.handler
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host := r.Host
		if i := strings.LastIndexByte(host, ':'); i >= 0 {
			host = host[:i]
		}
		if l, ok := origins[strings.ToLower(host)]; ok {
			l.ServeHTTP(w, r)
			return
		}
		h.ServeHTTP(w, r)
	})
}
