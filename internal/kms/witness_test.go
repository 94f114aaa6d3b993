package kms_test

import (
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"tallywood/internal/keys"
	"tallywood/internal/loopback"
	"tallywood/witness/policy"
)

// TestServeWithAWitnessKeyInKMS has a witness whose Ed25519 key is in a KMS, once beside an ML-DSA-44 key
// of a seed and once alone, and a log that publishes nothing without it.
func TestServeWithAWitnessKeyInKMS(t *testing.T) {
	awsCredentials(t)
	program, err := program()
	if err != nil {
		t.Fatal(err)
	}
	for name, withSeed := range map[string]bool{"alone": false, "with a seed": true} {
		d := &deployment{dir: t.TempDir(), program: program, aws: newAWSDouble(t)}
		key := newEd25519(t)
		d.aws.set("alias/witness", "ECC_NIST_EDWARDS25519", key)
		log := newEd25519(t)
		if err := keys.WriteSigner(filepath.Join(d.dir, "log.pem"), log); err != nil {
			t.Fatal(err)
		}
		vkeys, seed := []string{keys.VKey("witness.example.org", keys.AlgCosignatureV1, key.Public().(ed25519.PublicKey))}, ""
		if withSeed {
			if err := keys.WriteSeed(filepath.Join(d.dir, "seed"), [32]byte{1}); err != nil {
				t.Fatal(err)
			}
			k, err := keys.WitnessFromSeed("witness.example.org", [32]byte{1})
			if err != nil {
				t.Fatal(err)
			}
			vkeys, seed = append(vkeys, k.VKeys()[1]), "seed: file:seed, "
		}
		address := loopback.Address(t)
		d.url = "http://" + address
		text := "log " + keys.VKey("log.example.org", keys.AlgEd25519, log.Public().(ed25519.PublicKey)) + "\n"
		for i, vkey := range vkeys {
			text += fmt.Sprintf("witness w%d %s %s/witness/1\n", i, vkey, d.url)
		}
		text += strings.TrimSpace("group all all "+strings.Join([]string{"w0", "w1"}[:len(vkeys)], " ")) + "\nquorum all\n"
		p, err := policy.Parse([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		d.write(t, "policy.txt", text)
		d.write(t, "config.yaml", fmt.Sprintf("address: %s\nstorage: file:./objects\nlogs:\n"+
			"  - {name: signatures, kind: rekor, origin: log.example.org, key: file:log.pem, policy: policy.txt, quorum_timeout: 1s}\n"+
			"witnesses:\n  - {name: witness.example.org, %sed25519: %q}\n", address, seed, d.aws.uri("alias/witness")))
		if out := d.must(t, "config", "check", "config.yaml"); !strings.Contains(out, "not asked for: witness witness.example.org: ed25519 awskms://") {
			t.Errorf("%s: config check printed:\n%s", name, out)
		}
		d.serve(t)
		wantReceipt(t, d, p)

		d.aws.fail(slices.Repeat([]awsFault{{400, "AccessDeniedException"}}, 10_000)...)
		if status, body, err := d.addEntry(); status != http.StatusServiceUnavailable || err != nil {
			t.Errorf("%s: without the key: %d %s %v", name, status, body, err)
		}
		d.aws.fail()
		wantReceipt(t, d, p)
		if !strings.Contains(d.stderr.String(), "the Ed25519 key cannot be used") || !strings.Contains(d.stderr.String(), "the Ed25519 key can be used again") {
			t.Errorf("%s: the server said:\n%s", name, d.stderr)
		}
		d.stop(t)
	}
}

// wantReceipt adds an entry and wants its checkpoint to satisfy p. It may be told to come again, when the
// witness took longer than its log waits.
func wantReceipt(t *testing.T, d *deployment, p *policy.Policy) {
	t.Helper()
	status, body, err := d.addEntry()
	for end := time.Now().Add(time.Minute); status == http.StatusServiceUnavailable && err == nil && time.Now().Before(end); {
		time.Sleep(100 * time.Millisecond)
		status, body, err = d.addEntry()
	}
	var entry struct {
		InclusionProof struct{ Checkpoint struct{ Envelope string } }
	}
	if err == nil && status == http.StatusCreated {
		err = json.Unmarshal(body, &entry)
	}
	if status != http.StatusCreated || err != nil {
		t.Fatalf("adding an entry: %d, %v\n%s", status, err, body)
	}
	if _, err := p.Open([]byte(entry.InclusionProof.Checkpoint.Envelope)); err != nil {
		t.Errorf("%v:\n%s", err, entry.InclusionProof.Checkpoint.Envelope)
	}
}
