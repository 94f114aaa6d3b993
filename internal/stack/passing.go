package stack

import (
	"crypto"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// passingTime is how old, and how far ahead, a passing note may be: clocks differ.
const passingTime = time.Minute

// passingText is what the log's key signs for a passingKey. It is no note: those have lines.
const passingText = "tallywood: a secret of the replicas of this log"

// A passingKey makes and checks the notes with which replicas of a log say for whom they pass a
// request on. It is the hash of a signature that nobody else sees, by the log's key, which they share;
// Ed25519 signs a text in one way only. So no stranger can write a note.
type passingKey []byte

func newPassingKey(note crypto.Signer) (passingKey, error) {
	sig, err := note.Sign(rand.Reader, []byte(passingText), crypto.Hash(0))
	if err != nil {
		return nil, fmt.Errorf("deriving the secret of the replicas: %w", err)
	}
	sum := sha256.Sum256(sig)
	return sum[:], nil
}

// noClient stands for a client without an address.
const noClient = "-"

// note says that a request is passed on for client: "CLIENT SECONDS MAC".
func (k passingKey) note(client netip.Prefix, now time.Time) string {
	who := noClient
	if client.IsValid() {
		who = client.String()
	}
	text := who + " " + strconv.FormatInt(now.Unix(), 10)
	return text + " " + string(k.mac(text))
}

// mac authenticates text, in hex.
func (k passingKey) mac(text string) []byte {
	h := hmac.New(sha256.New, k)
	h.Write([]byte(text))
	return hex.AppendEncode(nil, h.Sum(nil))
}

// open returns the client that a note names, if it is one of note's and not old.
func (k passingKey) open(note string, now time.Time) (client netip.Prefix, ok bool) {
	at := strings.LastIndexByte(note, ' ')
	if at < 0 {
		return netip.Prefix{}, false
	}
	text := note[:at]
	if !hmac.Equal([]byte(note[at+1:]), k.mac(text)) {
		return netip.Prefix{}, false
	}
	who, seconds, _ := strings.Cut(text, " ")
	unix, err := strconv.ParseInt(seconds, 10, 64)
	if age := now.Sub(time.Unix(unix, 0)); err != nil || age > passingTime || age < -passingTime {
		return netip.Prefix{}, false
	}
	if who == noClient {
		return netip.Prefix{}, true
	}
	client, err = netip.ParsePrefix(who)
	return client, err == nil
}

// counted returns the client of a request that another replica has counted and passed on.
func (k passingKey) counted(r *http.Request) (client netip.Prefix, ok bool) {
	note := r.Header.Get(forwardedHeader)
	if note == "" {
		return netip.Prefix{}, false
	}
	return k.open(note, now())
}
