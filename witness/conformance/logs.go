package conformance

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// A Kind is a way in which a log is configured.
type Kind string

// The kinds of throw-away logs.
const (
	Plain   Kind = "plain"   // one key of type 0x01, whose name is the origin
	Renamed Kind = "renamed" // the origin is not the key's name
	Rotated Kind = "rotated" // two keys, either of which suffices
	MLDSA   Kind = "ml-dsa"  // one key of type 0x06; the list format knows no such logs
)

// Listed returns the kinds that [Logs.List] prints.
func Listed() []Kind { return []Kind{Plain, Renamed, Rotated} }

// Every returns all kinds.
func Every() []Kind { return append(Listed(), MLDSA) }

// kinds are all kinds, and how many logs there are of each.
var kinds = []struct {
	kind  Kind
	count int
}{{Plain, 600}, {Renamed, 3}, {Rotated, 6}, {MLDSA, 20}}

// Logs are throw-away logs: origins that no policy names, and keys that nobody needs to keep. They
// follow from a prefix and a seed, so that the witness's operator and the suite can each make them.
// A witness remembers a log for ever, so each run should have new ones.
type Logs struct{ all []Log }

// A Log is a throw-away log.
type Log struct {
	Kind   Kind
	Origin string
	VKeys  []string

	signers []signer
}

// NewLogs returns the logs whose origins begin with prefix and whose keys derive from seed. The
// prefix should be of a name that belongs to nobody, such as "conformance.invalid/" with some
// random characters.
func NewLogs(prefix string, seed [32]byte) (*Logs, error) {
	if prefix == "" || len(prefix) > 200 || strings.ContainsFunc(prefix, func(r rune) bool { return r <= 0x20 || r == '+' || r > 0x7e }) {
		return nil, fmt.Errorf("prefix %q of origins is not 1 to 200 printable ASCII characters without space and plus", prefix)
	}
	if seed == [32]byte{} {
		return nil, errors.New("the seed of the logs' keys is all zero")
	}
	l := &Logs{}
	for _, k := range kinds {
		for i := range k.count {
			log, err := newLog(k.kind, fmt.Sprintf("%s/%s/%d", strings.TrimSuffix(prefix, "/"), k.kind, i+1), seed)
			if err != nil {
				return nil, err
			}
			l.all = append(l.all, log)
		}
	}
	return l, nil
}

func newLog(kind Kind, origin string, seed [32]byte) (Log, error) {
	l := Log{Kind: kind, Origin: origin}
	derive := func(n int) [32]byte { return sha256.Sum256(fmt.Appendf(seed[:], " %s %d", origin, n)) }
	switch kind {
	case Renamed:
		l.signers = []signer{newEd25519Signer(origin+"-key", derive(0))}
	case Rotated:
		l.signers = []signer{newEd25519Signer(origin, derive(0)), newEd25519Signer(origin, derive(1))}
	case MLDSA:
		s, err := newMLDSASigner(origin, derive(0))
		if err != nil {
			return Log{}, err
		}
		l.signers = []signer{s}
	default:
		l.signers = []signer{newEd25519Signer(origin, derive(0))}
	}
	for _, s := range l.signers {
		l.VKeys = append(l.VKeys, s.vkey())
	}
	return l, nil
}

// All returns the logs of the given kinds, or of all.
func (l *Logs) All(of ...Kind) []Log {
	return slices.DeleteFunc(slices.Clone(l.all), func(log Log) bool { return len(of) > 0 && !slices.Contains(of, log.Kind) })
}

// List returns the logs of the kinds that [Listed] returns as a list in the witness network's format. A log
// with two keys is in it twice.
func (l *Logs) List() []byte {
	var b strings.Builder
	b.WriteString("# Throw-away logs for a conformance test of a witness.\nlogs/v0\n")
	for _, log := range l.All(Listed()...) {
		for i, vkey := range log.VKeys {
			fmt.Fprintf(&b, "\nvkey %s\n", vkey)
			if log.signers[i].name != log.Origin {
				fmt.Fprintf(&b, "origin %s\n", log.Origin)
			}
			b.WriteString("qpd 1000000\ncontact throw-away log\n")
		}
	}
	return []byte(b.String())
}
