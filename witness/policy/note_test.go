package policy_test

import (
	"encoding/base64"
	"errors"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"

	"tallywood/witness/policy"
)

// The example of golang.org/x/mod/sumdb/note's documentation.
const (
	neumannVKey = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
	neumannNote = "If you think cryptography is the answer to your problem,\n" +
		"then you don't know what your problem is.\n\n" +
		"— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)

func TestParseNoteReadsTheSumdbExample(t *testing.T) {
	n, err := policy.ParseNote([]byte(neumannNote))
	if err != nil {
		t.Fatal(err)
	}
	k := mustKey(t, neumannVKey)
	if len(n.Signatures) != 1 || !k.Matches(n.Signatures[0]) {
		t.Fatalf("signatures = %+v, want one of %s", n.Signatures, k)
	}
	if _, err := k.Verify(n.Text, n.Signatures[0].Sig); err != nil {
		t.Error(err)
	}
	if _, err := k.Verify(n.Text+"x\n", n.Signatures[0].Sig); err == nil {
		t.Error("another text verifies")
	}
	s := n.Signatures[0]
	if got := policy.FormatSignature(s.Name, s.KeyID, s.Sig); got != s.Line+"\n" {
		t.Errorf("FormatSignature = %q, want %q", got, s.Line)
	}
}

func TestParseNoteTakesTheLastEmptyLine(t *testing.T) {
	n, err := policy.ParseNote([]byte("text\n\n— fake AAAAAAA=\n\n— real AAAAAAA=\n"))
	if err != nil {
		t.Fatal(err)
	}
	if len(n.Signatures) != 1 || n.Signatures[0].Name != "real" || n.Text != "text\n\n— fake AAAAAAA=\n" {
		t.Errorf("note = %+v", n)
	}
}

func TestParseNoteRefuses(t *testing.T) {
	sig := "— name AAAAAAA=\n"
	for name, msg := range map[string]string{
		"nothing":                  "",
		"no final line feed":       "text\n\n— name AAAAAAA=",
		"no empty line":            "text\n" + sig,
		"carriage return":          "text\r\n\n" + sig,
		"tab":                      "te\txt\n\n" + sig,
		"NUL":                      "te\x00xt\n\n" + sig,
		"invalid UTF-8":            "te\xffxt\n\n" + sig,
		"hyphen for em dash":       "text\n\n- name AAAAAAA=\n",
		"no space after em dash":   "text\n\n—name AAAAAAA=\n",
		"no name":                  "text\n\n—  AAAAAAA=\n",
		"plus in name":             "text\n\n— na+me AAAAAAA=\n",
		"Unicode space in name":    "text\n\n— na\u2003me AAAAAAA=\n",
		"no signature":             "text\n\n— name\n",
		"empty signature":          "text\n\n— name \n",
		"key ID alone":             "text\n\n— name AAAAAA==\n",
		"trailing space":           "text\n\n— name AAAAAAA= \n",
		"two spaces":               "text\n\n— name  AAAAAAA=\n",
		"base64 without padding":   "text\n\n— name AAAAAAA\n",
		"base64 URL alphabet":      "text\n\n— name AA_AAAA=\n",
		"base64 trailing bits":     "text\n\n— name AAAAAAB=\n",
		"text after the signature": "text\n\n" + sig + "text\n",
		"101 signatures":           "text\n\n" + strings.Repeat(sig, 101),
	} {
		if n, err := policy.ParseNote([]byte(msg)); err == nil {
			t.Errorf("%s: parsed as %+v", name, n)
		}
	}
	if _, err := policy.ParseNote([]byte("text\n\n" + strings.Repeat(sig, 100))); err != nil {
		t.Errorf("100 signatures: %v", err)
	}
}

func TestParseNoteTellsUnsignedFromMalformed(t *testing.T) {
	for _, msg := range []string{"text\n", "text\n\n"} {
		if _, err := policy.ParseNote([]byte(msg)); !errors.Is(err, policy.ErrNoSignatures) {
			t.Errorf("ParseNote(%q) = %v, want ErrNoSignatures", msg, err)
		}
	}
}

func TestParseTree(t *testing.T) {
	root := strings.Repeat("A", 43) + "="
	tree, err := policy.ParseTree("o\n9223372036854775807\n" + root + "\next 1\next 2\n")
	if err != nil || tree.Size != 1<<63-1 || len(tree.Extensions) != 2 {
		t.Fatalf("ParseTree = %+v, %v", tree, err)
	}
	for name, text := range map[string]string{
		"nothing":               "",
		"two lines":             "o\n5\n",
		"empty origin":          "\n5\n" + root + "\n",
		"leading zero":          "o\n05\n" + root + "\n",
		"plus":                  "o\n+5\n" + root + "\n",
		"minus zero":            "o\n-0\n" + root + "\n",
		"negative":              "o\n-5\n" + root + "\n",
		"hexadecimal":           "o\n0x5\n" + root + "\n",
		"underscore":            "o\n1_0\n" + root + "\n",
		"space before":          "o\n 5\n" + root + "\n",
		"space after":           "o\n5 \n" + root + "\n",
		"no size":               "o\n\n" + root + "\n",
		"size of 2^63":          "o\n9223372036854775808\n" + root + "\n",
		"size of 2^64":          "o\n18446744073709551616\n" + root + "\n",
		"Arabic digits":         "o\n٥\n" + root + "\n",
		"31-byte root":          "o\n5\n" + base64.StdEncoding.EncodeToString(make([]byte, 31)) + "\n",
		"33-byte root":          "o\n5\n" + base64.StdEncoding.EncodeToString(make([]byte, 33)) + "\n",
		"root without padding":  "o\n5\n" + root[:43] + "\n",
		"root's trailing bits":  "o\n5\n" + root[:42] + "B=\n",
		"no final line feed":    "o\n5\n" + root,
		"carriage returns":      "o\r\n5\r\n" + root + "\r\n",
		"empty extension":       "o\n5\n" + root + "\n\n",
		"empty extension first": "o\n5\n" + root + "\n\next\n",
		"leading empty line":    "\no\n5\n" + root + "\n",
	} {
		if tree, err := policy.ParseTree(text); err == nil {
			t.Errorf("%s: parsed as %+v", name, tree)
		}
	}
}

func FuzzParseNote(f *testing.F) {
	f.Add([]byte(neumannNote))
	f.Add([]byte("text\n\n"))
	f.Add([]byte("text\n\n— fake AAAAAAA=\n\n— real AAAAAAA=\n"))
	f.Fuzz(func(t *testing.T, msg []byte) {
		n, err := policy.ParseNote(msg)
		if err != nil {
			return
		}
		again := n.Text + "\n"
		for _, s := range n.Signatures {
			again += policy.FormatSignature(s.Name, s.KeyID, s.Sig)
		}
		if again != string(msg) {
			t.Errorf("%q has a second spelling %q", again, msg)
		}
		// What we take, golang.org/x/mod takes, with an unverified-note error at most.
		var unverified *note.UnverifiedNoteError
		if _, err := note.Open(msg, note.VerifierList()); !errors.As(err, &unverified) {
			t.Errorf("note.Open(%q) = %v", msg, err)
		}
	})
}

func FuzzParseTree(f *testing.F) {
	f.Add(body(5))
	f.Add(body(5, "extension"))
	f.Add("o\n05\nAAAA\n")
	f.Fuzz(func(t *testing.T, text string) {
		tree, err := policy.ParseTree(text)
		if err == nil && tree.Text() != text {
			t.Errorf("%q has a second spelling %q", tree.Text(), text)
		}
	})
}

// TestFormatSignatureOfEveryLength compares it with the plain way to write a line.
func TestFormatSignatureOfEveryLength(t *testing.T) {
	sig := make([]byte, 2500)
	for i := range sig {
		sig[i] = byte(i * 7)
	}
	for n := range len(sig) {
		blob := append([]byte{0x01, 0x23, 0x45, 0x67}, sig[:n]...)
		want := "\u2014 witness.example.org " + base64.StdEncoding.EncodeToString(blob) + "\n"
		if got := policy.FormatSignature("witness.example.org", 0x01234567, sig[:n]); got != want {
			t.Fatalf("%d bytes: got %q, want %q", n, got, want)
		}
	}
}
