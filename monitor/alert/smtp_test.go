package alert_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"mime"
	"mime/quotedprintable"
	"net"
	"net/mail"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"

	"tallywood/monitor"
	"tallywood/monitor/alert"
	"tallywood/monitor/rule"
)

const (
	mailUser     = "monitor"
	mailPassword = "correct horse battery staple"
)

// A mailbox is a server of another author's software with what it was given.
type mailbox struct {
	address string
	caFile  string

	mu     sync.Mutex
	mails  []received
	ways   []string         // of logging in that are offered; nil: none, and none is needed
	refuse map[string]error // answers to recipients
	answer error            // to a mail that was read
}

type received struct {
	secure bool // over TLS
	user   string
	from   string
	to     []string
	data   []byte
}

// newMailbox starts a server that offers STARTTLS, or speaks TLS from the first byte.
func newMailbox(t *testing.T, implicit bool, ways ...string) *mailbox {
	t.Helper()
	m := &mailbox{ways: ways, refuse: map[string]error{}}
	cert, file := certificate(t)
	m.caFile = file
	server := smtp.NewServer(smtp.BackendFunc(func(c *smtp.Conn) (smtp.Session, error) {
		return &mailSession{box: m, conn: c}, nil
	}))
	server.Domain = "localhost"
	server.TLSConfig = &tls.Config{Certificates: []tls.Certificate{cert}}
	server.ErrorLog = discard{}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	m.address = l.Addr().String()
	if implicit {
		l = tls.NewListener(l, server.TLSConfig)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(l)
	}()
	t.Cleanup(func() {
		server.Close()
		<-done
	})
	return m
}

type discard struct{}

func (discard) Printf(string, ...any) {}
func (discard) Println(...any)        {}

// certificate returns a certificate for 127.0.0.1, and it as the file of an authority.
func certificate(t *testing.T) (tls.Certificate, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "mail"}, IsCA: true,
		BasicConstraintsValid: true, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, path
}

type mailSession struct {
	box  *mailbox
	conn *smtp.Conn
	got  received
}

func (s *mailSession) AuthMechanisms() []string { return s.box.ways }

func (s *mailSession) Auth(mechanism string) (sasl.Server, error) {
	login := func(user, password string) error {
		if user != mailUser || password != mailPassword {
			return errors.New("this is not " + password) // as careless servers answer
		}
		s.got.user = user
		return nil
	}
	if mechanism == sasl.Login {
		return &loginServer{check: login}, nil
	}
	return sasl.NewPlainServer(func(_, user, password string) error { return login(user, password) }), nil
}

// loginServer asks as Microsoft's servers do.
type loginServer struct {
	check func(user, password string) error
	step  int
	user  string
}

func (l *loginServer) Next(answer []byte) ([]byte, bool, error) {
	l.step++
	switch l.step {
	case 1:
		return []byte("Username:"), false, nil
	case 2:
		l.user = string(answer)
		return []byte("Password:"), false, nil
	}
	return nil, true, l.check(l.user, string(answer))
}

func (s *mailSession) Reset()        { s.got = received{user: s.got.user} }
func (s *mailSession) Logout() error { return nil }

func (s *mailSession) Mail(from string, _ *smtp.MailOptions) error {
	if s.box.ways != nil && s.got.user == "" {
		return smtp.ErrAuthRequired
	}
	s.got.from = from
	return nil
}

func (s *mailSession) Rcpt(to string, _ *smtp.RcptOptions) error {
	s.box.mu.Lock()
	defer s.box.mu.Unlock()
	if err := s.box.refuse[to]; err != nil {
		return err
	}
	s.got.to = append(s.got.to, to)
	return nil
}

func (s *mailSession) Data(r io.Reader) (err error) {
	if s.got.data, err = io.ReadAll(r); err != nil {
		return err
	}
	_, s.got.secure = s.conn.TLSConnectionState()
	s.box.mu.Lock()
	defer s.box.mu.Unlock()
	s.box.mails = append(s.box.mails, s.got)
	return s.box.answer
}

