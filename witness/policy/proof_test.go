package policy_test

import (
	"bytes"
	"encoding/base64"
	"strings"
	"testing"

	"filippo.io/torchwood"
	"github.com/transparency-dev/formats/proof"
	"golang.org/x/mod/sumdb/tlog"

	"tallywood/witness/policy"
)

// proofs are tlog-proofs of all forms.
func proofs() []policy.Proof {
	checkpoint := []byte(body(7) + "\n— " + origin + " c2lnbmF0dXJl\n")
	hashes := make([][32]byte, 63)
	for i := range hashes {
		hashes[i] = [32]byte{byte(i + 1)}
	}
	return []policy.Proof{
		{Index: 0, Checkpoint: checkpoint},
		{Index: 6, Checkpoint: checkpoint, Hashes: hashes[:1]},
		{Index: 1<<63 - 1, Checkpoint: checkpoint, Hashes: hashes},
		{Index: 3, Checkpoint: checkpoint, Hashes: hashes[:3], UnverifiedExtra: []byte("index 4\n\n\x00")},
		{Index: 3, Checkpoint: checkpoint, Hashes: hashes[:3], UnverifiedExtra: []byte{}},
		{Index: 3, Checkpoint: []byte("a\n\nb\n\n\n"), Hashes: hashes[:3]}, // it is not looked into
		{Index: 3, Checkpoint: []byte{}},
	}
}

// TestFormatProofIsWhatOthersWrite compares with torchwood and formats, byte for byte.
func TestFormatProofIsWhatOthersWrite(t *testing.T) {
	for i, p := range proofs() {
		theirs := proof.TLogProof{Index: uint64(p.Index), Hashes: p.Hashes, Checkpoint: p.Checkpoint, ExtraData: p.UnverifiedExtra}
		record := make(tlog.RecordProof, len(p.Hashes))
		for i, h := range p.Hashes {
			record[i] = h
		}
		wood := torchwood.FormatProof(p.Index, record, p.Checkpoint)
		if p.UnverifiedExtra != nil {
			wood = torchwood.FormatProofWithExtraData(p.Index, p.UnverifiedExtra, record, p.Checkpoint)
		}
		got := p.Format()
		if !bytes.Equal(got, theirs.Marshal()) || !bytes.Equal(got, wood) {
			t.Errorf("proof %d: Format returns\n%s\nformats\n%s\ntorchwood\n%s", i, got, theirs.Marshal(), wood)
		}
	}
}

func TestParseProofReturnsWhatWasFormatted(t *testing.T) {
	for i, p := range proofs() {
		got, err := policy.ParseProof(p.Format())
		if err != nil {
			t.Errorf("proof %d: %v", i, err)
			continue
		}
		if got.Index != p.Index || len(got.Hashes) != len(p.Hashes) || !bytes.Equal(got.Checkpoint, p.Checkpoint) ||
			(got.UnverifiedExtra == nil) != (p.UnverifiedExtra == nil) || !bytes.Equal(got.UnverifiedExtra, p.UnverifiedExtra) {
			t.Errorf("proof %d: got %+v; want %+v", i, got, p)
		}
		for j, h := range got.Hashes {
			if h != p.Hashes[j] {
				t.Errorf("proof %d: hash %d is %x", i, j, h)
			}
		}
	}
}

