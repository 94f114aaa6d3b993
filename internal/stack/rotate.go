package stack

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"tallywood/internal/config"
	"tallywood/internal/keys"
	"tallywood/storage"
	"tallywood/witness/policy"
)

// RotateOptions say how a log is followed by another one.
type RotateOptions struct {
	Config string    // path of the configuration file
	Log    string    // name of the log; "": the only active one of kind rekor
	To     string    // name of its successor; "": the next in number
	Origin string    // of its successor; "": the next in number
	At     time.Time // when the successor is to be in charge; zero: as soon as it can be

	// Keys of the successor that are there already, file:PATH or in a KMS; "": new files beside the old
	// ones. NoteKey is for logs of kind ct.
	Key, NoteKey string
}

// A Rotation is a log that is to be followed by another one, and what was written for that.
type Rotation struct {
	Old, New config.Log
	VKey     string    // of the new log's Ed25519 key
	URL      string    // where clients reach the new log
	Policy   string    // path of the policy, which lists both
	Keys     []string  // paths of the new log's keys
	Changed  []string  // paths of the files that were changed
	Lines    string    // the new log as it stands in the configuration
	End      time.Time // when the old log is to end, at the earliest
}

// Rotate writes what makes another log the successor of one: its keys, a line in the policy of both and
// in the monitor's configuration, and the configuration, where the old log gets state: frozen. What
// runs takes it on at its next reload or start; see shards.go. The configuration comes last, so that
// a Rotate which was cut short has changed nothing that anyone would notice, and can be repeated.
//
// The two logs share a policy file: so they have the same witnesses and quorum, as clients demand of
// both with one policy.
func Rotate(ctx context.Context, o RotateOptions) (Rotation, error) {
	text, err := os.ReadFile(o.Config)
	if err != nil {
		return Rotation{}, fmt.Errorf("reading configuration: %w", err)
	}
	c, err := config.Load(o.Config)
	if err != nil {
		return Rotation{}, err
	}
	r := Rotation{}
	if r.Old, err = toRotate(c, o.Log); err != nil {
		return Rotation{}, err
	}
	if err := r.choose(c, &o); err != nil {
		return Rotation{}, err
	}
	edited, err := r.edit(c, text, o)
	if err != nil {
		return Rotation{}, fmt.Errorf("editing %s: %w", o.Config, err)
	}
	next, err := config.Parse(edited, c.Dir, os.LookupEnv)
	if err != nil {
		return Rotation{}, fmt.Errorf("editing %s: the result would be refused: %w", o.Config, err)
	}
	r.New, _ = next.LogNamed(o.To)
	r.URL, r.Policy = c.LogURL(r.New), r.Old.Policy
	if err := unused(ctx, c, o.To); err != nil {
		return Rotation{}, err
	}
	if err := r.writeKeys(ctx, o); err != nil {
		return Rotation{}, err
	}
	if err := r.writePolicy(); err != nil {
		return Rotation{}, err
	}
	if err := r.writeMonitor(c); err != nil {
		return Rotation{}, err
	}
	if err := replaceUnchanged(o.Config, text, edited); err != nil {
		return Rotation{}, err
	}
	r.Changed = append(r.Changed, o.Config)
	return r, nil
}

// toRotate returns the log of that name, which must be active, or the only active one of kind rekor.
func toRotate(c *config.Config, name string) (config.Log, error) {
	for _, l := range c.Logs {
		if name == "" && l.Kind == "rekor" && l.State == config.StateActive {
			return l, nil
		}
	}
	l, ok := c.LogNamed(name)
	switch {
	case name == "":
		return l, errors.New("no log of kind rekor is active; name the log that is to be followed by another")
	case !ok:
		return l, fmt.Errorf("there is no log %q in the configuration", name)
	case l.State != config.StateActive:
		return l, fmt.Errorf("log %q is frozen already, and followed by %q", name, l.Successor)
	}
	return l, nil
}

