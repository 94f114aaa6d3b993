package witness_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"filippo.io/torchwood"
	"golang.org/x/mod/sumdb/tlog"

	"tallywood/storage/mem"
	"tallywood/witness/policy"
)

// subtreeRequest returns an honest sign-subtree request below a note.
func (l *testLog) subtreeRequest(t testing.TB, start, end, size int64, note string) (string, tlog.Hash) {
	t.Helper()
	hash, err := torchwood.SubtreeHash(start, end, l.reader())
	if err != nil {
		t.Fatal(err)
	}
	p, err := torchwood.ProveSubtree(size, start, end, l.reader())
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("subtree %d %d\n%s%s\n%s", start, end, lines(hash), lines(p...), note), hash
}

func TestSignSubtree(t *testing.T) {
	l := newTestLog(t, origin)
	l.grow(t, 100, "entry")
	w := serve(t, mem.New(), newClock(), l)
	ours := l.checkpoint(t, 70) + w.mustAdd(t, l.request(t, 0, 70))
	w.mustAdd(t, l.request(t, 70, 100)) // an older checkpoint vouches as well
	v, err := torchwood.NewCosignatureVerifier(testKeys(t).VKeys()[1])
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range [][2]int64{{0, 70}, {0, 64}, {64, 70}, {64, 65}, {0, 1}, {69, 70}, {32, 48}, {16, 29}, {0, 33}} {
		body, hash := l.subtreeRequest(t, r[0], r[1], 70, ours)
		a := do(t, http.MethodPost, w.url+"/sign-subtree", body)
		if a.status != http.StatusOK || !v.VerifySubtree(origin, r[0], r[1], hash, []byte(a.body)) {
			t.Errorf("[%d, %d): %d %.80s", r[0], r[1], a.status, a.body)
		}
	}
}

func TestSignSubtreeRefuses(t *testing.T) {
	l, stranger := newTestLog(t, origin), newTestLog(t, "stranger.example.org")
	l.grow(t, 100, "entry")
	stranger.grow(t, 100, "entry")
	w := serve(t, mem.New(), newClock(), l)
	ours := w.mustAdd(t, l.request(t, 0, 70))
	ed, pq, _ := strings.Cut(ours, "\n")
	ed += "\n"
	note := l.checkpoint(t, 70) + ours
	good, hash := l.subtreeRequest(t, 64, 68, 70, note)
	with := func(old, new string) string { return strings.Replace(good, old, new, 1) }
	answer := do(t, http.MethodPost, w.url+"/sign-subtree", func() string { s, _ := l.subtreeRequest(t, 0, 70, 70, note); return s }()).body
	sub := "subtree 64 68\n"
	tail := do(t, http.MethodPost, w.url+"/sign-subtree", func() string { s, _ := l.subtreeRequest(t, 64, 70, 70, note); return s }()).body
	own, err := policy.ParseVKey(testKeys(t).VKeys()[0])
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		body string
		want int
	}{
		"nothing":                     {"", 400},
		"no range":                    {with(sub, ""), 400},
		"one number":                  {with(sub, "subtree 64\n"), 400},
		"leading zero":                {with(sub, "subtree 064 68\n"), 400},
		"plus":                        {with(sub, "subtree +64 68\n"), 400},
		"trailing text":               {with(sub, "subtree 64 68 x\n"), 400},
		"2^63":                        {with(sub, "subtree 0 9223372036854775808\n"), 400},
		"empty range":                 {with(sub, "subtree 64 64\n"), 400},
		"backward range":              {with(sub, "subtree 68 64\n"), 400},
		"misaligned range":            {with(sub, "subtree 62 68\n"), 400},
		"no hash":                     {with(lines(hash), ""), 422},
		"no hash, no proof":           {sub + "\n" + note, 400},
		"carriage return":             {with(sub, "subtree 64 68\r\n"), 400},
		"64 proof lines":              {with(sub, sub+strings.Repeat(lines(hash), 64)), 400},
		"unknown log":                 {sub + lines(hash) + "\n" + stranger.checkpoint(t, 70), 404},
		"malformed note":              {with("— "+name, "- "+name), 400},
		"not cosigned":                {with(ours, ""), 403},
		"cosigned by Ed25519 alone":   {with(pq, ""), 403},
		"our Ed25519 line is forged":  {good + policy.FormatSignature(name, own.ID(), make([]byte, 72)), 403},
		"our lines are of another":    {with("\n70\n", "\n71\n"), 403},
		"an answer about [64, 70)":    {with(ed+pq, tail), 403},
		"end above the size":          {with(sub, "subtree 64 72\n"), 400},
		"wrong hash":                  {with(lines(hash), lines(tlog.Hash{1})), 422},
		"wrong range":                 {with(sub, "subtree 64 67\n"), 422},
		"proof too long":              {with(lines(hash), lines(hash, hash)), 422},
		"range of 2^62, beyond sizes": {with(sub, "subtree 0 4611686018427387904\n"), 400},
	} {
		a := do(t, http.MethodPost, w.url+"/sign-subtree", tc.body)
		if a.status != tc.want || strings.Contains(a.body, "— ") || a.body == "" {
			t.Errorf("%s: %d %q, want %d", name, a.status, a.body, tc.want)
		}
	}
	if a := do(t, http.MethodPost, w.url+"/sign-subtree", strings.Repeat("x", 1<<18)); a.status != 413 {
		t.Errorf("256 KiB: %d", a.status)
	}
	if a := do(t, http.MethodPost, w.url+"/sign-subtree", good); a.status != 200 {
		t.Errorf("the request all others are made from: %d %s", a.status, a.body)
	}
	if a := do(t, http.MethodPost, w.url+"/sign-subtree", with(ed+pq, answer)); a.status != 200 {
		t.Errorf("an answer about the whole tree vouches for its parts: %d %s", a.status, a.body)
	}
}
