package driver_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"os"
	"strings"
	"testing"

	"tallywood/storage/driver"
	"tallywood/storage/mem"
)

// TestRecordGolden keeps the record format: other processes read what this one writes.
func TestRecordGolden(t *testing.T) {
	leader, batch, err := driver.GoldenHeaders()
	if err != nil {
		t.Fatal(err)
	}
	for name, got := range map[string][]byte{"leader": leader, "batch": batch} {
		want, err := os.ReadFile("testdata/" + name + ".header")
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s header is\n%s not\n%s", name, got, want)
		}
		again, size, err := driver.ParseHeader(append(bytes.Clone(want), "payload"...))
		if err != nil || size != len(want) || !bytes.Equal(again, want) {
			t.Errorf("parsing the %s header: %v", name, err)
		}
	}
}

func TestHeaderRefusesWhatCannotBe(t *testing.T) {
	leader, batch, err := driver.GoldenHeaders()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ in, old, new string }{
		{string(leader), `"v":1`, `"v":2`},
		{string(leader), `"v":1`, `"V":1`},
		{string(leader), `"v":1`, `"v": 1`},
		{string(leader), `"v":1`, `"v":1,"v":1`},
		{string(leader), `"v":1`, `"v":1,"w":1`},
		{string(leader), `"epoch":1`, `"epoch":0`},
		{string(leader), `"leader":-1`, `"leader":0`},
		{string(leader), `"leader":-1`, `"leader":-2`},
		{string(leader), `"n":0`, `"n":-1`},
		{string(leader), `"LEADER"`, `"leader"`},
		{string(leader), `"LEADER"`, `"BATCH"`},
		{string(leader), `"count":0`, `"count":1`},
		{string(leader), `"range":[]`, `"range":null`},
		{string(leader), `"new_size":0`, `"new_size":1`},
		{string(leader), `"payload_sha256":"e3`, `"payload_sha256":"e4`},
		{string(leader), `"prev":"02`, `"prev":"0`},
		{string(leader), `"prev":"02`, `"prev":"0X`},
		{string(leader), `https://a.example/`, `https://a.example/` + strings.Repeat("a", 1024)},
		{string(leader), "\n", ""},
		{string(leader), "\n", strings.Repeat(" ", 8192) + "\n"},
		{string(batch), `"BATCH"`, `"LEADER"`},
		{string(batch), `"leader":0`, `"leader":-1`},
		{string(batch), `"leader":0`, `"leader":1`},
		{string(batch), `"new_root":"`, `"new_root":"00`},
		{string(batch), `"new_size":1`, `"new_size":2`},
		{string(batch), `"old_size":0`, `"old_size":-1`},
		{string(batch), `"count":1`, `"count":0`},
		{string(batch), `"}`, `","url":"https://b.example"}`},
		{string(batch), `"}`, `","released":false}`},
	} {
		if !strings.Contains(c.in, c.old) {
			t.Fatalf("%q is not in %s", c.old, c.in)
		}
		if _, _, err := driver.ParseHeader([]byte(strings.Replace(c.in, c.old, c.new, 1))); err == nil {
			t.Errorf("accepted with %s for %s", c.new, c.old)
		}
	}
}

func FuzzParseHeader(f *testing.F) {
	leader, batch, err := driver.GoldenHeaders()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(leader)
	f.Add(append(batch, "\x00\x05hello"...))
	f.Fuzz(func(t *testing.T, b []byte) {
		again, size, err := driver.ParseHeader(b)
		if err == nil && !bytes.Equal(again, b[:size]) {
			t.Fatalf("%q encodes to %q", b[:size], again)
		}
	})
}

func FuzzParseState(f *testing.F) {
	b := mem.New()
	open(f, options(f, b))
	f.Add(get(f, b, "state/test/identity"))
	f.Add(get(f, b, "state/test/floor"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if again, err := driver.ParseIdentity(b); err == nil && !bytes.Equal(again, b) {
			t.Fatalf("identity %q encodes to %q", b, again)
		}
		if again, err := driver.ParseFloor(b); err == nil && !bytes.Equal(again, b) {
			t.Fatalf("floor %q encodes to %q", b, again)
		}
	})
}