// choose fills in the names that were not given.
func (r *Rotation) choose(c *config.Config, o *RotateOptions) error {
	if o.To == "" {
		o.To = following(r.Old.Name)
	}
	if o.Origin == "" {
		host, domain, dots := strings.Cut(r.Old.Origin, ".")
		o.Origin = following(host)
		if dots {
			o.Origin += "." + domain
		}
	}
	if r.End = o.At; r.End.IsZero() {
		r.End = now()
	}
	if _, ok := c.LogNamed(o.To); ok {
		return fmt.Errorf("there is a log %q in the configuration already", o.To)
	}
	return nil
}

var numbered = regexp.MustCompile(`^(.*?)([0-9]{1,9})$`)

// following returns the next name after one that ends in a number, else the name with -2.
func following(name string) string {
	m := numbered.FindStringSubmatch(name)
	if m == nil {
		return name + "-2"
	}
	n, _ := strconv.Atoi(m[2]) // of nine digits at most
	return m[1] + fmt.Sprintf("%0*d", len(m[2]), n+1)
}

// edit returns the text of the configuration with both logs.
func (r *Rotation) edit(c *config.Config, text []byte, o RotateOptions) ([]byte, error) {
	e := config.NewEdit(text, "name")
	old := r.Old.Name
	fields := []config.Field{{Key: "name", Value: o.To}, {Key: "origin", Value: o.Origin},
		{Key: "state", Value: config.StateActive}, {Key: "start", Value: now().UTC().Format(time.RFC3339)}}
	for _, k := range []struct{ key, given, file string }{{"key", o.Key, o.To + ".pem"}, {"note_key", o.NoteKey, o.To + "-note.pem"}} {
		raw, ok := e.Value(old, k.key)
		dir, isFile := strings.CutPrefix(raw, "file:")
		switch {
		case !ok && k.given != "":
			return nil, fmt.Errorf("log %q has no %s", old, k.key)
		case !ok:
			continue
		case k.given != "":
			fields = append(fields, config.Field{Key: k.key, Value: k.given})
		case !isFile:
			return nil, fmt.Errorf("%s %q is not a file, so that none can be made beside it: make one, and name it", k.key, raw)
		default:
			fields = append(fields, config.Field{Key: k.key, Value: "file:" + path.Join(path.Dir(dir), k.file)})
		}
	}
	if raw, ok := e.Value(old, "url"); ok {
		moved := strings.Replace(raw, r.Old.Origin, o.Origin, 1)
		if moved == raw {
			moved = strings.TrimSuffix(raw, old) + o.To
		}
		fields = append(fields, config.Field{Key: "url", Value: moved})
	}
	if err := e.Copy(old, fields...); err != nil {
		return nil, err
	}
	before := string(e.Text())
	if err := e.Set(old, config.Field{Key: "state", Value: config.StateFrozen},
		config.Field{Key: "end", Value: r.End.UTC().Format(time.RFC3339)}, config.Field{Key: "successor", Value: o.To}); err != nil {
		return nil, err
	}
	if c.CA != nil && c.CA.CTLog == old {
		if err := e.SetIn("ca", "ct_log", o.To); err != nil {
			return nil, err
		}
	}
	r.Lines = added(string(text), before)
	return e.Text(), nil
}

// added returns what after has that before has not, where it is one piece.
func added(before, after string) string {
	i := 0
	for i < len(before) && before[i] == after[i] {
		i++
	}
	i = strings.LastIndexByte(after[:i], '\n') + 1
	return after[i : i+len(after)-len(before)]
}

// unused fails if the storage has a log of that name.
func unused(ctx context.Context, c *config.Config, name string) error {
	b, err := ViewBucket(ctx, c.Storage)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // nothing has been stored yet
	}
	if err != nil {
		return fmt.Errorf("opening storage %s: %w", c.Storage, err)
	}
	_, _, err = b.Get(ctx, "state/"+name+"/identity", storage.Range{Length: 1})
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("looking for a log %q in the storage: %w", name, err)
	}
	return fmt.Errorf("the storage has a log %q already; choose another name", name)
}

