package witness_test

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"tallywood/internal/keys"
	"tallywood/storage/mem"
	"tallywood/witness"
	"tallywood/witness/policy"
)

func TestWitnessFollowsAnHonestLog(t *testing.T) {
	l, c := newTestLog(t, origin), newClock()
	w := serve(t, mem.New(), c, l)
	l.grow(t, 300, "entry")
	old := int64(0)
	for _, size := range []int64{0, 1, 2, 3, 4, 7, 8, 9, 63, 64, 65, 255, 256, 257, 300} {
		c.add(time.Second)
		note := l.checkpoint(t, size) + w.mustAdd(t, l.request(t, old, size))
		cp := opened(t, l, note)
		for _, cs := range cp.Cosignatures() {
			if !cs.Time.Equal(c.now()) {
				t.Errorf("size %d: cosigned at %v, want %v", size, cs.Time, c.now())
			}
		}
		if got := w.stored(t, l); got != note {
			t.Errorf("size %d: monitoring prefix serves\n%s\nwant\n%s", size, got, note)
		}
		old = size
	}
}

func TestWitnessRestartsWhereItWas(t *testing.T) {
	l, b := newTestLog(t, origin), mem.New()
	l.grow(t, 9, "entry")
	serve(t, b, newClock(), l).mustAdd(t, l.request(t, 0, 5))
	w := serve(t, b, newClock(), l)
	if a := w.add(t, l.request(t, 0, 9)); a.status != http.StatusConflict || a.body != "5\n" {
		t.Errorf("after a restart: %d %q", a.status, a.body)
	}
	w.mustAdd(t, l.request(t, 5, 9))
}

func TestWitnessStartsAtAnySize(t *testing.T) {
	l := newTestLog(t, origin)
	l.grow(t, 70, "entry")
	w := serve(t, mem.New(), newClock(), l)
	if a := w.add(t, l.request(t, 3, 70)); a.status != http.StatusConflict || a.body != "0\n" {
		t.Errorf("old 3 on first contact: %d %q, want 409 0", a.status, a.body)
	}
	if w.stored(t, l) != "" {
		t.Error("a refused checkpoint is published")
	}
	w.mustAdd(t, l.request(t, 0, 70))
}

func TestWitnessSignsEqualSizeAfresh(t *testing.T) {
	l, c := newTestLog(t, origin), newClock()
	l.grow(t, 5, "entry")
	w := serve(t, mem.New(), c, l)
	first := w.mustAdd(t, l.request(t, 0, 5))
	c.add(time.Hour)
	second := w.mustAdd(t, l.request(t, 5, 5))
	if first == second {
		t.Error("the second cosignature has the first one's time")
	}
	if got := w.stored(t, l); got != l.checkpoint(t, 5)+second {
		t.Errorf("monitoring prefix serves\n%s", got)
	}
}

func TestConflictIsExactlyWhatTesseraCompares(t *testing.T) {
	l := newTestLog(t, origin)
	l.grow(t, 9, "entry")
	w := serve(t, mem.New(), newClock(), l)
	w.mustAdd(t, l.request(t, 0, 5))
	a := w.add(t, l.request(t, 3, 9))
	if a.status != http.StatusConflict || a.body != "5\n" {
		t.Errorf("answer %d %q", a.status, a.body)
	}
	if got := a.header["Content-Type"]; !slices.Equal(got, []string{"text/x.tlog.size"}) {
		t.Errorf("Content-Type %q", got)
	}
	// 409 wins over a proof that could not verify anyway.
	bad := fmt.Sprintf("old 3\n%s\n%s", lines(tlog.Hash{1}), l.checkpoint(t, 9))
	if a := w.add(t, bad); a.status != http.StatusConflict {
		t.Errorf("with a wrong proof: %d", a.status)
	}
}

