package verify_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"filippo.io/torchwood"
	"golang.org/x/mod/sumdb/tlog"

	"tallywood/log/verify"
	"tallywood/witness/policy"
)

// logEntry is what the tlog-proofs of this test prove.
const logEntry = "any bytes \x00\xff at all\n"

// tlogProof is that logEntry is at index 5 of 11, under a checkpoint that n witnesses cosigned.
func (w *world) tlogProof(n int) policy.Proof {
	w.t.Helper()
	tle := w.logged([]byte(logEntry), n)
	p := policy.Proof{Index: tle.LogIndex, Checkpoint: []byte(tle.InclusionProof.Checkpoint.Envelope)}
	for _, h := range tle.InclusionProof.Hashes {
		p.Hashes = append(p.Hashes, [32]byte(h))
	}
	return p
}

func (w *world) policy() *policy.Policy { return w.options().Policy }

// wantProofRefusal wants a refusal for the reason check whose text has all of texts in it.
func wantProofRefusal(t *testing.T, got *verify.Inclusion, err error, check verify.Check, texts ...string) {
	t.Helper()
	refusal, ok := errors.AsType[*verify.Error](err)
	if !ok || got != nil {
		t.Fatalf("got %+v, %v, want a refusal", got, err)
	}
	if refusal.Check != check {
		t.Errorf("refused by %q, want %q: %v", refusal.Check, check, err)
	}
	for _, text := range texts {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("error %q does not say %q", err, text)
		}
	}
}

func TestProofSaysWhatItProves(t *testing.T) {
	w := newWorld(t)
	want := verify.Inclusion{Origin: origin, Index: 5, Size: 11, Witnesses: []string{"w1.example.org", "w2.example.org"}}
	p := w.tlogProof(2)
	for name, extra := range map[string][]byte{"none": nil, "some": []byte("name: x\n\n"), "empty": {}} {
		p.UnverifiedExtra, want.UnverifiedExtra = extra, extra
		// One byte at a time: the entry is a stream.
		got, err := verify.Proof(p.Format(), iotest.OneByteReader(strings.NewReader(logEntry)), w.policy())
		if err != nil || !reflect.DeepEqual(*got, want) {
			t.Errorf("extra data %s: got %+v, %v; want %+v", name, got, err, want)
		}
	}
}

