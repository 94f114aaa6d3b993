package bench

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/big"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// An attack is what each of so many connections of an address does, again and again: it is given a
// new connection and the bytes to send, and returns what it got.
type attack struct {
	conns int           // of each address
	pause time.Duration // between two attempts of one
	try   func(a *attackers, ctx context.Context, c net.Conn) string
}

// attacks are the ways to be a bad client.
var attacks = map[string]attack{
	"oversize bodies":  {16, 20 * time.Millisecond, (*attackers).oversize},
	"slow headers":     {256, 0, (*attackers).slowHeader},
	"slow bodies":      {256, 0, (*attackers).slowBody},
	"garbage":          {64, 0, (*attackers).garbage},
	"wrong signatures": {64, 0, (*attackers).wrongSignatures},
	"connections":      {64, 20 * time.Millisecond, (*attackers).connect},
}

// AttackNames are the names of all attacks.
func AttackNames() []string { return slices.Sorted(maps.Keys(attacks)) }

// attackers attack a target from several addresses.
type attackers struct {
	target target
	from   []string
	costly []string // verifiers whose signatures take long to verify

	running sync.WaitGroup

	mu  sync.Mutex // guards got
	got map[string]int
}

// startAttackers begins the named attacks, which go on until ctx ends. wait waits for that and returns
// what they got.
func startAttackers(ctx context.Context, t target, from, names []string) (wait func() (map[string]int, error), err error) {
	a := &attackers{target: t, from: from, got: map[string]int{}}
	if err := a.makeVerifiers(); err != nil {
		return nil, err
	}
	for _, name := range names {
		k := attacks[name]
		for _, from := range a.from {
			t := a.target
			t.from = net.ParseIP(from)
			for range k.conns {
				a.running.Go(func() { a.repeat(ctx, k, t) })
			}
		}
	}
	return func() (map[string]int, error) {
		a.running.Wait()
		return a.got, nil
	}, nil
}

func (a *attackers) repeat(ctx context.Context, k attack, t target) {
	for ctx.Err() == nil {
		got := "no connection"
		d := net.Dialer{Timeout: time.Second, LocalAddr: t.local()}
		if c, err := d.DialContext(ctx, "tcp", t.address); err == nil {
			if t.tls != nil {
				c = tls.Client(c, t.tls)
			}
			stop := context.AfterFunc(ctx, func() { c.Close() })
			got = k.try(a, ctx, c)
			stop()
			c.Close()
		}
		if ctx.Err() != nil {
			return
		}
		a.mu.Lock()
		a.got[got]++
		a.mu.Unlock()
		sleep(ctx, max(k.pause, time.Millisecond))
	}
}

// answer reads an answer and names it.
func answer(br *bufio.Reader) (name string, more bool) {
	res, err := http.ReadResponse(br, nil)
	if err != nil {
		return "closed", false
	}
	_, err = io.Copy(io.Discard, io.LimitReader(res.Body, maxReply))
	return "status " + strconv.Itoa(res.StatusCode), err == nil && !res.Close
}

// head is the head of a request whose body is to have length bytes, or is chunked if that is negative.
func (a *attackers) head(length int) string {
	if length < 0 {
		head, _, _ := strings.Cut(a.target.head, "Content-Length: ")
		return head + "Transfer-Encoding: chunked\r\n\r\n"
	}
	return a.target.head + strconv.Itoa(length) + "\r\n\r\n"
}

// oversize sends 64 MiB, announced or chunked, as fast as they are taken.
func (a *attackers) oversize(_ context.Context, c net.Conn) string {
	const size, piece = 64 << 20, 64 << 10
	data := slices.Repeat([]byte(" "), piece)
	chunked := time.Now().UnixNano()%2 == 0
	head := a.head(size)
	if chunked {
		head = a.head(-1)
	}
	_, err := io.WriteString(c, head)
	for sent := 0; err == nil && sent < size; sent += piece {
		if chunked {
			_, err = fmt.Fprintf(c, "%x\r\n%s\r\n", piece, data)
		} else {
			_, err = c.Write(data)
		}
	}
	name, _ := answer(bufio.NewReader(c))
	return name
}

// slowHeader sends a byte of a header each second.
func (a *attackers) slowHeader(ctx context.Context, c net.Conn) string {
	return a.drip(ctx, c, a.target.head[:len(a.target.head)-len("Content-Length: ")]+"X-Slow: ", 1)
}

