package stack_test

import (
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"tallywood/internal/config"
	"tallywood/internal/stack"
)

// A logText keeps what is logged.
type logText struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logText) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

// take returns what was logged since it was called last.
func (l *logText) take() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	defer l.text.Reset()
	return l.text.String()
}

// reloadable opens the stack of dir, which rereads its configuration there.
func reloadable(t *testing.T, dir string) (*stack.Stack, *logText) {
	t.Helper()
	logged := &logText{}
	s, err := stack.Open(t.Context(), stack.Options{
		Config: load(t, dir), Log: slog.New(slog.NewTextHandler(logged, nil)),
		Reread: func() (*config.Config, error) { return config.Load(dir + "/config.yaml") },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	if _, err := s.WriteClientFiles(t.Context()); err != nil { // as serve does
		t.Fatal(err)
	}
	return s, logged
}

// edit replaces old by new in a file of dir, which must have it.
func edit(t *testing.T, path, old, new string) {
	t.Helper()
	text := read(t, path)
	if !strings.Contains(text, old) {
		t.Fatalf("%s has no %q:\n%s", path, old, text)
	}
	write(t, path, strings.ReplaceAll(text, old, new))
}

func TestReloadOfNothingNewIsSilent(t *testing.T) {
	t.Parallel()
	dir, _ := create(t)
	s, logged := reloadable(t, dir)
	logged.take()
	if err := s.Reload(t.Context()); err != nil {
		t.Error(err)
	}
	if text := logged.take(); text != "" {
		t.Errorf("logged %q", text)
	}
}

func TestReloadRefusesWhatTakesARestart(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ old, new, want string }{
		{"address: " + here, "address: " + there, "address"},
		{"file:./objects", "file:./others", "storage"},
		{"origin: log.localhost", "origin: other.localhost", "log signatures: origin"},
		{"key: file:keys/signatures.pem", "key: file:keys/none.pem", "log signatures: key"},
		{"name: signatures", "name: renamed", "log signatures (gone)"},
		{"seed: file:keys/witness-1.seed", "seed: file:keys/none.seed", "witnesses"},
	} {
		dir, _ := create(t)
		s, _ := reloadable(t, dir)
		edit(t, dir+"/config.yaml", c.old, c.new)
		err := s.Reload(t.Context())
		if err == nil || !strings.Contains(err.Error(), "a restart is needed for: ") || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v; want %q in it", c.new, err, c.want)
		}
		edit(t, dir+"/config.yaml", c.new, c.old)
		if err := s.Reload(t.Context()); err != nil {
			t.Errorf("%s: after it was taken back: %v", c.new, err)
		}
	}
}

func TestReloadRefusesAConfigurationThatIsNone(t *testing.T) {
	t.Parallel()
	dir, _ := create(t)
	s, _ := reloadable(t, dir)
	write(t, dir+"/config.yaml", "addres: x\n")
	var none *stack.NotDataDirError
	if err := s.Reload(t.Context()); err == nil || !strings.Contains(err.Error(), "addres") || errors.As(err, &none) {
		t.Errorf("%v", err)
	}
}
