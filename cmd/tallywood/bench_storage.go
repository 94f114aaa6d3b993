package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"

	"tallywood/internal/bench"
	"tallywood/internal/stack"
)

// storageFlags adds the flags of "bench storage".
func storageFlags(fs *flag.FlagSet) *bench.StorageOptions {
	o := new(bench.StorageOptions)
	fs.IntVar(&o.Batch, "batch", 4096, "storage: `N` entries in a batch at most")
	fs.IntVar(&o.InFlight, "in-flight", 0, "storage: `N` adds under way at most (default: twice --batch)")
	fs.DurationVar(&o.Commit, "commit-interval", 0, "storage: `TIME` from one commit to the next at least, but for a full batch")
	fs.DurationVar(&o.Publish, "publish-interval", 0, "storage: `TIME` from one publication to the next at least")
	fs.Float64Var(&o.Rate, "rate", 0, "storage, log: `N` adds per second, evenly (default: as fast as they end)")
	fs.IntVar(&o.Size, "size", 1024, "storage: `BYTES` of an entry")
	fs.DurationVar(&o.PutLatency, "put-latency", 0, "storage: `TIME` that every Put takes longer")
	fs.DurationVar(&o.Idle, "idle", 0, "storage: `TIME` to count an idle log's requests afterwards")
	return o
}

func benchStorage(ctx context.Context, t terminal, o bench.StorageOptions, location string, asJSON bool) error {
	var err error
	if o.Bucket, err = stack.OpenBucket(ctx, location); err != nil {
		return usagef("%w", err)
	}
	if o.PeerDir != "" {
		if err := os.MkdirAll(o.PeerDir, 0o755); err != nil {
			return usagef("--against: %w", err)
		}
	}
	results, err := bench.Storage(ctx, o)
	if err != nil {
		return err
	}
	if asJSON {
		return json.NewEncoder(t.out).Encode(results)
	}
	for _, r := range results {
		fmt.Fprint(t.out, r)
	}
	if o.PeerDir != "" {
		fmt.Fprint(t.out, "\n", bench.StorageTable(results))
	}
	return nil
}
