// Package storagetest is the conformance suite that every storage.Bucket passes.
//
// It states, as tests, what the protocols above a bucket rest on (storage-protocol.md sections 2
// and 8): conditions that hold under contention, reads that see the last write, whole objects only.
// A server that ignores conditional writes fails it.
package storagetest

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"slices"
	"testing"

	"tallywood/storage"
)

// Run runs the suite. Each subtest calls open once, for a bucket (or a prefix of one) that holds
// no object and that nobody else uses.
func Run(t *testing.T, open func(t *testing.T) storage.Bucket) {
	for _, test := range []struct {
		name string
		run  func(t *testing.T, b storage.Bucket)
	}{
		{"GetAbsent", testGetAbsent},
		{"GetRange", testGetRange},
		{"GetEmptyObject", testGetEmptyObject},
		{"LargeObject", testLargeObject},
		{"OverwriteIsVisibleAtOnce", testOverwrite},
		{"CreateOnly", testCreateOnly},
		{"MatchCurrent", testMatchCurrent},
		{"MatchStale", testMatchStale},
		{"MatchMissingKey", testMatchMissing},
		{"ParallelCreatesHaveOneWinner", testParallelCreates},
		{"CompareAndSwapLosesNoUpdate", testCompareAndSwap},
		{"ParallelPutsOfManyKeys", testManyKeys},
		{"Delete", testDelete},
		{"DeleteAbsent", testDeleteAbsent},
		{"List", testList},
		{"ListOrder", testListOrder},
		{"ListStops", testListStops},
		{"BadKeysAreRefused", testBadKeys},
		{"DataIsCopied", testDataIsCopied},
		{"CancelledContext", testCancelled},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, open(t)) })
	}
}

func testGetAbsent(t *testing.T, b storage.Bucket) {
	put(t, b, "dir/present", "x")
	for _, key := range []string{"absent", "dir/absent", "absent/dir/key", "dir/present/below", "dir"} {
		data, v, err := b.Get(t.Context(), key, storage.Range{})
		if !errors.Is(err, fs.ErrNotExist) || data != nil || v != "" {
			t.Errorf("getting %q: %q, %q, %v; want fs.ErrNotExist alone", key, data, v, err)
		}
	}
}

func testGetRange(t *testing.T, b storage.Bucket) {
	const content = "0123456789"
	v := put(t, b, "key", content)
	for _, test := range []struct {
		r    storage.Range
		want string
	}{
		{storage.Range{}, content},
		{storage.Range{Length: 4}, "0123"},
		{storage.Range{Offset: 3}, "3456789"},
		{storage.Range{Offset: 3, Length: 4}, "3456"},
		{storage.Range{Offset: 9, Length: 1}, "9"},
		{storage.Range{Length: 10}, content},
		{storage.Range{Length: 1 << 40}, content},
		{storage.Range{Offset: 8, Length: 5}, "89"},
		{storage.Range{Offset: 10}, ""},
		{storage.Range{Offset: 10, Length: 1}, ""},
		{storage.Range{Offset: 1 << 40, Length: 1 << 40}, ""},
	} {
		data, got, err := b.Get(t.Context(), "key", test.r)
		if err != nil || string(data) != test.want || got != v {
			t.Errorf("range %+v: %q, version %q, %v; want %q, %q", test.r, data, got, err, test.want, v)
		}
	}
	for _, r := range []storage.Range{{Offset: -1}, {Length: -1}} {
		if data, _, err := b.Get(t.Context(), "key", r); err == nil {
			t.Errorf("range %+v: %q, want an error", r, data)
		}
	}
	if _, _, err := b.Get(t.Context(), "absent", storage.Range{Offset: 1, Length: 1}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("range of an absent key: %v, want fs.ErrNotExist", err)
	}
}

