package sealed_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"io"
	"strings"
	"testing"

	"filippo.io/age"
	"filippo.io/age/armor"

	"tallywood/internal/sealed"
)

var seed = [32]byte{1, 2, 31: 255}

const passphrase = "correct horse battery staple"

// encrypt is "age -p" with little work, of a text.
func encrypt(t testing.TB, text string, workFactor int, ascii bool) []byte {
	t.Helper()
	recipient, err := age.NewScryptRecipient(passphrase)
	if err != nil {
		t.Fatal(err)
	}
	recipient.SetWorkFactor(workFactor)
	return encryptTo(t, text, recipient, ascii)
}

func encryptTo(t testing.TB, text string, recipient age.Recipient, ascii bool) []byte {
	t.Helper()
	var out bytes.Buffer
	to, end := io.Writer(&out), func() error { return nil }
	if ascii {
		a := armor.NewWriter(&out)
		to, end = a, a.Close
	}
	w, err := age.Encrypt(to, recipient)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(w, text); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(w.Close(), end()); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// plain is the text of the seed's file.
var plain = hex.EncodeToString(seed[:])

func TestSealAndOpen(t *testing.T) {
	// A file of the real work takes a second, and with the race detector many.
	old := sealed.SetWorkFactor(10)
	defer sealed.SetWorkFactor(old)
	if old != 18 {
		t.Errorf("a new file takes the work of 2^%d; want that of age, 2^18", old)
	}
	data, err := sealed.Seal(seed, passphrase)
	if err != nil {
		t.Fatal(err)
	}
	if !sealed.Is(data) || !strings.HasPrefix(string(data), "-----BEGIN AGE ENCRYPTED FILE-----\n") {
		t.Errorf("the file is\n%s", data)
	}
	if got, err := sealed.Open(data, passphrase); err != nil || got != seed {
		t.Errorf("got %x, %v", got, err)
	}
	if _, err := sealed.Open(data, passphrase+"r"); !errors.Is(err, sealed.ErrPassphrase) {
		t.Errorf("another passphrase: %v", err)
	}
	again, err := sealed.Seal(seed, passphrase)
	if err != nil || bytes.Equal(again, data) {
		t.Errorf("two files of one seed are equal (%v)", err)
	}
	if _, err := sealed.Seal(seed, ""); err == nil {
		t.Error("no passphrase was taken")
	}
}

func TestOpensWhatAgeMakes(t *testing.T) {
	text := plain + "\n"
	for _, ascii := range []bool{true, false} {
		data := encrypt(t, text, 10, ascii)
		if got, err := sealed.Open(data, passphrase); err != nil || got != seed || !sealed.Is(data) {
			t.Errorf("ASCII %v: got %x, %v", ascii, got, err)
		}
	}
	if sealed.Is([]byte(text)) || sealed.Is(nil) {
		t.Error("a plain seed is taken for a sealed one")
	}
}

func TestOpenRefuses(t *testing.T) {
	identity, err := age.GenerateX25519Identity()
	if err != nil {
		t.Fatal(err)
	}
	good := encrypt(t, plain, 10, false)
	for name, tc := range map[string]struct {
		data []byte
		want string
	}{
		"nothing":              {nil, "decrypting seed: "},
		"a plain seed":         {[]byte(plain), "decrypting seed: "},
		"another text":         {encrypt(t, "abc", 10, true), "what the file holds has 3 characters"},
		"cut short":            {good[:len(good)-1], "decrypting seed: "},
		"a bit flipped":        {append(bytes.Clone(good[:len(good)-1]), good[len(good)-1]^1), "decrypting seed: "},
		"for somebody's key":   {encryptTo(t, plain, identity.Recipient(), true), "not passphrase-encrypted"},
		"too large":            {bytes.Repeat([]byte("x"), 1<<20), "has more than 16384 bytes"},
		"too much work":        {[]byte("age-encryption.org/v1\n-> scrypt AAAAAAAAAAAAAAAAAAAAAA 21\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\n--- AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\n"), "work factor too large"},
		"armor without ending": {[]byte("-----BEGIN AGE ENCRYPTED FILE-----\nYWdl\n"), "decrypting seed: "},
	} {
		if _, err := sealed.Open(tc.data, passphrase); err == nil || errors.Is(err, sealed.ErrPassphrase) || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v; want %q", name, err, tc.want)
		}
	}
}
