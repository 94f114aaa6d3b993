package main

import (
	"strings"
	"testing"
	"time"
)

func TestExpiryIsATimeOrASpan(t *testing.T) {
	now := time.Date(2026, 11, 28, 9, 0, 0, 5, time.UTC)
	for text, want := range map[string]string{
		"": "0001-01-01T00:00:00Z", "30d": "2026-12-28T09:00:00Z", "12h": "2026-11-28T21:00:00Z", "1s": "2026-11-28T09:00:01Z",
		"2026-12-31T00:00:00Z": "2026-12-31T00:00:00Z", "2026-12-31T01:00:00+01:00": "2026-12-31T00:00:00Z",
	} {
		if got, err := parseExpiry(text, now); err != nil || got.Format(time.RFC3339) != want {
			t.Errorf("%q: got %v, %v; want %s", text, got, err, want)
		}
	}
	for _, text := range []string{"soon", "d", "-1d", "0d", "1.5d", "99999999999d", "-12h", "0s", "30 d", "2020-01-01T00:00:00Z"} {
		if got, err := parseExpiry(text, now); err == nil || !strings.Contains(err.Error(), "--expires "+text) && !strings.Contains(err.Error(), `"`+text+`"`) {
			t.Errorf("%q: got %v, %v", text, got, err)
		}
	}
}

// TestCIJobsAreNamedAsCertificatesNameThem: Fulcio writes the run of each service in its own way.
func TestCIJobsAreNamedAsCertificatesNameThem(t *testing.T) {
	env := func(vars ...string) func(string) string {
		return func(name string) string {
			for i := 0; i < len(vars); i += 2 {
				if vars[i] == name {
					return vars[i+1]
				}
			}
			return ""
		}
	}
	github := env("GITHUB_ACTIONS", "true", "GITHUB_SERVER_URL", "https://github.com", "GITHUB_REPOSITORY", "o/r", "GITHUB_RUN_ID", "7",
		"GITHUB_RUN_ATTEMPT", "2", "GITHUB_SHA", "c0ffee", "GITHUB_REF", "refs/heads/main")
	if j, ok := ciJob(github); !ok || j.run != "https://github.com/o/r/actions/runs/7/attempts/2" || j.commit != "c0ffee" || j.ref != "refs/heads/main" {
		t.Errorf("GitHub: %+v, %v", j, ok)
	}
	if j, ok := ciJob(env("GITHUB_ACTIONS", "true", "GITHUB_RUN_ID", "7")); !ok || j.run != "" {
		t.Errorf("GitHub with a part of it: %+v, %v", j, ok)
	}
	gitlab := env("GITLAB_CI", "true", "CI_JOB_URL", "https://gitlab.com/g/p/-/jobs/9", "CI_COMMIT_SHA", "c0ffee")
	if j, ok := ciJob(gitlab); !ok || j.run != "https://gitlab.com/g/p/-/jobs/9" || j.ref != "" {
		t.Errorf("GitLab: %+v, %v", j, ok)
	}
	if j, ok := ciJob(env("CI", "true")); ok {
		t.Errorf("neither: %+v", j)
	}
}