// TestWitnessRefuses has every row of the table and every grammar trap of the reference; none of
// them may change what the witness knows.
func TestWitnessRefuses(t *testing.T) {
	l, c, b := newTestLog(t, origin), newClock(), mem.New()
	fork, stranger := newTestLog(t, origin), newTestLog(t, "stranger.example.org")
	l.grow(t, 20, "entry")
	fork.grow(t, 20, "forged entry")
	stranger.grow(t, 20, "entry")
	w := serve(t, b, c, l)
	w.mustAdd(t, l.request(t, 0, 5))
	before := w.stored(t, l)

	cp, proof := l.checkpoint(t, 9), l.proof(t, 5, 9)
	text := l.tree(t, 9).Text()
	head := "old 5\n" + proof + "\n"
	hash := lines(tlog.Hash{7})
	signed := func(text string) string { return l.sign(t, text) }
	sigLine := strings.SplitAfterN(cp, "\n\n", 2)[1]
	root := strings.Split(text, "\n")[2]
	zeroHash := strings.Repeat("A", 43) + "="
	for name, tc := range map[string]struct {
		body string
		want int
	}{
		"empty body":                       {"", 400},
		"no old line":                      {proof + "\n" + cp, 400},
		"no empty line":                    {"old 5\n" + proof, 400},
		"no checkpoint":                    {head, 400},
		"old without number":               {"old\n\n" + cp, 400},
		"old with empty number":            {"old \n\n" + cp, 400},
		"old with leading zero":            {"old 05\n" + proof + "\n" + cp, 400},
		"old with plus":                    {"old +5\n" + proof + "\n" + cp, 400},
		"old with minus zero":              {"old -0\n" + proof + "\n" + cp, 400},
		"old negative":                     {"old -5\n" + proof + "\n" + cp, 400},
		"old hexadecimal":                  {"old 0x5\n" + proof + "\n" + cp, 400},
		"old with tab":                     {"old\t5\n" + proof + "\n" + cp, 400},
		"old with two spaces":              {"old  5\n" + proof + "\n" + cp, 400},
		"old with trailing space":          {"old 5 \n" + proof + "\n" + cp, 400},
		"old with trailing text":           {"old 5 x\n" + proof + "\n" + cp, 400},
		"old with underscore":              {"old 1_0\n" + proof + "\n" + cp, 400},
		"old upper case":                   {"OLD 5\n" + proof + "\n" + cp, 400},
		"old 2^63":                         {"old 9223372036854775808\n\n" + cp, 400},
		"old 2^64":                         {"old 18446744073709551616\n\n" + cp, 400},
		"carriage returns in the header":   {"old 5\r\n" + strings.ReplaceAll(proof, "\n", "\r\n") + "\r\n" + cp, 400},
		"carriage return after old":        {"old 5\r\n" + proof + "\n" + cp, 400},
		"byte order mark":                  {"\ufeff" + head + cp, 400},
		"leading space":                    {" " + head + cp, 400},
		"leading empty line":               {"\n" + head + cp, 400},
		"64 proof lines":                   {"old 5\n" + strings.Repeat(hash, 64) + "\n" + cp, 400},
		"1000 proof lines":                 {"old 5\n" + strings.Repeat(hash, 1000) + "\n" + cp, 400},
		"63 proof lines, wrong ones":       {"old 5\n" + strings.Repeat(hash, 63) + "\n" + cp, 422},
		"31-byte proof hash":               {"old 5\n" + base64.StdEncoding.EncodeToString(make([]byte, 31)) + "\n\n" + cp, 400},
		"33-byte proof hash":               {"old 5\n" + base64.StdEncoding.EncodeToString(make([]byte, 33)) + "\n\n" + cp, 400},
		"proof hash without padding":       {"old 5\n" + zeroHash[:43] + "\n\n" + cp, 400},
		"proof hash with trailing bits":    {"old 5\n" + zeroHash[:42] + "B=\n\n" + cp, 400},
		"proof hash in URL alphabet":       {"old 5\n" + strings.Replace(zeroHash, "A", "_", 1) + "\n\n" + cp, 400},
		"proof hash of 100 kB":             {"old 5\n" + strings.Repeat("A", 100_000) + "\n\n" + cp, 400},
		"body of 2 MiB":                    {head + strings.Repeat("x", 2<<20), 413},
		"body a byte over the limit":       {strings.Repeat("x", 128<<10+1), 413},
		"empty origin":                     {head + "\n9\n" + root + "\n\n" + sigLine, 400},
		"unknown origin":                   {stranger.request(t, 0, 9), 404},
		"unknown origin, unsigned garbage": {head + "unknown.example.org\n", 404},
		"origin with a trailing space":     {head + strings.Replace(cp, origin, origin+" ", 1), 404},
		"note without signature":           {head + text, 403},
		"note without signature line":      {head + text + "\n", 403},
		"note with CR":                     {head + strings.ReplaceAll(cp, "\n", "\r\n"), 404},
		"note with a control character":    {head + signed(text+"a\x01b\n"), 400},
		"note with invalid UTF-8":          {head + signed(text+"a\xffb\n"), 400},
		"note without final line feed":     {head + strings.TrimSuffix(cp, "\n"), 400},
		"signature with a hyphen":          {head + strings.Replace(cp, "—", "-", 1), 400},
		"signature after two spaces":       {head + strings.Replace(cp, "=\n\n— ", "=\n\n—  ", 1), 400},
		"101 signature lines":              {head + cp + strings.Repeat("— x AAAAAAA=\n", 100), 400},
		"signed by a stranger":             {head + stranger.sign(t, text), 403},
		"signature over another tree":      {head + text + "\n" + strings.SplitAfterN(l.checkpoint(t, 8), "\n\n", 2)[1], 403},
		"second line of the log forged":    {head + cp + strings.SplitAfterN(l.checkpoint(t, 8), "\n\n", 2)[1], 403},
		"signature of four zero bytes":     {head + text + "\n" + policy.FormatSignature(origin, l.key.ID(), []byte{0}), 403},
		"conflict with a bad signature":    {"old 3\n\n" + text + "\n" + policy.FormatSignature(origin, l.key.ID(), make([]byte, 64)), 403},
		"two-line checkpoint":              {head + signed(origin+"\n9\n"), 400},
		"size with leading zero":           {head + signed(origin+"\n09\n"+root+"\n"), 400},
		"size with plus":                   {head + signed(origin+"\n+9\n"+root+"\n"), 400},
		"size 2^64":                        {head + signed(origin+"\n18446744073709551616\n"+root+"\n"), 400},
		"size 2^63":                        {head + signed(origin+"\n9223372036854775808\n"+root+"\n"), 400},
		"size 2^63-1, wrong proof":         {head + signed(origin+"\n9223372036854775807\n"+root+"\n"), 422},
		"31-byte root":                     {head + signed(origin+"\n9\n"+base64.StdEncoding.EncodeToString(make([]byte, 31))+"\n"), 400},
		"root with trailing bits":          {head + signed(origin+"\n9\n"+zeroHash[:42]+"B=\n"), 400},
		"empty extension line":             {head + signed(text+"\n"), 400},
		"empty line in the extensions":     {head + signed(text+"\next\n"), 400},
		"old above the size":               {"old 10\n\n" + cp, 400},
		"size 0 with another root":         {"old 0\n\n" + signed(origin+"\n0\n"+root+"\n"), 422},
		"old below the stored size":        {l.request(t, 3, 9), 409},
		"old above the stored size":        {l.request(t, 7, 9), 409},
		"rollback":                         {l.request(t, 0, 3), 409},
		"fork at the same size":            {"old 5\n\n" + fork.checkpoint(t, 5), 422},
		"fork further on":                  {fork.request(t, 5, 9), 422},
		"fork with the honest proof":       {head + fork.checkpoint(t, 9), 422},
		"no proof":                         {"old 5\n\n" + cp, 422},
		"proof one hash short":             {"old 5\n" + proof[:len(proof)-45] + "\n" + cp, 422},
		"proof one hash long":              {"old 5\n" + proof + hash + "\n" + cp, 422},
		"proof at the same size":           {"old 5\n" + hash + "\n" + l.checkpoint(t, 5), 422},
	} {
		a := w.add(t, tc.body)
		if a.status != tc.want {
			t.Errorf("%s: %d %q, want %d", name, a.status, a.body, tc.want)
		}
		if strings.Contains(a.body, "\u2014 ") || len(strings.TrimSpace(a.body)) == 0 {
			t.Errorf("%s: body %q", name, a.body)
		}
	}
	if after := w.stored(t, l); after != before {
		t.Errorf("the refused requests changed the stored note to\n%s", after)
	}
	// Old 0 with a proof, and old above the size, are refused on a log never seen as well.
	fresh := serve(t, mem.New(), c, l)
	for body, want := range map[string]int{
		"old 0\n" + hash + "\n" + cp: 422,
		"old 10\n\n" + cp:            400,
		"old 0\n\n" + signed(origin+"\n9\n"+base64.StdEncoding.EncodeToString(make([]byte, 31))+"\n"): 400,
		"old 0\n\n" + signed(origin+"\n05\n"+root+"\n"):                                               400,
	} {
		if a := fresh.add(t, body); a.status != want {
			t.Errorf("first contact with %.40q: %d %s, want %d", body, a.status, a.body, want)
		}
	}
}

