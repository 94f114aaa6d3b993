//go:build !race

package driver_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// A mutant is a way to break the protocol: this package, but for some text.
type mutant struct {
	name  string
	seeds int // within which the simulator must find it
	first int // the first of them
	edits []edit
	sound bool // a control: it breaks nothing, and must not be found
}

// An edit replaces text that occurs once in a file.
type edit struct{ file, old, new string }

// TestMutants runs the simulator on mutants of this package, which it must find. They are compiled
// once each, by an overlay of the go command. The race detector would find nothing in them, and
// take most of the time: the build constraint leaves them to the run without it.
func TestMutants(t *testing.T) {
	for _, m := range mutants {
		t.Run(strings.ReplaceAll(m.name, " ", "_"), func(t *testing.T) {
			t.Parallel()
			m.run(t)
		})
	}
}

var foundBy = regexp.MustCompile(`(?m)^--- seed (\d+): violation: (.*)$`)

func (m mutant) run(t *testing.T) {
	out, err := exec.Command(m.build(t), "-test.run", "^TestSimulator$", "-test.timeout", "10m",
		"-sim.seeds", strconv.Itoa(m.seeds), "-sim.first", strconv.Itoa(max(m.first, 1))).CombinedOutput()
	found := foundBy.FindSubmatch(out)
	switch {
	case m.sound && err != nil:
		t.Errorf("the control is found: %v\n%s", err, out)
	case m.sound:
	case err == nil:
		t.Errorf("the mutant survives %d seeds", m.seeds)
	case found == nil:
		t.Errorf("the mutant fails by no violation: %v\n%s", err, out)
	default:
		t.Logf("found by seed %s: %s", found[1], found[2])
	}
}

// build compiles this package's tests with the mutant in it.
func (m mutant) build(t *testing.T) string {
	dir := t.TempDir()
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	changed := map[string]string{}
	for _, e := range m.edits {
		path := filepath.Join(here, e.file)
		text, ok := changed[path]
		if !ok {
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			text = string(b)
		}
		if n := strings.Count(text, e.old); n != 1 {
			t.Fatalf("%s has %d times, not once:\n%s", e.file, n, e.old)
		}
		changed[path] = strings.Replace(text, e.old, e.new, 1)
	}
	overlay := struct{ Replace map[string]string }{map[string]string{}}
	for path, text := range changed {
		copied := filepath.Join(dir, filepath.Base(path))
		if err := os.WriteFile(copied, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		overlay.Replace[path] = copied
	}
	data, err := json.Marshal(overlay)
	if err != nil {
		t.Fatal(err)
	}
	file, binary := filepath.Join(dir, "overlay.json"), filepath.Join(dir, "mutant.test")
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("go", "test", "-c", "-vet=off", "-ldflags=-s -w", "-overlay", file, "-o", binary, ".")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("compiling: %v\n%s", err, out)
	}
	return binary
}

