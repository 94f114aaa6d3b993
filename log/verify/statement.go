package verify

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode"
)

// Bounds on an attestation's subjects, sigstore-go's own.
const (
	maxSubjects       = 1024
	maxSubjectDigests = 32
)

// readStatement lists the digests of an in-toto statement that an artifact can be compared with,
// and returns its predicate type. A digest that is not as long as its algorithm's names nothing.
func readStatement(payload []byte) (subjects []named, predicate string, err error) {
	var statement object
	var list []object
	err = json.Unmarshal(payload, &statement)
	if err == nil {
		err = errors.Join(statement.member("predicateType", &predicate), statement.member("subject", &list))
	}
	if err != nil {
		return nil, "", fmt.Errorf("decoding statement: %w", err)
	}
	if len(list) > maxSubjects {
		return nil, "", fmt.Errorf("%d subjects, and at most %d are read", len(list), maxSubjects)
	}
	for _, s := range list {
		var digests object
		if err := s.member("digest", &digests); err != nil {
			return nil, "", fmt.Errorf("decoding statement: %w", err)
		}
		if len(digests) > maxSubjectDigests {
			return nil, "", fmt.Errorf("%d digests of one subject, and at most %d are read", len(digests), maxSubjectDigests)
		}
		for algorithm := range digests {
			var digest hexBytes
			if err := digests.member(algorithm, &digest); err != nil {
				return nil, "", fmt.Errorf("decoding statement: %w", err)
			}
			if h, err := hashNamed(algorithm); err == nil && len(digest) == h.Size() {
				subjects = append(subjects, named{algorithm, h, digest})
			}
		}
	}
	if len(subjects) == 0 {
		return nil, "", errors.New("the statement names no artifact by a SHA-2 digest")
	}
	return subjects, predicate, nil
}

// An object is a JSON object in which each member is once, whatever its case. Of two, readers take
// one or the other, and encoding/json takes a member of other case: what is verified here would be
// another statement than what is read elsewhere.
type object map[string]json.RawMessage

// UnmarshalJSON decodes an object whose syntax has been checked.
func (o *object) UnmarshalJSON(data []byte) error {
	if string(data) == "null" { // as for any other type, it says nothing
		return nil
	}
	d := json.NewDecoder(bytes.NewReader(data))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return fmt.Errorf("%.40q is no object", data)
	}
	*o = make(object)
	seen := make(map[string]bool)
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return err
		}
		name, _ := t.(string)
		if seen[folded(name)] {
			return fmt.Errorf("it has %.40q twice, if case does not count", name)
		}
		seen[folded(name)] = true
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return err
		}
		(*o)[name] = value
	}
	return nil
}

// member decodes a member, if it is there.
func (o object) member(name string, into any) error {
	value, ok := o[name]
	if !ok {
		return nil
	}
	return json.Unmarshal(value, into)
}

// folded returns what all names that encoding/json takes for each other have in common.
func folded(name string) string {
	return strings.Map(func(r rune) rune {
		least := r
		for f := unicode.SimpleFold(r); f != r; f = unicode.SimpleFold(f) {
			least = min(least, f)
		}
		return least
	}, name)
}
