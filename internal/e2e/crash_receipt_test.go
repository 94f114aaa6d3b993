package e2e_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"tallywood/witness/policy"
)

// A signedEntry is a hashedrekord request and the bytes the log must make of it, both rendered
// here as the API's documentation has them.
type signedEntry struct {
	request   string
	canonical []byte
}

// A signer makes entries; those of one seed are always the same.
type signer struct {
	seed uint64
	key  *ecdsa.PrivateKey
	spki string
}

func newSigner(seed uint64) (*signer, error) {
	scalar := sha256.Sum256(fmt.Appendf(nil, "signer %d", seed))
	key, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), scalar[:])
	if err != nil {
		return nil, err
	}
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return nil, err
	}
	return &signer{seed, key, base64.StdEncoding.EncodeToString(spki)}, nil
}

// entry signs entry n.
func (s *signer) entry(n int64) (signedEntry, error) {
	digest := sha256.Sum256(fmt.Appendf(nil, "entry %d of %d", n, s.seed))
	sig, err := s.key.Sign(nil, digest[:], crypto.SHA256)
	if err != nil {
		return signedEntry{}, err
	}
	d, g := base64.StdEncoding.EncodeToString(digest[:]), base64.StdEncoding.EncodeToString(sig)
	return signedEntry{
		request: `{"hashedRekordRequestV002":{"digest":"` + d + `","signature":{"content":"` + g +
			`","verifier":{"publicKey":{"rawBytes":"` + s.spki + `"},"keyDetails":"PKIX_ECDSA_P256_SHA_256"}}}}`,
		canonical: []byte(`{"apiVersion":"0.0.2","kind":"hashedrekord","spec":{"hashedRekordV002":{"data":{"algorithm":"SHA2_256","digest":"` + d +
			`"},"signature":{"content":"` + g + `","verifier":{"keyDetails":"PKIX_ECDSA_P256_SHA_256","publicKey":{"rawBytes":"` + s.spki + `"}}}}}}`),
	}, nil
}

// A tree is a size and the root hash some checkpoint claims for it.
type tree struct {
	size int64
	root tlog.Hash
}

// noteTree reads the tree of a checkpoint, whoever signed it.
func noteTree(note string) (tree, error) {
	lines := strings.Split(note, "\n")
	if len(lines) < 4 {
		return tree{}, fmt.Errorf("no checkpoint: %q", note)
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil {
		return tree{}, fmt.Errorf("checkpoint: %w", err)
	}
	root, err := tlog.ParseHash(lines[2])
	return tree{size, root}, err
}

// A receipt is what the log answered to an add.
type receipt struct {
	entry int64 // which one was added
	index int64
	leaf  tlog.Hash // of the entry that was added, not of what the log says it was
	tree  tree
	proof tlog.RecordProof
	note  string
}

// openReceipt reads the answer to an add, and wants in it what was added.
func openReceipt(n int64, e signedEntry, body []byte) (receipt, error) {
	var reply struct {
		LogIndex          string
		CanonicalizedBody []byte
		InclusionProof    struct {
			LogIndex, TreeSize string
			RootHash           []byte
			Hashes             [][]byte
			Checkpoint         struct{ Envelope string }
		}
	}
	if err := json.Unmarshal(body, &reply); err != nil {
		return receipt{}, fmt.Errorf("receipt %s: %w", body, err)
	}
	p := reply.InclusionProof
	index, err := strconv.ParseInt(reply.LogIndex, 10, 64)
	if err != nil {
		return receipt{}, fmt.Errorf("receipt %s: %w", body, err)
	}
	r := receipt{entry: n, index: index, leaf: tlog.RecordHash(e.canonical), note: p.Checkpoint.Envelope}
	if r.tree, err = noteTree(r.note); err != nil {
		return r, err
	}
	for _, h := range p.Hashes {
		if len(h) != tlog.HashSize {
			return r, fmt.Errorf("a hash of %d bytes in receipt %s", len(h), body)
		}
		r.proof = append(r.proof, tlog.Hash(h))
	}
	switch {
	case !bytes.Equal(reply.CanonicalizedBody, e.canonical):
		return r, fmt.Errorf("the receipt is for another entry: %q; want %q", reply.CanonicalizedBody, e.canonical)
	case p.LogIndex != reply.LogIndex, p.TreeSize != strconv.FormatInt(r.tree.size, 10), !bytes.Equal(p.RootHash, r.tree.root[:]):
		return r, fmt.Errorf("the receipt contradicts itself: %s", body)
	}
	return r, nil
}

// verify checks the inclusion proof of the receipt against its own checkpoint.
func (r receipt) verify() error {
	if err := tlog.CheckRecord(r.proof, r.tree.size, r.tree.root, r.index, r.leaf); err != nil {
		return fmt.Errorf("receipt of entry %d, index %d: %w", r.entry, r.index, err)
	}
	return nil
}

// A statusError is an answer other than the one wanted.
type statusError struct {
	status     int
	retryAfter string
	body       string
}

func (e *statusError) Error() string {
	return fmt.Sprintf("status %d, Retry-After %q: %s", e.status, e.retryAfter, e.body)
}

// add posts an entry to the log at base.
func add(ctx context.Context, c *http.Client, base string, n int64, e signedEntry) (receipt, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, base+"/api/v2/log/entries", strings.NewReader(e.request))
	if err != nil {
		return receipt{}, err
	}
	resp, err := c.Do(req)
	if err != nil {
		return receipt{}, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return receipt{}, err
	}
	if resp.StatusCode != http.StatusCreated {
		return receipt{}, &statusError{resp.StatusCode, resp.Header.Get("Retry-After"), string(body)}
	}
	return openReceipt(n, e, body)
}