func testGetEmptyObject(t *testing.T, b storage.Bucket) {
	for _, data := range [][]byte{nil, {}} {
		if _, err := b.Put(t.Context(), "key", data, storage.PutOptions{}); err != nil {
			t.Fatal(err)
		}
		for _, r := range []storage.Range{{}, {Length: 1}, {Offset: 1}} {
			if got, v, err := b.Get(t.Context(), "key", r); err != nil || len(got) != 0 || v == "" {
				t.Errorf("range %+v of an empty object: %q, version %q, %v", r, got, v, err)
			}
		}
	}
	if _, err := b.Put(t.Context(), "key", []byte("x"), storage.PutOptions{If: storage.Absent()}); !errors.Is(err, storage.ErrPrecondition) {
		t.Errorf("creating over an empty object: %v, want ErrPrecondition", err)
	}
}

// testLargeObject stores more than the largest slot record, payload and header, has.
func testLargeObject(t *testing.T, b storage.Bucket) {
	large := make([]byte, 9<<20)
	for i := range large {
		large[i] = byte(i * i >> 7)
	}
	v, err := b.Put(t.Context(), "dir/large", large, storage.PutOptions{If: storage.Absent()})
	if err != nil {
		t.Fatal(err)
	}
	data, got, err := b.Get(t.Context(), "dir/large", storage.Range{})
	if err != nil || !bytes.Equal(data, large) || got != v {
		t.Fatalf("got %d bytes of version %q, %v; want the %d of version %q", len(data), got, err, len(large), v)
	}
	const offset = 9<<20 - 8192
	data, got, err = b.Get(t.Context(), "dir/large", storage.Range{Offset: offset, Length: 4096})
	if err != nil || !bytes.Equal(data, large[offset:offset+4096]) || got != v {
		t.Errorf("range: got %d bytes of version %q, %v", len(data), got, err)
	}
}

func testOverwrite(t *testing.T, b storage.Bucket) {
	var last storage.Version
	for i := range 20 {
		content := string(rune('a' + i))
		v, err := b.Put(t.Context(), "dir/key", []byte(content), storage.PutOptions{
			ContentType: "text/plain; charset=utf-8", CacheControl: "no-cache",
		})
		if err != nil {
			t.Fatal(err)
		}
		if v == "" || v == last {
			t.Errorf("version %q after version %q of another content", v, last)
		}
		wantContent(t, b, "dir/key", content, v)
		last = v
	}
}

func testCreateOnly(t *testing.T, b storage.Bucket) {
	create := storage.PutOptions{If: storage.Absent()}
	v, err := b.Put(t.Context(), "dir/sub/key", []byte("first"), create)
	if err != nil {
		t.Fatal(err)
	}
	for _, content := range []string{"second", "first", ""} {
		if got, err := b.Put(t.Context(), "dir/sub/key", []byte(content), create); !errors.Is(err, storage.ErrPrecondition) || got != "" {
			t.Errorf("creating again with %q: version %q, %v; want ErrPrecondition", content, got, err)
		}
		wantContent(t, b, "dir/sub/key", "first", v)
	}
}

func testMatchCurrent(t *testing.T, b storage.Bucket) {
	v := put(t, b, "key", "a")
	for _, content := range []string{"b", "c", "d"} {
		next, err := b.Put(t.Context(), "key", []byte(content), storage.PutOptions{If: storage.Match(v)})
		if err != nil || next == v {
			t.Fatalf("swapping to %q: version %q after %q, %v", content, next, v, err)
		}
		wantContent(t, b, "key", content, next)
		v = next
	}
	_, read, err := b.Get(t.Context(), "key", storage.Range{Length: 1})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Put(t.Context(), "key", []byte("e"), storage.PutOptions{If: storage.Match(read)}); err != nil {
		t.Errorf("swapping with the version of a ranged read: %v", err)
	}
}

func testMatchStale(t *testing.T, b storage.Bucket) {
	stale := put(t, b, "key", "a")
	v := put(t, b, "key", "b")
	foreign := put(t, b, "other", "c")
	for _, m := range []storage.Version{stale, foreign, "nonsense"} {
		if _, err := b.Put(t.Context(), "key", []byte("x"), storage.PutOptions{If: storage.Match(m)}); !errors.Is(err, storage.ErrPrecondition) {
			t.Errorf("swapping version %q while %q is current: %v, want ErrPrecondition", m, v, err)
		}
		wantContent(t, b, "key", "b", v)
	}
}

