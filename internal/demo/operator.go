package demo

import (
	"bytes"
	"context"
	"crypto"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"

	common "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	rekor "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
	"google.golang.org/protobuf/encoding/protojson"

	"tallywood/internal/keys"
	"tallywood/log/entry"
)

// An operator has the log's key, and stands between the log and whoever reads it. It passes requests
// on, until it is told to show something else.
type operator struct {
	log    string // URL of the log
	signer note.Signer
	id     [32]byte // of the log, in trust material
	honest http.Handler

	mu     sync.Mutex
	shown  map[string][]byte // instead of the log's own files, by path
	hidden bool              // nothing but shown is there
	base   forgery           // that a secret promise adds to
	secret []byte            // the entry that was promised
}

func newOperator(log string, key crypto.Signer) (*operator, error) {
	signer, err := keys.NoteSigner(origin, key)
	if err != nil {
		return nil, err
	}
	id, err := keys.LogID(origin, key.Public())
	if err != nil {
		return nil, err
	}
	u, err := url.Parse(log)
	if err != nil {
		return nil, err
	}
	pass := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(u) }}
	return &operator{log: log, signer: signer, id: id, honest: pass}, nil
}

// show has readers see other files; all says that the log's own are gone. Nil is honesty.
func (o *operator) show(files map[string][]byte, all bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.shown, o.hidden = files, all
}

// ServeHTTP answers a reader of the log.
func (o *operator) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	o.mu.Lock()
	data, ok := o.shown[strings.TrimPrefix(r.URL.Path, "/")]
	hidden := o.hidden
	o.mu.Unlock()
	switch {
	case ok:
		// The reader may be gone; there is no one left to tell.
		_, _ = w.Write(data)
	case hidden:
		http.NotFound(w, r)
	default:
		o.honest.ServeHTTP(w, r)
	}
}

// promise takes an entry as the log's API does, and answers a receipt of a tree that nobody else is
// shown: the real one, and this entry.
func (o *operator) promise(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	e, err := entry.ParseRequest(body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.secret = e.Canonical
	f := forgery{append(o.base.entries[:len(o.base.entries):len(o.base.entries)], e.Canonical)}
	receipt, err := o.receipt(f)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusCreated)
	_, _ = w.Write(receipt)
}

// receipt returns the receipt of the last entry of f, with the log's own signature.
func (o *operator) receipt(f forgery) ([]byte, error) {
	index := int64(len(f.entries)) - 1
	checkpoint, err := f.checkpoint(o.signer)
	if err != nil {
		return nil, err
	}
	root, proof, err := f.prove(index)
	if err != nil {
		return nil, err
	}
	p := &rekor.InclusionProof{LogIndex: index, RootHash: root[:], TreeSize: index + 1,
		Checkpoint: &rekor.Checkpoint{Envelope: string(checkpoint)}}
	for _, h := range proof {
		p.Hashes = append(p.Hashes, h[:])
	}
	return protojson.Marshal(&rekor.TransparencyLogEntry{LogIndex: index, LogId: &common.LogId{KeyId: o.id[:]},
		KindVersion:    &rekor.KindVersion{Kind: entry.Kind, Version: entry.Version},
		InclusionProof: p, CanonicalizedBody: f.entries[index]})
}

// A forgery is a log of fewer than 256 entries that somebody made up. Its hashes are right.
type forgery struct{ entries [][]byte }

func (f forgery) hashes() (tlog.HashReader, error) {
	var stored []tlog.Hash
	r := tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		out := make([]tlog.Hash, len(indexes))
		for i, x := range indexes {
			out[i] = stored[x]
		}
		return out, nil
	})
	for n, e := range f.entries {
		more, err := tlog.StoredHashes(int64(n), e, r)
		if err != nil {
			return nil, err
		}
		stored = append(stored, more...)
	}
	return r, nil
}

func (f forgery) prove(index int64) (tlog.Hash, tlog.RecordProof, error) {
	r, err := f.hashes()
	if err != nil {
		return tlog.Hash{}, nil, err
	}
	size := int64(len(f.entries))
	root, err := tlog.TreeHash(size, r)
	if err != nil {
		return tlog.Hash{}, nil, err
	}
	proof, err := tlog.ProveRecord(size, index, r)
	return root, proof, err
}

// checkpoint returns the forged log's checkpoint, signed by the log, and by no witness.
func (f forgery) checkpoint(signer note.Signer) ([]byte, error) {
	r, err := f.hashes()
	if err != nil {
		return nil, err
	}
	root, err := tlog.TreeHash(int64(len(f.entries)), r)
	if err != nil {
		return nil, err
	}
	text := fmt.Sprintf("%s\n%d\n%s\n", origin, len(f.entries), base64.StdEncoding.EncodeToString(root[:]))
	return note.Sign(&note.Note{Text: text}, signer)
}

// files returns all that a reader of the forged log would ask for.
func (f forgery) files(checkpoint []byte) (map[string][]byte, error) {
	r, err := f.hashes()
	if err != nil {
		return nil, err
	}
	n := len(f.entries)
	tile, err := tlog.ReadTileData(tlog.Tile{H: 8, W: n}, r)
	if err != nil {
		return nil, err
	}
	var bundle bytes.Buffer
	for _, e := range f.entries {
		bundle.Write(binary.BigEndian.AppendUint16(nil, uint16(len(e))))
		bundle.Write(e)
	}
	return map[string][]byte{"checkpoint": checkpoint, fmt.Sprintf("tile/0/000.p/%d", n): tile,
		fmt.Sprintf("tile/entries/000.p/%d", n): bundle.Bytes()}, nil
}

// entriesOf reads the entries of the real log at a size of fewer than 256, which was published.
func entriesOf(ctx context.Context, log string, size int64) ([][]byte, error) {
	bundle, err := fetch(ctx, fmt.Sprintf("%s/tile/entries/000.p/%d", log, size))
	if err != nil {
		return nil, err
	}
	var entries [][]byte
	for len(bundle) >= 2 {
		size := int(binary.BigEndian.Uint16(bundle))
		if len(bundle) < 2+size {
			return nil, errors.New("the entry bundle is cut short")
		}
		entries, bundle = append(entries, bundle[2:2+size]), bundle[2+size:]
	}
	return entries, nil
}

// ask asks a witness to cosign a checkpoint after one of the given size, and returns what it says.
// There is no proof: it would have to be of a tree that grew out of the one the witness knows.
func ask(ctx context.Context, witness string, old int, checkpoint []byte) (status int, text string, err error) {
	body := fmt.Sprintf("old %d\n\n%s", old, checkpoint)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, witness+"/add-checkpoint", strings.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(res.Body, 4<<10))
	return res.StatusCode, strings.TrimSpace(string(answer)), err
}
