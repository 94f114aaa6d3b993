package driver

import (
	"context"
	"fmt"
	"net/http"
	"sync"

	"github.com/transparency-dev/tessera"
	"github.com/transparency-dev/tessera/ctonly"
)

// An appender is what Tessera makes of this driver for one leadership. Everything that ties us to
// v1.0.4 of its lifecycle is in this file.
type appender struct {
	add      tessera.AddFn
	addCT    func(context.Context, *ctonly.Entry) tessera.IndexFuture
	shutdown func(context.Context) error // from then on add and addCT fail with ErrNotLeading

	// sign returns the signed checkpoint of a size and root. CheckpointPublisher also gathers
	// cosignatures; it is given no witnesses, which makes it return at once.
	sign func(ctx context.Context, size int64, root []byte) ([]byte, error)
}

// leadership is the tessera.Driver of one leadership.
type leadership struct {
	l       *Log
	publish func(ctx context.Context, size uint64, root []byte) ([]byte, error)
}

// A gate turns adds away once it is closed, with an error of ours: that of Tessera's add functions
// after shutdown has no name.
type gate struct {
	mu     sync.RWMutex
	closed bool
}

func (g *gate) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = true
}

// gated is add as long as the gate is open.
func gated[E any](g *gate, add func(context.Context, E) tessera.IndexFuture) func(context.Context, E) tessera.IndexFuture {
	return func(ctx context.Context, e E) tessera.IndexFuture {
		g.mu.RLock()
		defer g.mu.RUnlock()
		if g.closed {
			return failed(errNotLeading)
		}
		return add(ctx, e)
	}
}

// Appender is the method tessera.NewAppender looks for in a driver.
func (d *leadership) Appender(_ context.Context, o *tessera.AppendOptions) (*tessera.Appender, tessera.LogReader, error) {
	r := reader{d.l}
	d.publish = o.CheckpointPublisher(r, http.DefaultClient)
	return &tessera.Appender{Add: d.l.enqueue}, r, nil
}

// newAppender starts Tessera's part. Its goroutines end with ctx, which must outlive shutdown.
func (l *Log) newAppender(ctx context.Context) (*appender, error) {
	o := tessera.NewAppendOptions().
		WithCheckpointSigner(l.o.Signers[0], l.o.Signers[1:]...).
		WithBatching(uint(l.o.BatchMaxSize), l.o.BatchMaxAge).
		WithPushback(uint(l.o.MaxOutstanding)).
		WithCheckpointInterval(l.o.PublishInterval).
		WithCheckpointRepublishInterval(0). // see publish
		WithGarbageCollectionInterval(0)
	if l.o.Layout.indexed {
		o = o.WithCTLayout()
	}
	d := &leadership{l: l}
	a, shutdown, _, err := tessera.NewAppender(ctx, d, o)
	if err != nil {
		return nil, fmt.Errorf("starting the appender: %w", err)
	}
	g := new(gate)
	return &appender{
		add:   gated(g, a.Add),
		addCT: gated(g, tessera.NewCertificateTransparencyAppender(a)),
		shutdown: func(ctx context.Context) error {
			g.close()
			return shutdown(ctx)
		},
		sign: func(ctx context.Context, size int64, root []byte) ([]byte, error) {
			return d.publish(ctx, uint64(size), root)
		},
	}, nil
}