func testMatchMissing(t *testing.T, b storage.Bucket) {
	v := put(t, b, "dir/other", "a")
	deleted := put(t, b, "dir/deleted", "b")
	if err := b.Delete(t.Context(), "dir/deleted"); err != nil {
		t.Fatal(err)
	}
	for key, m := range map[string]storage.Version{"dir/missing": v, "dir/deleted": deleted, "nodir/missing": v} {
		if _, err := b.Put(t.Context(), key, []byte("x"), storage.PutOptions{If: storage.Match(m)}); !errors.Is(err, storage.ErrPrecondition) {
			t.Errorf("swapping absent %q: %v, want ErrPrecondition", key, err)
		}
		wantAbsent(t, b, key)
	}
}

func testDelete(t *testing.T, b storage.Bucket) {
	for _, key := range []string{"dir/a", "dir/b", "dir/c", "other/a"} {
		put(t, b, key, "x")
	}
	if err := b.Delete(t.Context(), "dir/a", "other/a", "dir/c"); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"dir/a", "dir/c", "other/a"} {
		wantAbsent(t, b, key)
	}
	wantKeys(t, b, "", "dir/b")
	v, err := b.Put(t.Context(), "dir/a", []byte("again"), storage.PutOptions{If: storage.Absent()})
	if err != nil {
		t.Fatalf("creating a deleted key: %v", err)
	}
	wantContent(t, b, "dir/a", "again", v)
}

func testDeleteAbsent(t *testing.T, b storage.Bucket) {
	if err := b.Delete(t.Context()); err != nil {
		t.Errorf("deleting no keys: %v", err)
	}
	v := put(t, b, "dir/key", "x")
	// Neither what is above a key nor what is below it is an object.
	if err := b.Delete(t.Context(), "absent", "absent/too", "dir", "dir/key/below", "dir/absent"); err != nil {
		t.Errorf("deleting absent keys: %v", err)
	}
	wantContent(t, b, "dir/key", "x", v)
	// One key absent, the other not, and one named twice.
	if err := b.Delete(t.Context(), "absent", "dir/key", "dir/key"); err != nil {
		t.Errorf("deleting absent and present keys: %v", err)
	}
	wantAbsent(t, b, "dir/key")
}

func testList(t *testing.T, b storage.Bucket) {
	wantKeys(t, b, "")
	wantKeys(t, b, "logs/")
	keys := []string{"logs/a/checkpoint", "logs/a/tile/0/000", "logs/a/tile/0/001", "logs/b/checkpoint", "state/a/identity"}
	for _, key := range keys {
		put(t, b, key, "x")
	}
	wantKeys(t, b, "", keys...)
	wantKeys(t, b, "logs/", keys[:4]...)
	wantKeys(t, b, "logs/a", keys[:3]...)
	wantKeys(t, b, "logs/a/", keys[:3]...)
	wantKeys(t, b, "logs/a/tile/0/00", keys[1], keys[2])
	wantKeys(t, b, "logs/a/tile/0/000", keys[1])
	wantKeys(t, b, "l", keys[:4]...)
	for _, prefix := range []string{"logs/a/tile/0/000/", "logs/a/tile/1/", "logs/c/", "nothing", "/", "/logs/", "../", "logs//"} {
		wantKeys(t, b, prefix)
	}
}

// testListOrder has keys whose order differs from that of a walk through directories: "-" and "."
// sort before "/", "0" after it.
func testListOrder(t *testing.T, b storage.Bucket) {
	keys := []string{"a-b", "a.p/1", "a/b-c/d", "a/b.c", "a/b/c", "a0/b", "b/00000000000000000009", "b/00000000000000000010"}
	for _, key := range slices.Backward(keys) {
		put(t, b, key, "x")
	}
	wantKeys(t, b, "", keys...)
	wantKeys(t, b, "a", keys[:6]...)
}

