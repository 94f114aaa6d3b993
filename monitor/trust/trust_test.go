package trust_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"os"
	"strings"
	"testing"
	"time"

	catrust "tallywood/ca/trust"
	"tallywood/monitor/trust"
	"tallywood/witness/policy"
)

var begin = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// edKey and ecKey make keys of logs.
func edKey(t testing.TB) crypto.PublicKey {
	t.Helper()
	public, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return public
}

func ecKey(t testing.TB) crypto.PublicKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key.Public()
}

// rootOf renders a trusted root with logs.
func rootOf(t testing.TB, logs, ctlogs []catrust.Log) []byte {
	t.Helper()
	data, err := catrust.Root{Logs: logs, CTLogs: ctlogs}.TrustedRoot()
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestLogsOfATrustedRoot(t *testing.T) {
	end := begin.Add(time.Hour)
	data := rootOf(t, []catrust.Log{
		{Origin: "log1.example.org", URL: "https://log1.example.org", Public: edKey(t), Start: begin, End: end},
		{Origin: "log2.example.org", Public: edKey(t), Start: end},
		{Origin: "v1.example.org", Public: ecKey(t), Start: begin},
	}, []catrust.Log{{Origin: "ct.example.org", URL: "https://ct.example.org/2026", Public: ecKey(t), Start: begin}})
	logs, err := trust.Parse(data)
	if err != nil || len(logs) != 4 {
		t.Fatalf("got %+v, %v", logs, err)
	}
	for i, want := range []trust.Log{
		{Kind: "rekor", Origin: "log1.example.org", URL: "https://log1.example.org", Begin: begin, End: end},
		{Kind: "rekor", Origin: "log2.example.org", URL: "https://log2.example.org", Begin: end},
		{Kind: "rekor", Origin: "v1.example.org", URL: "https://v1.example.org", Begin: begin},
		{Kind: "ct", Origin: "ct.example.org/2026", URL: "https://ct.example.org/2026", Begin: begin},
	} {
		got := logs[i]
		if v1 := i == 2; v1 != (got.LeftOut != "") || v1 != (got.VKey == "") || v1 && !strings.Contains(got.LeftOut, "Rekor v1") {
			t.Errorf("%s: left out as %q, key %q", got.Origin, got.LeftOut, got.VKey)
		}
		if got.VKey != "" {
			if key, err := policy.ParseVKey(got.VKey); err != nil || key.Name() != want.Origin {
				t.Errorf("%s: %v", got.VKey, err)
			}
		}
		got.VKey, got.LeftOut = "", ""
		if got != want {
			t.Errorf("got %+v; want %+v", got, want)
		}
	}
}

// TestThePublicTrustedRoot reads the one of Sigstore's public instance: all its signature logs of that
// time are of Rekor v1.
func TestThePublicTrustedRoot(t *testing.T) {
	data, err := os.ReadFile("testdata/sigstore-public.json")
	if err != nil {
		t.Fatal(err)
	}
	logs, err := trust.Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, l := range logs {
		got[l.Kind+" "+l.Origin] = l.LeftOut
	}
	if len(got) != 3 || !strings.Contains(got["rekor rekor.sigstore.dev"], "Rekor v1") || logs[1].End.IsZero() || !logs[2].End.IsZero() {
		t.Errorf("got %+v", logs)
	}
	for _, origin := range []string{"ctfe.sigstore.dev/test", "ctfe.sigstore.dev/2022"} {
		if why, ok := got["ct "+origin]; !ok || why != "" {
			t.Errorf("%s: %q, %v", origin, why, ok)
		}
	}
}

func TestTrustedRootThatIsNone(t *testing.T) {
	good := string(rootOf(t, []catrust.Log{{Origin: "log.example.org", Public: edKey(t), Start: begin}}, nil))
	for name, c := range map[string]struct{ old, new, want string }{
		"other media type": {"sigstore.trustedroot", "sigstore.signingconfig", "media type"},
		"no logs":          {`"tlogs": [`, `"others": [`, "no logs"},
		"no URL":           {"https://log.example.org", "log.example.org", "base URL"},
		"query":            {"https://log.example.org", "https://log.example.org?x", "base URL"},
		"not JSON":         {"{", "", "parsing trusted root"},
		"backwards":        {`"start": "2026-01-01T00:00:00Z"`, `"start": "2026-01-01T00:00:00Z", "end": "2025-01-01T00:00:00Z"`, "valid until"},
	} {
		text := strings.Replace(good, c.old, c.new, 1)
		if text == good {
			t.Fatalf("%s: the case changes nothing in\n%s", name, good)
		}
		if logs, err := trust.Parse([]byte(text)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %+v, %v", name, logs, err)
		}
	}
	// Another log's name under the key is no reason to forget the rest.
	logs, err := trust.Parse([]byte(strings.Replace(good, "https://log.example.org", "https://other.example.org", 1)))
	if err != nil || logs[0].VKey != "" || !strings.Contains(logs[0].LeftOut, "log ID") {
		t.Errorf("got %+v, %v", logs, err)
	}
	// Nor is a field of a later version.
	if _, err := trust.Parse([]byte(strings.Replace(good, `"tlogs"`, `"later": {}, "tlogs"`, 1))); err != nil {
		t.Error(err)
	}
}

func FuzzParse(f *testing.F) {
	data, err := os.ReadFile("testdata/sigstore-public.json")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add(rootOf(f, []catrust.Log{{Origin: "log.example.org", Public: edKey(f), Start: begin}}, nil))
	f.Fuzz(func(t *testing.T, data []byte) {
		logs, err := trust.Parse(data)
		if err != nil {
			return
		}
		for _, l := range logs {
			if (l.VKey == "") == (l.LeftOut == "") {
				t.Errorf("neither followed nor left out, or both: %+v", l)
			}
			if l.VKey == "" {
				continue
			}
			if key, err := policy.ParseVKey(l.VKey); err != nil || key.Name() != l.Origin {
				t.Errorf("%+v: %v", l, err)
			}
		}
	})
}
