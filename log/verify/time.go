package verify

import (
	"crypto/ecdsa"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	rekor "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"
	"github.com/sigstore/sigstore-go/pkg/root"
	sigstore "github.com/sigstore/sigstore-go/pkg/verify"
)

// times are when the signature was seen to exist, by whom the trusted root trusts.
type times struct {
	stamps   []time.Time // timestamp authorities
	promises []time.Time // Rekor v1 logs, which sign the time of an entry
}

func (t times) all() []time.Time { return slices.Concat(t.stamps, t.promises) }

// earliest returns the first of them, the zero time if there is none.
func (t times) earliest() time.Time {
	if all := t.all(); len(all) > 0 {
		return slices.MinFunc(all, time.Time.Compare)
	}
	return time.Time{}
}

// seen returns the trusted times of m. A certificate needs at least one, and must have been valid
// at each of them.
//
// > If both are available, the Verifier performs path validation twice. If either fails,
// > verification fails. (Sigstore Client Spec)
func (v *Verifier) seen(m *material) (times, error) {
	stamps, err := v.timestamped(m)
	if err != nil {
		return times{}, err
	}
	promises, err := v.promised(m)
	if err != nil {
		return times{}, err
	}
	t := times{stamps, promises}
	if m.leaf == nil {
		return t, nil
	}
	if len(t.all()) == 0 {
		return times{}, refusef(CheckTimestamp, "nobody whom the trusted root knows says when it was signed")
	}
	for _, at := range t.all() {
		if _, err := sigstore.VerifyLeafCertificate(at, m.leaf, v.root); err != nil {
			return times{}, refuse(CheckCertificate, v.whyInvalid(m.leaf, at))
		}
	}
	return t, nil
}

// timestamped returns the times at which timestamp authorities saw the signature: if the bundle
// has timestamps and the trusted root has authorities, at least one.
func (v *Verifier) timestamped(m *material) ([]time.Time, error) {
	if m.timestamps() == 0 || len(v.root.TimestampingAuthorities()) == 0 {
		return nil, nil
	}
	seen, err := sigstore.VerifySignedTimestampWithThreshold(m.bundle, v.root, 1)
	if err != nil {
		return nil, refuse(CheckTimestamp, fmt.Errorf("no timestamp authority of the trusted root saw this signature: %w", err))
	}
	var at []time.Time
	for _, s := range seen {
		at = append(at, s.Time.UTC())
	}
	return at, nil
}

// promised returns the times that Rekor v1 logs of the trusted root signed for the entries of m.
// That the entries are about m is checked later.
func (v *Verifier) promised(m *material) ([]time.Time, error) {
	var at []time.Time
	for _, e := range m.entries {
		log := v.log(e)
		if log == nil || !hasPromise(e) {
			continue
		}
		if err := checkPromise(e, log); err != nil {
			return nil, refuse(CheckPromise, err)
		}
		at = append(at, time.Unix(e.GetIntegratedTime(), 0).UTC())
	}
	return at, nil
}

// checkPromise checks the signed entry timestamp of e: a signature of log over the entry, its
// index and the time it was integrated at, as canonical JSON.
func checkPromise(e *rekor.TransparencyLogEntry, log *root.TransparencyLog) error {
	public, ok := log.PublicKey.(*ecdsa.PublicKey)
	if !ok || !isV1(e.GetKindVersion()) {
		return errors.New("only Rekor v1 logs sign for times, with ECDSA and for their own kinds of entries")
	}
	// The members are in the order of RFC 8785, and nothing in them needs escaping.
	signed, err := json.Marshal(struct {
		Body           []byte `json:"body"`
		IntegratedTime int64  `json:"integratedTime"`
		LogID          string `json:"logID"`
		LogIndex       int64  `json:"logIndex"`
	}{e.GetCanonicalizedBody(), e.GetIntegratedTime(), hex.EncodeToString(e.GetLogId().GetKeyId()), e.GetLogIndex()})
	if err != nil {
		return fmt.Errorf("encoding what the log signed: %w", err)
	}
	digest := sha256.Sum256(signed)
	if !ecdsa.VerifyASN1(public, digest[:], e.GetInclusionPromise().GetSignedEntryTimestamp()) {
		return fmt.Errorf("log %s did not sign for this entry, index and time", log.BaseURL)
	}
	return inUse(log, "the entry was integrated at", []time.Time{time.Unix(e.GetIntegratedTime(), 0)})
}

// inUse checks times against the validity of the key of log. sigstore-go compares it with the
// integrated time alone, which entries of Rekor v2 do not have (CVE-2026-54787).
//
// > Optional validity period for this key, *inclusive* of the endpoints. (dev.sigstore.common.v1.PublicKey)
func inUse(log *root.TransparencyLog, what string, times []time.Time) error {
	for _, t := range times {
		switch start, end := log.ValidityPeriodStart, log.ValidityPeriodEnd; {
		case t.Before(start):
			return fmt.Errorf("the key of log %s is in use since %s, and %s %s",
				log.BaseURL, start.UTC().Format(time.RFC3339), what, t.UTC().Format(time.RFC3339))
		case !end.IsZero() && t.After(end):
			return fmt.Errorf("the key of log %s was retired at %s, and %s %s",
				log.BaseURL, end.UTC().Format(time.RFC3339), what, t.UTC().Format(time.RFC3339))
		}
	}
	return nil
}
