//go:build unix

package bench

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/transparency-dev/tessera"
	"github.com/transparency-dev/tessera/storage/posix"
	"golang.org/x/mod/sumdb/note"
)

// A tesseraPOSIX is a log of Tessera's own POSIX driver.
type tesseraPOSIX struct {
	dir      string
	appender *tessera.Appender
	reader   tessera.LogReader
	shutdown func(context.Context) error
	stop     context.CancelFunc
}

func newTesseraPOSIX(ctx context.Context, o StorageOptions, _ *counter64) (engine, error) {
	dir, err := os.MkdirTemp(o.PeerDir, "tessera-")
	if err != nil {
		return nil, fmt.Errorf("making a directory for the peer: %w", err)
	}
	e, err := openTesseraPOSIX(ctx, o, dir)
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return e, nil
}

func openTesseraPOSIX(ctx context.Context, o StorageOptions, dir string) (engine, error) {
	skey, _, err := note.GenerateKey(rand.Reader, benchOrigin)
	if err != nil {
		return nil, fmt.Errorf("making a key: %w", err)
	}
	signer, err := note.NewSigner(skey)
	if err != nil {
		return nil, fmt.Errorf("making a key: %w", err)
	}
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	d, err := posix.New(running, posix.Config{Path: filepath.Join(dir, "log")})
	if err != nil {
		stop()
		return nil, fmt.Errorf("opening the peer's log: %w", err)
	}
	// The least intervals its driver takes, and batches that fill up as ours do.
	a, shutdown, reader, err := tessera.NewAppender(running, d, tessera.NewAppendOptions().
		WithCheckpointSigner(signer).
		WithBatching(uint(o.Batch), 50*time.Millisecond).
		WithPushback(uint(max(4*o.InFlight, 1024))).
		WithCheckpointInterval(100*time.Millisecond))
	if err != nil {
		stop()
		return nil, fmt.Errorf("opening the peer's log: %w", err)
	}
	return &tesseraPOSIX{dir, a, reader, shutdown, stop}, nil
}

func (p *tesseraPOSIX) add(ctx context.Context, e *tessera.Entry) tessera.IndexFuture {
	return p.appender.Add(ctx, e)
}

func (p *tesseraPOSIX) published(ctx context.Context) (int64, error) {
	raw, err := p.reader.ReadCheckpoint(ctx)
	if err != nil {
		return 0, err
	}
	tree, err := parseCheckpoint(raw)
	return tree.Size, err
}

func (p *tesseraPOSIX) close(ctx context.Context) error {
	err := p.shutdown(ctx)
	p.stop()
	return errors.Join(err, os.RemoveAll(p.dir))
}
