package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"tallywood/internal/config"
	"tallywood/internal/sign"
	"tallywood/witness/policy"
)

func signCommand() command {
	return command{name: "sign", args: "FILE [FLAGS]",
		short: "sign a file with your login, without a key of your own",
		long: `
Signs FILE with a key that lives for this one signature: your login is turned into a certificate
of ten minutes, and certificate and signature are written into public logs. The result is a
Sigstore bundle that "tallywood verify" and cosign verify. Your login token goes to a certificate
authority by https alone, unless it is on this machine.

THE IDENTITY YOU SIGN WITH (a mail address, a workflow) BECOMES PUBLIC FOR EVER: it is in the
certificate, and logs forget nothing. Before an identity is used for the first time you are asked.`,
		run: signFile}
}

func signFile(ctx context.Context, t terminal, fs *flag.FlagSet, args []string) error {
	token := fs.String("identity-token", "", "OpenID Connect `TOKEN`, a file that holds one, or a URL on a loopback\naddress that answers one (default: the CI job's own, else a login in the browser)")
	bundle := fs.String("bundle", "", "`FILE` to write the bundle to (default FILE.sigstore.json)")
	trust := fs.String("trust", "", trustUsage)
	yes := fs.Bool("yes", false, "agree that the identity becomes public for ever")
	operands, err := parse(fs, args, 1, 1)
	if err != nil {
		return err
	}
	path := operands[0]
	if *bundle == "" {
		*bundle = path + ".sigstore.json"
	}
	tr, err := readTrust(*trust, "")
	if errors.Is(err, errNoPolicy) {
		return hinted(exitUsage, err, "copy the log's tlog-policy to policy.txt there; \"tallywood serve\" with client_dir writes it, too")
	} else if err != nil {
		return err
	}
	artifact, err := openArtifact(ctx, path)
	if err != nil {
		return err
	}
	defer artifact.Close()
	out, err := openBundle(*bundle, artifact)
	if err != nil {
		return err
	}
	defer out.discard()
	idToken, err := identityToken(ctx, t, *token, tr)
	if err != nil {
		return err
	}
	if err := agree(ctx, t, idToken, *yes); err != nil {
		return err
	}
	return writeSignature(ctx, t, interruptible(ctx, artifact), idToken, tr, out)
}

// writeSignature makes the signature and writes its bundle.
func writeSignature(ctx context.Context, t terminal, artifact io.Reader, token string, tr trust, out *bundleFile) error {
	o := sign.Options{Artifact: artifact, Token: token, SigningConfig: tr.signing, TrustedRoot: tr.root,
		Policy: tr.policy, NoPolicy: tr.policy == nil}
	data, result, err := sign.Sign(ctx, o)
	if err != nil {
		return signError(err, "")
	}
	if err := out.write(append(data, '\n')); err != nil {
		return fmt.Errorf("writing bundle: %w", err)
	}
	fmt.Fprintf(t.out, "signed as %s: entry %d of %s, bundle in %s\n", printable(result.Identity), result.Index, result.Origin, out.file.Name())
	return nil
}

// signError gives an error that kept a signature from being made its exit code. hint is for an
// input that cannot be used.
func signError(err error, hint string) error {
	var (
		input     *sign.InputError
		service   *sign.ServiceError
		transport *url.Error
		network   net.Error
	)
	switch {
	case errors.Is(err, context.Canceled):
		return hinted(exitOperational, err, "")
	case errors.As(err, &input):
		return hinted(exitUsage, err, hint)
	case errors.As(err, &service):
		if service.Temporary() {
			return hinted(exitOperational, err, "")
		}
		return hinted(exitNegative, err, "")
	case errors.As(err, &transport), errors.As(err, &network), errors.Is(err, io.ErrUnexpectedEOF),
		errors.Is(err, context.DeadlineExceeded), errors.Is(err, sign.ErrNoLogin):
		return hinted(exitOperational, err, "")
	}
	// *verify.Error, and whatever else services answer that is not what was asked for.
	return hinted(exitNegative, err, "")
}

const trustUsage = "`DIR` with the deployment's trust files\n(default $TALLYWOOD_TRUST, else ./tallywood-data/client)"

// A trust is what a deployment gave its clients.
type trust struct {
	dir           string
	root, signing []byte
	policy        *policy.Policy // nil: "none" was asked for
}

// errNoPolicy means that a trust directory has no policy.txt.
var errNoPolicy = errors.New("reading witness policy")

const noPolicyHint = "\"tallywood verify --policy none\" leaves the witnesses out"