// slowBody sends 80 bytes of a body each second.
func (a *attackers) slowBody(ctx context.Context, c net.Conn) string {
	return a.drip(ctx, c, a.head(4<<20), 80)
}

func (a *attackers) drip(ctx context.Context, c net.Conn, begin string, piece int) string {
	if _, err := io.WriteString(c, begin); err != nil {
		return "closed"
	}
	ended := make(chan string, 1)
	go func() {
		name, _ := answer(bufio.NewReader(c))
		ended <- name
	}()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case name := <-ended:
			return name
		case <-tick.C:
			if _, err := io.WriteString(c, strings.Repeat(" ", piece)); err != nil {
				return <-ended
			}
		case <-ctx.Done():
			c.Close()
			return <-ended
		}
	}
}

// garbage sends 2 KiB that are no JSON, over a connection that is kept.
func (a *attackers) garbage(ctx context.Context, c net.Conn) string {
	return a.keep(ctx, c, func() string {
		noise := make([]byte, 1<<10)
		rand.Read(noise) // never fails
		return fmt.Sprintf(`{"hashedRekordRequestV002":%x`, noise)
	})
}

// wrongSignatures sends entries whose signatures are those of nobody, but take as long to verify as
// there is: ECDSA on P-521 and RSA-4096.
func (a *attackers) wrongSignatures(ctx context.Context, c net.Conn) string {
	n := 0
	return a.keep(ctx, c, func() string {
		n++
		return a.wrong(n % len(a.costly))
	})
}

// keep sends requests over one connection until it ends.
func (a *attackers) keep(ctx context.Context, c net.Conn, body func() string) string {
	br := bufio.NewReader(c)
	for {
		text := body()
		if _, err := io.WriteString(c, a.head(len(text))+text); err != nil {
			return "closed"
		}
		name, more := answer(br)
		if !more || ctx.Err() != nil {
			return name
		}
		a.mu.Lock()
		a.got[name]++
		a.mu.Unlock()
	}
}

// connect opens a connection and sends nothing; every other one is closed at once.
func (a *attackers) connect(_ context.Context, c net.Conn) string {
	if time.Now().UnixNano()%2 == 0 {
		return "left"
	}
	if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, net.ErrClosed) {
		return "left"
	}
	return "closed"
}

// makeVerifiers makes keys that nobody has the other half of.
func (a *attackers) makeVerifiers() error {
	p521, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	if err != nil {
		return fmt.Errorf("making a key: %w", err)
	}
	modulus := make([]byte, 512)
	rand.Read(modulus) // never fails
	modulus[0], modulus[511] = modulus[0]|0x80, modulus[511]|1
	for details, key := range map[string]any{
		"PKIX_ECDSA_P521_SHA_512":       p521.Public(),
		"PKIX_RSA_PKCS1V15_4096_SHA256": &rsa.PublicKey{N: new(big.Int).SetBytes(modulus), E: 65537},
	} {
		der, err := x509.MarshalPKIXPublicKey(key)
		if err != nil {
			return fmt.Errorf("encoding a key: %w", err)
		}
		a.costly = append(a.costly, fmt.Sprintf(`{"publicKey":{"rawBytes":"%s"},"keyDetails":"%s"}`, base64.StdEncoding.EncodeToString(der), details))
	}
	return nil
}

// wrong is a request with a random digest and a random signature for one of the costly verifiers.
func (a *attackers) wrong(n int) string {
	verifier := a.costly[n]
	digest, sig := make([]byte, 32), make([]byte, 512)
	rand.Read(sig) // never fails
	sig[0] &= 0x7f
	if strings.Contains(verifier, "P521") {
		digest = make([]byte, 64)
		var err error
		r, s := new(big.Int).SetBytes(sig[:64]), new(big.Int).SetBytes(sig[64:128])
		if sig, err = asn1.Marshal([]*big.Int{r, s}); err != nil {
			panic(err) // two numbers always marshal
		}
	}
	rand.Read(digest)
	enc := base64.StdEncoding.EncodeToString
	return fmt.Sprintf(`{"hashedRekordRequestV002":{"digest":"%s","signature":{"content":"%s","verifier":%s}}}`, enc(digest), enc(sig), verifier)
}
