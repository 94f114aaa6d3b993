package kms

import (
	"bytes"
	"context"
	"crypto"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"google.golang.org/api/option"
	transport "google.golang.org/api/transport/http"
)

const (
	gcpEndpoint = "https://cloudkms.googleapis.com"
	gcpScope    = "https://www.googleapis.com/auth/cloudkms"

	maxAnswer = 1 << 20 // bytes of an answer that are read
	maxPages  = 100     // of a list of versions, a thousand a page
	maxSaid   = 500     // bytes of an error's text that are told
)

// gcpService is a key in the KMS of Google Cloud. Three calls of its REST API
// (https://cloud.google.com/kms/docs/reference/rest) are all that is needed; Google's own client
// would bring some twenty packages, and most of an RPC system, for them.
type gcpService struct {
	client *http.Client
	base   string // URL before a resource name
	name   string // of the version, or of the key as long as no version is chosen
	chosen bool   // name is that of a version
}

// connectGCP finds the application default credentials.
func connectGCP(ctx context.Context, r ref, l limits) (service, error) {
	s := &gcpService{base: gcpEndpoint + "/v1/", name: r.key, chosen: r.version}
	if r.endpoint != "" {
		s.base = r.endpoint + "/v1/"
	}
	if r.bare {
		s.client = &http.Client{Transport: &http.Transport{
			DialContext:  (&net.Dialer{Timeout: connectTimeout}).DialContext,
			MaxIdleConns: l.calls, MaxIdleConnsPerHost: l.calls,
		}}
		return s, nil
	}
	// Its transport keeps a hundred connections to a host.
	client, _, err := transport.NewClient(context.WithoutCancel(ctx), option.WithScopes(gcpScope))
	if err != nil {
		return nil, &failure{err: fmt.Errorf("finding credentials: %w", err),
			hint: "Google's credentials come from the file in GOOGLE_APPLICATION_CREDENTIALS, from \"gcloud auth application-default login\", or from the service account of the machine"}
	}
	s.client = client
	return s, nil
}

func (s *gcpService) String() string { return s.name }

func (s *gcpService) publicKey(ctx context.Context) ([]byte, string, error) {
	if !s.chosen {
		name, err := s.newest(ctx)
		if err != nil {
			return nil, "", err
		}
		s.name, s.chosen = name, true
	}
	var out struct {
		Name      string `json:"name"`
		PEM       string `json:"pem"`
		Algorithm string `json:"algorithm"`
	}
	if err := s.call(ctx, http.MethodGet, s.name+"/publicKey", nil, &out); err != nil {
		return nil, "", err
	}
	block, _ := pem.Decode([]byte(out.PEM))
	switch {
	case out.Name != s.name:
		return nil, "", fmt.Errorf("the answer is about %q", out.Name)
	case block == nil || block.Type != "PUBLIC KEY":
		return nil, "", fmt.Errorf("the answer holds no public key of kind %q", out.Algorithm)
	}
	return block.Bytes, out.Algorithm, nil
}

// newest returns the name of the enabled version that was made last. Versions are counted up.
func (s *gcpService) newest(ctx context.Context) (string, error) {
	largest, page := int64(0), ""
	for range maxPages {
		query := url.Values{"filter": {"state=ENABLED"}, "pageSize": {"1000"}}
		if page != "" {
			query.Set("pageToken", page)
		}
		var out struct {
			Versions []struct {
				Name  string `json:"name"`
				State string `json:"state"`
			} `json:"cryptoKeyVersions"`
			Next string `json:"nextPageToken"`
		}
		if err := s.call(ctx, http.MethodGet, s.name+"/cryptoKeyVersions?"+query.Encode(), nil, &out); err != nil {
			return "", err
		}
		for _, v := range out.Versions {
			number, ok := strings.CutPrefix(v.Name, s.name+"/cryptoKeyVersions/")
			n, err := strconv.ParseInt(number, 10, 64)
			if !ok || err != nil {
				return "", fmt.Errorf("the answer has a version named %q", v.Name)
			}
			if v.State == "ENABLED" {
				largest = max(largest, n)
			}
		}
		if page = out.Next; page == "" {
			break
		}
	}
	switch {
	case page != "":
		return "", fmt.Errorf("more than %d pages of versions", maxPages)
	case largest == 0:
		return "", &failure{err: errors.New("no version of the key is enabled"), hint: "enable one, or name one"}
	}
	return s.name + "/cryptoKeyVersions/" + strconv.FormatInt(largest, 10), nil
}

// hashNames are the service's words for hashes.
var hashNames = map[crypto.Hash]string{crypto.SHA256: "sha256", crypto.SHA384: "sha384"}

// sign needs none of the checksums that the API offers: the signature itself is verified.
func (s *gcpService) sign(ctx context.Context, a algorithm, message []byte) ([]byte, string, error) {
	var in struct {
		Digest map[string][]byte `json:"digest,omitempty"`
		Data   []byte            `json:"data,omitempty"`
	}
	if a.hash == 0 {
		in.Data = message
	} else {
		in.Digest = map[string][]byte{hashNames[a.hash]: message}
	}
	var out struct {
		Signature []byte `json:"signature"`
		Name      string `json:"name"`
	}
	err := s.call(ctx, http.MethodPost, s.name+":asymmetricSign", in, &out)
	return out.Signature, out.Name, err
}

// call sends a request and decodes the answer.
func (s *gcpService) call(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		data, err := json.Marshal(in)
		if err != nil {
			return fmt.Errorf("encoding request: %w", err)
		}
		body = bytes.NewReader(data)
	}
	req, err := http.NewRequestWithContext(ctx, method, s.base+path, body)
	if err != nil {
		return fmt.Errorf("making request: %w", err)
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := s.client.Do(req)
	if err != nil {
		return unreachable(err)
	}
	defer res.Body.Close()
	data, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return unreachable(fmt.Errorf("reading answer: %w", err))
	}
	if res.StatusCode != http.StatusOK {
		return gcpFailure(res.StatusCode, data)
	}
	if err := json.Unmarshal(data, out); err != nil {
		return fmt.Errorf("decoding answer: %w", err)
	}
	return nil
}

// gcpHints say what to do about an answer, by its status's name.
var gcpHints = map[string]string{
	"UNAUTHENTICATED": "Google does not take these credentials",
	"PERMISSION_DENIED": "the credentials in use need roles/cloudkms.signerVerifier on this key, and roles/cloudkms.viewer too if no version is named; " +
		"the Cloud KMS API must be enabled in the project",
	"NOT_FOUND":           "there is no such key: look at project, location, key ring, key and version",
	"FAILED_PRECONDITION": "this version of the key is disabled, destroyed or not made yet",
	"INVALID_ARGUMENT":    "the key was not made for such signatures: that takes the purpose ASYMMETRIC_SIGN",
}

// gcpFailure makes an error of an answer (https://cloud.google.com/apis/design/errors).
func gcpFailure(status int, body []byte) error {
	var said struct {
		Error struct {
			Status  string `json:"status"`
			Message string `json:"message"`
		} `json:"error"`
	}
	// What stands before a service may answer something else, of which the status is enough.
	_ = json.Unmarshal(body, &said)
	code := said.Error.Status
	if code == "" {
		code = http.StatusText(status)
	}
	f := &failure{err: fmt.Errorf("%d %s: %.*s", status, code, maxSaid, said.Error.Message), hint: gcpHints[code]}
	if status >= 500 || status == http.StatusTooManyRequests || status == http.StatusRequestTimeout {
		f.hint, f.temporary = hintOverloaded, true
	}
	return f
}