func TestWitnessMethodsAndPaths(t *testing.T) {
	l := newTestLog(t, origin)
	w := serve(t, mem.New(), newClock(), l)
	for _, path := range []string{"/add-checkpoint", "/sign-subtree"} {
		if a := do(t, http.MethodGet, w.url+path, ""); a.status != 405 || a.header.Get("Allow") != "POST" || a.body == "" {
			t.Errorf("GET %s: %d, Allow %q, body %q", path, a.status, a.header.Get("Allow"), a.body)
		}
	}
	for path, want := range map[string]int{
		"/" + hashOf(origin) + "/checkpoint":       404, // never cosigned
		"/" + hashOf("other") + "/checkpoint":      404,
		"/evidence/" + hashOf(origin) + "/x":       404,
		"/evidence/" + hashOf(origin) + "/..%2f..": 404,
		"/evidence/" + hashOf("other") + "/":       404,
		"/evidence/" + hashOf(origin) + "/":        200,
		"/state/" + name + "/" + hashOf(origin):    404,
		"/status.json":                             200,
		"/":                                        200,
		"//status.json":                            200,
	} {
		if a := do(t, http.MethodGet, w.url+path, ""); a.status != want || a.body == "" {
			t.Errorf("GET %s: %d %q, want %d", path, a.status, a.body, want)
		}
	}
}