// quorumTimeout is how long a log waits for its witnesses, unless its configuration says otherwise.
const quorumTimeout = 3 * time.Second

// insist makes a request, and makes it again while the answer is to come back later and came late
// itself, or says that the log is behind, as clients do: on a slow machine disks and witnesses may take
// longer than the log waits for them. Any other refusal that comes at once is an error.
func insist(request func() error) error {
	for end := time.Now().Add(patience); ; {
		began := time.Now()
		err := request()
		refused, ok := errors.AsType[*statusError](err)
		if !ok || !refused.comeBack() || time.Now().After(end) {
			return err
		}
		if time.Since(began) < quorumTimeout {
			if !refused.behind() {
				return err
			}
			time.Sleep(100 * time.Millisecond)
		}
	}
}

// behind reports whether the log has taken nothing because it has not done yet what it took before.
func (e *statusError) behind() bool {
	return strings.Contains(e.body, "nothing was logged: more entries wait than the log can take in time") ||
		strings.Contains(e.body, "nothing was logged: what the log holds has waited too long for publication")
}

// comeBack reports whether the answer asks for the same request later.
func (e *statusError) comeBack() bool {
	return e.status == http.StatusServiceUnavailable && e.retryAfter != ""
}

// insistOnAdding is add, by insist.
func insistOnAdding(ctx context.Context, c *http.Client, base string, n int64, e signedEntry) (r receipt, err error) {
	err = insist(func() error {
		r, err = add(ctx, c, base, n, e)
		return err
	})
	return r, err
}

// fetch gets the body of a URL.
func fetch(c *http.Client, url string) ([]byte, error) {
	resp, err := c.Get(url)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = &statusError{resp.StatusCode, "", string(body)}
	}
	return body, err
}

// tiles reads the hash tiles of a log's tree over HTTP, as a stranger would.
type tiles struct {
	client *http.Client
	base   string
	mu     sync.Mutex
	cache  map[string][]byte
}

func (t *tiles) Height() int { return 8 }

func (t *tiles) ReadTiles(wanted []tlog.Tile) ([][]byte, error) {
	data := make([][]byte, len(wanted))
	for i, tile := range wanted {
		path := strings.Replace(tile.Path(), "tile/8/", "tile/", 1)
		t.mu.Lock()
		got, ok := t.cache[path]
		t.mu.Unlock()
		if !ok {
			var err error
			if got, err = fetch(t.client, t.base+"/"+path); err != nil {
				return nil, fmt.Errorf("%s: %w", path, err)
			}
		}
		data[i] = got
	}
	return data, nil
}

