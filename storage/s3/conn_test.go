package s3_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tallywood/storage"
)

type connKey struct{}

// TestIdleConnectionsThatLeadNowhere cuts off all connections there are, as a network does that has
// forgotten them. One request is lost by that, not one for each connection.
func TestIdleConnectionsThatLeadNowhere(t *testing.T) {
	credentials(t)
	var conns, cut atomic.Int64
	const parallel = 8
	var together sync.WaitGroup
	together.Add(parallel)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Context().Value(connKey{}).(int64) <= cut.Load() {
			<-r.Context().Done() // until the client closes the connection
			return
		}
		if cut.Load() == 0 {
			together.Done()
			together.Wait() // so that each request takes a connection
		}
		w.Header().Set("ETag", `"1"`)
		_, _ = w.Write([]byte("data")) // the client checks
	}))
	server.Config.ConnContext = func(ctx context.Context, _ net.Conn) context.Context {
		return context.WithValue(ctx, connKey{}, conns.Add(1))
	}
	server.Start()
	defer server.Close()
	b := open(t, server.URL, "bucket", "log")
	var gets sync.WaitGroup
	for range parallel {
		gets.Go(func() {
			if _, _, err := b.Get(t.Context(), "logs/x", storage.Range{}); err != nil {
				t.Error(err)
			}
		})
	}
	gets.Wait()
	cut.Store(conns.Load())
	lost, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, _, err := b.Get(lost, "logs/x", storage.Range{}); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("on a connection that leads nowhere: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if data, _, err := b.Get(ctx, "logs/x", storage.Range{}); err != nil || string(data) != "data" {
		t.Errorf("after that: %q, %v", data, err)
	}
}
