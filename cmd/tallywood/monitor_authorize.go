package main

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"tallywood/internal/keys"
	"tallywood/monitor/authorize"
)

func monitorAuthorizeCommand() command {
	return command{name: "monitor authorize", args: "--manifest FILE [ARTIFACT]... [FLAGS]",
		short: "say that a signature was, or will be, yours",
		long: `
Adds statements to a manifest of what you mean to sign, and signs it again; a manifest that is not
there is begun. A monitor that is told of it (expect.authorize) stays silent about signatures that a
statement explains: by the digest of what was signed, by the run of the build, or by commit and tag
together. About others it alerts after a grace time.

ARTIFACTs are hashed, and nothing of them but the digest is kept. In a job of GitHub Actions or
GitLab, its run is added too, and if it builds a tag, tag and commit, unless they are given or
--digests-only says otherwise: with the run, all that this job signs is explained.

"This was me": --event takes an alert, as a file (an event of a sink, or the evidence.json of its
evidence) or by its ID with --config, and adds the digest that it is about.

The key is made with "tallywood key generate FILE". With --unsigned the manifest gets no signature:
sign it with "tallywood sign", and publish the bundle beside it.

Statements that are there already change nothing. Exit codes: 0 fine; 2 the manifest, the key or an
argument is not as it should be; 5 the manifest cannot be written.`,
		run: monitorAuthorize}
}

// An authorizeRun is one call of the command.
type authorizeRun struct {
	manifest, key, keyName string
	unsigned, digestsOnly  bool
	digests, runs          list
	commits, tags          list
	expires, event, config string
	asJSON, drop           bool
	statements             []authorize.Statement
	about                  map[string]string // by value of a statement: where it comes from
	t                      terminal
}

func monitorAuthorize(ctx context.Context, t terminal, flags *flag.FlagSet, args []string) error {
	r := authorizeRun{t: t, about: map[string]string{}}
	flags.StringVar(&r.manifest, "manifest", "", "`FILE` with the manifest")
	flags.StringVar(&r.key, "key", "", "`FILE` with the private key that signs it (Ed25519)")
	flags.StringVar(&r.keyName, "key-name", "", "`NAME` of the key in the manifest's signature, such as the name of a host of yours\n(default: the name that it has there)")
	flags.BoolVar(&r.unsigned, "unsigned", false, "write no signature: a Sigstore bundle will be it")
	flags.Var(&r.digests, "digest", "`DIGEST` that is meant to be signed, such as sha256:... (may be repeated)")
	flags.Var(&r.runs, "run", "`URL` of a run that is meant to sign (default: that of the CI job this is)")
	flags.Var(&r.commits, "commit", "`SHA` of a commit that is meant to be released, with a --tag (default: that of\nthe CI job this is)")
	flags.Var(&r.tags, "tag", "`TAG`, such as v1.0.0, or a whole ref (default: that of the CI job this is)")
	flags.BoolVar(&r.digestsOnly, "digests-only", false, "do not take run, commit and tag from the CI job this is")
	flags.StringVar(&r.expires, "expires", "", "`WHEN` the new statements end: a time such as 2026-12-31T00:00:00Z, or so long\nfrom now: 12h, 30d (default: never)")
	flags.BoolVar(&r.drop, "drop-expired", false, "take out the statements that have expired; they explain nothing that is logged now")
	flags.StringVar(&r.event, "event", "", "`EVENT`, an alert that was you: a file, or its ID with --config")
	flags.StringVar(&r.config, "config", "", "`FILE` with the configuration of the monitor that raised --event")
	flags.BoolVar(&r.asJSON, "json", false, "print what was done as JSON")
	files, err := parse(flags, args, 0, 1000)
	if err != nil {
		return err
	}
	if err := r.check(flags); err != nil {
		return err
	}
	if err := r.collect(ctx, files); err != nil {
		return err
	}
	a, err := r.additions(time.Now())
	if err != nil {
		return err
	}
	out, err := authorize.Append(a)
	if err != nil {
		return authorizeError(err)
	}
	return r.tell(out, a.VKey)
}

