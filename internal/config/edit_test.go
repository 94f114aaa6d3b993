package config_test

import (
	"errors"
	"strings"
	"testing"

	"tallywood/internal/config"
)

const owned = `# Ours, with care.
address: ${HOST}:8080   # from the environment
logs:
  # The first one.
  - {name: one, kind: rekor, origin: one.example.org, key: "file:keys/one.pem",
     policy: client/policy.txt, state: active}   # flow

  - name: two # block
    kind: ct
    # The key has a note.
    key: 'file:keys/two.pem'
    policy: p   # shared
  - {name: three, origin: three.example.org}
ca: {ct_log: two, chain: c.pem}
`

func TestEditKeepsWhatItsOwnerWrote(t *testing.T) {
	e := config.NewEdit([]byte(owned), "name")
	field := func(key, value string) config.Field { return config.Field{Key: key, Value: value} }
	for _, err := range []error{
		e.Copy("one", field("name", "uno"), field("key", "file:keys/uno.pem"), field("start", "2026-12-01T00:00:00Z")),
		e.Set("one", field("state", "frozen"), field("end", "2026-12-02T00:00:00Z")),
		e.Copy("two", field("name", "due"), field("state", "active")),
		e.Set("two", field("state", "frozen"), field("key", "file:keys/ii.pem")),
		e.SetIn("ca", "ct_log", "due"),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	const want = `# Ours, with care.
address: ${HOST}:8080   # from the environment
logs:
  # The first one.
  - {name: one, kind: rekor, origin: one.example.org, key: "file:keys/one.pem",
     policy: client/policy.txt, state: frozen, end: 2026-12-02T00:00:00Z}   # flow
  - {name: uno, kind: rekor, origin: one.example.org, key: file:keys/uno.pem,
     policy: client/policy.txt, state: active, start: 2026-12-01T00:00:00Z}   # flow

  - name: two # block
    kind: ct
    # The key has a note.
    key: file:keys/ii.pem
    policy: p   # shared
    state: frozen
  - name: due # block
    kind: ct
    # The key has a note.
    key: 'file:keys/two.pem'
    policy: p   # shared
    state: active
  - {name: three, origin: three.example.org}
ca: {ct_log: due, chain: c.pem}
`
	if got := string(e.Text()); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
	for _, err := range []error{
		e.Set("one", field("state", "active")), e.Remove("one", "end", "successor"), e.Remove("two", "state", "key"), e.Remove("due", "state"),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, gone := range []string{"2026-12-02", "keys/ii.pem", "state: frozen"} {
		if text := string(e.Text()); strings.Contains(text, gone) {
			t.Errorf("%q is there still:\n%s", gone, text)
		}
	}
	if v, ok := e.Value("uno", "key"); !ok || v != "file:keys/uno.pem" {
		t.Errorf("the key of uno is %q", v)
	}
}

func TestEditAtTheEndOfAFileWithoutLineFeed(t *testing.T) {
	e := config.NewEdit([]byte("logs:\n  - {name: one,\n     state: active\n    }"), "name")
	if err := e.Copy("one", config.Field{Key: "name", Value: "two"}); err != nil {
		t.Fatal(err)
	}
	if got, want := string(e.Text()), "logs:\n  - {name: one,\n     state: active\n    }\n  - {name: two,\n     state: active\n    }"; got != want {
		t.Errorf("got %q; want %q", got, want)
	}
}

func TestEditQuotesWhatWouldMeanSomethingElse(t *testing.T) {
	for _, value := range []string{"http://[::1]:8080/logs/two", "file:${DIR}/two.pem", `a "b" \ c`, "#x", "two:", "- x", ""} {
		e := config.NewEdit([]byte("logs:\n  - {name: one, url: x, state: active}\n"), "name")
		if err := e.Set("one", config.Field{Key: "url", Value: value}); err != nil {
			t.Fatalf("%q: %v", value, err)
		}
		if got, ok := e.Value("one", "url"); !ok || got != value {
			t.Errorf("%q became %q in\n%s", value, got, e.Text())
		}
		if got, _ := e.Value("one", "state"); got != "active" {
			t.Errorf("after %q state is %q in\n%s", value, got, e.Text())
		}
	}
}

func TestEditRefusesFormsItDoesNotKnow(t *testing.T) {
	for what, text := range map[string]string{
		"logs in a line":    "logs: [{name: one, state: active}]\n",
		"an anchor":         "logs:\n  - {name: one, state: &s active}\n",
		"a folded text":     "logs:\n  - name: one\n    state: >\n      active\n",
		"an alias":          "x: &l {name: one, state: active}\nlogs:\n  - *l\n",
		"no such log":       "logs:\n  - {name: two}\n",
		"a dash on its own": "logs:\n  -\n    name: one\n    state: active\n",
		"no YAML":           "logs: [\n",
	} {
		e := config.NewEdit([]byte(text), "name")
		err := errors.Join(e.Set("one", config.Field{Key: "state", Value: "frozen"}), e.Copy("one", config.Field{Key: "name", Value: "two"}))
		if err == nil {
			t.Errorf("%s: edited to\n%s", what, e.Text())
		} else if what != "no YAML" && !errors.Is(err, config.ErrForm) {
			t.Errorf("%s: %v", what, err)
		}
	}
}