// readTrust reads the trust files. policyPath is a file, "none", or empty for the directory's.
// The signing config may be absent: verifying needs none.
func readTrust(dir, policyPath string) (trust, error) {
	t := trust{dir: trustDir(dir)}
	var err error
	if t.root, err = os.ReadFile(filepath.Join(t.dir, "trusted_root.json")); err != nil {
		return t, hinted(exitUsage, fmt.Errorf("reading trust files: %w", err),
			"--trust DIR names the directory that \"tallywood up\" prints in its ready line")
	}
	t.signing, err = os.ReadFile(filepath.Join(t.dir, "signing_config.v0.2.json"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return t, usagef("reading signing config: %w", err)
	}
	t.policy, err = readPolicy(t.dir, policyPath)
	return t, err
}

// readPolicy reads the witness policy at path, of dir if path is empty; nil for "none".
func readPolicy(dir, path string) (*policy.Policy, error) {
	if path == "none" {
		return nil, nil
	}
	inDir := path == ""
	if inDir {
		path = filepath.Join(dir, "policy.txt")
	}
	text, err := os.ReadFile(path)
	if inDir && errors.Is(err, fs.ErrNotExist) {
		return nil, hinted(exitUsage, fmt.Errorf("%w: %w", errNoPolicy, err), noPolicyHint)
	} else if err != nil {
		return nil, hinted(exitUsage, fmt.Errorf("reading witness policy: %w", err), noPolicyHint)
	}
	p, err := policy.Parse(text)
	if err != nil {
		return nil, usagef("witness policy %s: %w", path, err)
	}
	return p, nil
}

// openArtifact opens a file to sign or verify, with a clear word about directories.
func openArtifact(ctx context.Context, path string) (*os.File, error) {
	f, err := openInterruptible(ctx, path)
	if err != nil {
		return nil, usagef("opening artifact: %w", err)
	}
	info, err := f.Stat()
	if err == nil && info.IsDir() {
		err = fmt.Errorf("%s is a directory; sign an archive of it", path)
	}
	if err != nil {
		return nil, usagef("%w", errors.Join(err, f.Close()))
	}
	return f, nil
}

// identityToken finds an identity token.
func identityToken(ctx context.Context, t terminal, value string, tr trust) (string, error) {
	if tr.signing == nil {
		return "", usagef("reading trust files: %s has no signing_config.v0.2.json, which says where to sign", tr.dir)
	}
	if u, err := url.Parse(value); err == nil && u.Host != "" && (u.Scheme == "http" || u.Scheme == "https") {
		return fetchToken(ctx, u)
	}
	o := sign.TokenOptions{Token: value, Env: os.Getenv, Out: t.err}
	if value == "" {
		issuer, err := sign.LoginIssuer(tr.signing, time.Now())
		if err == nil {
			o.Issuer = issuer
		}
	}
	token, err := sign.Token(ctx, o)
	if err != nil {
		return "", signError(fmt.Errorf("getting an identity token: %w", err), "--identity-token takes a token, or a file that holds one")
	}
	return token, nil
}

// fetchToken gets a bare token from a development issuer on a loopback address.
func fetchToken(ctx context.Context, u *url.URL) (string, error) {
	if !config.Loopback(u.Hostname()) {
		return "", usagef("--identity-token %s: tokens are fetched from loopback addresses only", u)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return "", usagef("--identity-token: %w", err)
	}
	client := &http.Client{Timeout: 10 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(req)
	if err != nil {
		return "", fmt.Errorf("fetching the identity token: %w", err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err != nil {
		return "", fmt.Errorf("fetching the identity token: %w", err)
	}
	if resp.StatusCode != http.StatusOK {
		code := exitNegative
		if resp.StatusCode == http.StatusTooManyRequests || resp.StatusCode >= 500 {
			code = exitOperational
		}
		return "", hinted(code, fmt.Errorf("fetching the identity token: %s: %.200q", resp.Status, body), "")
	}
	return strings.TrimSpace(string(body)), nil
}

// agree says that the identity of token becomes public for ever, once for each identity, and
// wants a yes: from the flag, or from a person.
func agree(ctx context.Context, t terminal, token string, yes bool) error {
	identity, err := sign.Identity(token)
	if err != nil {
		return hinted(exitUsage, fmt.Errorf("reading the identity token: %w", err), "--identity-token takes a token, or a file that holds one")
	}
	record, err := consentFile()
	if err == nil && recorded(record, identity) {
		return nil
	}
	fmt.Fprintf(t.err, "Signing as %q makes this identity PUBLIC FOR EVER: it goes into a certificate and into\npublic logs, which forget nothing. Anyone will be able to see that it signed, and when.\n", printable(identity))
	if !yes {
		fmt.Fprint(t.err, "Go on? [y/N] ")
		answer, rerr := readLine(ctx, bufio.NewReader(t.in))
		if ctx.Err() != nil {
			return fmt.Errorf("waiting for an answer, nothing was signed: %w", ctx.Err())
		}
		switch strings.ToLower(strings.TrimSpace(answer)) {
		case "y", "yes":
		default:
			if rerr != nil && answer == "" {
				return hinted(exitUsage, errors.New("nobody answered; nothing was signed"), "--yes agrees beforehand")
			}
			return hinted(exitNegative, errors.New("not agreed; nothing was signed"), "")
		}
	}
	if err == nil {
		remember(record, identity)
	}
	return nil
}

// consentFile is where the identities that a person agreed to are remembered.
func consentFile() (string, error) {
	dir, err := os.UserConfigDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, "tallywood", "public-identities"), nil
}

func recorded(path, identity string) bool {
	data, err := os.ReadFile(path)
	return err == nil && slices.Contains(strings.Split(string(data), "\n"), printable(identity))
}

// remember is best effort: who cannot write there is asked again.
func remember(path, identity string) {
	if os.MkdirAll(filepath.Dir(path), 0o700) != nil {
		return
	}
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return
	}
	fmt.Fprintln(f, printable(identity))
	f.Close()
}