// check looks for flags that are missing, or contradict each other.
func (r *authorizeRun) check(flags *flag.FlagSet) error {
	if err := wantFlags(flags, "manifest"); err != nil {
		return hinted(exitUsage, err, "it is the file that the monitor reads, or that you publish for it")
	}
	switch {
	case r.unsigned && (r.key != "" || r.keyName != ""):
		return usagef("--unsigned and a key exclude each other")
	case !r.unsigned && r.key == "":
		return hinted(exitUsage, wantFlags(flags, "key"),
			"\"tallywood key generate release.pem\" makes a key; --unsigned is for a manifest that a bundle signs")
	case r.config != "" && r.event == "":
		return usagef("--config is for --event")
	}
	return nil
}

// collect makes statements of all that is given.
func (r *authorizeRun) collect(ctx context.Context, files []string) error {
	for _, path := range files {
		digest, err := hashFile(ctx, path)
		if err != nil {
			return err
		}
		r.add(authorize.Digest, digest, path)
	}
	for _, d := range r.digests {
		r.add(authorize.Digest, d, "")
	}
	if r.event != "" {
		if err := r.addEvent(); err != nil {
			return err
		}
	}
	for _, v := range r.runs {
		r.add(authorize.Run, v, "")
	}
	for _, v := range r.commits {
		r.add(authorize.Commit, strings.ToLower(v), "")
	}
	for _, v := range r.tags {
		if !strings.HasPrefix(v, "refs/") {
			v = "refs/tags/" + v
		}
		r.add(authorize.Tag, v, "")
	}
	if j, ok := ciJob(os.Getenv); ok && !r.digestsOnly && r.event == "" {
		j.defaults(r)
	}
	if r.has(authorize.Commit) != r.has(authorize.Tag) {
		return usagef("--commit and --tag explain something only together")
	}
	if len(r.statements) == 0 && !r.drop {
		return hinted(exitUsage, errors.New("nothing to authorize"), "give files, --digest, --run, --commit with --tag, or --event")
	}
	return nil
}

// has reports whether there is a statement of a kind.
func (r *authorizeRun) has(k authorize.Kind) bool {
	return slices.ContainsFunc(r.statements, func(s authorize.Statement) bool { return s.Kind == k })
}

func (r *authorizeRun) add(k authorize.Kind, value, from string) {
	r.statements = append(r.statements, authorize.Statement{Kind: k, Value: value})
	if from != "" {
		r.about[value] = from
	}
}

// hashFile returns the digest of a file, as a signature over it has it.
func hashFile(ctx context.Context, path string) (string, error) {
	f, err := openArtifact(ctx, path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, interruptible(ctx, f)); ctx.Err() != nil {
		return "", fmt.Errorf("reading %s: %w", path, ctx.Err())
	} else if err != nil {
		return "", usagef("reading %s: %w", path, err)
	}
	return "sha256:" + hex.EncodeToString(h.Sum(nil)), nil
}

// additions reads the key.
func (r *authorizeRun) additions(now time.Time) (authorize.Additions, error) {
	a := authorize.Additions{Path: r.manifest, Now: now, Statements: r.statements, Drop: r.drop}
	until, err := parseExpiry(r.expires, now)
	if err != nil {
		return a, err
	}
	for i := range a.Statements {
		a.Statements[i].Expires = until
	}
	if r.unsigned {
		return a, nil
	}
	key, err := keys.ReadSigner(r.key)
	if err != nil {
		return a, usagef("reading key: %w", err)
	}
	if _, ok := key.Public().(ed25519.PublicKey); !ok {
		return a, hinted(exitUsage, fmt.Errorf("--key %s is no Ed25519 key, with which manifests are signed", r.key), "\"tallywood key generate release.pem\" makes one")
	}
	if r.keyName == "" {
		if r.keyName, err = authorize.SignerName(r.manifest, key); err != nil {
			hint := "sign with the key that the manifest has; another key begins another manifest, and the monitor reads both"
			if errors.Is(err, fs.ErrNotExist) {
				hint = "a new manifest needs a name for the key, such as that of a host of yours"
			}
			return a, hinted(exitUsage, fmt.Errorf("--key-name NAME is missing, and the manifest does not tell it: %w", err), hint)
		}
	}
	if a.Signer, a.VKey, err = authorize.NewSigner(r.keyName, key); err != nil {
		return a, usagef("--key: %w", err)
	}
	return a, nil
}