// TestProofWithoutWitnesses: that takes the words of the policy.
func TestProofWithoutWitnesses(t *testing.T) {
	w := newWorld(t)
	first, _, _ := strings.Cut(w.policyText(), "\n")
	p, err := policy.Parse([]byte(first + "\nquorum none\n"))
	if err != nil {
		t.Fatal(err)
	}
	got, err := verify.Proof(w.tlogProof(0).Format(), strings.NewReader(logEntry), p)
	if err != nil || got.Witnesses == nil || len(got.Witnesses) != 0 {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestTamperedProofsAreRefused(t *testing.T) {
	w := newWorld(t)
	stranger := newWorld(t) // with keys of its own
	note := func(p *policy.Proof, old, new string) {
		w.t.Helper()
		text := strings.Replace(string(p.Checkpoint), old, new, 1)
		if text == string(p.Checkpoint) {
			t.Fatalf("%q is not in the checkpoint", old)
		}
		p.Checkpoint = []byte(text)
	}
	line := func(p *policy.Proof, n int) string { // signature line n, with its LF
		_, lines, _ := strings.Cut(string(p.Checkpoint), "\n\n")
		return strings.SplitAfter(lines, "\n")[n]
	}
	spoil := func(p *policy.Proof, n int) { // another signature of the same key
		l := line(p, n)
		at := len(l) - 20
		other := "A"
		if l[at:at+1] == other {
			other = "B"
		}
		note(p, l, l[:at]+other+l[at+1:])
	}
	for name, c := range map[string]struct {
		alter func(p *policy.Proof)
		check verify.Check
		text  string
	}{
		"another index":        {func(p *policy.Proof) { p.Index = 4 }, verify.CheckInclusion, "bytes at index 4"},
		"index of the size":    {func(p *policy.Proof) { p.Index = 11 }, verify.CheckInclusion, "index 11 is not in a tree of size 11"},
		"largest index":        {func(p *policy.Proof) { p.Index = 1<<63 - 1 }, verify.CheckInclusion, "is not in a tree"},
		"another hash":         {func(p *policy.Proof) { p.Hashes[2][31] ^= 1 }, verify.CheckInclusion, "does not lead"},
		"a hash less":          {func(p *policy.Proof) { p.Hashes = p.Hashes[:len(p.Hashes)-1] }, verify.CheckInclusion, "does not lead"},
		"a hash more":          {func(p *policy.Proof) { p.Hashes = append(p.Hashes, [32]byte{}) }, verify.CheckInclusion, "does not lead"},
		"hashes turned round":  {func(p *policy.Proof) { p.Hashes[0], p.Hashes[1] = p.Hashes[1], p.Hashes[0] }, verify.CheckInclusion, "does not lead"},
		"no hashes":            {func(p *policy.Proof) { p.Hashes = nil }, verify.CheckInclusion, "does not lead"},
		"another size":         {func(p *policy.Proof) { note(p, "\n11\n", "\n12\n") }, verify.CheckCheckpoint, "signature does not verify"},
		"an extension line":    {func(p *policy.Proof) { note(p, "=\n\n", "=\nx\n\n") }, verify.CheckCheckpoint, "signature does not verify"},
		"another origin":       {func(p *policy.Proof) { note(p, origin+"\n", "log.example.net\n") }, verify.CheckCheckpoint, "no log of this origin"},
		"no log signature":     {func(p *policy.Proof) { note(p, line(p, 0), "") }, verify.CheckCheckpoint, "no signature of the log"},
		"log signature":        {func(p *policy.Proof) { spoil(p, 0) }, verify.CheckCheckpoint, "signature line of " + origin},
		"cosignature":          {func(p *policy.Proof) { spoil(p, 1) }, verify.CheckQuorum, "signature line of w1.example.org"},
		"a cosignature less":   {func(p *policy.Proof) { note(p, line(p, 1), "") }, verify.CheckQuorum, "no quorum: cosigned by w2.example.org"},
		"one cosigned twice":   {func(p *policy.Proof) { note(p, line(p, 2), line(p, 1)) }, verify.CheckQuorum, "no quorum: cosigned by w1.example.org"},
		"of another log":       {func(p *policy.Proof) { *p = stranger.tlogProof(3) }, verify.CheckCheckpoint, "no signature of the log"},
		"malformed checkpoint": {func(p *policy.Proof) { note(p, "\n11\n", "\n011\n") }, verify.CheckCheckpoint, "size"},
		"no checkpoint":        {func(p *policy.Proof) { p.Checkpoint = []byte{} }, verify.CheckCheckpoint, "parsing note"},
		"no signatures":        {func(p *policy.Proof) { p.Checkpoint, _, _ = bytes.Cut(p.Checkpoint, []byte("\n\n")) }, verify.CheckCheckpoint, "parsing note"},
		"too long":             {func(p *policy.Proof) { p.UnverifiedExtra = make([]byte, verify.MaxProof*3/4) }, verify.CheckProof, "at most 1048576 are read"},
	} {
		t.Run(name, func(t *testing.T) {
			p := w.tlogProof(2)
			c.alter(&p)
			got, err := verify.Proof(p.Format(), strings.NewReader(logEntry), w.policy())
			wantProofRefusal(t, got, err, c.check, c.text)
		})
	}
}

func TestProofIsOfTheWholeEntryAndNothingElse(t *testing.T) {
	w := newWorld(t)
	proof := w.tlogProof(3).Format()
	for _, other := range []string{"", logEntry[1:], logEntry[:len(logEntry)-1], logEntry + "\n", "\x00" + logEntry, "entry 5", "entry 4"} {
		got, err := verify.Proof(proof, strings.NewReader(other), w.policy())
		wantProofRefusal(t, got, err, verify.CheckInclusion, "they were changed, or it is another entry's proof")
	}
}

func TestProofRefusesWhatIsNoProof(t *testing.T) {
	w := newWorld(t)
	p := w.tlogProof(3)
	for name, data := range map[string][]byte{
		"nothing": nil, "a checkpoint": p.Checkpoint, "a bundle": marshal(t, w.bundle(artifact, leafSpec{})),
		"a leading zero": bytes.Replace(p.Format(), []byte("index "), []byte("index 0"), 1),
	} {
		t.Run(name, func(t *testing.T) {
			got, err := verify.Proof(data, strings.NewReader(logEntry), w.policy())
			wantProofRefusal(t, got, err, verify.CheckProof)
		})
	}
}

func TestProofNeedsAPolicyAndAnEntry(t *testing.T) {
	w := newWorld(t)
	if got, err := verify.Proof(w.tlogProof(3).Format(), strings.NewReader(logEntry), nil); err == nil || got != nil || !strings.Contains(err.Error(), "no policy") {
		t.Errorf("without a policy: %+v, %v", got, err)
	}
	got, err := verify.Proof(w.tlogProof(3).Format(), iotest.ErrReader(io.ErrUnexpectedEOF), w.policy())
	if _, refused := errors.AsType[*verify.Error](err); got != nil || refused || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("an entry that cannot be read: %+v, %v", got, err)
	}
}

// TestProofRefusesSizeNoLogHas gives x/mod's tlog a size for which it does not return.
func TestProofRefusesSizeNoLogHas(t *testing.T) {
	w := newWorld(t)
	p := w.tlogProof(3)
	p.Checkpoint = []byte(w.checkpoint(1<<62+1, tlog.Hash{}, 3))
	type answer struct {
		got *verify.Inclusion
		err error
	}
	done := make(chan answer, 1)
	go func() {
		got, err := verify.Proof(p.Format(), strings.NewReader(logEntry), w.policy())
		done <- answer{got, err}
	}()
	select {
	case a := <-done:
		wantProofRefusal(t, a.got, a.err, verify.CheckCheckpoint, "larger than any tree can be")
	case <-time.After(30 * time.Second):
		t.Fatal("the verifier does not return")
	}
}

// FuzzProof looks for bytes that stop the verifier, that it accepts although they prove something
// else than the honest proof, or that it alone accepts.
func FuzzProof(f *testing.F) {
	t := new(testing.T)
	w := newWorld(t)
	p := w.tlogProof(2)
	good := p.Format()
	f.Add(good)
	f.Add(good[:len(good)/2])
	f.Add(w.tlogProof(1).Format())
	p.UnverifiedExtra = []byte("extra")
	f.Add(p.Format())
	f.Add(append(p.Format(), p.Checkpoint...))
	p.Hashes = nil
	f.Add(p.Format())
	p.Checkpoint = []byte(w.checkpoint(1<<62+1, tlog.Hash{}, 2))
	f.Add(p.Format())
	f.Add([]byte("c2sp.org/tlog-proof@v1\nindex 0\n\n" + origin + "\n1\n" + base64.StdEncoding.EncodeToString(make([]byte, 32)) + "\n\n"))
	trust := w.policy()
	wood, err := torchwood.ParsePolicy([]byte(w.policyText()))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := verify.Proof(data, strings.NewReader(logEntry), trust)
		if err != nil {
			return
		}
		if got.Index != 5 || got.Size != 11 || len(got.Witnesses) != 2 {
			t.Errorf("accepted %q as %+v", data, got)
		}
		if err := torchwood.VerifyProof(wood, tlog.RecordHash([]byte(logEntry)), data); err != nil {
			t.Errorf("accepted %q, and torchwood says %v", data, err)
		}
	})
}