func (m *mailbox) all() []received {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.mails)
}

func (m *mailbox) options() alert.SMTPOptions {
	return alert.SMTPOptions{Server: m.address, CAFile: m.caFile, User: mailUser, Password: alert.Secret{Value: mailPassword},
		From: "Monitor <monitor@example.org>", To: []string{"alice@example.org", "Böb <bob@example.org>"}}
}

func openSMTP(t *testing.T, o alert.SMTPOptions) *alert.SMTP {
	t.Helper()
	s, err := alert.OpenSMTP(o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func alarm(n int) monitor.Event {
	e := event(n)
	e.Rule, e.Severity, e.Identity, e.Issuer = rule.IDUnexpected, rule.Critical, "tool releases", "https://evil.example"
	e.Reasons = []rule.Reason{{Rule: rule.IDUnexpected, Severity: rule.Critical, Text: "another issuer", Field: "issuer",
		Expected: []string{"https://good.example"}, Seen: "https://evil.example"}}
	return e
}

func TestMailIsSent(t *testing.T) {
	for name, c := range map[string]struct {
		implicit bool
		way      string
	}{"STARTTLS, PLAIN": {false, sasl.Plain}, "STARTTLS, LOGIN": {false, sasl.Login}, "TLS, PLAIN": {true, sasl.Plain}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			box := newMailbox(t, c.implicit, c.way)
			o := box.options()
			if c.implicit {
				o.TLS = alert.TLS
			}
			if err := openSMTP(t, o).Send(t.Context(), alarm(5)); err != nil {
				t.Fatal(err)
			}
			mails := box.all()
			if len(mails) != 1 {
				t.Fatalf("%d mails", len(mails))
			}
			got := mails[0]
			if !got.secure || got.user != mailUser || got.from != "monitor@example.org" ||
				!slices.Equal(got.to, []string{"alice@example.org", "bob@example.org"}) {
				t.Errorf("got %+v", got)
			}
			checkMail(t, got.data, alarm(5))
		})
	}
}

// checkMail reads a mail with other software than what made it.
func checkMail(t *testing.T, data []byte, e monitor.Event) {
	t.Helper()
	msg, err := mail.ReadMessage(bytes.NewReader(data))
	if err != nil {
		t.Fatalf("%v:\n%s", err, data)
	}
	for _, line := range bytes.Split(data, []byte("\r\n")) {
		if len(line) > 998 || bytes.ContainsFunc(line, func(r rune) bool { return r > 126 || r < 32 && r != '\t' }) {
			t.Errorf("line %q", line)
		}
	}
	h := msg.Header
	if got := h.Get("Message-ID"); got != "<"+e.ID+"@example.org>" {
		t.Errorf("Message-ID %s", got)
	}
	if at, err := h.Date(); err != nil || !at.Equal(e.Time) {
		t.Errorf("date %v, %v", at, err)
	}
	if to, err := h.AddressList("To"); err != nil || len(to) != 2 || to[1].Name != "Böb" {
		t.Errorf("to %v, %v", to, err)
	}
	subject, err := new(mime.WordDecoder).DecodeHeader(h.Get("Subject"))
	if err != nil || subject != "[critical] id.unexpected-issuer: tool releases (log.localhost)" {
		t.Errorf("subject %q, %v", subject, err)
	}
	if h.Get("Auto-Submitted") != "auto-generated" || h.Get("Content-Type") != "text/plain; charset=utf-8" {
		t.Errorf("headers %v", h)
	}
	text, err := io.ReadAll(quotedprintable.NewReader(msg.Body))
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(text), "\nIssuer:") {
		t.Errorf("the issuer is there twice:\n%s", text)
	}
	for _, want := range []string{"a <b> & c", "Expected issuer:     https://good.example\r\n", "Seen issuer:         https://evil.example\r\n",
		"Evidence:            evidence/x\r\n", "Event:               " + e.ID} {
		if !strings.Contains(string(text), want) {
			t.Errorf("no %q in:\n%s", want, text)
		}
	}
}

