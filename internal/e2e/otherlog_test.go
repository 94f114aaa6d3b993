package e2e_test

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/transparency-dev/tessera"
	tposix "github.com/transparency-dev/tessera/storage/posix"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	witnessclient "tallywood/witness/client"
	"tallywood/witness/policy"
)

// TestTesseraLogIsCosigned runs a log of Tessera v1.0.4, which asks the witnesses itself, with two of
// our witnesses, and kills both of them while it grows.
func TestTesseraLogIsCosigned(t *testing.T) {
	dir := t.TempDir()
	const origin = "tessera.example.org"
	skey, vkey, err := note.GenerateKey(rand.Reader, origin)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := note.NewSigner(skey)
	if err != nil {
		t.Fatal(err)
	}
	logs := writeFile(t, dir, "logs.txt", "logs/v0\n\nvkey "+vkey+"\nqpd 2147483647\ncontact ops@example.org\n")
	text := "log " + vkey + "\n"
	var ours []*witnessProcess
	for _, name := range []string{"w1.example.org", "w2.example.org"} {
		w := newWitness(t, dir, name, logs)
		ours = append(ours, w)
		text += "witness " + name + " " + w.vkey + " " + w.url + "\n"
	}
	text += "group both all w1.example.org w2.example.org\nquorum both\n"
	p, err := policy.Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	both, err := tessera.NewWitnessGroupFromPolicy([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	// First without witnesses: they must be told of a tree that has grown already.
	for life, group := range []tessera.WitnessGroup{{}, both, both} {
		checkpoint := tesseraLife(t, filepath.Join(dir, "log"), signer, group, life, func() {
			if life == 2 {
				for _, w := range ours {
					w.kill()
					w.start(t)
				}
			}
		})
		if life == 0 {
			continue
		}
		c, err := p.Open(checkpoint)
		if err != nil || c.Size() != int64(20*(life+1)) || len(c.Cosignatures()) != 2 {
			t.Errorf("life %d: Tessera published %v\n%s", life, err, checkpoint)
		}
	}
	for _, w := range ours {
		if size := sizeOnPage(t, w.url, origin); size != 60 {
			t.Errorf("%s says size %d", w.name, size)
		}
	}
}

// tesseraLife starts the log in dir, adds ten entries, does what comes between, adds ten more, and returns
// the checkpoint published with the last one.
func tesseraLife(t *testing.T, dir string, signer note.Signer, group tessera.WitnessGroup, life int, between func()) []byte {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	driver, err := tposix.New(ctx, tposix.Config{Path: dir})
	if err != nil {
		t.Fatal(err)
	}
	appender, shutdown, reader, err := tessera.NewAppender(ctx, driver, tessera.NewAppendOptions().
		WithCheckpointSigner(signer).WithCheckpointInterval(100*time.Millisecond).
		WithBatching(1, 10*time.Millisecond).WithWitnesses(group, nil))
	if err != nil {
		t.Fatal(err)
	}
	awaiter := tessera.NewPublicationAwaiter(ctx, reader.ReadCheckpoint, 20*time.Millisecond)
	var checkpoint []byte
	for i := range 20 {
		if i == 10 {
			between()
		}
		_, checkpoint, err = awaiter.Await(ctx, appender.Add(ctx, tessera.NewEntry(fmt.Appendf(nil, "life %d entry %d", life, i))))
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := shutdown(ctx); err != nil {
		t.Fatal(err)
	}
	return checkpoint
}

// sizeOnPage is the size of a log in the witness's status.
func sizeOnPage(t *testing.T, url, origin string) int64 {
	t.Helper()
	var status struct {
		Logs []struct {
			Origin string
			Size   int64
		}
	}
	if err := json.Unmarshal([]byte(get(t, url+"/status.json", 200)), &status); err != nil {
		t.Fatal(err)
	}
	for _, l := range status.Logs {
		if l.Origin == origin {
			return l.Size
		}
	}
	t.Fatalf("%s has no log %s", url, origin)
	return 0
}

const spicyPackage = "filippo.io/torchwood/cmd/spicy"

// A spicyLog is a log that spicy keeps, which has files for entries and no tiles.
type spicyLog struct{ dir, vkey string }

// TestSpicyLogIsCosigned has a log of another implementation cosigned: spicy's, which makes and signs its
// own tree. It asks no witnesses; its checkpoints are brought to ours as a feeder does.
func TestSpicyLogIsCosigned(t *testing.T) {
	install(t, spicyPackage, litewitnessVersion)
	l := &spicyLog{dir: t.TempDir()}
	const origin = "spicy.example.org/log"
	if err := os.Mkdir(filepath.Join(l.dir, "assets"), 0o700); err != nil {
		t.Fatal(err)
	}
	out := must(t, l.dir, "spicy", "-init", origin, "-assets", "assets", "-key", "key")
	_, rest, _ := strings.Cut(out, "Public key: ")
	l.vkey, _, _ = strings.Cut(rest, "\n")
	logs := writeFile(t, l.dir, "logs.txt", "logs/v0\n\nvkey "+l.vkey+"\nqpd 2147483647\ncontact ops@example.org\n")
	w := newWitness(t, l.dir, "w1.example.org", logs)
	p, err := policy.Parse([]byte("log " + l.vkey + "\nwitness w1 " + w.vkey + " " + w.url + "\nquorum w1\n"))
	if err != nil {
		t.Fatal(err)
	}
	feeder, err := witnessclient.New(witnessclient.Options{Policy: p})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { feeder.Close() })
	// It signs an empty tree with a root of zeros, which is none (RFC 6962): that is refused.
	_, err = feeder.Cosign(t.Context(), []byte(readFile(t, l.dir, "assets/latest")), l.prove)
	if refused := (*witnessclient.RefusedError)(nil); !errors.As(err, &refused) || refused.Status != http.StatusUnprocessableEntity {
		t.Errorf("its empty tree: %v", err)
	}
	for i, files := range []int{1, 2, 0, 7, 30} {
		l.add(t, files)
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		cosigned, err := feeder.Cosign(ctx, []byte(readFile(t, l.dir, "assets/latest")), l.prove)
		cancel()
		if err != nil {
			t.Fatalf("after %d more entries: %v", files, err)
		}
		if c, err := p.Open(cosigned); err != nil || c.Size() != l.size(t) {
			t.Errorf("after %d more entries: %v\n%s", files, err, cosigned)
		}
		if i == 2 {
			w.kill()
			w.start(t)
		}
	}
	if size := sizeOnPage(t, w.url, origin); size != 40 {
		t.Errorf("the witness says size %d", size)
	}
	// A proof that spicy made verifies under the checkpoint that is cosigned.
	must(t, l.dir, "spicy", "-verify", l.vkey, "file-39")
}

// size is how many entries the log has.
func (l *spicyLog) size(t *testing.T) int64 {
	t.Helper()
	n, err := strconv.ParseInt(strings.Split(readFile(t, l.dir, "assets/latest"), "\n")[1], 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// add has the log take n files that it does not have.
func (l *spicyLog) add(t *testing.T, n int) {
	t.Helper()
	args := []string{"spicy", "-assets", "assets", "-key", "key"}
	for i := range int64(n) {
		args = append(args, filepath.Base(writeFile(t, l.dir, fmt.Sprint("file-", l.size(t)+i), fmt.Sprint("content ", l.size(t)+i))))
	}
	if n > 0 {
		must(t, l.dir, args...)
	}
}

// prove builds a consistency proof from the log's entries.
func (l *spicyLog) prove(_ context.Context, old, size int64) ([][]byte, error) {
	var hashes []tlog.Hash
	reader := tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		out := make([]tlog.Hash, len(indexes))
		for i, x := range indexes {
			out[i] = hashes[x]
		}
		return out, nil
	})
	for i := range size {
		entry, err := os.ReadFile(filepath.Join(l.dir, "assets", strconv.FormatInt(i, 10)))
		if err != nil {
			return nil, fmt.Errorf("reading entry %d: %w", i, err)
		}
		stored, err := tlog.StoredHashes(i, entry, reader)
		if err != nil {
			return nil, err
		}
		hashes = append(hashes, stored...)
	}
	proof, err := tlog.ProveTree(size, old, reader)
	if err != nil {
		return nil, err
	}
	out := make([][]byte, len(proof))
	for i := range proof {
		out[i] = proof[i][:]
	}
	return out, nil
}
