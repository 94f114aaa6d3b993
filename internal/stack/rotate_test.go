package stack_test

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tallywood/internal/stack"
)

// TestReloadTakesOnANewShard rotates a log beside a stack, which serves the new one after a reload, and
// goes on with the old one, as the new one is not published.
func TestReloadTakesOnANewShard(t *testing.T) {
	t.Parallel()
	dir, _ := create(t)
	s, logged := reloadable(t, dir)
	before := read(t, dir+"/client/signing_config.v0.2.json")
	if _, err := stack.Rotate(t.Context(), stack.RotateOptions{Config: dir + "/config.yaml"}); err != nil {
		t.Fatal(err)
	}
	status := func(path string) int {
		w := httptest.NewRecorder()
		s.Handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		return w.Code
	}
	if got := status("/logs/signatures-2/leader"); got != http.StatusNotFound {
		t.Errorf("before the reload the new log answers %d", got)
	}
	logged.take()
	if err := s.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	text := logged.take()
	for _, want := range []string{"signatures-2 (new)", "signatures: state", "part=monitor", "trusted_root.json"} {
		if !strings.Contains(text, want) {
			t.Errorf("the reload does not tell of %q:\n%s", want, text)
		}
	}
	if got := status("/logs/signatures-2/leader"); got != http.StatusOK {
		t.Errorf("after the reload the new log answers %d", got)
	}
	if root := read(t, dir+"/client/trusted_root.json"); !strings.Contains(root, "https://log-2.localhost") {
		t.Errorf("the trusted root is\n%s", root)
	}
	if after := read(t, dir+"/client/signing_config.v0.2.json"); after != before {
		t.Errorf("the signing config changed before the new log is published:\n%s", after)
	}
	if err := s.Reload(t.Context()); err != nil || logged.take() != "" {
		t.Errorf("a second reload: %v", err)
	}
}

// TestReloadRefusesAnotherLogWithTheKeysOfOneThatRuns, which would sign two trees.
func TestReloadRefusesAnotherLogWithTheKeysOfOneThatRuns(t *testing.T) {
	t.Parallel()
	dir, _ := create(t)
	s, _ := reloadable(t, dir)
	edit(t, dir+"/config.yaml", "name: signatures", "name: renamed")
	if err := s.Reload(t.Context()); err == nil || !strings.Contains(err.Error(), `log "renamed" has the origin of log "signatures", which runs`) {
		t.Errorf("%v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "objects/state/renamed/identity")); err == nil {
		t.Error("the other log was made")
	}
}

// TestRotateCutShortIsRepeated: nothing but the configuration counts, and it is written last.
func TestRotateCutShortIsRepeated(t *testing.T) {
	t.Parallel()
	dir, _ := create(t)
	config := dir + "/config.yaml"
	text := read(t, config)
	first, err := stack.Rotate(t.Context(), stack.RotateOptions{Config: config, Log: "certificates"})
	if err != nil {
		t.Fatal(err)
	}
	if len(first.Keys) != 2 || first.New.NoteKey != dir+"/keys/certificates-2-note.pem" {
		t.Errorf("%+v", first)
	}
	rotated, policy, monitor := read(t, config), read(t, dir+"/client/policy.txt"), read(t, dir+"/monitor.yaml")
	write(t, config, text) // as it was
	again, err := stack.Rotate(t.Context(), stack.RotateOptions{Config: config, Log: "certificates"})
	if err != nil {
		t.Fatal(err)
	}
	if again.VKey != first.VKey || len(again.Changed) != 1 {
		t.Errorf("the second time: %+v; the first: %+v", again, first)
	}
	if got := read(t, config); strings.Count(got, "certificates-2") != strings.Count(rotated, "certificates-2") || !strings.Contains(got, "ct_log: certificates-2") {
		t.Errorf("the configuration is\n%s", got)
	}
	if read(t, dir+"/client/policy.txt") != policy || read(t, dir+"/monitor.yaml") != monitor {
		t.Error("the policy or the monitor's configuration changed once more")
	}
	if _, err := stack.Rotate(t.Context(), stack.RotateOptions{Config: config, Log: "certificates"}); err == nil || !strings.Contains(err.Error(), "frozen already") {
		t.Errorf("a log that is followed by one already: %v", err)
	}
}

// TestRotateOverwritesNoEdit has the configuration edited while the storage is asked.
func TestRotateOverwritesNoEdit(t *testing.T) {
	t.Parallel()
	dir, _ := create(t)
	config := dir + "/config.yaml"
	asked := 0
	store := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if asked++; asked == 1 {
			write(t, config, read(t, config)+"# edited\n")
		}
		http.Error(w, "{}", http.StatusNotFound)
	}))
	defer store.Close()
	edit(t, config, "storage: file:./objects", "storage: gs://bucket?endpoint="+store.URL)
	edited := read(t, config) + "# edited\n"
	_, err := stack.Rotate(t.Context(), stack.RotateOptions{Config: config})
	if err == nil || !strings.Contains(err.Error(), "it has changed meanwhile") {
		t.Errorf("rotating while the configuration is edited: %v", err)
	}
	if got := read(t, config); got != edited {
		t.Errorf("the edit is gone:\n%s", got)
	}
	if _, err := stack.Rotate(t.Context(), stack.RotateOptions{Config: config}); err != nil {
		t.Errorf("once more: %v", err)
	}
}
