package rule_test

import (
	"crypto/x509/pkix"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"tallywood/log/ctentry"
	"tallywood/monitor/rule"
)

// promise is an SCT list with one SCT of a log.
func promise(t testing.TB, logID [32]byte) pkix.Extension {
	t.Helper()
	sct, err := ctentry.SCT{LogID: logID, Hash: ctentry.HashSHA256, Algorithm: ctentry.SignatureECDSA, Signature: []byte{1}}.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	list, err := ctentry.MarshalSCTExtension([][]byte{sct})
	if err != nil {
		t.Fatal(err)
	}
	return pkix.Extension{Id: ctentry.OIDSCTList, Value: list}
}

// promised is an entry of a signature log whose certificate has an SCT.
func (m *maker) promised(u use, logID [32]byte) *rule.Entry {
	u.ext = map[int]string{8: good}
	return &rule.Entry{Digest: []byte{1}, Envelope: true, Signers: []rule.Signer{{Signature: overEnvelope, Certificate: m.certificate(u, promise(m.t, logID))}}}
}

func TestWhatWaitsForAnotherLog(t *testing.T) {
	m := newMaker(t)
	certificate := m.entry(use{certified: true, ext: map[int]string{8: good}})
	signature := m.promised(use{}, [32]byte{0xab})
	for name, tc := range map[string]struct {
		on    map[rule.ID]rule.Params
		entry *rule.Entry
		want  []rule.ID
		grace time.Duration
	}{
		"a certificate waits for its signature": {map[rule.ID]rule.Params{rule.XCertWithoutEntry: {}}, certificate, []rule.ID{rule.XCertWithoutEntry}, time.Hour},
		"as long as is said":                    {map[rule.ID]rule.Params{rule.XCertWithoutEntry: {Grace: time.Minute}}, certificate, []rule.ID{rule.XCertWithoutEntry}, time.Minute},
		"a signature does not":                  {map[rule.ID]rule.Params{rule.XCertWithoutEntry: {}}, signature, nil, 0},
		"a signature waits for its certificate": {map[rule.ID]rule.Params{rule.XEntryWithoutCert: {}}, signature, []rule.ID{rule.XEntryWithoutCert}, 24 * time.Hour},
		"a certificate does not":                {map[rule.ID]rule.Params{rule.XEntryWithoutCert: {}}, certificate, nil, 0},
		"nor one that nobody promised":          {map[rule.ID]rule.Params{rule.XEntryWithoutCert: {}}, m.entry(use{ext: map[int]string{8: good}}), nil, 0},
		"nor a bare key":                        {map[rule.ID]rule.Params{rule.XEntryWithoutCert: {}}, m.entry(use{bare: true, key: 1}), nil, 0},
		"a certificate waits for the record":    {map[rule.ID]rule.Params{rule.XIssuedUnexplained: {File: "f"}}, certificate, []rule.ID{rule.XIssuedUnexplained}, 15 * time.Minute},
		"for both":                              {map[rule.ID]rule.Params{rule.XCertWithoutEntry: {}, rule.XIssuedUnexplained: {File: "f", Grace: time.Hour}}, certificate, []rule.ID{rule.XCertWithoutEntry, rule.XIssuedUnexplained}, time.Hour},
		"all off":                               {map[rule.ID]rule.Params{rule.IDBurst: {}}, certificate, nil, 0},
	} {
		w := newWatcher(t, mine(tc.on))
		var got []rule.ID
		for _, v := range w.judge(tc.entry, rule.Times{Now: monday.Add(day)}) {
			if v.Report {
				t.Errorf("%s: reports %s at once", name, v.Summary())
			}
			for _, wait := range v.Waits {
				got = append(got, wait.Reason.Rule)
				if wait.Grace != tc.grace || !wait.Since.Equal(monday) || !strings.HasPrefix(wait.Facts.Certificate, "sha256:") {
					t.Errorf("%s: waits %+v", name, wait)
				}
				if wait.Reason.Rule == rule.XEntryWithoutCert && !strings.HasPrefix(wait.Facts.SCTs, "ab0000") {
					t.Errorf("%s: SCTs of %q", name, wait.Facts.SCTs)
				}
			}
		}
		if !slices.Equal(got, tc.want) {
			t.Errorf("%s: waits for %q, want %q", name, got, tc.want)
		}
	}
	if _, err := rule.New(rule.Options{Identities: []rule.Identity{mine(map[rule.ID]rule.Params{rule.XIssuedUnexplained: {}})}}); err == nil {
		t.Error("a record without a file was accepted")
	}
}

// TestWhichCertificatesWereShown: what is not known any more is not taken for missing.
func TestWhichCertificatesWereShown(t *testing.T) {
	m := newMaker(t)
	on := mine(map[rule.ID]rule.Params{rule.XCertWithoutEntry: {}})
	facts := func(e *rule.Entry) rule.Facts {
		w := newWatcher(t, on)
		e.Certified = true
		defer func() { e.Certified = false }()
		return w.judge(e, rule.Times{})[0].Waits[0].Facts
	}
	w := newWatcher(t, on)
	see := func(f rule.Facts, want rule.Sight) {
		t.Helper()
		w.reload()
		if got := w.book.Certificate("me", f); got != want {
			t.Fatalf("sight %d, want %d", got, want)
		}
	}
	first := m.promised(use{at: time.Minute}, [32]byte{1})
	see(facts(first), rule.Unseen)
	w.judge(first, rule.Times{})
	see(facts(first), rule.Seen)
	for i := range 1024 {
		w.judge(m.promised(use{at: time.Duration(i+2) * time.Minute}, [32]byte{1}), rule.Times{})
	}
	see(facts(first), rule.Unknown)
	see(facts(m.promised(use{}, [32]byte{1})), rule.Unknown)
	see(facts(m.promised(use{at: 2 * time.Minute}, [32]byte{1})), rule.Unseen)
	wrong := facts(first)
	wrong.Certificate = "sha256:00"
	see(wrong, rule.Unknown)
	if got := w.book.Certificate("another", facts(first)); got != rule.Unattended {
		t.Errorf("sight %d of another identity", got)
	}

	// Begun in the middle of a log, it knows nothing of before.
	w.book = &rule.Book{}
	w.set.Attend(w.book, 5, monday.Add(time.Hour))
	see(facts(first), rule.Unknown)
	see(facts(m.promised(use{at: 2 * time.Hour}, [32]byte{1})), rule.Unseen)
	data, err := json.Marshal(w.book)
	if err != nil || !strings.Contains(string(data), `"since"`) {
		t.Errorf("book %s, %v", data, err)
	}
}
