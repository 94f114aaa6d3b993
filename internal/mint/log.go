package mint

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/transparency-dev/merkle/compact"
	"github.com/transparency-dev/merkle/rfc6962"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"tallywood/internal/keys"
	"tallywood/log/ctentry"
	"tallywood/witness/policy"
)

// width is the number of entries in a full entry bundle, and of hashes in a full tile.
const width = 256

// A Kind is what a log's entries are.
type Kind string

// The kinds, by the words that monitors have for them.
const (
	Rekor Kind = "rekor" // of signatures, c2sp.org/tlog-tiles
	CT    Kind = "ct"    // of certificates, c2sp.org/static-ct-api
)

// A Files takes the files of a log, by their paths below its URL. The data is not changed afterwards,
// nor may Put change it.
type Files interface {
	Put(path string, data []byte) error
}

// A Log is written entry by entry. It keeps what is not in full tiles yet, and nothing else. Logs of
// one world and origin have one key: with other entries they are a fork.
//
// A Log is not safe for concurrent use.
type Log struct {
	Origin string
	Kind   Kind
	VKey   string

	world  *World
	key    ed25519.PrivateKey
	to     Files
	size   int64
	reach  *compact.Range
	bundle []byte
	tiles  []tile // the one being filled of each level
}

type tile struct {
	n      int64 // full ones before it
	hashes []tlog.Hash
}

// Log starts an empty log whose files go to to. It has no checkpoint before Publish.
func (w *World) Log(origin string, kind Kind, to Files) (*Log, error) {
	if kind != Rekor && kind != CT {
		return nil, fmt.Errorf("starting log %q: kind %q is neither %q nor %q", origin, kind, Rekor, CT)
	}
	if err := keys.CheckName(origin); err != nil {
		return nil, fmt.Errorf("starting log: %w", err)
	}
	seed := w.hash("log " + origin)
	key := ed25519.NewKeyFromSeed(seed[:])
	l := &Log{Origin: origin, Kind: kind, VKey: keys.VKey(origin, keys.AlgEd25519, key.Public().(ed25519.PublicKey)),
		world: w, key: key, to: to, reach: (&compact.RangeFactory{Hash: rfc6962.DefaultHasher.HashChildren}).NewEmptyRange(0)}
	if kind == CT {
		for _, c := range [][]byte{w.CA.Intermediate.Raw, w.CA.Root.Raw} {
			if err := l.Issuer(c); err != nil {
				return nil, err
			}
		}
	}
	return l, nil
}

// Issuer writes a certificate of an authority, for whoever wants to verify chains.
func (l *Log) Issuer(der []byte) error {
	sum := sha256.Sum256(der)
	if err := l.to.Put("issuer/"+hex.EncodeToString(sum[:]), der); err != nil {
		return fmt.Errorf("writing issuer of log %q: %w", l.Origin, err)
	}
	return nil
}

// Size returns how many entries the log has, published or not.
func (l *Log) Size() int64 { return l.size }

// Root returns the root hash of all entries.
func (l *Log) Root() tlog.Hash {
	root, err := l.reach.GetRootHash(nil)
	if err != nil || l.size == 0 {
		return sha256.Sum256(nil)
	}
	return tlog.Hash(root)
}

// Append adds an entry: canonical bytes or, in a log of certificates, a TileLeaf.
func (l *Log) Append(e []byte) error {
	leaf := tlog.RecordHash(e)
	if l.Kind == CT {
		h, err := ctentry.LeafHash(e)
		if err != nil {
			return fmt.Errorf("adding entry %d to log %q: %w", l.size, l.Origin, err)
		}
		leaf = tlog.Hash(h)
	}
	return l.append(e, leaf)
}

// append adds an entry of which the hash is known.
func (l *Log) append(e []byte, leaf tlog.Hash) error {
	if l.Kind == Rekor {
		if len(e) > 1<<16-1 {
			return fmt.Errorf("adding entry %d to log %q: it has %d bytes, 65535 fit a bundle", l.size, l.Origin, len(e))
		}
		l.bundle = binary.BigEndian.AppendUint16(l.bundle, uint16(len(e)))
	}
	l.bundle = append(l.bundle, e...)
	if err := l.reach.Append(leaf[:], nil); err != nil {
		return fmt.Errorf("adding entry %d to log %q: %w", l.size, l.Origin, err)
	}
	l.size++
	if l.size%width == 0 {
		if err := l.put(tilePath(l.dir(), l.size/width-1, width), l.bundle); err != nil {
			return err
		}
		l.bundle = nil
	}
	return l.hash(0, leaf)
}

