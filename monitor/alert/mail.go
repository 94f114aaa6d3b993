package alert

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"mime"
	"mime/quotedprintable"
	"strings"
	"time"

	"tallywood/monitor"
)

// maxSubject bounds a subject, in bytes before encoding.
const maxSubject = 200

// mail returns the mail for an event (RFC 5322). A repetition has the same Message-ID, so that mail
// programs show it once; what is about the same identity and log makes a thread.
func (s *SMTP) mail(e monitor.Event) string {
	domain := s.from.Address[strings.LastIndex(s.from.Address, "@")+1:]
	id := func(left string) string { return "<" + left + "@" + domain + ">" }
	var to []string
	for _, a := range s.to {
		to = append(to, oneLine(a.String()))
	}
	var b bytes.Buffer
	header := func(name, value string) { fmt.Fprintf(&b, "%s: %s\r\n", name, oneLine(value)) }
	header("From", s.from.String())
	fmt.Fprintf(&b, "To: %s\r\n", strings.Join(to, ",\r\n ")) // a line may have 998 bytes
	header("Subject", mime.QEncoding.Encode("utf-8", clip(maxSubject, title(e))))
	header("Date", e.Time.Format(time.RFC1123Z))
	header("Message-ID", id(token(e.ID)))
	header("References", id("thread-"+thread(e)))
	header("Auto-Submitted", "auto-generated")
	header("X-Tallywood-Rule", token(string(e.Rule)))
	header("X-Tallywood-Severity", e.Severity.String())
	header("MIME-Version", "1.0")
	header("Content-Type", "text/plain; charset=utf-8")
	header("Content-Transfer-Encoding", "quoted-printable")
	b.WriteString("\r\n")
	w := quotedprintable.NewWriter(&b)
	_, _ = w.Write([]byte(strings.ReplaceAll(plain(e), "\n", "\r\n"))) // to a buffer
	_ = w.Close()
	return b.String()
}

// token returns text with nothing in it that a header gives a meaning.
func token(text string) string {
	return strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r == '.' || r == '-' {
			return r
		}
		return '-'
	}, text)
}

// thread returns what events of one identity in one log have in common, and of one rule if they
// are about the log.
func thread(e monitor.Event) string {
	what := e.Identity
	if what == "" {
		what = string(e.Rule)
	}
	sum := sha256.Sum256([]byte(strings.Join([]string{e.Origin, what}, "\n")))
	return hex.EncodeToString(sum[:8])
}
