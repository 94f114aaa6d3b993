// Package sealed keeps a witness's seed in a file that is encrypted with a passphrase. The format is
// that of age (age-encryption.org/v1) with its recipient for passphrases, in ASCII: "age -d" opens what
// Seal makes, and Open what "age -p" makes of a seed file, in ASCII or not.
//
// Whoever has the file can try passphrases as fast as scrypt lets him, so a passphrase should be one
// that a machine has drawn.
package sealed

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"runtime/debug"
	"strings"

	"filippo.io/age"
	"filippo.io/age/armor"

	"tallywood/internal/keys"
)

// Limits of a sealed file.
const (
	maxSize       = 16 << 10 // bytes; one of a seed has some 400
	maxWorkFactor = 20       // of scrypt: 1 GiB of memory, which is 4 times that of a file of Seal's
)

// ErrPassphrase reports that a passphrase does not open the file.
var ErrPassphrase = errors.New("the passphrase does not open it")

// workFactor is the binary logarithm of scrypt's N in a new file: that of "age -p", 256 MiB of memory.
var workFactor = 18

const binaryHeader = "age-encryption.org/"

// Is reports whether data is of a sealed file, not of a plain one.
func Is(data []byte) bool {
	return bytes.HasPrefix(data, []byte(armor.Header)) || bytes.HasPrefix(data, []byte(binaryHeader))
}

// Seal returns the file of a seed.
func Seal(seed [32]byte, passphrase string) ([]byte, error) {
	recipient, err := age.NewScryptRecipient(passphrase)
	if err != nil {
		return nil, fmt.Errorf("encrypting seed: %w", err)
	}
	recipient.SetWorkFactor(workFactor)
	defer debug.FreeOSMemory() // which a small machine should have back
	var out bytes.Buffer
	ascii := armor.NewWriter(&out)
	w, err := age.Encrypt(ascii, recipient)
	if err == nil {
		_, err = fmt.Fprintf(w, "%s\n", hex.EncodeToString(seed[:]))
	}
	if err == nil {
		err = errors.Join(w.Close(), ascii.Close())
	}
	if err != nil {
		return nil, fmt.Errorf("encrypting seed: %w", err)
	}
	return out.Bytes(), nil
}

// Open returns the seed in a file. A wrong passphrase is ErrPassphrase.
func Open(data []byte, passphrase string) (seed [32]byte, err error) {
	if len(data) > maxSize {
		return seed, fmt.Errorf("decrypting seed: the file has more than %d bytes, which is no seed's", maxSize)
	}
	identity, err := age.NewScryptIdentity(passphrase)
	if err != nil {
		return seed, fmt.Errorf("decrypting seed: %w", err)
	}
	identity.SetMaxWorkFactor(maxWorkFactor)
	defer debug.FreeOSMemory()
	var src io.Reader = bytes.NewReader(data)
	if bytes.HasPrefix(data, []byte(armor.Header)) {
		src = armor.NewReader(src)
	}
	plain, err := age.Decrypt(src, identity)
	if _, ok := errors.AsType[*age.NoIdentityMatchError](err); ok && strings.Contains(err.Error(), "incorrect passphrase") {
		return seed, fmt.Errorf("decrypting seed: %w", ErrPassphrase)
	} else if err != nil {
		return seed, fmt.Errorf("decrypting seed: %w", err)
	}
	text, err := io.ReadAll(io.LimitReader(plain, maxSize))
	if err != nil {
		return seed, fmt.Errorf("decrypting seed: %w", err)
	}
	if seed, err = keys.ParseSeed(text); err != nil {
		return seed, fmt.Errorf("decrypting seed: what the file holds %w", err)
	}
	return seed, nil
}
