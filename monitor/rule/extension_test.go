package rule_test

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"testing"

	"tallywood/monitor/rule"
)

func TestExtensionsAreMatched(t *testing.T) {
	ca := newIssuer(t)
	printable, err := asn1.MarshalWithParams("push", "printable")
	if err != nil {
		t.Fatal(err)
	}
	own := asn1.ObjectIdentifier{1, 2, 3, 4}
	der := ca.issue(&x509.Certificate{EmailAddresses: []string{"a@b.c"}, ExtraExtensions: []pkix.Extension{
		extension(2, []byte("push")), utf8Extension(t, 18, "https://x.org/W.yml"), extension(9, printable),
		{Id: own, Value: []byte("raw")}, {Id: append(own[:4:4], 5), Value: printable}}})
	for name, tc := range map[string]struct {
		want  rule.Extension
		match bool
	}{
		"new form":        {rule.Extension{ID: "1.3.6.1.4.1.57264.1.18", Values: []string{"https://y.org", "https://x.org/W.yml"}}, true},
		"old form":        {rule.Extension{ID: "1.3.6.1.4.1.57264.1.2", Values: []string{"push"}}, true},
		"another string":  {rule.Extension{ID: "1.3.6.1.4.1.57264.1.9", Values: []string{"push"}}, true},
		"one's own, raw":  {rule.Extension{ID: "1.2.3.4", Values: []string{"raw"}}, true},
		"one's own, ASN1": {rule.Extension{ID: "1.2.3.4.5", Values: []string{"push"}}, true},
		"another case":    {rule.Extension{ID: "1.3.6.1.4.1.57264.1.18", Values: []string{"https://x.org/w.yml"}}, false},
		"a part":          {rule.Extension{ID: "1.3.6.1.4.1.57264.1.18", Values: []string{"https://x.org/W"}}, false},
		"not there":       {rule.Extension{ID: "1.3.6.1.4.1.57264.1.20", Values: []string{"push"}}, false},
		"another's":       {rule.Extension{ID: "1.2.3.4", Values: []string{"push"}}, false},
	} {
		s := newSet(t, rule.Identity{Extension: tc.want})
		c, _ := s.Certificate(der) // one of a string that is not in its form is malformed, and matched
		if got := findings(s, []rule.Signer{{Certificate: c}}); len(got) == 1 != tc.match {
			t.Errorf("%s: findings %+v", name, got)
		}
	}
	// A certificate that cannot be read says so in its bytes.
	s := newSet(t, rule.Identity{Extension: rule.Extension{ID: "1.3.6.1.4.1.57264.1.18", Values: []string{"https://x.org/W.yml"}}})
	if got := s.MatchBytes(der[:len(der)-90]); len(got) != 1 {
		t.Errorf("findings %+v in what is left of it", got)
	}
	for name, e := range map[string]rule.Extension{
		"no identifier": {ID: "workflow", Values: []string{"x"}},
		"one number":    {ID: "1", Values: []string{"x"}},
		"odd number":    {ID: "1.02", Values: []string{"x"}},
		"no values":     {ID: "1.2.3"},
		"empty value":   {ID: "1.2.3", Values: []string{""}},
	} {
		if _, err := rule.New(rule.Options{Identities: []rule.Identity{{Name: "x", Extension: e}}}); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