// writeKeys makes the new log's keys, but for those that were given. One that is there was left by a
// Rotate that was cut short.
func (r *Rotation) writeKeys(ctx context.Context, o RotateOptions) error {
	note, given := r.New.Key, o.Key
	if r.New.Kind == "ct" {
		note, given = r.New.NoteKey, o.NoteKey
		if o.Key == "" {
			if err := devKey(r.New.Key, newSCTKey); err != nil {
				return fmt.Errorf("making key: %w", err)
			}
			r.Keys = append(r.Keys, r.New.Key)
		}
	}
	if given == "" {
		if err := devKey(note, newNoteKey); err != nil {
			return fmt.Errorf("making key: %w", err)
		}
		r.Keys = append(r.Keys, note)
	}
	public, err := PublicKey(ctx, note)
	if err != nil {
		return fmt.Errorf("reading key: %w", err)
	}
	pub, ok := public.(ed25519.PublicKey)
	if !ok {
		return fmt.Errorf("key %s is a %T; checkpoints are signed with Ed25519", note, public)
	}
	r.VKey = keys.VKey(r.New.Origin, keys.AlgEd25519, pub)
	return nil
}

func newNoteKey() (crypto.Signer, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	return key, err
}

// writePolicy adds the new log to the policy.
func (r *Rotation) writePolicy() error {
	text, err := os.ReadFile(r.Policy)
	if err != nil {
		return fmt.Errorf("reading policy: %w", err)
	}
	p, err := policy.Parse(text)
	if err != nil {
		return fmt.Errorf("policy %s: %w", r.Policy, err)
	}
	if listed(p, r.VKey) {
		return nil
	}
	text = addLogLine(text, fmt.Sprintf("log %s %s", r.VKey, r.URL))
	if _, err := policy.Parse(text); err != nil {
		return fmt.Errorf("adding a log to policy %s: %w", r.Policy, err)
	}
	if err := replaceFile(r.Policy, text); err != nil {
		return err
	}
	r.Changed = append(r.Changed, r.Policy)
	return nil
}

// writeMonitor adds the new log to the monitor's configuration, if that follows the old one.
func (r *Rotation) writeMonitor(c *config.Config) error {
	if c.Monitor == nil {
		return nil
	}
	name := c.Monitor.Config
	text, err := os.ReadFile(name)
	if err != nil {
		return fmt.Errorf("reading monitor configuration: %w", err)
	}
	e := config.NewEdit(text, "origin")
	url, follows := e.Value(r.Old.Origin, "url")
	if _, done := e.Value(r.New.Origin, "url"); !follows || done {
		return nil
	}
	followed := strings.TrimSuffix(url, "/logs/"+r.Old.Name) + "/logs/" + r.New.Name
	if !strings.HasSuffix(url, "/logs/"+r.Old.Name) {
		followed = r.URL
	}
	err = e.Copy(r.Old.Origin, config.Field{Key: "origin", Value: r.New.Origin}, config.Field{Key: "url", Value: followed},
		config.Field{Key: "vkey", Value: r.VKey})
	if err == nil {
		_, has := e.Value(r.Old.Origin, "start")
		if has {
			err = e.Set(r.New.Origin, config.Field{Key: "start", Value: "0"})
		}
	}
	if err == nil {
		err = e.Set(r.Old.Origin, config.Field{Key: "end", Value: r.End.UTC().Format(time.RFC3339)})
	}
	if err == nil {
		_, err = config.ParseMonitor(e.Text(), filepath.Dir(name), os.LookupEnv)
	}
	if err != nil {
		return fmt.Errorf("editing %s: %w", name, err)
	}
	if err := replaceUnchanged(name, text, e.Text()); err != nil {
		return err
	}
	r.Changed = append(r.Changed, name)
	return nil
}