// hash adds a hash to the tile being filled of a level.
func (l *Log) hash(level int, h tlog.Hash) error {
	if level == len(l.tiles) {
		l.tiles = append(l.tiles, tile{})
	}
	t := &l.tiles[level]
	t.hashes = append(t.hashes, h)
	if len(t.hashes) < width {
		return nil
	}
	if err := l.putTile(level); err != nil {
		return err
	}
	full := t.hashes
	for n := width; n > 1; n /= 2 {
		for i := range n / 2 {
			full[i] = tlog.NodeHash(full[2*i], full[2*i+1])
		}
	}
	t.hashes = t.hashes[:0]
	t.n++
	return l.hash(level+1, full[0])
}

func (l *Log) putTile(level int) error {
	t := l.tiles[level]
	data := make([]byte, 0, len(t.hashes)*tlog.HashSize)
	for _, h := range t.hashes {
		data = append(data, h[:]...)
	}
	return l.put(tilePath(strconv.Itoa(level), t.n, len(t.hashes)), data)
}

func (l *Log) dir() string {
	if l.Kind == CT {
		return "data"
	}
	return "entries"
}

func (l *Log) put(path string, data []byte) error {
	if err := l.to.Put(path, data); err != nil {
		return fmt.Errorf("writing log %q: %w", l.Origin, err)
	}
	return nil
}

// tilePath is the path of a tile or entry bundle (c2sp.org/tlog-tiles).
func tilePath(dir string, n int64, w int) string {
	path := fmt.Sprintf("%03d", n%1000)
	for n >= 1000 {
		n /= 1000
		path = fmt.Sprintf("x%03d/%s", n%1000, path)
	}
	if w < width {
		path += fmt.Sprintf(".p/%d", w)
	}
	return "tile/" + dir + "/" + path
}

// Publish writes what is not in full tiles, and a checkpoint of all entries that the witnesses have
// cosigned at a time.
func (l *Log) Publish(at time.Time) error {
	if n := l.size % width; n > 0 {
		if err := l.put(tilePath(l.dir(), l.size/width, int(n)), l.bundle[:len(l.bundle):len(l.bundle)]); err != nil {
			return err
		}
	}
	for level, t := range l.tiles {
		if len(t.hashes) > 0 {
			if err := l.putTile(level); err != nil {
				return err
			}
		}
	}
	signed, err := l.Sign(l.Checkpoint(), at, l.world.witnesses...)
	if err != nil {
		return err
	}
	return l.put("checkpoint", signed)
}

// Checkpoint returns the text of a checkpoint of all entries.
func (l *Log) Checkpoint() string {
	root := l.Root()
	return fmt.Sprintf("%s\n%d\n%s\n", l.Origin, l.size, base64.StdEncoding.EncodeToString(root[:]))
}

// Sign signs a text with the log's key and has witnesses cosign it at a time.
func (l *Log) Sign(text string, at time.Time, by ...Witness) ([]byte, error) {
	signer, err := keys.NoteSigner(l.Origin, l.key)
	if err != nil {
		return nil, err
	}
	signed, err := note.Sign(&note.Note{Text: text}, signer)
	if err != nil {
		return nil, fmt.Errorf("signing checkpoint of log %q: %w", l.Origin, err)
	}
	for _, w := range by {
		sig := binary.BigEndian.AppendUint64(nil, uint64(at.Unix()))
		sig = append(sig, ed25519.Sign(w.key, policy.CosignatureMessage(at.Unix(), text))...)
		signed = append(signed, policy.FormatSignature(w.Name, w.id, sig)...)
	}
	return signed, nil
}

// Policy returns the policy that the log's checkpoints meet (c2sp.org/tlog-policy).
func (l *Log) Policy() string {
	var b strings.Builder
	fmt.Fprintf(&b, "log %s\n", l.VKey)
	names := make([]string, len(l.world.witnesses))
	for i, w := range l.world.witnesses {
		fmt.Fprintf(&b, "witness %s %s\n", w.Name, w.VKey)
		names[i] = w.Name
	}
	fmt.Fprintf(&b, "group all %d %s\nquorum all\n", quorum, strings.Join(names, " "))
	return b.String()
}