func (t *tiles) SaveTiles(saved []tlog.Tile, data [][]byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i, tile := range saved {
		t.cache[strings.Replace(tile.Path(), "tile/8/", "tile/", 1)] = data[i]
	}
}

// A view is one moment of a log as anyone can read it: its tree, hash tiles and entries.
type view struct {
	tree    tree
	hashes  tlog.HashReader
	entries [][]byte
}

// look opens the checkpoint published at base as p demands, reads all entry bundles below it,
// and checks that they hash into its tree.
func look(c *http.Client, base string, p *policy.Policy) (*view, error) {
	note, err := fetch(c, base+"/checkpoint")
	if err != nil {
		return nil, err
	}
	cp, err := p.Open(note)
	if err != nil {
		return nil, fmt.Errorf("published checkpoint: %w\n%s", err, note)
	}
	v := &view{tree: tree{cp.Size(), cp.Root()}}
	if v.tree.size == 0 {
		return v, nil
	}
	v.hashes = tlog.TileHashReader(tlog.Tree{N: v.tree.size, Hash: v.tree.root}, &tiles{client: c, base: base, cache: map[string][]byte{}})
	for first := int64(0); first < v.tree.size; first += 256 {
		n := int(min(256, v.tree.size-first))
		path := strings.Replace(tlog.Tile{H: 8, L: 0, N: first / 256, W: n}.Path(), "tile/8/0/", "/tile/entries/", 1)
		bundle, err := fetch(c, base+path)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		split, err := splitBundle(bundle)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		if len(split) != n {
			return nil, fmt.Errorf("%s holds %d entries; want %d", path, len(split), n)
		}
		v.entries = append(v.entries, split...)
	}
	return v, v.recompute()
}

// recompute checks the entries against the root, without any tile.
func (v *view) recompute() error {
	var stored []tlog.Hash
	read := tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		out := make([]tlog.Hash, len(indexes))
		for i, x := range indexes {
			out[i] = stored[x]
		}
		return out, nil
	})
	for i, e := range v.entries {
		hashes, err := tlog.StoredHashes(int64(i), e, read)
		if err != nil {
			return err
		}
		stored = append(stored, hashes...)
	}
	root, err := tlog.TreeHash(v.tree.size, read)
	if err == nil && root != v.tree.root {
		err = errors.New("the entries are not those of the published tree")
	}
	return err
}

// splitBundle takes an entry bundle (c2sp.org/tlog-tiles) apart.
func splitBundle(b []byte) (entries [][]byte, err error) {
	for len(b) > 0 {
		if len(b) < 2 || len(b)-2 < int(binary.BigEndian.Uint16(b)) {
			return nil, errors.New("a cut-off entry bundle")
		}
		n := int(binary.BigEndian.Uint16(b))
		entries, b = append(entries, b[2:2+n]), b[2+n:]
	}
	return entries, nil
}

// extends checks that the tree of the view is the tree old and more, by a proof made of tiles.
func (v *view) extends(old tree) error {
	if old.size == v.tree.size && old.root != v.tree.root {
		return fmt.Errorf("two trees of size %d: roots %v and %v", old.size, old.root, v.tree.root)
	}
	if old.size > v.tree.size {
		return fmt.Errorf("a tree of size %d was seen, and %d is published", old.size, v.tree.size)
	}
	if old.size == v.tree.size || old.size == 0 {
		return nil
	}
	proof, err := tlog.ProveTree(v.tree.size, old.size, v.hashes)
	if err != nil {
		return fmt.Errorf("proving consistency of %d and %d: %w", old.size, v.tree.size, err)
	}
	if err := tlog.CheckTree(proof, v.tree.size, v.tree.root, old.size, old.root); err != nil {
		return fmt.Errorf("the trees of sizes %d and %d: %w", old.size, v.tree.size, err)
	}
	return nil
}