func TestMailsOfOneIdentityMakeAThread(t *testing.T) {
	t.Parallel()
	box := newMailbox(t, false, sasl.Plain)
	s := openSMTP(t, box.options())
	other := alarm(3)
	other.Identity = "another"
	paged := alarm(2)
	paged.Page = pageURL
	for _, e := range []monitor.Event{alarm(1), paged, alarm(1), other} {
		if err := s.Send(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	var ids, threads []string
	for _, m := range box.all() {
		msg, err := mail.ReadMessage(bytes.NewReader(m.data))
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(quotedprintable.NewReader(msg.Body))
		if linked := strings.Contains(string(text), "What it means, and what to do: "+pageURL+"\r\n"); err != nil || linked != (len(ids) == 1) {
			t.Errorf("mail %d links to the page: %v, %v", len(ids), linked, err)
		}
		ids, threads = append(ids, msg.Header.Get("Message-ID")), append(threads, msg.Header.Get("References"))
	}
	if ids[0] != ids[2] || ids[0] == ids[1] || threads[0] != threads[1] || threads[0] == threads[3] || threads[0] == "" {
		t.Errorf("Message-IDs %q, threads %q", ids, threads)
	}
}

// TestMailHeadersCannotBeInjected has everything that a log or a configuration may say try.
func TestMailHeadersCannotBeInjected(t *testing.T) {
	t.Parallel()
	box := newMailbox(t, false, sasl.Plain)
	const evil = "x\r\nBcc: victim@example.org\r\n\r\n.\r\nMAIL FROM:<x@example.org>\r\n"
	e := monitor.Event{ID: evil, Time: time.Unix(1, 0), Rule: rule.ID(evil), Identity: evil, Origin: evil, Summary: evil + ".\r\n", Evidence: evil,
		Subject: evil, Issuer: evil, Expected: []string{evil}, Digest: evil, Certificate: evil, RunURL: evil, LogURL: evil}
	if err := openSMTP(t, box.options()).Send(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	mails := box.all()
	if len(mails) != 1 || len(mails[0].to) != 2 {
		t.Fatalf("mails %+v", mails)
	}
	msg, err := mail.ReadMessage(bytes.NewReader(mails[0].data))
	if err != nil {
		t.Fatal(err)
	}
	if len(msg.Header) != 12 || msg.Header.Get("Bcc") != "" {
		t.Errorf("headers %v", msg.Header)
	}
	text, err := io.ReadAll(quotedprintable.NewReader(msg.Body))
	if err != nil || strings.Contains(string(text), "\nBcc:") || !strings.Contains(string(text), "Bcc: victim") {
		t.Errorf("text %q, %v", text, err)
	}
}

func TestMailThatIsRefused(t *testing.T) {
	t.Parallel()
	gone := &smtp.SMTPError{Code: 550, EnhancedCode: smtp.EnhancedCode{5, 1, 1}, Message: "no such user"}
	later := &smtp.SMTPError{Code: 451, EnhancedCode: smtp.EnhancedCode{4, 7, 1}, Message: "greylisted"}
	const alice, bob = "alice@example.org", "bob@example.org"
	for name, c := range map[string]struct {
		refuse map[string]error
		answer error
		mails  int
		err    string // empty: taken
		said   string
	}{
		"one recipient is gone":    {map[string]error{alice: gone}, nil, 1, "", "no such user"},
		"all recipients are gone":  {map[string]error{alice: gone, bob: gone}, nil, 0, "no such user", ""},
		"one is to be tried later": {map[string]error{bob: later}, nil, 0, "greylisted", ""},
		"the text is refused":      {nil, &smtp.SMTPError{Code: 554, Message: "smells of spam"}, 1, "smells of spam", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			box := newMailbox(t, false, sasl.Plain)
			box.refuse, box.answer = c.refuse, c.answer
			var said bytes.Buffer
			o := box.options()
			o.Log = slog.New(slog.NewTextHandler(&said, nil))
			err := openSMTP(t, o).Send(t.Context(), alarm(1))
			if (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
				t.Errorf("error %v, want %q", err, c.err)
			}
			if got := box.all(); len(got) != c.mails || c.said != "" && !strings.Contains(said.String(), c.said) {
				t.Errorf("%d mails, log %q", len(got), said.String())
			}
		})
	}
}

// TestMailPasswordStaysSecret meets servers that would have it.
func TestMailPasswordStaysSecret(t *testing.T) {
	t.Parallel()
	box := newMailbox(t, false, sasl.Plain)
	o := box.options()
	o.Password.Value = "wrong-password"
	if err := openSMTP(t, o).Send(t.Context(), alarm(1)); err == nil || strings.Contains(err.Error(), "wrong-password") ||
		!strings.Contains(err.Error(), "this is not (secret)") {
		t.Errorf("wrong password: %v", err)
	}
	o = box.options()
	o.CAFile = "" // nobody we trust vouches for the server
	if err := openSMTP(t, o).Send(t.Context(), alarm(1)); err == nil || !strings.Contains(err.Error(), "turning to TLS") {
		t.Errorf("unknown authority: %v", err)
	}
	// A server, or somebody between, that does not offer STARTTLS.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	heard := make(chan string, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		io.WriteString(c, "220 hello\r\n")
		buf := make([]byte, 1000)
		n, _ := c.Read(buf)
		io.WriteString(c, "250-hello\r\n250 AUTH PLAIN LOGIN\r\n")
		more, _ := io.ReadAll(c)
		heard <- string(buf[:n]) + string(more)
	}()
	o = box.options()
	o.Server = l.Addr().String()
	if err := openSMTP(t, o).Send(t.Context(), alarm(1)); err == nil || !strings.Contains(err.Error(), "STARTTLS") {
		t.Errorf("no STARTTLS: %v", err)
	}
	if got := <-heard; strings.Contains(got, "AUTH") || strings.Contains(got, "MAIL") {
		t.Errorf("the server heard %q", got)
	}
	if got := box.all(); len(got) != 0 {
		t.Errorf("mails %+v", got)
	}
}

func TestMailPasswordFileIsReadAnew(t *testing.T) {
	t.Parallel()
	box := newMailbox(t, false, sasl.Plain)
	o := box.options()
	o.Password = secretFile(t, "old\n")
	s := openSMTP(t, o)
	if err := s.Send(t.Context(), alarm(1)); err == nil {
		t.Error("the old password was taken")
	}
	if err := os.WriteFile(o.Password.File, []byte(mailPassword+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.Send(t.Context(), alarm(1)); err != nil {
		t.Error(err)
	}
}

func TestMailOptionsAreChecked(t *testing.T) {
	t.Parallel()
	good := func() alert.SMTPOptions {
		return alert.SMTPOptions{Server: "mail.example.org:587", From: "a@example.org", To: []string{"b@example.org"}}
	}
	openSMTP(t, good())
	for name, change := range map[string]func(*alert.SMTPOptions){
		"no port":          func(o *alert.SMTPOptions) { o.Server = "mail.example.org" },
		"unknown tls":      func(o *alert.SMTPOptions) { o.TLS = "ssl" },
		"clear text":       func(o *alert.SMTPOptions) { o.TLS = alert.NoTLS },
		"no sender":        func(o *alert.SMTPOptions) { o.From = "" },
		"nobody":           func(o *alert.SMTPOptions) { o.To = nil },
		"lines in to":      func(o *alert.SMTPOptions) { o.To = []string{"b@example.org\r\nBcc: c@example.org"} },
		"user alone":       func(o *alert.SMTPOptions) { o.User = "a" },
		"password alone":   func(o *alert.SMTPOptions) { o.Password.Value = "a" },
		"no password file": func(o *alert.SMTPOptions) { o.User, o.Password.File = "a", "/no/such/file" },
		"no authorities":   func(o *alert.SMTPOptions) { o.CAFile = "/dev/null" },
	} {
		o := good()
		change(&o)
		if _, err := alert.OpenSMTP(o); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
