package rekortiles

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	common "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	bundle "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"
	rekor "github.com/sigstore/rekor-tiles/v2/pkg/generated/protobuf"
	"github.com/sigstore/rekor-tiles/v2/pkg/verify"
	"github.com/transparency-dev/tessera/api"
	"github.com/transparency-dev/tessera/api/layout"
	"github.com/transparency-dev/tessera/client"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// TestWriteAndRead adds more entries than a tile holds, many at a time, and reads them back: where
// the log is written to, and below the prefix of its API, where the server of the peer has nothing.
func TestWriteAndRead(t *testing.T) {
	l := openLog(t)
	before, _, err := l.reader(t, "").ReadCheckpoint(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	const count = 261
	s := newSigner(t)
	indexes := make([]int64, count)
	var group sync.WaitGroup
	slots := make(chan struct{}, 50)
	for n := range count - 1 {
		slots <- struct{}{}
		group.Go(func() {
			defer func() { <-slots }()
			indexes[n] = l.add(t, s, n)
		})
	}
	group.Wait()
	indexes[count-1] = l.add(t, s, count-1) // alone, so that it is the last
	seen := map[int64]bool{}
	for n, index := range indexes {
		if index < int64(before.Size) || index >= int64(before.Size)+count || seen[index] {
			t.Errorf("entry %d has index %d; want each from %d to %d once", n, index, before.Size, before.Size+count-1)
		}
		seen[index] = true
	}
	if last := indexes[count-1]; last != int64(before.Size)+count-1 {
		t.Errorf("the last entry has index %d; want %d", last, before.Size+count-1)
	}
	for _, prefix := range []string{"", "/api/v2"} {
		t.Run("below "+l.url+prefix, func(t *testing.T) { l.readBack(t, prefix, before.Size, before.Size+count, before.Hash) })
	}
}

// add adds request n of s, checks everything about the answer, and returns its index.
func (l *log) add(t *testing.T, s *signer, n int) int64 {
	request, err := s.request(n)
	if err != nil {
		t.Error(err)
		return -1
	}
	entry, err := l.writer.Add(t.Context(), request)
	if err != nil {
		t.Errorf("entry %d: %v", n, err)
		return -1
	}
	if err := l.check(entry, request); err != nil {
		t.Errorf("entry %d: %v", n, err)
	}
	return entry.LogIndex
}

// check wants in entry what the peer's authors want: no field of the old API, the log's name, a
// proof under a checkpoint of the log and its witnesses, and the entry that was asked for.
func (l *log) check(entry *bundle.TransparencyLogEntry, request *rekor.HashedRekordRequestV002) error {
	kind := entry.GetKindVersion()
	switch {
	case entry.GetIntegratedTime() != 0 || entry.GetInclusionPromise() != nil:
		return errors.New("fields of the old API are set")
	case !bytes.Equal(entry.GetLogId().GetKeyId(), l.id):
		return fmt.Errorf("log %x; want %x", entry.GetLogId().GetKeyId(), l.id)
	case kind.GetKind() != "hashedrekord" || kind.GetVersion() != "0.0.2":
		return fmt.Errorf("kind %s %s; want hashedrekord 0.0.2", kind.GetKind(), kind.GetVersion())
	}
	p := entry.GetInclusionProof()
	checkpoint, signed, err := verify.VerifyWitnessedCheckpoint(p.GetCheckpoint().GetEnvelope(), l.own, l.witnesses...)
	if err != nil {
		return err
	}
	switch {
	case len(signed.Sigs) < 3: // the log's, and those of a quorum of two
		return fmt.Errorf("%d signatures on the checkpoint; want the log's and two witnesses'", len(signed.Sigs))
	case p.GetLogIndex() != entry.GetLogIndex():
		return fmt.Errorf("the proof is for index %d; want %d", p.GetLogIndex(), entry.GetLogIndex())
	case p.GetTreeSize() != int64(checkpoint.Size) || !bytes.Equal(p.GetRootHash(), checkpoint.Hash):
		return errors.New("the proof is for another tree than that of its checkpoint")
	}
	if err := verify.VerifyLogEntry(entry, l.own); err != nil {
		return err
	}
	var body rekor.Entry
	if err := protojson.Unmarshal(entry.GetCanonicalizedBody(), &body); err != nil {
		return err
	}
	record := body.GetSpec().GetHashedRekordV002()
	switch {
	case body.GetKind() != "hashedrekord" || body.GetApiVersion() != "0.0.2":
		return fmt.Errorf("entry of kind %s %s; want hashedrekord 0.0.2", body.GetKind(), body.GetApiVersion())
	case record.GetData().GetAlgorithm() != common.HashAlgorithm_SHA2_256 || !bytes.Equal(record.GetData().GetDigest(), request.GetDigest()):
		return errors.New("the entry is about something else")
	case !proto.Equal(record.GetSignature(), request.GetSignature()):
		return errors.New("the entry has another signature")
	}
	return nil
}

// readBack reads the checkpoint, which must extend the tree of size old, and the first and the last
// tile and entry bundle below prefix.
func (l *log) readBack(t *testing.T, prefix string, old, size uint64, oldRoot []byte) {
	r := l.reader(t, prefix)
	checkpoint, signed, err := r.ReadCheckpoint(t.Context())
	// What receipts were given under is published soon after.
	for deadline := time.Now().Add(3 * time.Minute); err == nil && checkpoint.Size < size; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the published tree has size %d; want at least %d", checkpoint.Size, size)
		}
		checkpoint, signed, err = r.ReadCheckpoint(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	if old > 0 {
		prover, err := client.NewProofBuilder(t.Context(), checkpoint.Size, r.ReadTile)
		if err != nil {
			t.Fatal(err)
		}
		proof, err := prover.ConsistencyProof(t.Context(), old, checkpoint.Size)
		if err != nil {
			t.Fatal(err)
		}
		note := signed.Text + "\n— " + l.own.Name() + " " + signed.Sigs[0].Base64 + "\n"
		if err := verify.VerifyConsistencyProof(proof, old, oldRoot, note, l.own); err != nil {
			t.Error(err)
		}
	}
	first, err := r.ReadTile(t.Context(), 0, 0, 0)
	if err != nil || len(first) != layout.TileWidth*32 {
		t.Fatalf("first tile: %d bytes, %v", len(first), err)
	}
	entriesOf(t, r.ReadEntryBundle, 0, 0, layout.TileWidth)
	index := checkpoint.Size / layout.TileWidth
	part := layout.PartialTileSize(0, index, checkpoint.Size)
	last, err := r.ReadTile(t.Context(), 0, index, part)
	if err != nil || len(last) != int(part)*32 || bytes.Equal(first, last) {
		t.Fatalf("last tile: %d bytes, %v", len(last), err)
	}
	entries := entriesOf(t, r.ReadEntryBundle, index, part, int(part))
	newest := entries[size-1-index*layout.TileWidth]
	if want := base64.StdEncoding.EncodeToString(digest(260)); !strings.Contains(string(newest), want) {
		t.Errorf("the last entry is %s; want one about %s", newest, want)
	}
}

// entriesOf reads an entry bundle and wants n entries of the one kind there is.
func entriesOf(t *testing.T, read client.EntryBundleFetcherFunc, index uint64, part uint8, n int) [][]byte {
	t.Helper()
	text, err := read(t.Context(), index, part)
	if err != nil {
		t.Fatal(err)
	}
	var b api.EntryBundle
	if err := b.UnmarshalText(text); err != nil || len(b.Entries) != n {
		t.Fatalf("entry bundle %d: %v, %d entries; want %d", index, err, len(b.Entries), n)
	}
	for i, text := range b.Entries {
		var e rekor.Entry
		if err := protojson.Unmarshal(text, &e); err != nil || e.GetKind() != "hashedrekord" || e.GetApiVersion() != "0.0.2" || e.GetSpec().GetHashedRekordV002() == nil {
			t.Errorf("entry %d of bundle %d: %v\n%s", i, index, err, text)
		}
	}
	return b.Entries
}

// TestSendAgain sends one request again, and leaves it for TestSendAgainLater. The server of the
// peer answers 409, which its own client takes for a failure; ours gives the same entry again.
func TestSendAgain(t *testing.T) {
	l := openLog(t)
	request, err := newSigner(t).request(0)
	if err != nil {
		t.Fatal(err)
	}
	first, err := l.writer.Add(t.Context(), request)
	if err != nil {
		t.Fatal(err)
	}
	l.again(t, request, first.GetLogIndex())
	text, err := protojson.Marshal(request)
	if err != nil {
		t.Fatal(err)
	}
	text = append(strconv.AppendInt(nil, first.GetLogIndex(), 10), append([]byte("\n"), text...)...)
	if err := os.WriteFile(env(t, "LOG_REQUEST"), text, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestSendAgainLater sends the request of TestSendAgain to the log, which was restarted meanwhile.
func TestSendAgainLater(t *testing.T) {
	l := openLog(t)
	text, err := os.ReadFile(env(t, "LOG_REQUEST"))
	if err != nil {
		t.Fatal(err)
	}
	number, text, _ := bytes.Cut(text, []byte("\n"))
	index, err := strconv.ParseInt(string(number), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	var request rekor.HashedRekordRequestV002
	if err := protojson.Unmarshal(text, &request); err != nil {
		t.Fatal(err)
	}
	l.again(t, &request, index)
}

// again adds what is logged at index already, with the client and by hand.
func (l *log) again(t *testing.T, request *rekor.HashedRekordRequestV002, index int64) {
	t.Helper()
	entry, err := l.writer.Add(t.Context(), request)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.check(entry, request); err != nil || entry.GetLogIndex() != index {
		t.Errorf("sent again: index %d, %v; want %d", entry.GetLogIndex(), err, index)
	}
	body, err := protojson.Marshal(&rekor.CreateEntryRequest{Spec: &rekor.CreateEntryRequest_HashedRekordRequestV002{HashedRekordRequestV002: request}})
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.Post(l.url+"/api/v2/log/entries", "application/json", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if got, want := resp.Header.Get("X-Log-Index"), strconv.FormatInt(index, 10); resp.StatusCode != http.StatusCreated || got != want {
		t.Errorf("sent again: %s, X-Log-Index %q; want 201 and %q", resp.Status, got, want)
	}
}

// TestFrozen wants no more entries taken by a log that was frozen, and those it has to be read on.
// Where the server of the peer signs a checkpoint that says so, ours keeps the last one cosigned.
func TestFrozen(t *testing.T) {
	l := openLog(t)
	request, err := newSigner(t).request(0)
	if err != nil {
		t.Fatal(err)
	}
	const want = "unexpected response: 405 This log has been frozen, please switch to the latest log."
	if entry, err := l.writer.Add(t.Context(), request); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("a frozen log answered %v, %v; want %q", entry, err, want)
	}
	r := l.reader(t, "")
	checkpoint, signed, err := r.ReadCheckpoint(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if lines := strings.Count(signed.Text, "\n"); lines != 3 {
		t.Errorf("the last checkpoint has %d lines; want origin, size and root:\n%s", lines, signed.Text)
	}
	index := (checkpoint.Size - 1) / layout.TileWidth
	part, n := layout.PartialTileSize(0, index, checkpoint.Size), int(checkpoint.Size-index*layout.TileWidth)
	if tile, err := r.ReadTile(t.Context(), 0, index, part); err != nil || len(tile) != n*32 {
		t.Errorf("last tile: %d bytes, %v", len(tile), err)
	}
	entriesOf(t, r.ReadEntryBundle, index, part, n)
}
