package policy

import (
	"bytes"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
)

// A Policy says which logs are known and which cosignatures a checkpoint needs. [Parse] makes it.
type Policy struct {
	logs      []LogLine
	witnesses []Witness
	groups    map[string]group
	quorum    string // name of a witness or group; "" is `none`
}

// A LogLine is one `log` line of a policy.
type LogLine struct {
	Key Key    // of type 0x01, 0x05 or 0x06; its name is the log's origin
	URL string // where the log is read, or empty
}

// A Witness is one `witness` line of a policy.
type Witness struct {
	Name string // in the policy; the key has a name of its own
	Key  Key    // of type 0x04 or 0x06
	URL  string // submission prefix, or empty: then the witness cannot be asked
}

// A WitnessSize is what one witness says about the tree it last cosigned.
type WitnessSize struct {
	Name string    // the witness's name in the policy
	Size int64     // 0: it never cosigned this log
	Root *[32]byte // root hash at Size, nil if it is not known
	Err  error     // not nil: the witness was silent, and Size says nothing
}

type group struct {
	need    int
	members []string
}

// Logs returns the log lines in the order of the file.
func (p *Policy) Logs() []LogLine { return slices.Clone(p.logs) }

// Witnesses returns the witness lines in the order of the file.
func (p *Policy) Witnesses() []Witness { return slices.Clone(p.witnesses) }

// None reports whether the policy says `quorum none`: no cosignature is needed.
func (p *Policy) None() bool { return p.quorum == "" }

// Satisfied reports whether the witnesses for which has answers true meet the quorum.
func (p *Policy) Satisfied(has func(name string) bool) bool {
	return p.None() || p.meets(p.quorum, has)
}

// Counts reports whether a cosignature of the witness of that name can count towards the quorum. A
// policy may list others: who evaluates it ignores them.
func (p *Policy) Counts(name string) bool {
	return !p.None() && p.reaches(p.quorum, name)
}

func (p *Policy) reaches(from, name string) bool {
	return from == name || slices.ContainsFunc(p.groups[from].members, func(m string) bool { return p.reaches(m, name) })
}

// meets ends because a member is defined above its group, and is a member only once.
func (p *Policy) meets(name string, has func(string) bool) bool {
	g, ok := p.groups[name]
	if !ok {
		return has(name)
	}
	n := 0
	for _, m := range g.members {
		if p.meets(m, has) {
			n++
		}
	}
	return n >= g.need
}

// Parse parses a policy file (c2sp.org/tlog-policy) strictly. Its errors name the line.
//
// The lines are, in any order but with every name defined above its use,
//
//	log <vkey> [<url>]
//	witness <name> <vkey> [<url>]
//	group <name> all|any|<k> <member>...
//	quorum <name>|none
//
// with exactly one quorum line. A key may be listed once among the logs and once among the
// witnesses, a name may be a member once in the whole file, and `#` starts a comment only as the
// first octet of a line that is neither space nor tab.
//
// > The policy file is line based, where each line is terminated by ASCII newline
//
// is how a file is written. That a reader should refuse one whose last line is not, as some editors
// leave it, the specification does not say: such a line is read like any other.
func Parse(text []byte) (*Policy, error) {
	ps := parser{
		p:       &Policy{groups: map[string]group{}},
		defined: map[string]bool{},
		member:  map[string]bool{},
	}
	for i, line := range bytes.Split(text, []byte("\n")) {
		if err := ps.line(line); err != nil {
			return nil, fmt.Errorf("policy line %d: %w", i+1, err)
		}
	}
	if !ps.quorum {
		return nil, errors.New("policy has no quorum line (to go without witnesses, say `quorum none`)")
	}
	return ps.p, nil
}

// A parser holds what the lines above have defined.
type parser struct {
	p       *Policy
	defined map[string]bool // names of witnesses and groups
	member  map[string]bool // names that are a member of some group
	quorum  bool            // the quorum line was seen
}

func (ps *parser) line(line []byte) error {
	if i := bytes.IndexFunc(line, func(r rune) bool { return r < 0x20 && r != '\t' || r == 0x7f }); i >= 0 {
		if line[i] == '\r' {
			return errors.New("octet 0x0d (CR) is not allowed: lines end with LF alone, not as on Windows")
		}
		return fmt.Errorf("octet %#02x is not allowed", line[i])
	}
	fields := strings.FieldsFunc(string(line), func(r rune) bool { return r == ' ' || r == '\t' })
	if len(fields) == 0 || strings.HasPrefix(fields[0], "#") {
		return nil
	}
	keyword, args := fields[0], fields[1:]
	switch keyword {
	case "log":
		return ps.log(args)
	case "witness":
		return ps.witness(args)
	case "group":
		return ps.group(args)
	case "quorum":
		return ps.quorumLine(args)
	}
	return fmt.Errorf("unknown keyword %q", keyword)
}

