package tsa_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tallywood/ca/tsa"
	"tallywood/internal/keys"
)

func TestOpenSSLQueriesAndVerifies(t *testing.T) {
	o := newAuthority(t)
	o.Now = func() time.Time { return time.Now() } // openssl verifies the chain as of now
	var err error
	if o.Chain, o.Signer, err = tsa.CreateChain("example.org", time.Now()); err != nil {
		t.Fatal(err)
	}
	h := open(t, o)
	dir := t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	write := func(name string, data []byte) {
		if err := os.WriteFile(file(name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	openssl := func(args ...string) string {
		out, err := exec.Command("openssl", args...).CombinedOutput()
		if err != nil {
			t.Fatalf("openssl %v: %v\n%s", args, err, out)
		}
		return string(out)
	}
	write("artifact", []byte("artifact"))
	write("root.pem", keys.FormatChain(o.Chain[2:]))
	write("chain.pem", keys.FormatChain(o.Chain[:2]))
	for _, digest := range []string{"-sha256", "-sha384", "-sha512"} {
		for _, extra := range [][]string{{"-cert"}, {"-cert", "-no_nonce"}, {}} {
			openssl(append([]string{"ts", "-query", "-data", file("artifact"), digest, "-out", file("query")}, extra...)...)
			body, err := os.ReadFile(file("query"))
			if err != nil {
				t.Fatal(err)
			}
			w := post(h, query, body)
			if w.Code != 200 {
				t.Fatalf("%s %v: %d %s", digest, extra, w.Code, w.Body)
			}
			write("reply", w.Body.Bytes())
			got := openssl("ts", "-verify", "-queryfile", file("query"), "-in", file("reply"),
				"-CAfile", file("root.pem"), "-untrusted", file("chain.pem"))
			if !strings.Contains(got, "Verification: OK") {
				t.Errorf("%s %v: %s", digest, extra, got)
			}
		}
	}
	text := openssl("ts", "-reply", "-in", file("reply"), "-text")
	for _, want := range []string{"Status: Granted.", "Policy OID: 1.3.6.1.4.1.57264.2", "Accuracy: 0x01 seconds", "Ordering: no", "TSA: DirName:"} {
		if !strings.Contains(text, want) {
			t.Errorf("openssl does not see %q:\n%s", want, text)
		}
	}
}
