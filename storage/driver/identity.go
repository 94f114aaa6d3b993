package driver

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"tallywood/storage"
)

// format is the storage format this program reads and writes.
const format = 1

// identity is the create-only object that ties a bucket's log to its origin and keys.
type identity struct {
	Format  int      `json:"format"`
	Origin  string   `json:"origin"`
	VKeys   []string `json:"vkeys"`
	UUID    id       `json:"log_uuid"`
	Store   string   `json:"store"`   // where the log was created, for people
	Created string   `json:"created"` // RFC 3339, UTC
}

func (i identity) encode() ([]byte, error) {
	b, err := json.Marshal(i)
	if err != nil {
		return nil, fmt.Errorf("encoding identity: %w", err)
	}
	return append(b, '\n'), nil
}

func parseIdentity(b []byte) (identity, error) {
	var i identity
	line, rest, found := bytes.Cut(b, []byte{'\n'})
	if !found || len(rest) > 0 {
		return identity{}, errors.New("parsing identity: not one line")
	}
	var other struct{ Format *int } // what else another format has is not known here
	if err := json.Unmarshal(line, &other); err == nil && other.Format != nil && *other.Format != format {
		return identity{}, fmt.Errorf("%w: the log has format %d, this program knows %d", ErrFormat, *other.Format, format)
	}
	if err := decodeExactly(line, &i); err != nil {
		return identity{}, fmt.Errorf("parsing identity: %w", err)
	}
	if i.Format != format {
		return identity{}, errors.New("parsing identity: no format")
	}
	return i, nil
}

// init returns the log's identity and the hash of its object, and creates identity and floor
// where the bucket has none. Both are created before slot 0, so they are looked for after it: a
// process that races another one's creation never mistakes it for damage.
func (l *Log) init(ctx context.Context) (identity, hash, error) {
	ctx, cancel := context.WithTimeout(ctx, decideTimeout)
	defer cancel()
	slot0, err := l.exists(ctx, l.slotKey(0))
	if err != nil {
		return identity{}, hash{}, fmt.Errorf("looking for slot 0: %w", err)
	}
	floor, err := l.exists(ctx, l.stateKey("floor"))
	if err != nil {
		return identity{}, hash{}, fmt.Errorf("looking for the floor: %w", err)
	}
	raw, _, err := l.o.Bucket.Get(ctx, l.stateKey("identity"), storage.Range{})
	found := err == nil
	switch {
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return identity{}, hash{}, fmt.Errorf("reading identity: %w", err)
	case slot0 && !floor:
		return identity{}, hash{}, damagef("%s has a slot 0 but no floor", l.stateKey(""))
	case floor && !found:
		return identity{}, hash{}, damagef("%s has a floor but no identity", l.stateKey(""))
	case !found:
		if raw, err = l.createIdentity(ctx); err != nil {
			return identity{}, hash{}, err
		}
	}
	ident, err := parseIdentity(raw)
	switch {
	case errors.Is(err, ErrFormat):
		return identity{}, hash{}, err
	case err != nil:
		return identity{}, hash{}, &DamageError{err}
	}
	if err := l.own(ident); err != nil {
		return identity{}, hash{}, err
	}
	if !floor {
		if err := l.createFloor(ctx, sum(raw)); err != nil {
			return identity{}, hash{}, err
		}
	}
	return ident, sum(raw), nil
}

// own fails unless the identity is that of this log.
func (l *Log) own(ident identity) error {
	if ident.Origin != l.o.Origin || !slices.Equal(ident.VKeys, l.o.VKeys) {
		return fmt.Errorf("%w: %s has origin %q and keys %q, not origin %q and keys %q",
			ErrOtherLog, l.stateKey("identity"), ident.Origin, ident.VKeys, l.o.Origin, l.o.VKeys)
	}
	return nil
}

// createIdentity creates the identity and returns the object that is there then: ours, or that of
// a process that was faster.
func (l *Log) createIdentity(ctx context.Context) ([]byte, error) {
	data, err := identity{
		Format: format, Origin: l.o.Origin, VKeys: l.o.VKeys, UUID: newID(), Store: l.o.Store,
		Created: time.Now().UTC().Format(time.RFC3339),
	}.encode()
	if err != nil {
		return nil, err
	}
	stored, err := l.create(ctx, l.stateKey("identity"), data, private)
	if err != nil {
		return nil, fmt.Errorf("creating identity: %w", err)
	}
	return stored, nil
}

func (l *Log) exists(ctx context.Context, key string) (bool, error) {
	_, _, err := l.o.Bucket.Get(ctx, key, storage.Range{Length: 1})
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}
