package mint

import (
	"fmt"
	"net/url"
	"strings"
)

// The issuers that vouch for workloads of the public forges.
const (
	GitHubIssuer = "https://token.actions.githubusercontent.com"
	GitLabIssuer = "https://gitlab.com"
)

// ForEmail returns the certificate that an issuer's word for a mail address gets; with an empty
// issuer, one that names none.
func ForEmail(address, issuer string) Certificate {
	return named(Name{Email, address}, issuer)
}

// ForURI is ForEmail for a URI.
func ForURI(uri, issuer string) Certificate { return named(Name{URI, uri}, issuer) }

// ForKubernetes returns the certificate of a service account.
func ForKubernetes(namespace, account, issuer string) Certificate {
	return ForURI("https://kubernetes.io/namespaces/"+namespace+"/serviceaccounts/"+account, issuer)
}

func named(n Name, issuer string) Certificate {
	c := Certificate{Names: []Name{n}}
	if issuer != "" {
		c.Extensions = map[int]string{1: issuer, 8: issuer}
	}
	return c
}

// A Run is one run of a workflow or pipeline, as its certificate tells of it. What is empty is as
// usual: a push to the main branch, on the forge's own machines, of a public repository.
type Run struct {
	Repository string `yaml:"repository"` // owner/name; on GitLab group/project
	Workflow   string `yaml:"workflow"`   // path, default .github/workflows/release.yml or .gitlab-ci.yml
	Ref        string `yaml:"ref"`        // default refs/heads/main
	Commit     string `yaml:"commit"`     // default 40 hex digits
	Trigger    string `yaml:"trigger"`    // default push
	ID         int64  `yaml:"run_id"`     // of the run
	Attempt    int    `yaml:"attempt"`    // default 1

	RepositoryID string `yaml:"repository_id"` // default derived from the names
	OwnerID      string `yaml:"owner_id"`
	Runner       string `yaml:"runner"`      // default github-hosted or gitlab-hosted
	Visibility   string `yaml:"visibility"`  // default public
	Environment  string `yaml:"environment"` // default none
	Signer       string `yaml:"signer"`      // URI of the reusable workflow that signs; default the workflow itself
	Issuer       string `yaml:"issuer"`      // default the forge's
}

// GitHub returns the certificate that a run gets on github.com.
func (r Run) GitHub() Certificate {
	r.defaults(".github/workflows/release.yml", "github-hosted", GitHubIssuer)
	repository := "https://github.com/" + r.Repository
	owner, name, _ := strings.Cut(r.Repository, "/")
	workflow := repository + "/" + r.Workflow + "@" + r.Ref
	if r.Signer == "" {
		r.Signer = workflow
	}
	x := r.extensions(repository, "https://github.com/"+owner, workflow)
	x[2], x[3], x[4], x[5], x[6] = r.Trigger, r.Commit, "Release "+name, r.Repository, r.Ref
	x[21] = fmt.Sprintf("%s/actions/runs/%d/attempts/%d", repository, r.ID, r.Attempt)
	x[24] = "repo:" + r.Repository + ":ref:" + r.Ref
	if r.Environment != "" {
		x[23], x[24] = r.Environment, "repo:"+r.Repository+":environment:"+r.Environment
	}
	return Certificate{Names: []Name{{URI, r.Signer}}, Extensions: x}
}

// GitLab returns the certificate that a run gets on gitlab.com.
func (r Run) GitLab() Certificate {
	r.defaults(".gitlab-ci.yml", "gitlab-hosted", GitLabIssuer)
	project := "https://gitlab.com/" + r.Repository
	group, _, _ := strings.Cut(r.Repository, "/")
	workflow := project + "//" + r.Workflow + "@" + r.Ref
	if r.Signer == "" {
		r.Signer = workflow
	}
	x := r.extensions(project, "https://gitlab.com/"+group, workflow)
	x[21] = fmt.Sprintf("%s/-/jobs/%d", project, r.ID)
	kind, ref := "branch", strings.TrimPrefix(r.Ref, "refs/heads/")
	if tag, ok := strings.CutPrefix(r.Ref, "refs/tags/"); ok {
		kind, ref = "tag", tag
	}
	x[24] = fmt.Sprintf("project_path:%s:ref_type:%s:ref:%s", r.Repository, kind, url.PathEscape(ref))
	if r.Environment != "" {
		x[23] = r.Environment
	}
	return Certificate{Names: []Name{{URI, r.Signer}}, Extensions: x}
}

func (r *Run) defaults(workflow, runner, issuer string) {
	set := func(field *string, usual string) {
		if *field == "" {
			*field = usual
		}
	}
	owner, _, _ := strings.Cut(r.Repository, "/")
	set(&r.Workflow, workflow)
	set(&r.Ref, "refs/heads/main")
	set(&r.Commit, fmt.Sprintf("%x", hashOfText(fmt.Sprint("commit ", r.Repository, " ", r.Ref, " ", r.ID)))[:40])
	set(&r.Trigger, "push")
	set(&r.RepositoryID, number(r.Repository))
	set(&r.OwnerID, number(owner))
	set(&r.Runner, runner)
	set(&r.Visibility, "public")
	set(&r.Issuer, issuer)
	if r.Attempt == 0 {
		r.Attempt = 1
	}
}

// extensions returns what the certificates of both forges hold.
func (r *Run) extensions(repository, owner, workflow string) map[int]string {
	signerDigest := r.Commit
	if r.Signer != workflow {
		signerDigest = fmt.Sprintf("%x", hashOfText("commit "+r.Signer))[:40]
	}
	return map[int]string{
		1: r.Issuer, 8: r.Issuer, 9: r.Signer, 10: signerDigest, 11: r.Runner,
		12: repository, 13: r.Commit, 14: r.Ref, 15: r.RepositoryID, 16: owner, 17: r.OwnerID,
		18: workflow, 19: r.Commit, 20: r.Trigger, 22: r.Visibility,
	}
}

// RepositoryID returns the number that a Run has for a repository, unless it names another one.
func RepositoryID(repository string) string { return number(repository) }

// OwnerID returns the number that a Run has for the owner of a repository, likewise.
func OwnerID(repository string) string {
	owner, _, _ := strings.Cut(repository, "/")
	return number(owner)
}

// number derives the number that a forge has for a name.
func number(name string) string {
	sum := hashOfText("number of " + name)
	return fmt.Sprint(100_000_000 + (uint64(sum[0])<<24|uint64(sum[1])<<16|uint64(sum[2])<<8|uint64(sum[3]))%900_000_000)
}