// TestWitnessKeepsTheConnection sends an error, chunked bodies and a strange Content-Type over one
// connection.
func TestWitnessKeepsTheConnection(t *testing.T) {
	l := newTestLog(t, origin)
	l.grow(t, 5, "entry")
	w := serve(t, mem.New(), newClock(), l)
	conn, err := net.Dial("tcp", strings.TrimPrefix(w.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	r := bufio.NewReader(conn)
	for _, step := range []struct {
		body string
		want int
	}{{"nonsense", 400}, {l.request(t, 3, 5), 409}, {l.request(t, 0, 5), 200}} {
		req := "POST /add-checkpoint HTTP/1.1\r\nHost: w\r\nContent-Type: video/mp4\r\nTransfer-Encoding: chunked\r\n\r\n"
		half := len(step.body) / 2
		for _, part := range []string{step.body[:half], step.body[half:], ""} {
			req += fmt.Sprintf("%x\r\n%s\r\n", len(part), part)
		}
		if _, err := io.WriteString(conn, req); err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != step.want || resp.Close {
			t.Errorf("%.20q: %d, closed %t; want %d", step.body, resp.StatusCode, resp.Close, step.want)
		}
	}
}

func TestWitnessClosesTheConnectionOfAnOversizeBody(t *testing.T) {
	l := newTestLog(t, origin)
	w := serve(t, mem.New(), newClock(), l)
	// A reader of unknown length is sent chunked.
	body := io.MultiReader(strings.NewReader(strings.Repeat("x", 128<<10+1)))
	resp, err := http.Post(w.url+"/add-checkpoint", "text/plain", body)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusRequestEntityTooLarge || !resp.Close {
		t.Errorf("%d, closed: %t", resp.StatusCode, resp.Close)
	}
}

func TestWitnessCosignsExtensionLines(t *testing.T) {
	l := newTestLog(t, origin)
	l.grow(t, 5, "entry")
	w := serve(t, mem.New(), newClock(), l)
	tree := l.tree(t, 5)
	tree.Extensions = []string{"one", "two words"}
	note := l.sign(t, tree.Text())
	opened(t, l, note+w.mustAdd(t, "old 0\n\n"+note))
}

func TestWitnessRefusesExtensionsOnlyMLDSASigned(t *testing.T) {
	// A log that signs with ML-DSA-44 (here another of our seeds): no line covers extensions.
	k, err := keys.WitnessFromSeed(origin, seed("pq log"))
	if err != nil {
		t.Fatal(err)
	}
	logKey, err := policy.ParseVKey(k.VKeys()[1])
	if err != nil {
		t.Fatal(err)
	}
	l := newTestLog(t, origin)
	l.grow(t, 5, "entry")
	w := serveOptions(t, witness.Options{
		Keys: testKeys(t), Bucket: mem.New(), Logs: []witness.Log{{Origin: origin, Keys: []policy.Key{logKey}}},
	})
	// The log is cosigned by a witness that has its key, to get its signature.
	signing := serveOptions(t, witness.Options{
		Keys: k, Bucket: mem.New(), Logs: []witness.Log{{Origin: origin, Keys: []policy.Key{l.key}}},
	})
	line := strings.SplitAfter(signing.mustAdd(t, l.request(t, 0, 5)), "\n")[1]
	text := l.tree(t, 5).Text()
	if a := w.add(t, "old 0\n\n"+text+"middleman\n\n"+line); a.status != 400 {
		t.Errorf("with a middleman's extension: %d %s", a.status, a.body)
	}
	if a := w.add(t, "old 0\n\n"+text+"\n"+line); a.status != 200 {
		t.Errorf("without extension: %d %s", a.status, a.body)
	}
}

func TestWitnessTakesManySignaturesAndRepublishesNone(t *testing.T) {
	l := newTestLog(t, origin)
	l.grow(t, 5, "entry")
	w := serve(t, mem.New(), newClock(), l)
	var foreign strings.Builder
	for i := range 16 {
		foreign.WriteString(policy.FormatSignature(fmt.Sprintf("w%d.example.org", i), uint32(i), make([]byte, 2428)))
	}
	// The log's name or key ID alone makes no line of the log, nor ours a line of ours.
	foreign.WriteString(policy.FormatSignature(origin, l.key.ID()+1, []byte("garbage")))
	foreign.WriteString(policy.FormatSignature("other", l.key.ID(), []byte("garbage")))
	own, err := policy.ParseVKey(testKeys(t).VKeys()[0])
	if err != nil {
		t.Fatal(err)
	}
	foreign.WriteString(policy.FormatSignature(name, own.ID(), make([]byte, 72)))
	got := w.mustAdd(t, l.request(t, 0, 5)+foreign.String())
	if want := l.checkpoint(t, 5) + got; w.stored(t, l) != want {
		t.Errorf("monitoring prefix serves\n%s\nwant\n%s", w.stored(t, l), want)
	}
}

func TestLogsMayRotateKeys(t *testing.T) {
	l := newTestLog(t, origin)
	next := newTestLog(t, "next."+origin)
	l.grow(t, 9, "entry")
	w := serveOptions(t, witness.Options{
		Keys: testKeys(t), Bucket: mem.New(),
		Logs: []witness.Log{{Origin: origin, Keys: []policy.Key{l.key}}, {Origin: origin, Keys: []policy.Key{next.key}}},
	})
	w.mustAdd(t, l.request(t, 0, 5))
	text := l.tree(t, 9).Text()
	w.mustAdd(t, "old 5\n"+l.proof(t, 5, 9)+"\n"+next.sign(t, text))
	// Both keys may sign, and then both must be right.
	both := l.sign(t, text) + strings.SplitAfterN(next.sign(t, text), "\n\n", 2)[1]
	w.mustAdd(t, "old 9\n\n"+both)
	bad := l.sign(t, text) + policy.FormatSignature(next.origin, next.key.ID(), make([]byte, 64))
	if a := w.add(t, "old 9\n\n"+bad); a.status != 403 {
		t.Errorf("one key's line is wrong: %d", a.status)
	}
}
