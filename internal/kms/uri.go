package kms

import (
	"fmt"
	"net"
	"net/url"
	"regexp"
	"strings"
)

// The clouds, which are also the schemes of their URIs.
const (
	aws = "awskms"
	gcp = "gcpkms"
)

// What URIs look like, for errors.
const (
	awsForm = "awskms:///alias/NAME, awskms:///KEY_ID or awskms:///ARN, with ?region=REGION where it is not that of the environment"
	gcpForm = "gcpkms://projects/PROJECT/locations/LOCATION/keyRings/RING/cryptoKeys/KEY/cryptoKeyVersions/VERSION"
)

// A ref is what the URI of a key says.
type ref struct {
	cloud    string
	key      string // a key ID, alias or ARN of AWS; a resource name of Google
	version  bool   // of Google: key is that of a version
	region   string // of AWS; "" is that of the environment
	endpoint string // a URL without a slash at the end; "" is the cloud's own
	bare     bool   // the endpoint is an emulator's, which wants no credentials of Google's
}

var (
	awsID     = `(?:mrk-[0-9a-f]{32}|[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12})`
	awsAlias  = `alias/[A-Za-z0-9/_-]{1,250}`
	awsKey    = regexp.MustCompile(`^(?:` + awsID + `|` + awsAlias + `)$`)
	awsARN    = regexp.MustCompile(`^arn:aws[a-z-]{0,20}:kms:([a-z0-9-]{1,30}):[0-9]{12}:(?:key/` + awsID + `|` + awsAlias + `)$`)
	awsRegion = regexp.MustCompile(`^[a-z0-9-]{1,30}$`)

	segment = `[A-Za-z0-9_.:-]{1,63}`
	gcpKey  = regexp.MustCompile(`^projects/` + segment + `/locations/` + segment + `/keyRings/` + segment +
		`/cryptoKeys/` + segment + `(?:(/(?:cryptoKeyVersions|versions)/)([0-9]{1,18}))?$`)
)

// parse reads the URI of a key.
func parse(uri string) (ref, error) {
	cloud, rest, ok := strings.Cut(uri, "://")
	if !ok || cloud != aws && cloud != gcp {
		return ref{}, fmt.Errorf("key %q: the scheme is not %s or %s", uri, aws, gcp)
	}
	path, query, _ := strings.Cut(rest, "?")
	r, form := ref{cloud: cloud}, awsForm
	var err error
	if cloud == aws {
		err = r.parseAWS(path)
	} else {
		form = gcpForm
		err = r.parseGCP(path)
	}
	if err == nil {
		err = r.parseQuery(query)
	}
	if err != nil {
		return ref{}, fmt.Errorf("key %q: %w; want %s", uri, err, form)
	}
	return r, nil
}

func (r *ref) parseAWS(path string) error {
	host, key, ok := strings.Cut(path, "/")
	arn := awsARN.FindStringSubmatch(key)
	switch {
	case !ok:
		return fmt.Errorf("no slash follows the host, which may be empty")
	case arn != nil:
		r.region = arn[1]
	case !awsKey.MatchString(key):
		return fmt.Errorf("%q is no key ID, alias or ARN", key)
	}
	r.key = key
	if host != "" {
		return r.setEndpoint("https://" + host)
	}
	return nil
}

func (r *ref) parseGCP(path string) error {
	m := gcpKey.FindStringSubmatch(path)
	if m == nil {
		return fmt.Errorf("%q is not the name of a key or of a version of one", path)
	}
	r.key, r.version = path, m[2] != ""
	if r.version { // Sigstore takes the short word too
		r.key = strings.TrimSuffix(path, m[1]+m[2]) + "/cryptoKeyVersions/" + m[2]
	}
	return nil
}

func (r *ref) parseQuery(query string) error {
	values, err := url.ParseQuery(query)
	if err != nil {
		return fmt.Errorf("its query cannot be read")
	}
	for name, v := range values {
		switch {
		case len(v) != 1 || v[0] == "":
			return fmt.Errorf("parameter %q must have one value", name)
		case name == "endpoint" && r.endpoint != "":
			return fmt.Errorf("two endpoints")
		case name == "endpoint":
			if err := r.setEndpoint(v[0]); err != nil {
				return err
			}
		case name == "region" && r.cloud == aws && !awsRegion.MatchString(v[0]):
			return fmt.Errorf("%q is no region", v[0])
		case name == "region" && r.cloud == aws && r.region != "" && r.region != v[0]:
			return fmt.Errorf("the region is not that of the ARN")
		case name == "region" && r.cloud == aws:
			r.region = v[0]
		default:
			return fmt.Errorf("unknown parameter %q", name)
		}
	}
	return nil
}

// setEndpoint checks and takes an endpoint. Credentials and what is signed travel in clear to nobody
// but this machine.
func (r *ref) setEndpoint(endpoint string) error {
	u, err := url.Parse(endpoint)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.User != nil ||
		strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" || strings.ContainsAny(endpoint, "?#") {
		return fmt.Errorf("endpoint %q is not http(s)://HOST[:PORT]", endpoint)
	}
	if u.Scheme == "http" {
		if ip := net.ParseIP(u.Hostname()); u.Hostname() != "localhost" && (ip == nil || !ip.IsLoopback()) {
			return fmt.Errorf("endpoint %q is not on this machine, so that it must be https", endpoint)
		}
		r.bare = true
	}
	r.endpoint = u.Scheme + "://" + u.Host
	return nil
}
