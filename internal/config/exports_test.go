package config_test

import (
	"fmt"
	"strings"
	"testing"

	"tallywood/internal/config"
)

// TestExportIsApartFromTheStorage has witnesses that publish into all kinds of places.
func TestExportIsApartFromTheStorage(t *testing.T) {
	for _, tc := range []struct {
		storage, first, second string
		want                   string // in the error; "": none
	}{
		{"file:objects", "file:published", "file:more", ""},
		{"file:objects", "file:/etc/tallywood/objects2", "s3://bucket/x", ""},
		{"s3://bucket/a", "s3://bucket/b", "gs://bucket/a", ""},
		{"s3://bucket/a?region=x", "s3://bucket/ab", "file:published", ""},
		{"file:objects", "file:objects", "file:more", "is not apart from"},
		{"file:objects", "file:/etc/tallywood/objects/published", "file:more", "is not apart from"},
		{"file:objects/x", "file:objects", "file:more", "is not apart from"},
		{"file:objects", "file:./published/../objects/", "file:more", "is not apart from"},
		{"s3://bucket/a?region=x", "s3://bucket/a/b?region=y", "file:more", "is not apart from"},
		{"s3://bucket/a", "s3://bucket", "file:more", "is not apart from"},
		{"file:objects", "file:published", "file:published/2", "witness 2: export /etc/tallywood/published/2 is not apart"},
		{"file:objects", "published", "file:more", "want file:"},
	} {
		text := fmt.Sprintf("address: 127.0.0.1:8080\nstorage: %s\nwitnesses:\n"+
			"  - {name: a.example.org, seed: file:a, export: %q}\n  - {name: b.example.org, seed: file:b, export: %q}\n",
			tc.storage, tc.first, tc.second)
		c, err := config.Parse([]byte(text), "/etc/tallywood", func(string) (string, bool) { return "", false })
		switch {
		case tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)):
			t.Errorf("%+v: error %v", tc, err)
		case tc.want == "" && err != nil:
			t.Errorf("%+v: %v", tc, err)
		case err == nil && tc.first == "file:published" && c.Witnesses[0].Export != "/etc/tallywood/published":
			t.Errorf("export is %s", c.Witnesses[0].Export)
		}
	}
}
