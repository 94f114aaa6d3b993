package rule

import (
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
)

// Options configure a Set.
type Options struct {
	Identities []Identity // at least one, but with Audit
	// Rules are of all identities but where an identity names the same rule itself. Those about logs
	// are not the Set's, and ignored.
	Rules map[ID]Params
	// Audit has the rules cert.* and entry.* run on entries that concern no identity too.
	Audit bool
	// CAs are certificates at which the chain of a watched identity's certificate must end: roots,
	// or issuing certificates themselves. Empty: id.unknown-ca is silent.
	CAs []*x509.Certificate
	// Promises says which signed certificate timestamps are believed.
	Promises Promises
}

// A Set holds compiled identities. It is immutable.
type Set struct {
	watches  []*watch
	audit    *watch         // of the entries that concern none of them; nil: nobody does
	stray    *watch         // of those that use a key which is retired for all of them; nil: likewise
	cas      *x509.CertPool // nil: any CA will do
	promises promises
	missing  map[string]Missing
	filter   filter
}

// New checks and compiles o.
func New(o Options) (*Set, error) {
	if len(o.Identities) == 0 && !o.Audit {
		return nil, errors.New("no identities to watch")
	}
	errs := []error{CheckRules(o.Rules)}
	s := &Set{}
	names := map[string]bool{}
	for _, i := range o.Identities {
		w, err := i.compile(o.Rules)
		if err == nil && names[i.Name] {
			err = fmt.Errorf("identity %q is there twice", i.Name)
		}
		names[i.Name] = true
		errs = append(errs, err)
		s.watches = append(s.watches, w)
	}
	for id := range o.Rules {
		if r, _ := Lookup(id); len(o.Identities) == 0 && !r.PerLog && !audited(id) {
			errs = append(errs, fmt.Errorf("rule %q is about identities, and none is watched", id))
		}
	}
	if o.Audit {
		s.audit = &watch{Identity: Identity{Rules: o.Rules}, scope: audited}
		errs = append(errs, s.audit.remember())
	}
	if len(o.CAs) > 0 {
		s.cas = x509.NewCertPool()
		for _, c := range o.CAs {
			s.cas.AddCert(c)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	if err := s.promise(o); err != nil {
		return nil, err
	}
	s.stray = s.newStray(o.Rules)
	s.missing, s.filter = missingOf(s.watches), newFilter(s)
	return s, nil
}

// all returns the watches, that of the audit among them.
func (s *Set) all() []*watch {
	if s.audit == nil {
		return s.watches
	}
	return append(slices.Clip(s.watches), s.audit)
}

// Notify returns the names of all sinks that identities ask for.
func (s *Set) Notify() []string {
	var names []string
	for _, w := range s.watches {
		names = append(names, w.Identity.Notify...)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// Authorized returns the names of the identities of which authorizations must explain the entries.
func (s *Set) Authorized() []string {
	var names []string
	for _, w := range s.watches {
		if w.Expect.Authorize {
			names = append(names, w.Name)
		}
	}
	return names
}

// Match judges an entry by what is in it, and returns at most one match for each identity, and one
// for the audit. It may be called concurrently. A nil Set matches nothing.
func (s *Set) Match(e *Entry) []Match {
	if s == nil || !s.concern(e) {
		return nil
	}
	worst := make([]*Match, len(s.watches))
	mine := make([]bool, len(e.Signers))
	others := false // whether some watch looks at what is not its own
	for n, w := range s.watches {
		others = others || w.likeness != nil || w.foreign
		for i := range e.Signers {
			if name, ok := w.match(&e.Signers[i]); ok {
				mine[i] = true
				worst[n] = worse(worst[n], s.judge(w, e, i, name))
			}
		}
	}
	for n, w := range s.watches {
		for i := 0; others && i < len(e.Signers); i++ {
			worst[n] = worse(worst[n], s.judgeOther(w, e, i, mine[i]))
		}
	}
	var out []Match
	for _, m := range worst {
		if m != nil {
			out = append(out, *m)
		}
	}
	if m := s.judgeUnwatched(e, mine, out); m != nil {
		out = append(out, *m)
	}
	for i := range out {
		out[i].Facts = e.facts(out[i].signer)
	}
	return out
}

// worse returns the match that has the worse reasons: a if that is undecided. Either may be nil.
func worse(a, b *Match) *Match {
	if a == nil || b != nil && len(b.Reasons) > 0 && (len(a.Reasons) == 0 || b.Severity > a.Severity) {
		return b
	}
	return a
}

// judge returns the match of w and signer i of e, which has the given name.
func (s *Set) judge(w *watch, e *Entry, i int, name string) *Match {
	signer := &e.Signers[i]
	m := &Match{watch: w, signer: i, Finding: Finding{Identity: w.Name, Notify: w.Identity.Notify, Subject: Clip(name), Expected: w.expected}}
	f := &m.Finding
	w.judgeIssuer(f, signer)
	if s.cas != nil && signer.Certificate != nil && w.on(IDUnknownCA) {
		if why := s.unknownCA(signer.Certificate); why != "" {
			f.add(Reason{Rule: IDUnknownCA, Text: fmt.Sprintf("certificate for %q %s", f.Subject, why)})
		}
	}
	if w.callers(signer.Certificate) {
		m.watch = w.called
	} else {
		w.judgeExpectations(f, signer)
	}
	w.judgeCaller(f, name, signer.Certificate)
	w.judgeRetired(f, signer)
	s.judgeEntry(w, f, e, i)
	return m
}

// judgeOther returns the match of w and signer i of e that is not w's identity, but has to do with
// it all the same: nil if it has not, or if it is w's. A signer of another watched identity is mine.
func (s *Set) judgeOther(w *watch, e *Entry, i int, mine bool) *Match {
	signer := &e.Signers[i]
	if mine {
		if _, own := w.match(signer); own {
			return nil
		}
	}
	m := &Match{watch: w.muted, signer: i, Finding: Finding{Identity: w.Name, Notify: w.Identity.Notify}}
	if w.foreign {
		w.judgeRetired(&m.Finding, signer)
	}
	if !mine {
		w.judgeLikeness(&m.Finding, signer.Certificate)
	}
	if len(m.Reasons) == 0 {
		return nil
	}
	return m
}

// judgeUnwatched returns the match of those signers of e that are nobody's, by the audit and by what
// is looked at for all, nil if there is nothing to tell and nothing that remains to be judged in order.
// Those that are told are told already.
func (s *Set) judgeUnwatched(e *Entry, mine []bool, told []Match) *Match {
	if s.audit == nil && s.stray == nil {
		return nil
	}
	w := s.stray
	if s.audit != nil {
		w = s.audit
	}
	var found *Match
	for i := range e.Signers {
		if mine[i] {
			continue
		}
		m := &Match{watch: w, signer: i, Finding: Finding{Subject: Clip(e.Signers[i].name())}}
		if s.audit != nil {
			s.judgeEntry(s.audit, &m.Finding, e, i)
		}
		s.judgeStray(&m.Finding, &e.Signers[i], told)
		found = worse(found, m)
	}
	if found == nil || len(found.Reasons)+len(w.remembers) == 0 {
		return nil
	}
	return found
}
