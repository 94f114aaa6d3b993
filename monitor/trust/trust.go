// Package trust reads from a Sigstore trusted root which logs there are: their keys, URLs and when
// they take entries (sigstore_trustroot.proto), from a file or from a TUF repository
// (https://theupdateframework.github.io/specification/latest/).
//
// In goes where the trusted root is; out come the logs that a monitor can follow, and those that it
// cannot, each with the reason: nothing is left out in silence.
package trust

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	common "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	trustroot "github.com/sigstore/protobuf-specs/gen/pb-go/trustroot/v1"
	"google.golang.org/protobuf/encoding/protojson"

	"tallywood/internal/keys"
)

// MaxSize bounds a trusted root, in bytes.
const MaxSize = 4 << 20

// The kinds of logs in a trusted root.
const (
	KindRekor = "rekor"
	KindCT    = "ct"
)

// A Log of a trusted root.
type Log struct {
	Kind   string // KindRekor or KindCT
	Origin string // first line of its checkpoints, by the rules for its kind
	URL    string // base URL, as it is in the trusted root, without slash at the end
	VKey   string // empty if it cannot be followed
	Begin  time.Time
	End    time.Time // zero while it takes entries

	// Why it cannot be followed, for people; empty: it can.
	LeftOut string
}

// Parse returns the logs of a trusted_root.json, in its order. Fields that it does not know are
// passed over: a log added by a later version must not keep others from being followed.
func Parse(file []byte) ([]Log, error) {
	if len(file) > MaxSize {
		return nil, fmt.Errorf("parsing trusted root: %d bytes are more than %d", len(file), MaxSize)
	}
	var root trustroot.TrustedRoot
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(file, &root); err != nil {
		return nil, fmt.Errorf("parsing trusted root: %w", err)
	}
	if !strings.HasPrefix(root.GetMediaType(), "application/vnd.dev.sigstore.trustedroot") {
		return nil, fmt.Errorf("parsing trusted root: media type is %q", root.GetMediaType())
	}
	var logs []Log
	for i, l := range root.GetTlogs() {
		parsed, err := parseLog(KindRekor, l)
		if err != nil {
			return nil, fmt.Errorf("parsing trusted root: tlogs[%d]: %w", i, err)
		}
		logs = append(logs, parsed)
	}
	for i, l := range root.GetCtlogs() {
		parsed, err := parseLog(KindCT, l)
		if err != nil {
			return nil, fmt.Errorf("parsing trusted root: ctlogs[%d]: %w", i, err)
		}
		logs = append(logs, parsed)
	}
	if len(logs) == 0 {
		return nil, errors.New("parsing trusted root: it names no logs")
	}
	return logs, nil
}

func parseLog(kind string, l *trustroot.TransparencyLogInstance) (Log, error) {
	base := strings.TrimRight(l.GetBaseUrl(), "/")
	u, err := url.Parse(base)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return Log{}, fmt.Errorf("base URL %q is not an http or https URL of a directory", l.GetBaseUrl())
	}
	out := Log{Kind: kind, URL: base}
	period := l.GetPublicKey().GetValidFor()
	if t := period.GetStart(); t != nil {
		out.Begin = t.AsTime()
	}
	if t := period.GetEnd(); t != nil {
		out.End = t.AsTime()
	}
	if !out.End.IsZero() && out.End.Before(out.Begin) {
		return Log{}, fmt.Errorf("%s is valid until %s and from %s on", base, out.End.Format(time.RFC3339), out.Begin.Format(time.RFC3339))
	}
	if kind == KindCT {
		out.Origin = strings.ToLower(u.Host) + u.Path // the submission prefix, c2sp.org/static-ct-api
		out.ct(l)
	} else {
		out.Origin = strings.ToLower(u.Hostname()) // as clients have it
		out.rekor(l)
	}
	return out, nil
}

// rekor sets the key of a signature log, or why it has none that signs checkpoints.
func (l *Log) rekor(in *trustroot.TransparencyLogInstance) {
	spki := in.GetPublicKey().GetRawBytes()
	key, err := x509.ParsePKIXPublicKey(spki)
	public, ok := key.(ed25519.PublicKey)
	id := sha256.Sum256(spki)
	switch {
	case err != nil:
		l.LeftOut = fmt.Sprintf("its key cannot be read (%s): %v", in.GetPublicKey().GetKeyDetails(), err)
	case bytes.Equal(in.GetLogId().GetKeyId(), id[:]):
		l.LeftOut = "it is a Rekor v1 log, named by the hash of its key, and has no tiles to verify"
	case !ok:
		l.LeftOut = fmt.Sprintf("its key is of type %s; checkpoints of logs with tiles are verified with Ed25519", in.GetPublicKey().GetKeyDetails())
	case keys.CheckName(l.Origin) != nil:
		l.LeftOut = fmt.Sprintf("its origin %q cannot be the name of a key", l.Origin)
	default:
		if id := keys.KeyHash(l.Origin, keys.AlgEd25519, public); !bytes.Equal(in.GetLogId().GetKeyId(), id[:]) {
			l.LeftOut = fmt.Sprintf("its log ID %x is not that of its key under the origin %q", in.GetLogId().GetKeyId(), l.Origin)
			return
		}
		l.VKey = keys.VKey(l.Origin, keys.AlgEd25519, public)
	}
}

// ct sets the key of a certificate log.
func (l *Log) ct(in *trustroot.TransparencyLogInstance) {
	spki := in.GetPublicKey().GetRawBytes()
	key, err := x509.ParsePKIXPublicKey(spki)
	_, ok := key.(*ecdsa.PublicKey)
	id := sha256.Sum256(spki)
	switch {
	case err != nil:
		l.LeftOut = fmt.Sprintf("its key cannot be read (%s): %v", in.GetPublicKey().GetKeyDetails(), err)
	case !ok && in.GetPublicKey().GetKeyDetails() != common.PublicKeyDetails_PKIX_RSA_PKCS1V15_2048_SHA256:
		l.LeftOut = fmt.Sprintf("its key is of type %s; tree heads are verified with ECDSA or RSA", in.GetPublicKey().GetKeyDetails())
	case keys.CheckName(l.Origin) != nil:
		l.LeftOut = fmt.Sprintf("its origin %q cannot be the name of a key", l.Origin)
	case !bytes.Equal(in.GetLogId().GetKeyId(), id[:]):
		l.LeftOut = fmt.Sprintf("its log ID %x is not that of its key, %x", in.GetLogId().GetKeyId(), id)
	default:
		l.VKey = keys.TreeHeadVKey(l.Origin, id, spki)
	}
}