func TestParseProofRefuses(t *testing.T) {
	hash := base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{7}, 32))
	const header, end = "c2sp.org/tlog-proof@v1\n", "\n" + origin + "\n1\n"
	for name, c := range map[string]struct{ text, want string }{
		"nothing":             {"", "first line"},
		"a checkpoint":        {origin + "\n1\n" + hash + "\n\n— x\n", "first line"},
		"another version":     {"c2sp.org/tlog-proof@v2\nindex 0\n" + end, "first line"},
		"CR LF":               {strings.ReplaceAll(header+"index 0\n"+end, "\n", "\r\n"), "first line"},
		"a BOM":               {"\ufeff" + header + "index 0\n" + end, "first line"},
		"an empty first line": {"\n" + header + "index 0\n" + end, "first line"},
		"the header alone":    {header, "no empty line"},
		"no LF at all":        {strings.TrimSpace(header), "no empty line"},
		"no checkpoint":       {header + "index 0\n", "no empty line"},
		"an empty line early": {header + "\nindex 0\n" + end, "line 2 is not \"index N\""},
		"no index":            {header + hash + "\n" + end, "line 2 is not \"index N\""},
		"extra without index": {header + "extra AAAA\n" + end, "line 3 is not \"index N\""},
		"extra twice":         {header + "extra AAAA\nextra AAAA\nindex 0\n" + end, "line 3 is not \"index N\""},
		"extra last":          {header + "index 0\nextra AAAA\n" + end, "line 3: hash is not canonical base64"},
		"index twice":         {header + "index 0\nindex 0\n" + end, "line 3: hash is not canonical base64"},
		"Index":               {header + "Index 0\n" + end, "line 2 is not \"index N\""},
		"a tab":               {header + "index\t0\n" + end, "line 2 is not \"index N\""},
		"two spaces":          {header + "index  0\n" + end, "line 2: index is not a canonical decimal number"},
		"a space after it":    {header + "index 0 \n" + end, "line 2: index is not"},
		"empty index":         {header + "index \n" + end, "line 2: index is not"},
		"leading zero":        {header + "index 00\n" + end, "line 2: index is not"},
		"plus sign":           {header + "index +1\n" + end, "line 2: index is not"},
		"negative":            {header + "index -1\n" + end, "line 2: index is not"},
		"hexadecimal":         {header + "index 0x1\n" + end, "line 2: index is not"},
		"2^63":                {header + "index 9223372036854775808\n" + end, "line 2: index is not"},
		"extra unpadded":      {header + "extra AA\nindex 0\n" + end, "line 2: extra data is not canonical base64"},
		"extra bits":          {header + "extra AB==\nindex 0\n" + end, "line 2: extra data is not canonical base64"},
		"extra for URLs":      {header + "extra ____\nindex 0\n" + end, "line 2: extra data is not canonical base64"},
		"extra with CR":       {header + "extra AA\rAA\nindex 0\n" + end, "line 2: extra data is not canonical base64"},
		"hash of 31 bytes":    {header + "index 0\n" + base64.StdEncoding.EncodeToString(make([]byte, 31)) + "\n" + end, "line 3: hash has 31 bytes"},
		"hash of 33 bytes":    {header + "extra AAAA\nindex 0\n" + base64.StdEncoding.EncodeToString(make([]byte, 33)) + "\n" + end, "line 4: hash has 33 bytes"},
		"hash with bits":      {header + "index 0\n" + hash[:42] + "d=\n" + end, "line 3: hash is not canonical base64"},
		"hash unpadded":       {header + "index 0\n" + hash[:43] + "\n" + end, "line 3: hash is not canonical base64"},
		"second hash with CR": {header + "index 0\n" + hash + "\n" + hash + "\r\n" + end, "line 4: hash is not canonical base64"},
		"a space before one":  {header + "index 0\n " + hash + "\n" + end, "line 3: hash is not canonical base64"},
		"64 hashes":           {header + "index 0\n" + strings.Repeat(hash+"\n", 64) + end, "64 hashes"},
	} {
		if p, err := policy.ParseProof([]byte(c.text)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %+v, %v; want an error with %q", name, p, err, c.want)
		}
	}
}

// FuzzParseProof looks for a proof that is read in another way than it is written, or that the
// readers of torchwood or formats do not take.
func FuzzParseProof(f *testing.F) {
	for _, p := range proofs() {
		f.Add(p.Format())
	}
	f.Add([]byte("c2sp.org/tlog-proof@v1\nindex 0\n\n"))
	f.Add([]byte("c2sp.org/tlog-proof@v1\nextra \nindex 00\n\n"))
	f.Add([]byte("c2sp.org/tlog-proof@v1\nextra AB==\nindex 1\nAAAA\n\nx"))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := policy.ParseProof(data)
		if err != nil {
			return
		}
		if got := p.Format(); !bytes.Equal(got, data) {
			t.Errorf("%q is formatted as %q", data, got)
		}
		if len(data) > 60_000 {
			return // formats takes lines of 64 KiB at most
		}
		var theirs proof.TLogProof
		if err := theirs.Unmarshal(data); err != nil || theirs.Index != uint64(p.Index) || len(theirs.Hashes) != len(p.Hashes) {
			t.Errorf("formats reads %q as %+v, %v", data, theirs, err)
		}
		if extra, err := torchwood.ProofExtraData(data); (err == nil) != (p.UnverifiedExtra != nil) || !bytes.Equal(extra, p.UnverifiedExtra) {
			t.Errorf("torchwood finds extra data %q, %v in %q", extra, err, data)
		}
	})
}