// mutants are those of storage-protocol section 9, and others.
var mutants = []mutant{
	{name: "sign before commit", seeds: 5, edits: []edit{{"commit.go",
		"	next, err := l.commit(ctx, l.state, h, payload)\n",
		`	if _, err := l.sign(ctx, h.NewSize, h.NewRoot[:]); err != nil {
		return err
	}
	next, err := l.commit(ctx, l.state, h, payload)
`}}},
	{name: "no floor re-check", seeds: 200, first: 95, edits: []edit{{"open.go",
		"	if f.N >= s.n {\n",
		"	if false {\n"}}},
	{name: "LEADER records collected", seeds: 20, edits: []edit{{"gc.go",
		"		if !leaders[slot] {\n",
		"		if true {\n"}}},
	{name: "absence taken for failure", seeds: 60, edits: []edit{
		{"objects.go",
			`			return data, nil
		}
		if errors.Is(err, storage.ErrPrecondition) {
			var stored []byte
`, `			return data, nil
		}
		if r.Length > 0 && !errors.Is(err, storage.ErrPrecondition) {
			if _, _, err := l.o.Bucket.Get(ctx, key, r); errors.Is(err, fs.ErrNotExist) {
				return nil, err // not written, it seems
			}
		}
		if errors.Is(err, storage.ErrPrecondition) {
			var stored []byte
`},
		{"commit.go",
			"	first := l.state.size\n",
			`	oldTree, oldBundles := l.tree.clone(), &bundles{seen: l.bundles.seen, edge: l.bundles.edge, pending: maps.Clone(l.bundles.pending)}
	first := l.state.size
`},
		{"commit.go",
			`	if err != nil {
		return err // and the leadership ends
	}
`, `	if errors.Is(err, fs.ErrNotExist) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.tree, l.bundles, l.undecided = oldTree, oldBundles, false
		l.committing = time.Time{}
		l.queued -= len(b.entries)
		l.queuedSize -= int64(b.bytes)
		b.resolve(0, err)
		return nil // on to other entries, in the same slot
	}
	if err != nil {
		return err
	}
`},
		{"commit.go", "	\"fmt\"\n", "	\"fmt\"\n	\"io/fs\"\n	\"maps\"\n"},
		{"tree.go",
			"// durable says that the tile is",
			`func (t *tree) clone() *tree {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := &tree{read: t.read, seen: t.seen, pending: maps.Clone(t.pending)}
	for i, e := range t.edge {
		if e != nil {
			copied := *e
			c.edge[i] = &copied
		}
	}
	var hashes [][]byte
	for _, h := range t.rng.Hashes() {
		hashes = append(hashes, h)
	}
	c.rng, _ = ranges.NewRange(0, t.rng.End(), hashes)
	return c
}

// durable says that the tile is`},
		{"tree.go", "	\"fmt\"\n", "	\"fmt\"\n	\"maps\"\n"},
	}},
	{name: "unconditional checkpoint", seeds: 40, edits: []edit{{"checkpoint.go",
		"	if _, err := l.put(ctx, l.publicKey(\"checkpoint\"), p.Note, o); err != nil {\n",
		"	o.If = storage.Condition{}\n	if _, err := l.put(ctx, l.publicKey(\"checkpoint\"), p.Note, o); err != nil {\n"}}},
	{name: "floor beyond the published slot", seeds: 10, edits: []edit{{"gc.go",
		"		past = append(past, publishedAt{time.Now(), slot})\n",
		"		slot = l.newestSlot()\n		past = append(past, publishedAt{time.Now(), slot})\n"}}},
	{name: "deletes before the floor", seeds: 10, edits: []edit{
		{"gc.go",
			"	if err := l.swapFloor(ctx, next, v); err != nil {\n		return err\n	}\n",
			""},
		{"gc.go",
			"	l.swept = n // the next floor says so\n",
			"	if err := l.swapFloor(ctx, next, v); err != nil {\n		return err\n	}\n	l.swept = n\n"},
	}},
	{name: "two commits in flight", seeds: 40, edits: []edit{
		{"commit.go",
			`	next, err := l.commit(ctx, l.state, h, payload)
	l.observe(StageCommit, began, err)
	sp.End(err)
	if err != nil {
		return err // and the leadership ends
	}
	l.state = next
	now := time.Now()
`, `	line, err := h.encode()
	if err != nil {
		return err
	}
	before := l.state
	l.state = after(h, sum(line))
	prior, this := l.flight, &flight{done: make(chan struct{})}
	l.flight = this
	go func() {
		defer close(this.done)
		_, this.err = l.commit(ctx, before, h, payload)
		l.observe(StageCommit, began, this.err)
		sp.End(this.err)
		if prior != nil {
			if <-prior.done; prior.err != nil {
				this.err = prior.err
			}
		}
		if this.err != nil {
			b.resolve(0, this.err)
			return
		}
		l.committed(b, h, snap, work, first)
	}()
	if prior != nil {
		<-prior.done
		return prior.err
	}
	return nil
}

type flight struct {
	done chan struct{}
	err  error
}

func (l *Log) committed(b *batch, h header, snap snapshot, work []fullObject, first int64) {
	now := time.Now()
`},
		{"commit.go", "	b.resolve(first, nil)\n	return nil\n", "	b.resolve(first, nil)\n"},
		{"commit.go",
			"			b.resolve(0, fmt.Errorf(\"committing: %w: %w\", errNotLeading, err))\n			return err\n",
			"			<-l.flight.done\n			return err\n"},
		{"driver.go", "	undecided bool ", "	flight *flight\n	undecided bool "},
	}},
	{name: "the same writer again", seeds: 5, edits: []edit{{"open.go",
		"	l.writer = newID() // never that of an earlier attempt\n",
		"	w := sum(fmt.Appendf(nil, \"%p\", l.o.Bucket))\n	copy(l.writer[:], w[:])\n"}}},
	{name: "refusal without a second look", seeds: 60, edits: []edit{{"damage.go",
		"	switch overtaken, err := l.overtaken(ctx, next, odd); {\n",
		"	switch overtaken, err := false, error(nil); {\n"}}},
	{name: "signed without partial tiles", seeds: 5, edits: []edit{{"publish.go",
		"	if err := l.writePartials(ctx, snap); err != nil {\n",
		"	if err := error(nil); err != nil {\n"}}},
	{name: "signed without full tiles", seeds: 20, edits: []edit{{"publish.go",
		"	if !l.await(ctx, func() bool { return l.durable >= snap.size }) {\n",
		"	if false {\n"}}},
	{name: "no gate", seeds: 60, first: 15, edits: []edit{{"gate.go",
		"	if l.o.Sizes == nil {\n		return nil\n",
		"	if true {\n		return nil\n"}}},
	{name: "a witness believed without proof", seeds: 5, edits: []edit{{"gate.go",
		"	if w.Root == nil {\n",
		"	if false {\n"}}},
	{name: "a foreign record taken for its own", seeds: 20, edits: []edit{{"commit.go",
		"	if got.Writer != h.Writer || got.Nonce != h.Nonce {\n",
		"	if false && got.Writer != h.Writer {\n"}}},
	{name: "an undecided commit acknowledged", seeds: 60, edits: []edit{{"commit.go",
		"		l.undecided = true\n",
		"		l.undecided = true\n		return after(h, sum(line)), nil\n"}}},
	{name: "published before the quorum", seeds: 5, edits: []edit{{"publish.go",
		"	cosigned, err := l.o.Cosign(",
		"	l.announce(p)\n	cosigned, err := l.o.Cosign("}}},
	{name: "unconditional floor", seeds: 60, edits: []edit{{"gc.go",
		"	o.If = storage.Match(v)\n",
		""}}},
	{name: "partials deleted too early", seeds: 5, edits: []edit{{"gc.go",
		"		if p.index < size>>(layout.TileHeight*(p.level+1)) {\n",
		"		if p.index <= size>>(layout.TileHeight*(p.level+1)) {\n"}}},
	{name: "released while undecided", seeds: 100, edits: []edit{{"run.go",
		"	if l.undecided {\n",
		"	if false {\n"}}},
	{name: "a checkpoint taken for the head", seeds: 20, edits: []edit{{"replay.go",
		"	return l.replay(ctx, at, s)\n",
		"	return nil\n"}}},
	{name: "own record taken for a foreign one", seeds: 10, sound: true, edits: []edit{{"objects.go",
		"		if errors.Is(err, storage.ErrPrecondition) {\n			var stored []byte\n",
		"		if errors.Is(err, storage.ErrPrecondition) && r.Length > 0 {\n			return nil, errOvertaken\n		}\n		if errors.Is(err, storage.ErrPrecondition) {\n			var stored []byte\n"}}},
	{name: "nothing changed", seeds: 8, first: 1000, sound: true},
}
