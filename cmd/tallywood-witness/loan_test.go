package main

import (
	"context"
	"encoding/json"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tallywood/internal/keys"
	"tallywood/storage/mem"
	"tallywood/witness"
	"tallywood/witness/conformance"
)

// lending serves loans of a new witness in a directory of its own.
func lending(t *testing.T) (dir string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "loan") // t.TempDir may be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	k, err := keys.WitnessFromSeed("witness.example.org", [32]byte{1})
	if err != nil {
		t.Fatal(err)
	}
	w, err := witness.New(witness.Options{Keys: k, Bucket: mem.New()})
	if err != nil {
		t.Fatal(err)
	}
	listener, err := listenSocket(socketPath(dir))
	if err != nil {
		t.Fatal(err)
	}
	l := &lender{witness: w, url: "http://127.0.0.1:1", vkeys: k.VKeys(), log: slog.New(slog.DiscardHandler)}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); l.run(ctx, listener) }()
	t.Cleanup(func() { stop(); <-done })
	return dir
}

func someLogs(t *testing.T, prefix string) *conformance.Logs {
	t.Helper()
	logs, err := conformance.NewLogs(prefix, [32]byte{2})
	if err != nil {
		t.Fatal(err)
	}
	return logs
}

func TestOneSelfTestAtATime(t *testing.T) {
	dir := lending(t)
	first, err := askForLogs(t.Context(), dir, someLogs(t, witness.TemporaryPrefix+"1"))
	if err != nil {
		t.Fatal(err)
	}
	if len(first.answer.VKeys) != 2 || first.answer.URL == "" {
		t.Errorf("answer %+v", first.answer)
	}
	if _, err := askForLogs(t.Context(), dir, someLogs(t, witness.TemporaryPrefix+"2")); err == nil || !strings.Contains(err.Error(), "a self-test is running already") {
		t.Errorf("a second one: %v", err)
	}
	if err := first.end(); err != nil {
		t.Error(err)
	}
	again, err := askForLogs(t.Context(), dir, someLogs(t, witness.TemporaryPrefix+"1"))
	if err != nil {
		t.Fatalf("after the first: %v", err)
	}
	if err := again.end(); err != nil {
		t.Error(err)
	}
}

func TestOnlyTemporaryLogsAreLent(t *testing.T) {
	if _, err := askForLogs(t.Context(), lending(t), someLogs(t, "log.example.org")); err == nil || !strings.Contains(err.Error(), "does not begin with selftest.invalid/") {
		t.Errorf("askForLogs: %v", err)
	}
}

func TestSocketOfALivingProcessStays(t *testing.T) {
	dir := lending(t)
	if _, err := listenSocket(socketPath(dir)); err == nil || !strings.Contains(err.Error(), "another process serves this witness") {
		t.Errorf("listenSocket: %v", err)
	}
	// What a killed one has left is replaced.
	path := filepath.Join(dir, "old.sock")
	old, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	old.(*net.UnixListener).SetUnlinkOnClose(false)
	old.Close()
	listener, err := listenSocket(path)
	if err != nil {
		t.Fatal(err)
	}
	listener.Close()
}

func FuzzParseLoan(f *testing.F) {
	logs, err := conformance.NewLogs("selftest.invalid/x", [32]byte{2})
	if err != nil {
		f.Fatal(err)
	}
	var good loanRequest
	for _, l := range append(logs.All(conformance.Rotated)[:1], logs.All(conformance.MLDSA)[0]) {
		good.Logs = append(good.Logs, loanLog{Origin: l.Origin, VKeys: l.VKeys})
	}
	seed, err := json.Marshal(good)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Add([]byte(`{"logs":[]}`))
	f.Add([]byte(`{"logs":[{"origin":"a","vkeys":["a+00000000+AQ=="]}],"more":1}`))
	f.Add([]byte(`{"logs":null}{}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		logs, err := parseLoan(line)
		if err != nil {
			return
		}
		again := loanRequest{Logs: []loanLog{}}
		for _, l := range logs {
			log := loanLog{Origin: l.Origin, VKeys: []string{}}
			for _, k := range l.Keys {
				log.VKeys = append(log.VKeys, k.String())
			}
			again.Logs = append(again.Logs, log)
		}
		text, err := json.Marshal(again)
		if err != nil {
			t.Fatal(err)
		}
		if second, err := parseLoan(text); err != nil || len(second) != len(logs) {
			t.Errorf("%s was taken, and not %s: %v", line, text, err)
		}
	})
}
