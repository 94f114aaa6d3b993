package main

import (
	"strings"

	"tallywood/monitor/authorize"
)

// A job is what a CI service says of the job that this process is part of.
type job struct {
	service          string
	run, commit, ref string
}

// ciJob returns the job that the environment tells of. The run is written as certificates have it,
// for GitHub and GitLab, in their extension 1.3.6.1.4.1.57264.1.21.
func ciJob(getenv func(string) string) (job, bool) {
	switch {
	case getenv("GITHUB_ACTIONS") == "true":
		j := job{service: "this job of GitHub Actions", commit: getenv("GITHUB_SHA"), ref: getenv("GITHUB_REF")}
		server, repo, id, attempt := getenv("GITHUB_SERVER_URL"), getenv("GITHUB_REPOSITORY"), getenv("GITHUB_RUN_ID"), getenv("GITHUB_RUN_ATTEMPT")
		if server != "" && repo != "" && id != "" && attempt != "" {
			j.run = server + "/" + repo + "/actions/runs/" + id + "/attempts/" + attempt
		}
		return j, true
	case getenv("GITLAB_CI") == "true":
		j := job{service: "this job of GitLab", run: getenv("CI_JOB_URL"), commit: getenv("CI_COMMIT_SHA")}
		if tag := getenv("CI_COMMIT_TAG"); tag != "" {
			j.ref = "refs/tags/" + tag
		}
		return j, true
	}
	return job{}, false
}

// defaults adds to r what of the job was not given. A commit counts with a tag alone.
func (j job) defaults(r *authorizeRun) {
	if !r.has(authorize.Run) && j.run != "" {
		r.add(authorize.Run, j.run, j.service)
	}
	if !r.has(authorize.Tag) && strings.HasPrefix(j.ref, "refs/tags/") {
		r.add(authorize.Tag, j.ref, j.service)
	}
	if !r.has(authorize.Commit) && r.has(authorize.Tag) && j.commit != "" {
		r.add(authorize.Commit, j.commit, j.service)
	}
}
