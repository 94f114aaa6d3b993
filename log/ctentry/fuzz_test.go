package ctentry_test

import (
	"bytes"
	"crypto/x509"
	"testing"

	"tallywood/log/ctentry"
)

// seedLeaves are an entry of each type.
func seedLeaves(f *testing.F) (leaves [][]byte, final *x509.Certificate, encodedSCT []byte) {
	a := newAuthority(f, p256(f))
	pre, _ := a.pair(f, p256(f).Public())
	entry := precertEntry(f, a, pre, ctentry.MaxIndex)
	encodedSCT = marshal(f, sct(f, p256(f), entry))
	_, final = a.pair(f, pre.PublicKey, encodedSCT)
	plain := ctentry.Entry{Timestamp: 1, Certificate: final.Raw, Extensions: extensions(f, 0)}
	return [][]byte{tileLeaf(f, entry), tileLeaf(f, plain)}, final, encodedSCT
}

func FuzzParse(f *testing.F) {
	leaves, _, _ := seedLeaves(f)
	for _, leaf := range leaves {
		f.Add(leaf)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := ctentry.Parse(b)
		if err != nil {
			return
		}
		if got := tileLeaf(t, e); !bytes.Equal(got, b) {
			t.Fatalf("encoded again: %x, want %x", got, b)
		}
		leaf, err := e.MerkleTreeLeaf()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ctentry.ParseMerkleTreeLeaf(leaf); err != nil {
			t.Fatal(err)
		}
		if _, err := e.Index(); err != nil {
			t.Fatal(err)
		}
	})
}

func FuzzParseMerkleTreeLeaf(f *testing.F) {
	leaves, _, _ := seedLeaves(f)
	for _, leaf := range leaves {
		e, _ := ctentry.Parse(leaf)
		seed, _ := e.MerkleTreeLeaf()
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := ctentry.ParseMerkleTreeLeaf(b)
		if err != nil {
			return
		}
		if got, err := e.MerkleTreeLeaf(); err != nil || !bytes.Equal(got, b) {
			t.Fatalf("encoded again: %x, %v, want %x", got, err, b)
		}
	})
}

func FuzzSplit(f *testing.F) {
	leaves, _, _ := seedLeaves(f)
	f.Add(bytes.Join(leaves, nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		parts, err := ctentry.Split(b)
		if err != nil {
			return
		}
		if !bytes.Equal(bytes.Join(parts, nil), b) {
			t.Fatal("the parts are not the whole")
		}
		for _, part := range parts {
			if _, err := ctentry.LeafHash(part); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func FuzzParseSCT(f *testing.F) {
	_, _, seed := seedLeaves(f)
	f.Add(seed)
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := ctentry.ParseSCT(b)
		if err != nil {
			return
		}
		if got := marshal(t, s); !bytes.Equal(got, b) {
			t.Fatalf("encoded again: %x, want %x", got, b)
		}
	})
}

func FuzzParseSCTList(f *testing.F) {
	_, _, seed := seedLeaves(f)
	list, _ := ctentry.MarshalSCTList([][]byte{seed, seed})
	f.Add(list)
	f.Fuzz(func(t *testing.T, b []byte) {
		scts, err := ctentry.ParseSCTList(b)
		if err != nil {
			return
		}
		if got, err := ctentry.MarshalSCTList(scts); err != nil || !bytes.Equal(got, b) {
			t.Fatalf("encoded again: %x, %v, want %x", got, err, b)
		}
	})
}

func FuzzRemoveExtension(f *testing.F) {
	_, final, _ := seedLeaves(f)
	f.Add(final.RawTBSCertificate)
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := ctentry.RemoveExtension(b, ctentry.OIDSCTList)
		if err != nil {
			return
		}
		if len(got) >= len(b) {
			t.Fatalf("%d bytes of %d", len(got), len(b))
		}
		if _, err := ctentry.RemoveExtension(got, ctentry.OIDSCTList); err == nil {
			t.Fatal("the extension is still there")
		}
	})
}

func FuzzCertificate(f *testing.F) {
	_, final, _ := seedLeaves(f)
	f.Add(final.Raw)
	f.Fuzz(func(t *testing.T, b []byte) {
		// None of these may panic, and what TBS accepts is part of the input.
		ctentry.SCTs(b)
		ctentry.IsPrecertificate(b)
		ctentry.PrecertTBS(b)
		tbs, err := ctentry.TBS(b)
		if err != nil {
			return
		}
		if !bytes.Contains(b, tbs) {
			t.Fatal("the TBSCertificate is not in the certificate")
		}
		if wrapped, err := ctentry.WrapTBS(tbs); err == nil {
			if again, err := ctentry.TBS(wrapped); err != nil || !bytes.Equal(again, tbs) {
				t.Fatalf("the wrapped TBSCertificate is another (%v)", err)
			}
		}
	})
}