// parseExpiry reads a time, or a span from now on; days are written 30d.
func parseExpiry(text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if t, err := time.Parse(time.RFC3339, text); err == nil {
		if t.Before(now.Add(-time.Minute)) {
			return t, usagef("--expires %s is past", text)
		}
		return t.UTC().Truncate(time.Second), nil
	}
	span, days := text, 0
	if n, ok := strings.CutSuffix(text, "d"); ok {
		if _, err := fmt.Sscanf(n+";", "%d;", &days); err == nil {
			span = "0s"
		}
	}
	d, err := time.ParseDuration(span)
	if d += time.Duration(days) * 24 * time.Hour; err != nil || d < time.Second || days > 36500 {
		return time.Time{}, usagef("--expires %q: want a time such as 2026-12-31T00:00:00Z, or a span such as 12h or 30d", text)
	}
	return now.Add(d).UTC().Truncate(time.Second), nil
}

// authorizeError gives an error of Append its exit code: a disk that is full is nobody's mistake.
func authorizeError(err error) error {
	if _, failed := errors.AsType[*fs.PathError](err); failed && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return usagef("%w", err)
}

// tell prints what was done.
func (r *authorizeRun) tell(out authorize.Outcome, vkey string) error {
	if r.asJSON {
		return json.NewEncoder(r.t.out).Encode(struct {
			Manifest   string                `json:"manifest"`
			Serial     int64                 `json:"serial"`
			Statements int                   `json:"statements"`
			Created    bool                  `json:"created"`
			Added      []authorize.Statement `json:"added"`
			There      []authorize.Statement `json:"already_there"`
			Dropped    []authorize.Statement `json:"dropped,omitempty"`
			VKey       string                `json:"vkey,omitempty"`
		}{r.manifest, out.Manifest.Serial, len(out.Manifest.Statements), out.Created, some(out.Added), some(out.There), out.Dropped, vkey})
	}
	for _, s := range out.Added {
		fmt.Fprintf(r.t.out, "authorized %s\n", r.describe(s))
	}
	for _, s := range out.There {
		fmt.Fprintf(r.t.out, "was authorized already: %s\n", r.describe(s))
	}
	for _, s := range out.Dropped {
		fmt.Fprintf(r.t.out, "took out, as it has expired: %s %s\n", s.Kind, s.Value)
	}
	signed := "signed by " + r.keyName
	if r.unsigned {
		signed = "to be signed: tallywood sign " + quote(r.manifest)
	}
	_, err := fmt.Fprintf(r.t.out, "%s: serial %d, %s, %s\n", r.manifest, out.Manifest.Serial,
		counted(len(out.Manifest.Statements), "statement", "statements"), signed)
	if err == nil && out.Created && vkey != "" {
		_, err = fmt.Fprintf(r.t.out, "the monitor's file of keys needs the line\n%s\n", vkey)
	}
	return err
}

// some is a list that JSON shows as one even when it is empty.
func some(s []authorize.Statement) []authorize.Statement {
	return append([]authorize.Statement{}, s...)
}

func (r *authorizeRun) describe(s authorize.Statement) string {
	text := string(s.Kind) + " " + s.Value
	if from := r.about[s.Value]; from != "" {
		text += " (" + printable(from) + ")"
	}
	if !s.Expires.IsZero() {
		text += " until " + s.Expires.Format(time.RFC3339)
	}
	return text
}
