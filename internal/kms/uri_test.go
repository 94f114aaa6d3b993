package kms_test

import (
	"strings"
	"testing"

	"tallywood/internal/kms"
)

const (
	id      = "1234abcd-12ab-34cd-56ef-1234567890ab"
	arn     = "arn:aws:kms:us-east-2:111122223333:key/" + id
	google  = "gcpkms://projects/example.com:log/locations/europe-west3/keyRings/tally/cryptoKeys/log"
	version = google + "/cryptoKeyVersions/2"
)

func TestCheckTakesWhatSigstoreWrites(t *testing.T) {
	for uri, want := range map[string]string{
		"awskms:///" + id: "",
		"awskms:///mrk-" + strings.ReplaceAll(id, "-", ""):         "",
		"awskms:///alias/ct2026":                                   "",
		"awskms:///alias/log/2026_a-b?region=eu-central-1":         "",
		"awskms:///" + arn:                                         "awskms:///" + arn + "?region=us-east-2",
		"awskms:///" + arn + "?region=us-east-2":                   "",
		"awskms:///arn:aws-cn:kms:cn-north-1:111122223333:alias/a": "awskms:///arn:aws-cn:kms:cn-north-1:111122223333:alias/a?region=cn-north-1",
		"awskms://kms.example.com:8443/alias/a":                    "awskms:///alias/a?endpoint=https://kms.example.com:8443",
		"awskms:///alias/a?endpoint=http://127.0.0.1:4566/":        "awskms:///alias/a?endpoint=http://127.0.0.1:4566",
		"awskms:///alias/a?endpoint=http://[::1]:4566":             "",
		google:  "",
		version: "",
		strings.Replace(version, "cryptoKeyVersions", "versions", 1): version,
		version + "?endpoint=http://localhost:9010":                  "",
		version + "?endpoint=https://kms.p.googleapis.com":           "",
	} {
		if want == "" {
			want = uri
		}
		if got, err := kms.Normal(uri); err != nil || got != want {
			t.Errorf("%s: got %s, %v; want %s", uri, got, err, want)
		}
	}
}

func TestCheckSaysWhatWouldBeRight(t *testing.T) {
	for uri, want := range map[string]string{
		"":                                    "scheme",
		"azurekms://vault/key":                "scheme is not awskms or gcpkms",
		"awskms:/alias/a":                     "scheme",
		"awskms://alias":                      "no slash follows the host",
		"awskms://alias/ct2026":               `"ct2026" is no key ID, alias or ARN`, // one slash is missing
		"awskms:///ct2026":                    "want awskms:///alias/NAME",
		"awskms:///alias/a b":                 "is no key ID, alias or ARN",
		"awskms:///" + id + "/x":              "is no key ID",
		"awskms:///arn:aws:s3:::bucket":       "is no key ID",
		"awskms:///" + arn + "?region=x":      "not that of the ARN",
		"awskms:///alias/a?region=EU":         "no region",
		"awskms:///alias/a?region=":           "one value",
		"awskms:///alias/a?profile=x":         `unknown parameter "profile"`,
		"awskms:///alias/a?region=a&region=b": "one value",
		"awskms://kms.example.com/alias/a?endpoint=https://b":      "two endpoints",
		"awskms://user@kms.example.com/alias/a":                    "not http(s)://HOST",
		"awskms:///alias/a?endpoint=http://10.0.0.1:4566":          "must be https",
		"awskms:///alias/a?endpoint=ftp://127.0.0.1":               "not http(s)://HOST",
		"awskms:///alias/a?endpoint=https://a/path":                "not http(s)://HOST",
		"awskms:///alias/a?%zz":                                    "query cannot be read",
		"gcpkms://":                                                "want gcpkms://projects/PROJECT",
		"gcpkms:///projects/p/locations/l/keyRings/r/cryptoKeys/k": "is not the name of a key",
		google + "/cryptoKeyVersions/":                             "is not the name of a key",
		google + "/cryptoKeyVersions/latest":                       "is not the name of a key",
		google + "/../../x":                                        "is not the name of a key",
		google + "?region=eu":                                      `unknown parameter "region"`,
	} {
		if err := kms.Check(uri); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v; want an error with %q", uri, err, want)
		}
	}
}

// FuzzCheck looks for a URI that is taken and whose normal form is not, or is another one's.
func FuzzCheck(f *testing.F) {
	for _, uri := range []string{"awskms:///" + id, "awskms:///" + arn, "awskms://host:1/alias/a", "awskms:///alias/a?region=eu-west-1&endpoint=http://localhost:1",
		google, version, version + "?endpoint=https://a", "gcpkms://projects/p/locations/l/keyRings/r/cryptoKeys/k/versions/1", "awskms:///alias/a?endpoint=http://[::1%25a]", "file:x"} {
		f.Add(uri)
	}
	f.Fuzz(func(t *testing.T, uri string) {
		normal, err := kms.Normal(uri)
		if err != nil {
			return
		}
		if again, err := kms.Normal(normal); err != nil || again != normal {
			t.Errorf("%q is %q, and that is %q, %v", uri, normal, again, err)
		}
	})
}
