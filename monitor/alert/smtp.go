package alert

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/mail"
	"net/smtp"
	"net/textproto"
	"os"
	"slices"
	"strings"
	"time"

	"tallywood/monitor"
)

const smtpTimeout = 25 * time.Second // less than the outbox waits

// The ways of SMTPOptions.TLS.
const (
	StartTLS = "starttls" // after a greeting in the clear, which must offer it
	TLS      = "tls"      // from the first byte
	NoTLS    = "none"     // never; to loopback addresses alone
)

// SMTPOptions configure an SMTP.
type SMTPOptions struct {
	Server string // host:port of the server that mail is handed to
	TLS    string // StartTLS, TLS or NoTLS; empty: StartTLS
	CAFile string // PEM file of the authorities that may certify the server; empty: those of the system

	User     string // to log in as; empty: no login
	Password Secret // of User

	From string   // a mail address, with or without a name
	To   []string // at least one

	Log *slog.Logger // nil: discard. It is told of recipients that the server refuses
}

// SMTP sends each event as a mail.
type SMTP struct {
	o    SMTPOptions
	host string
	tls  *tls.Config
	from *mail.Address
	to   []*mail.Address
}

var _ monitor.Sink = (*SMTP)(nil)

// OpenSMTP checks o and reads what it names. It does not connect.
func OpenSMTP(o SMTPOptions) (*SMTP, error) {
	s := &SMTP{o: o}
	if s.o.Log == nil {
		s.o.Log = slog.New(slog.DiscardHandler)
	}
	if s.o.TLS == "" {
		s.o.TLS = StartTLS
	}
	err := errors.Join(s.checkServer(), s.checkLogin(), s.checkAddresses())
	if err != nil {
		return nil, err
	}
	return s, nil
}

func (s *SMTP) checkServer() error {
	host, port, err := net.SplitHostPort(s.o.Server)
	if err != nil || host == "" || port == "" {
		return fmt.Errorf("server %q is not HOST:PORT, such as mail.example.org:587", s.o.Server)
	}
	s.host = host
	switch {
	case !slices.Contains([]string{StartTLS, TLS, NoTLS}, s.o.TLS):
		return fmt.Errorf("tls %q is none of %s, %s, %s", s.o.TLS, StartTLS, TLS, NoTLS)
	case s.o.TLS == NoTLS && !isLoopback(host):
		return fmt.Errorf("tls %s to %s: mail in the clear goes to loopback addresses alone", NoTLS, host)
	}
	s.tls = &tls.Config{ServerName: host, MinVersion: tls.VersionTLS12}
	if s.o.CAFile == "" {
		return nil
	}
	pem, err := os.ReadFile(s.o.CAFile)
	if err != nil {
		return fmt.Errorf("reading authorities of the mail server: %w", err)
	}
	s.tls.RootCAs = x509.NewCertPool()
	if !s.tls.RootCAs.AppendCertsFromPEM(pem) {
		return fmt.Errorf("%s has no PEM certificate", s.o.CAFile)
	}
	return nil
}

func (s *SMTP) checkLogin() error {
	if s.o.User == "" && s.o.Password.IsZero() {
		return nil
	}
	if s.o.User == "" || s.o.Password.IsZero() {
		return errors.New("a user needs a password, and a password a user")
	}
	_, err := s.o.Password.read()
	return err
}

func (s *SMTP) checkAddresses() error {
	var err error
	if s.from, err = mail.ParseAddress(s.o.From); err != nil {
		return fmt.Errorf("from %q: %w", s.o.From, err)
	}
	if len(s.o.To) == 0 {
		return errors.New("no address to send mail to")
	}
	for _, text := range s.o.To {
		a, err := mail.ParseAddress(text)
		if err != nil {
			return fmt.Errorf("to %q: %w", text, err)
		}
		s.to = append(s.to, a)
	}
	return nil
}

// Send implements monitor.Sink: the mail is the server's once it has answered the text of it.
func (s *SMTP) Send(ctx context.Context, e monitor.Event) error {
	var password string
	var err error
	if s.o.User != "" {
		password, err = s.o.Password.read()
	}
	if err == nil {
		err = s.send(ctx, e, password)
	}
	if err != nil {
		return hide(fmt.Errorf("mailing event %s: %w", e.ID, err), s.said(password)...)
	}
	return nil
}

// said returns the forms in which a server is told the password, the longest first: some repeat what they
// do not take.
func (s *SMTP) said(password string) []string {
	if password == "" {
		return nil
	}
	encode := base64.StdEncoding.EncodeToString
	return []string{encode([]byte("\x00" + s.o.User + "\x00" + password)), encode([]byte(password)), password}
}