func (ps *parser) log(args []string) error {
	if len(args) < 1 || len(args) > 2 {
		return errors.New("expected: log <vkey> [<url>]")
	}
	key, err := ParseVKey(args[0])
	if err != nil {
		return err
	}
	if key.Alg() == AlgCosignatureV1 {
		return errors.New("key of type 0x04 is a witness's, not a log's")
	}
	for _, l := range ps.p.logs {
		if bytes.Equal(l.Key.public, key.public) {
			return fmt.Errorf("public key is already listed as log %s", l.Key.Name())
		}
	}
	u, err := optionalURL(args[1:])
	if err != nil {
		return err
	}
	ps.p.logs = append(ps.p.logs, LogLine{Key: key, URL: u})
	return nil
}

func (ps *parser) witness(args []string) error {
	if len(args) < 2 || len(args) > 3 {
		return errors.New("expected: witness <name> <vkey> [<url>]")
	}
	key, err := ParseVKey(args[1])
	if err != nil {
		return err
	}
	switch key.Alg() {
	case AlgCosignatureV1, AlgMLDSA44:
	case AlgEd25519:
		return errors.New("key of type 0x01 is a log's; a witness's vkey has type 0x04 (ask its operator for it)")
	default:
		return fmt.Errorf("key of type %#02x is not a witness's", key.Alg())
	}
	for _, w := range ps.p.witnesses {
		if bytes.Equal(w.Key.public, key.public) {
			return fmt.Errorf("public key is already listed as witness %q", w.Name)
		}
	}
	u, err := optionalURL(args[2:])
	if err != nil {
		return err
	}
	if err := ps.define(args[0]); err != nil {
		return err
	}
	ps.p.witnesses = append(ps.p.witnesses, Witness{Name: args[0], Key: key, URL: u})
	return nil
}

func (ps *parser) group(args []string) error {
	if len(args) < 3 {
		return errors.New("expected: group <name> all|any|<k> <member>... with one member at least")
	}
	name, members := args[0], args[2:]
	need, err := threshold(args[1], len(members))
	if err != nil {
		return err
	}
	for _, m := range members {
		switch {
		case !ps.defined[m]:
			return fmt.Errorf("member %q is not defined above", m)
		case ps.member[m]:
			return fmt.Errorf("%q is already a member of a group", m)
		}
		ps.member[m] = true
	}
	if err := ps.define(name); err != nil {
		return err
	}
	ps.p.groups[name] = group{need: need, members: members}
	return nil
}

// threshold returns how many of n members a group with threshold s needs.
func threshold(s string, n int) (int, error) {
	switch s {
	case "all":
		return n, nil
	case "any":
		return 1, nil
	}
	k, err := ParseSize(s)
	if err != nil || k < 1 || k > int64(n) {
		return 0, fmt.Errorf("threshold %q is not all, any or a number from 1 to %d", s, n)
	}
	return int(k), nil
}

func (ps *parser) quorumLine(args []string) error {
	switch {
	case len(args) != 1:
		return errors.New("expected: quorum <name>|none")
	case ps.quorum:
		return errors.New("second quorum line")
	case args[0] != "none" && !ps.defined[args[0]]:
		return fmt.Errorf("quorum %q is not defined above", args[0])
	}
	ps.quorum = true
	if args[0] != "none" {
		ps.p.quorum = args[0]
	}
	return nil
}

func (ps *parser) define(name string) error {
	switch {
	case name == "none":
		return errors.New("the name none is reserved")
	case ps.defined[name]:
		return fmt.Errorf("name %q is already defined", name)
	}
	ps.defined[name] = true
	return nil
}

// optionalURL checks the last field of a line, if it is there.
func optionalURL(args []string) (string, error) {
	if len(args) == 0 {
		return "", nil
	}
	u, err := url.Parse(args[0])
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" {
		return "", fmt.Errorf("%q is not an absolute http or https URL without query and fragment", args[0])
	}
	return args[0], nil
}