// chain returns the records of a small log and what they chain to.
func chain(t testing.TB) (o driver.Options, log [16]byte, identity [32]byte, records [][]byte) {
	t.Helper()
	b := mem.New()
	o = options(t, b)
	for i := range int64(3) {
		l := open(t, o)
		log = driver.LogUUID(l)
		stop := lead(t, l)
		add(t, l, 4*i, 4*i+1)
		add(t, l, 4*i+1, 4*i+4)
		quit(t, l, stop)
	}
	for n := 0; ; n++ {
		r := get(t, b, fmt.Sprintf("state/test/log/%020d", n))
		if r == nil {
			return o, log, sha256.Sum256(get(t, b, "state/test/identity")), records
		}
		records = append(records, r)
	}
}

func TestChainRefusesForgery(t *testing.T) {
	o, log, identity, records := chain(t)
	if size, err := driver.Chain(o, log, identity, records); size != 12 || err != nil {
		t.Fatalf("chain of size %d, %v", size, err)
	}
	if _, err := driver.Chain(o, [16]byte{}, identity, records); err == nil {
		t.Error("accepted the records of another log")
	}
	if _, err := driver.Chain(o, log, [32]byte{}, records); err == nil {
		t.Error("accepted the records of another identity")
	}
	for i := range records {
		if i < len(records)-1 {
			if _, err := driver.Chain(o, log, identity, without(records, i)); err == nil {
				t.Errorf("accepted a chain without record %d", i)
			}
		}
		for at := range records[i] {
			forged := append([][]byte{}, records...)
			forged[i] = bytes.Clone(records[i])
			forged[i][at] ^= 1
			// The nonce is bound by the next record only.
			if _, err := driver.Chain(o, log, identity, forged); err == nil && i < len(records)-1 {
				t.Fatalf("accepted record %d with byte %d changed: %q", i, at, forged[i])
			}
		}
		for _, forged := range [][]byte{records[i][:len(records[i])-1], append(bytes.Clone(records[i]), 0)} {
			if _, err := driver.Chain(o, log, identity, append(append([][]byte{}, records[:i]...), forged)); err == nil {
				t.Errorf("accepted record %d cut or longer", i)
			}
		}
	}
}

// TestChainNamesTheSlot has a record whose entries are none, with a header that fits.
func TestChainNamesTheSlot(t *testing.T) {
	o, log, identity, records := chain(t)
	for i, raw := range records {
		r := parseRecord(t, raw)
		payload := raw[len(r.line):]
		if len(payload) == 0 {
			continue
		}
		cut := payload[:len(payload)-1]
		line := bytes.Replace(r.line, fmt.Appendf(nil, "%x", sha256.Sum256(payload)), fmt.Appendf(nil, "%x", sha256.Sum256(cut)), 1)
		forged := append(append([][]byte{}, records[:i]...), append(line, cut...))
		_, err := driver.Chain(o, log, identity, forged)
		want := fmt.Sprintf("refusing damaged log: slot %d: splitting entry", i)
		if err == nil || !strings.HasPrefix(err.Error(), want) || strings.Contains(err.Error(), "bundle") {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

func without(records [][]byte, i int) [][]byte {
	return append(append([][]byte{}, records[:i]...), records[i+1:]...)
}

func FuzzChain(f *testing.F) {
	o, log, identity, records := chain(f)
	for i, r := range records {
		f.Add(i, r)
	}
	f.Fuzz(func(t *testing.T, i int, record []byte) {
		if i < 0 || i >= len(records)-1 || bytes.Equal(record, records[i]) {
			return
		}
		forged := append([][]byte{}, records...)
		forged[i] = record
		if _, err := driver.Chain(o, log, identity, forged); err == nil {
			t.Fatalf("accepted another record %d", i)
		}
	})
}

func FuzzLayout(f *testing.F) {
	f.Add([]byte("\x00\x05hello\x00\x00"))
	f.Add(append(make([]byte, 10), "\x00\x00\x01x\x00\x08\x00\x00\x05\x00\x00\x00\x00\x07\x00\x00"...))
	f.Add(append(make([]byte, 9), 1))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, layout := range []driver.Layout{driver.TlogTiles(), driver.StaticCT()} {
			entries, err := layout.Split(b)
			if err != nil {
				continue
			}
			if !bytes.Equal(bytes.Join(entries, nil), b) {
				t.Fatalf("%s: the entries of %x are %x", layout.Name, b, entries)
			}
			for _, e := range entries {
				if _, err := layout.LeafHash(e); err != nil {
					t.Fatalf("%s: hashing %x: %v", layout.Name, e, err)
				}
			}
		}
	})
}