func (s *SMTP) send(ctx context.Context, e monitor.Event, password string) error {
	ctx, cancel := context.WithTimeout(ctx, smtpTimeout)
	defer cancel()
	client, end, err := s.dial(ctx)
	if err != nil {
		return err
	}
	defer end()
	if s.o.User != "" {
		if err := s.login(client, password); err != nil {
			return fmt.Errorf("logging in: %w", err)
		}
	}
	if err := client.Mail(s.from.Address); err != nil {
		return fmt.Errorf("sender %s: %w", s.from.Address, err)
	}
	if err := s.recipients(client); err != nil {
		return err
	}
	w, err := client.Data()
	if err != nil {
		return err
	}
	if _, err := io.WriteString(w, s.mail(e)); err != nil {
		return err
	}
	if err := w.Close(); err != nil { // the server's answer to the mail
		return err
	}
	_ = client.Quit() // it has the mail: whatever it says now would only have it sent again
	return nil
}

// dial connects, and has the connection end with ctx.
func (s *SMTP) dial(ctx context.Context) (*smtp.Client, func(), error) {
	raw, err := (&net.Dialer{}).DialContext(ctx, "tcp", s.o.Server)
	if err != nil {
		return nil, nil, err
	}
	stop := context.AfterFunc(ctx, func() { raw.Close() })
	end := func() {
		stop()
		raw.Close()
	}
	if deadline, ok := ctx.Deadline(); ok {
		_ = raw.SetDeadline(deadline)
	}
	conn := raw
	if s.o.TLS == TLS {
		conn = tls.Client(raw, s.tls)
	}
	client, err := smtp.NewClient(conn, s.host)
	if err != nil {
		end()
		return nil, nil, fmt.Errorf("greeting: %w", err)
	}
	if err := s.secure(client); err != nil {
		end()
		return nil, nil, err
	}
	return client, end, nil
}

// secure says hello and turns to TLS if that is the way.
func (s *SMTP) secure(client *smtp.Client) error {
	name, err := os.Hostname()
	if err != nil || strings.ContainsAny(name, " \r\n") || name == "" {
		name = "localhost"
	}
	if err := client.Hello(name); err != nil {
		return fmt.Errorf("greeting: %w", err)
	}
	if s.o.TLS != StartTLS {
		return nil
	}
	if ok, _ := client.Extension("STARTTLS"); !ok {
		return errors.New("the server does not offer STARTTLS; nothing was sent")
	}
	if err := client.StartTLS(s.tls); err != nil {
		return fmt.Errorf("turning to TLS: %w", err)
	}
	return nil
}

// recipients names them to the server. Of those that it refuses for good the others do not suffer:
// the sink's log is told, and an error is returned only if nobody is left, or if the server may
// take them later.
func (s *SMTP) recipients(client *smtp.Client) error {
	taken := 0
	var errs []error
	for _, to := range s.to {
		err := client.Rcpt(to.Address)
		var answered *textproto.Error
		switch {
		case err == nil:
			taken++
		case errors.As(err, &answered) && answered.Code >= 500:
			errs = append(errs, fmt.Errorf("recipient %s: %w", to.Address, err))
		default:
			return fmt.Errorf("recipient %s: %w", to.Address, err)
		}
	}
	if taken == 0 {
		return errors.Join(errs...)
	}
	if len(errs) > 0 {
		s.o.Log.Error("mail server refuses some of the recipients", "err", errors.Join(errs...))
	}
	return nil
}

// login authenticates by the best way that the server offers. In the clear it does so with a
// loopback address alone.
func (s *SMTP) login(client *smtp.Client, password string) error {
	_, offered := client.Extension("AUTH")
	ways := strings.Fields(offered)
	switch {
	case slices.Contains(ways, "PLAIN"):
		return client.Auth(smtp.PlainAuth("", s.o.User, password, s.host))
	case slices.Contains(ways, "LOGIN"):
		return client.Auth(&loginAuth{s.o.User, password, s.host})
	}
	return fmt.Errorf("the server offers %q; known are PLAIN and LOGIN", offered)
}

// loginAuth is LOGIN, which some servers offer instead of PLAIN: user and password in two answers.
type loginAuth struct{ user, password, host string }

// Start implements smtp.Auth.
func (a *loginAuth) Start(server *smtp.ServerInfo) (string, []byte, error) {
	if server.Name != a.host || !server.TLS && !isLoopback(a.host) {
		return "", nil, errors.New("unencrypted connection")
	}
	return "LOGIN", nil, nil
}

// Next implements smtp.Auth. The server asks for one and then the other, in words of its own.
func (a *loginAuth) Next(asked []byte, more bool) ([]byte, error) {
	if !more {
		return nil, nil
	}
	if question := strings.ToLower(string(asked)); strings.HasPrefix(question, "pass") {
		return []byte(a.password), nil
	} else if strings.HasPrefix(question, "user") {
		return []byte(a.user), nil
	}
	return nil, fmt.Errorf("the server asks for %q", clip(maxReason, string(asked)))
}
