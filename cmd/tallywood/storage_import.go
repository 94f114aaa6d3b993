package main

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"

	"tallywood/internal/keys"
	"tallywood/internal/stack"
	"tallywood/storage"
	"tallywood/storage/driver"
)

const (
	maxImported    = 32 << 20 // bytes of one object
	importAttempts = 4        // at reading it
)

// An importRun is one call of "storage import".
type importRun struct {
	from string // directory or http(s) URL of the published log
	name string // that it is to have here
	key  string // file of its signing key
}

// run copies the log into b.
func (i importRun) run(ctx context.Context, t terminal, b storage.Bucket) error {
	if i.from == "" || i.name == "" || i.key == "" {
		return usagef("storage import needs --from, --log and --key")
	}
	fetch, err := i.source()
	if err != nil {
		return err
	}
	o, err := i.options(ctx, b, fetch)
	if err != nil {
		return err
	}
	bar := newBar(t.err, "importing "+i.name)
	p, err := driver.Import(ctx, o, fetch, bar.tell)
	bar.end()
	switch {
	case errors.Is(err, driver.ErrOtherLog):
		return hinted(exitNegative, err, "choose another --log or storage; what is there was left as it is")
	case err != nil:
		return hinted(exitNegative, err, "no log was made of it; the import may be repeated")
	}
	fmt.Fprintf(t.out, "imported %s: %d entries, root %x\n", o.Origin, p.Size, p.Root)
	fmt.Fprintf(t.out, "vkey %s\n", o.VKeys[0])
	fmt.Fprintf(t.out, "Whatever wrote this log so far must never run again: two writers with one key are two logs.\n")
	return nil
}

// options are those of the log, whose origin its checkpoint tells.
func (i importRun) options(ctx context.Context, b storage.Bucket, fetch driver.Fetch) (driver.Options, error) {
	signer, err := stack.OpenKey(ctx, strings.TrimPrefix(i.key, "file:"))
	if err != nil {
		return driver.Options{}, keyError(fmt.Errorf("--key: %w", err))
	}
	public, ok := signer.Public().(ed25519.PublicKey)
	if !ok {
		return driver.Options{}, usagef("--key: %s is a %T; checkpoints are signed with Ed25519", i.key, signer.Public())
	}
	checkpoint, err := fetch(ctx, "checkpoint")
	if err != nil {
		return driver.Options{}, hinted(exitOperational, fmt.Errorf("reading checkpoint of %s: %w", i.from, err), "--from is the directory or URL below which a log has checkpoint and tile/")
	}
	origin, _, _ := bytes.Cut(checkpoint, []byte("\n"))
	ns, err := keys.NoteSigner(string(origin), signer)
	if err != nil {
		return driver.Options{}, hinted(exitNegative, fmt.Errorf("checkpoint of %s: %w", i.from, err), "")
	}
	return driver.Options{
		Bucket: b, Name: i.name, Origin: string(origin), Layout: driver.TlogTiles(), Signers: []note.Signer{ns},
		VKeys: []string{keys.VKey(string(origin), keys.AlgEd25519, public)},
	}, nil
}

// source returns what reads the published log.
func (i importRun) source() (driver.Fetch, error) {
	if strings.HasPrefix(i.from, "http://") || strings.HasPrefix(i.from, "https://") {
		client := &http.Client{Timeout: time.Minute}
		base := strings.TrimSuffix(i.from, "/") + "/"
		return func(ctx context.Context, path string) ([]byte, error) { return download(ctx, client, base+path) }, nil
	}
	dir := strings.TrimPrefix(i.from, "file:")
	if strings.Contains(dir, "://") {
		return nil, usagef("--from %q: want a directory or an http(s) URL", i.from)
	}
	return func(_ context.Context, path string) ([]byte, error) {
		return os.ReadFile(filepath.Join(dir, filepath.FromSlash(path)))
	}, nil
}

// download reads a URL, again if the failure may pass.
func download(ctx context.Context, client *http.Client, url string) ([]byte, error) {
	for attempt := 1; ; attempt++ {
		data, passing, err := downloadOnce(ctx, client, url)
		if err == nil || !passing || attempt == importAttempts {
			return data, err
		}
		select {
		case <-time.After(time.Duration(attempt) * time.Second):
		case <-ctx.Done():
			return nil, err
		}
	}
}

func downloadOnce(ctx context.Context, client *http.Client, url string) (data []byte, passing bool, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, false, err
	}
	res, err := client.Do(req)
	if err != nil {
		return nil, true, err
	}
	defer res.Body.Close()
	switch {
	case res.StatusCode == http.StatusNotFound:
		return nil, false, fmt.Errorf("%s: %w", url, fs.ErrNotExist)
	case res.StatusCode != http.StatusOK:
		passing = res.StatusCode >= 500 || res.StatusCode == http.StatusTooManyRequests
		return nil, passing, fmt.Errorf("%s: %d %s", url, res.StatusCode, http.StatusText(res.StatusCode))
	}
	data, err = io.ReadAll(io.LimitReader(res.Body, maxImported+1))
	if len(data) > maxImported {
		return nil, false, fmt.Errorf("%s: more than %d bytes", url, maxImported)
	}
	return data, true, err
}
