package witness

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"tallywood/witness/policy"
)

// ParseList parses a log list in the witness network's format `logs/v0`
// (witness-network.org/log-list-format): lines are trimmed, empty ones and those that begin with
// `#` skipped; the first is `logs/v0`; then follow for each log, in this order,
//
//	vkey <vkey of type 0x01>
//	origin <origin>            optional; default: the name in the vkey
//	qpd <requests per day>     1 to 2^31-1
//	contact <text>
//
// Any error rejects the whole list, and names the line. Two logs of one origin come out as one
// with both keys.
func ParseList(list []byte) ([]Log, error) { return parseList(list, policy.AlgEd25519) }

// ParseLogs is ParseList for a list that the operator has written: of that, a vkey may be of any type
// that logs have.
func ParseLogs(list []byte) ([]Log, error) {
	return parseList(list, policy.AlgEd25519, policy.AlgRFC6962, policy.AlgMLDSA44)
}

func parseList(list []byte, algs ...byte) ([]Log, error) {
	p := listParser{algs: algs}
	for i, line := range bytes.Split(list, []byte("\n")) {
		text := strings.TrimSpace(string(line))
		if text == "" || strings.HasPrefix(text, "#") {
			continue
		}
		if err := p.line(text); err != nil {
			return nil, fmt.Errorf("log list line %d: %w", i+1, err)
		}
	}
	switch {
	case !p.header:
		return nil, errors.New("log list is empty: it does not begin with logs/v0")
	case p.open:
		return nil, fmt.Errorf("log list ends before the contact of %q", p.log.Origin)
	}
	return merge(p.logs), nil
}

// A listParser holds the log whose lines are being read.
type listParser struct {
	algs   []byte // types of keys that logs may have
	header bool
	open   bool // log has a vkey, and no contact yet
	named  bool // log has an origin line
	log    Log
	logs   []Log
}

func (p *listParser) line(text string) error {
	if !p.header {
		if text != "logs/v0" {
			return fmt.Errorf("format is %q, not logs/v0", shorten(text))
		}
		p.header = true
		return nil
	}
	keyword, value, _ := strings.Cut(text, " ")
	switch {
	case value == "" || value != strings.TrimSpace(value) && keyword != "contact": // which is any text
		return fmt.Errorf("%q is not a keyword, one space and a value", shorten(text))
	case keyword == "vkey" && !p.open:
		return p.vkey(value)
	case keyword == "origin" && p.open && !p.named && p.log.QPD == 0:
		p.log.Origin, p.named = value, true
		return nil
	case keyword == "qpd" && p.open && p.log.QPD == 0:
		n, err := policy.ParseSize(value)
		if err != nil || n < 1 || n > math.MaxInt32 {
			return fmt.Errorf("qpd %q is not a number from 1 to 2^31-1", shorten(value))
		}
		p.log.QPD = n
		return nil
	case keyword == "contact" && p.open && p.log.QPD != 0:
		p.log.Contact = strings.ToValidUTF8(strings.TrimSpace(value), "\ufffd")
		if err := p.log.check(); err != nil {
			return err
		}
		p.logs = append(p.logs, p.log)
		p.open = false
		return nil
	}
	return fmt.Errorf("%q is not expected here (the order is vkey, origin, qpd, contact)", shorten(keyword))
}

func (p *listParser) vkey(value string) error {
	key, err := policy.ParseVKey(value)
	if err != nil {
		return err
	}
	if !slices.Contains(p.algs, key.Alg()) {
		if key.Alg() == policy.AlgCosignatureV1 {
			return fmt.Errorf("vkey of %q has type %#02x and is a witness's; want a log's", key.Name(), key.Alg())
		}
		want := make([]string, len(p.algs))
		for i, alg := range p.algs {
			want[i] = fmt.Sprintf("%#02x", alg)
		}
		return fmt.Errorf("vkey of %q has type %#02x; want %s", key.Name(), key.Alg(), strings.Join(want, " or "))
	}
	p.log = Log{Origin: key.Name(), Keys: []policy.Key{key}}
	p.open, p.named = true, false
	return nil
}
