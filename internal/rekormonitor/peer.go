package rekormonitor

import (
	"fmt"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"
)

// A peerConfig is rekor-monitor's configuration, in the spellings of all its versions.
type peerConfig struct {
	StartIndex             *int64    `yaml:"startIndex"`
	EndIndex               *int64    `yaml:"endIndex"`
	MonitoredValues        values    `yaml:"monitoredValues"`
	OutputIdentities       string    `yaml:"outputIdentities"`
	OutputIdentitiesFormat string    `yaml:"outputIdentitiesFormat"`
	LogInfoFile            string    `yaml:"logInfoFile"`
	IdentityMetadataFile   string    `yaml:"identityMetadataFile"`
	GitHubIssue            *issue    `yaml:"githubIssue"`
	SMTP                   *smtp     `yaml:"emailNotificationSMTP"`
	Mailgun                *mailgun  `yaml:"emailNotificationMailgun"`
	SendGrid               *sendGrid `yaml:"emailNotificationSendGrid"`
	CARootsFile            string    `yaml:"caRootsFile"`
	CAIntermediatesFile    string    `yaml:"caIntermediatesFile"`
	TrustedCAs             texts     `yaml:"trustedCAs"`
	CTShards               texts     `yaml:"ctShards"`
}

type values struct {
	CertIdentities []certIdentity `yaml:"certIdentities"`
	Fingerprints   texts          `yaml:"fingerprints"`
	Subjects       texts          `yaml:"subjects"`
	OIDMatchers    matchers       `yaml:"oidMatchers"`

	// The documentation had these here for years, where they were never read.
	Misplaced matchers `yaml:",inline"`
}

type certIdentity struct {
	CertSubject string `yaml:"certSubject"`
	Issuers     texts  `yaml:"issuers"`
}

type matchers struct {
	OIDExtensions    []oidExtension   `yaml:"oidExtensions"`
	FulcioExtensions map[string]texts `yaml:"fulcioExtensions"`
	CustomExtensions []oidExtension   `yaml:"customExtensions"`
	// As versions without names for them spelt them.
	OIDExtensionsLower    []oidExtension   `yaml:"oidextensions"`
	FulcioExtensionsLower map[string]texts `yaml:"fulcioextensions"`
	CustomExtensionsLower []oidExtension   `yaml:"customextensions"`
}

type oidExtension struct {
	ObjectIdentifier oid   `yaml:"objectIdentifier"`
	ExtensionValues  texts `yaml:"extensionValues"`
}

type issue struct {
	AssigneeUsername    string `yaml:"assigneeUsername"`
	RepositoryOwner     string `yaml:"repositoryOwner"`
	RepositoryName      string `yaml:"repositoryName"`
	AuthenticationToken string `yaml:"authenticationToken"`
}

type smtp struct {
	RecipientEmailAddress string `yaml:"recipientEmailAddress"`
	SenderEmailAddress    string `yaml:"senderEmailAddress"`
	SenderSMTPUsername    string `yaml:"senderSMTPUsername"`
	SenderSMTPPassword    string `yaml:"senderSMTPPassword"`
	SMTPHostURL           string `yaml:"SMTPHostURL"`
}

type mailgun struct {
	RecipientEmailAddress string `yaml:"recipientEmailAddress"`
	SenderEmailAddress    string `yaml:"senderEmailAddress"`
	MailgunAPIKey         string `yaml:"mailgunAPIKey"`
	MailgunDomainName     string `yaml:"mailgunDomainName"`
}

type sendGrid struct {
	RecipientName         string `yaml:"recipientName"`
	RecipientEmailAddress string `yaml:"recipientEmailAddress"`
	SenderName            string `yaml:"senderName"`
	SenderEmailAddress    string `yaml:"senderEmailAddress"`
	SendGridAPIKey        string `yaml:"sendGridAPIKey"`
}

// texts is a list of texts; one alone stands for a list of one.
type texts []string

// UnmarshalYAML reads either.
func (t *texts) UnmarshalYAML(n *yaml.Node) error {
	if n.Kind == yaml.ScalarNode && n.Tag != "!!null" {
		*t = texts{n.Value}
		return nil
	}
	var list []string
	if err := n.Load(&list, yaml.WithKnownFields()); err != nil {
		return err
	}
	*t = list
	return nil
}

// An oid is an object identifier: a list of numbers, or a text with dots.
type oid string

// UnmarshalYAML reads either.
func (o *oid) UnmarshalYAML(n *yaml.Node) error {
	if n.Kind == yaml.ScalarNode {
		*o = oid(n.Value)
	} else {
		var arcs []int64
		if err := n.Load(&arcs, yaml.WithKnownFields()); err != nil {
			return err
		}
		parts := make([]string, len(arcs))
		for i, a := range arcs {
			parts[i] = strconv.FormatInt(a, 10)
		}
		*o = oid(strings.Join(parts, "."))
	}
	parts := strings.Split(string(*o), ".")
	for _, p := range parts {
		if _, err := strconv.ParseUint(p, 10, 31); err != nil || len(parts) < 2 {
			return fmt.Errorf("line %d: %q is not an object identifier", n.Line, string(*o))
		}
	}
	return nil
}
