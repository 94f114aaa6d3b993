package demo_test

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"tallywood/internal/demo"
	"tallywood/internal/keys"
	"tallywood/log/verify"
	"tallywood/monitor/rule"
	"tallywood/witness/policy"
)

// TestAttacksThatGoThroughAreErrors: what is honest stands for attacks that nobody catches.
func TestAttacksThatGoThroughAreErrors(t *testing.T) {
	complaisant := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) }))
	defer complaisant.Close()
	err := demo.WithStage(t.Context(), t.TempDir(), func(ctx context.Context, s demo.Stage) error {
		wantNotCaught(t, "a good signature", s.RefusalOfAlice(verify.CheckArtifact))
		wantNotCaught(t, "a refusal for another reason", s.RefusalOfBob(verify.CheckQuorum))
		if err := s.RefusalOfBob(verify.CheckIdentity); err != nil {
			t.Errorf("a refusal for that reason: %v", err)
		}
		wantNotCaught(t, "no alert", s.Alert(ctx, rule.LogRollback))
		if err := s.AskAll(ctx, s.Policy()); err != nil {
			t.Errorf("witnesses that refuse: %v", err)
		}
		text := ""
		for _, l := range s.Policy().Logs() {
			text += "log " + keys.VKey(l.Key.Name(), l.Key.Alg(), l.Key.Public()) + "\n"
		}
		for _, w := range s.Policy().Witnesses() {
			text += "witness " + w.Name + " " + keys.VKey(w.Key.Name(), w.Key.Alg(), w.Key.Public()) + " " + complaisant.URL + "\n"
		}
		p, err := policy.Parse([]byte(text + "quorum none\n"))
		if err != nil {
			return err
		}
		wantNotCaught(t, "a witness that signs anything", s.AskAll(ctx, p))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func wantNotCaught(t *testing.T, what string, err error) {
	t.Helper()
	if _, ok := errors.AsType[*demo.NotCaughtError](err); !ok {
		t.Errorf("%s: %v; want a NotCaughtError", what, err)
	}
}

// TestAnInterruptedDemoLeavesNothing ends the demo at its first pause.
func TestAnInterruptedDemoLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	var out bytes.Buffer
	enough := errors.New("enough")
	err := demo.Run(t.Context(), demo.Options{Out: &out, Pause: func(context.Context) error { return enough }})
	if !errors.Is(err, enough) {
		t.Errorf("it ended with %v", err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("%d files are left: %v", len(left), err)
	}
	if !strings.Contains(out.String(), "removed at the end") || strings.Contains(out.String(), "Step 1") {
		t.Errorf("it told\n%s", out.String())
	}
}
