package rekormonitor

import (
	"fmt"
	"net"
	"strings"
)

// sinks returns the sinks, one a line.
func (i *importer) sinks() string {
	var b strings.Builder
	line := func(name, sink string) { fmt.Fprintf(&b, "  %s: {%s}\n", name, sink) }
	p := i.peer
	if p.OutputIdentities != "" {
		line("file", "jsonl: "+quoted(i.o.Path(p.OutputIdentities)))
		i.warn("outputIdentities: %s gets one event a line, in our form", p.OutputIdentities)
	}
	switch p.OutputIdentitiesFormat {
	case "", "text", "json":
	default:
		i.refuse("outputIdentitiesFormat %q is neither text nor json", p.OutputIdentitiesFormat)
	}
	if g := p.GitHubIssue; g != nil {
		i.want("githubIssue", "repositoryOwner", g.RepositoryOwner, "repositoryName", g.RepositoryName, "authenticationToken", g.AuthenticationToken)
		line("github", fmt.Sprintf("github: {repository: %s, token_file: %s}", quoted(g.RepositoryOwner+"/"+g.RepositoryName),
			i.secret("github.token", g.AuthenticationToken)))
		if g.AssigneeUsername != "" {
			i.warn("githubIssue: issues are assigned to nobody; assigneeUsername %q is left out", g.AssigneeUsername)
		}
	}
	if m := p.SMTP; m != nil {
		i.want("emailNotificationSMTP", "recipientEmailAddress", m.RecipientEmailAddress, "senderEmailAddress", m.SenderEmailAddress, "SMTPHostURL", m.SMTPHostURL)
		server := m.SMTPHostURL
		if _, _, err := net.SplitHostPort(server); err != nil {
			server = net.JoinHostPort(server, "25") // as the peer does
		}
		line("mail", i.mail("smtp.password", server, m.SenderSMTPUsername, m.SenderSMTPPassword, m.SenderEmailAddress, m.RecipientEmailAddress))
	}
	if m := p.SendGrid; m != nil {
		i.want("emailNotificationSendGrid", "recipientEmailAddress", m.RecipientEmailAddress, "senderEmailAddress", m.SenderEmailAddress, "sendGridAPIKey", m.SendGridAPIKey)
		line("sendgrid", i.mail("sendgrid.key", "smtp.sendgrid.net:587", "apikey", m.SendGridAPIKey, m.SenderEmailAddress, m.RecipientEmailAddress))
		i.warn("emailNotificationSendGrid: mail goes through SendGrid's SMTP server, with the same key")
	}
	if m := p.Mailgun; m != nil {
		i.want("emailNotificationMailgun", "recipientEmailAddress", m.RecipientEmailAddress, "senderEmailAddress", m.SenderEmailAddress, "mailgunDomainName", m.MailgunDomainName)
		line("mailgun", fmt.Sprintf("smtp: {server: \"smtp.mailgun.org:587\", user: %s, password_file: mailgun.password, from: %s, to: [%s]}",
			quoted("postmaster@"+m.MailgunDomainName), quoted(m.SenderEmailAddress), quoted(m.RecipientEmailAddress)))
		i.warn("emailNotificationMailgun: mail goes through Mailgun's SMTP server, which wants its SMTP password instead of the API key: put it into mailgun.password; the monitor does not start without it")
	}
	if b.Len() == 0 {
		line("file", `jsonl: "identities.jsonl"`)
		i.warn("nobody is told: events go to identities.jsonl, one a line")
	}
	return b.String()
}

// want refuses the keys of a sink that have no value.
func (i *importer) want(sink string, pairs ...string) {
	for n := 0; n < len(pairs); n += 2 {
		if pairs[n+1] == "" {
			i.refuse("%s: %s is missing", sink, pairs[n])
		}
	}
}

// mail returns a mail server as a sink.
func (i *importer) mail(file, server, user, password, from, to string) string {
	login := ""
	if user != "" && password != "" {
		login = fmt.Sprintf("user: %s, password_file: %s, ", quoted(user), i.secret(file, password))
	}
	return fmt.Sprintf("smtp: {server: %s, %sfrom: %s, to: [%s]}", quoted(server), login, quoted(from), quoted(to))
}

// secret moves a secret to a file and returns its name.
func (i *importer) secret(name, value string) string {
	i.out.Files = append(i.out.Files, File{name, []byte(value + "\n"), true})
	i.warn("a secret moves from the configuration to the file %s beside ours", name)
	return name
}
