package sign

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"
)

// defaultClientID is both the OAuth client that people log in with and the audience of a CI token.
const defaultClientID = "sigstore"

// TokenOptions say where an identity token may come from. All fields may be zero but Env and,
// if it comes to a login in a browser, Issuer.
type TokenOptions struct {
	Token    string                   // a token, or the path of a file that holds one
	Env      func(name string) string // looks up an environment variable
	Issuer   string                   // login at this OpenID Connect issuer, see LoginIssuer
	ClientID string                   // default: sigstore

	// Out is where the login page's address is written, and how to go on. Default: nowhere.
	Out io.Writer
	// Open opens the login page in a browser. Default: the system's own, if there is a display.
	Open func(url string) error
	// Patience is how long a person may take to log in. Default: 5 minutes.
	Patience time.Duration
	HTTP     *http.Client // default: as in Options
	Log      *slog.Logger // default: discard
}

// Token returns an OpenID Connect ID token for the audience of a Sigstore CA, from the first of
// these that there is: o.Token; the environment of a CI job (GitHub Actions, or the variable
// SIGSTORE_ID_TOKEN, which GitLab and others set); a login in a browser. The errors to tell apart
// are [*InputError], a token that is not one or none at all, [*ServiceError] and [ErrNoLogin].
func Token(ctx context.Context, o TokenOptions) (string, error) {
	if o.Env == nil {
		return "", errors.New("finding identity token: checking options: Env is missing")
	}
	if o.ClientID == "" {
		o.ClientID = defaultClientID
	}
	if o.Token != "" {
		token, err := explicitToken(o.Token)
		if err != nil {
			return "", &InputError{err}
		}
		return token, nil
	}
	token, err := ambientToken(ctx, o)
	if err != nil || token != "" {
		return token, err
	}
	if o.Issuer == "" {
		return "", &InputError{errors.New("finding identity token: none is given, this is no CI job that offers one, and no issuer to log in at is known")}
	}
	token, err = login(ctx, o)
	if err != nil {
		return "", fmt.Errorf("logging in at %s: %w", o.Issuer, err)
	}
	return token, nil
}

// explicitToken takes what looks like a token as one, and anything else as a file that holds it.
func explicitToken(value string) (string, error) {
	token := strings.TrimSpace(value) // no header could carry the end of a line
	_, notToken := parseToken(token)
	if notToken == nil {
		return token, nil
	}
	f, err := os.Open(value)
	if err != nil {
		if strings.Count(value, ".") == 2 && len(value) > 100 {
			return "", notToken // a damaged token; nobody wants to read it as a path
		}
		return "", fmt.Errorf("reading identity token: it is neither a token nor a readable file: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxToken+2))
	if err != nil {
		return "", fmt.Errorf("reading identity token: %w", err)
	}
	token = strings.TrimSpace(string(data))
	if _, err := parseToken(token); err != nil {
		return "", fmt.Errorf("reading %s: %w", value, err)
	}
	return token, nil
}

// ambientToken returns the token that a CI job gets without asking anybody; empty if there is none.
func ambientToken(ctx context.Context, o TokenOptions) (string, error) {
	if token := strings.TrimSpace(o.Env("SIGSTORE_ID_TOKEN")); token != "" {
		if _, err := parseToken(token); err != nil {
			return "", &InputError{fmt.Errorf("reading SIGSTORE_ID_TOKEN: %w", err)}
		}
		return token, nil
	}
	// https://docs.github.com/actions/reference/security/oidc: set in jobs with the permission
	// "id-token: write", and in no others.
	address, bearer := o.Env("ACTIONS_ID_TOKEN_REQUEST_URL"), o.Env("ACTIONS_ID_TOKEN_REQUEST_TOKEN")
	if address == "" || bearer == "" {
		return "", nil
	}
	token, err := githubToken(ctx, o, address, bearer)
	if err != nil {
		return "", fmt.Errorf("requesting identity token of this GitHub Actions job: %w", err)
	}
	return token, nil
}

func githubToken(ctx context.Context, o TokenOptions, address, bearer string) (string, error) {
	u, err := url.Parse(address)
	if err != nil {
		return "", &InputError{fmt.Errorf("reading ACTIONS_ID_TOKEN_REQUEST_URL: %w", err)}
	}
	query := u.Query()
	query.Set("audience", o.ClientID)
	u.RawQuery = query.Encode()
	answer, err := newClient(o.HTTP, 0, o.Log).do(ctx, call{
		service: "GitHub Actions", method: http.MethodGet, url: u.String(),
		header: map[string]string{"Authorization": "bearer " + bearer, "Accept": "application/json"},
		status: []int{http.StatusOK},
	})
	if err != nil {
		return "", err
	}
	var reply struct {
		Value string `json:"value"`
	}
	if err := json.Unmarshal(answer, &reply); err != nil {
		return "", fmt.Errorf("decoding answer: %w", err)
	}
	if _, err := parseToken(reply.Value); err != nil {
		return "", err
	}
	return reply.Value, nil
}