func testListStops(t *testing.T, b storage.Bucket) {
	for _, key := range []string{"a/1", "a/2", "b/1", "c"} {
		put(t, b, key, "x")
	}
	var seen []string
	for key, err := range b.List(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		seen = append(seen, key)
		if len(seen) == 2 {
			break
		}
	}
	if want := []string{"a/1", "a/2"}; !slices.Equal(seen, want) {
		t.Errorf("before the break: %q, want %q", seen, want)
	}
}

func testBadKeys(t *testing.T, b storage.Bucket) {
	for _, key := range []string{"", ".", "..", "/", "/a", "a/", "a//b", "a/./b", "a/../b", "../a", "a\x00b", "a\nb", `a\b`, "a\xff", string(make([]byte, 513))} {
		if _, _, err := b.Get(t.Context(), key, storage.Range{}); err == nil || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("getting %q: %v, want it refused", key, err)
		}
		for _, c := range []storage.Condition{{}, storage.Absent(), storage.Match("v")} {
			if _, err := b.Put(t.Context(), key, nil, storage.PutOptions{If: c}); err == nil || errors.Is(err, storage.ErrPrecondition) {
				t.Errorf("putting %q: %v, want it refused", key, err)
			}
		}
		if err := b.Delete(t.Context(), key); err == nil {
			t.Errorf("deleting %q: want it refused", key)
		}
	}
	wantKeys(t, b, "")
}

func testDataIsCopied(t *testing.T, b storage.Bucket) {
	data := []byte("content")
	v, err := b.Put(t.Context(), "key", data, storage.PutOptions{})
	if err != nil {
		t.Fatal(err)
	}
	copy(data, "XXXXXXX")
	got, _, err := b.Get(t.Context(), "key", storage.Range{})
	if err != nil {
		t.Fatal(err)
	}
	copy(got, "YYYYYYY")
	_ = append(got, "ZZZ"...)
	part, _, err := b.Get(t.Context(), "key", storage.Range{Length: 3})
	if err != nil {
		t.Fatal(err)
	}
	_ = append(part, "ZZZ"...)
	wantContent(t, b, "key", "content", v)
}

func testCancelled(t *testing.T, b storage.Bucket) {
	v := put(t, b, "key", "x")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, _, err := b.Get(ctx, "key", storage.Range{})
	wantCancelled(t, "getting", err)
	_, err = b.Put(ctx, "key", []byte("y"), storage.PutOptions{})
	wantCancelled(t, "putting", err)
	_, err = b.Put(ctx, "new", []byte("y"), storage.PutOptions{If: storage.Absent()})
	wantCancelled(t, "creating", err)
	wantCancelled(t, "deleting", b.Delete(ctx, "key"))
	err = nil
	for _, err = range b.List(ctx, "") {
	}
	wantCancelled(t, "listing", err)
	wantContent(t, b, "key", "x", v)
	wantAbsent(t, b, "new")
}

func wantCancelled(t *testing.T, what string, err error) {
	t.Helper()
	if !errors.Is(err, context.Canceled) || errors.Is(err, storage.ErrPrecondition) {
		t.Errorf("%s with a cancelled context: %v, want context.Canceled", what, err)
	}
}

func put(t *testing.T, b storage.Bucket, key, content string) storage.Version {
	t.Helper()
	v, err := b.Put(t.Context(), key, []byte(content), storage.PutOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func wantContent(t *testing.T, b storage.Bucket, key, content string, v storage.Version) {
	t.Helper()
	data, got, err := b.Get(t.Context(), key, storage.Range{})
	if err != nil || string(data) != content || got != v {
		t.Errorf("%s holds %q, version %q, %v; want %q, %q", key, data, got, err, content, v)
	}
}

func wantAbsent(t *testing.T, b storage.Bucket, key string) {
	t.Helper()
	if data, _, err := b.Get(t.Context(), key, storage.Range{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s holds %q, %v; want it absent", key, data, err)
	}
}

func wantKeys(t *testing.T, b storage.Bucket, prefix string, want ...string) {
	t.Helper()
	var keys []string
	for key, err := range b.List(t.Context(), prefix) {
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, key)
	}
	if !slices.Equal(keys, want) {
		t.Errorf("keys under %q\n got %q\nwant %q", prefix, keys, want)
	}
}
