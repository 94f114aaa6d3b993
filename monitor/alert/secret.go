package alert

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"tallywood/monitor"
)

// maxSecret bounds a file with a secret, in bytes.
const maxSecret = 16 << 10

// A Secret is a text that appears in no log and in no error. It is in a file, which is read anew
// each time it is used, so that it may be replaced; or it came from the environment. The zero value
// is none.
type Secret struct {
	File  string
	Value string // if there is no File
}

// String returns a word that stands for the secret.
func (s Secret) String() string { return "(secret)" }

// GoString does the same.
func (s Secret) GoString() string { return s.String() }

// IsZero reports whether there is none.
func (s Secret) IsZero() bool { return s.File == "" && s.Value == "" }

// read returns the secret, one line without the space around it.
func (s Secret) read() (string, error) {
	text, where := s.Value, "the secret of the environment"
	if s.File != "" {
		where = s.File
		f, err := os.Open(s.File)
		if err != nil {
			return "", fmt.Errorf("reading secret: %w", err)
		}
		defer f.Close()
		data, err := io.ReadAll(io.LimitReader(f, maxSecret+1))
		if err != nil {
			return "", fmt.Errorf("reading secret: %w", err)
		}
		if len(data) > maxSecret {
			return "", fmt.Errorf("reading secret: %s is larger than %d bytes", s.File, maxSecret)
		}
		text = string(data)
	}
	text = strings.TrimSpace(text)
	switch {
	case text == "":
		return "", fmt.Errorf("reading secret: %s is empty", where)
	case strings.ContainsAny(text, "\r\n\x00"):
		return "", fmt.Errorf("reading secret: %s has more than one line", where)
	}
	return text, nil
}

// hide returns err, or if its text has one of the secrets in it, an error without: servers and
// programs repeat what they were told.
func hide(err error, secrets ...string) error {
	if err == nil {
		return nil
	}
	text := err.Error()
	for _, s := range secrets {
		if s != "" {
			text = strings.ReplaceAll(text, s, "(secret)")
		}
	}
	if text == err.Error() {
		return err
	}
	var again *monitor.RetryError
	if errors.As(err, &again) {
		return &monitor.RetryError{After: again.After, Err: errors.New(text)}
	}
	return errors.New(text)
}
