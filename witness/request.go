package witness

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"tallywood/witness/policy"
)

// Limits of c2sp.org/tlog-witness.
const (
	maxBody  = 128 << 10 // bytes of a request; 16 cosigners with two keys each take half of it
	maxProof = 63        // hashes of a proof
)

// A requestError is a refusal that is the request's own fault.
type requestError struct {
	status int // HTTP
	err    error
}

func (e *requestError) Error() string { return e.err.Error() }
func (e *requestError) Unwrap() error { return e.err }

func refuse(status int, format string, args ...any) error {
	return &requestError{status: status, err: fmt.Errorf(format, args...)}
}

// A ConflictError reports that the submitted old size is not the one last cosigned.
type ConflictError struct{ Size int64 }

func (e *ConflictError) Error() string {
	return fmt.Sprintf("the last cosigned checkpoint has size %d", e.Size)
}

// An unavailableError asks to come back later.
type unavailableError struct {
	after   time.Duration
	reason  string
	limited bool // by what the log or the address has asked for already: 429 instead of 503
}

func (e *unavailableError) Error() string { return e.reason }

// addRequest is an add-checkpoint request. Nothing in it is verified.
type addRequest struct {
	old            int64
	proof          []tlog.Hash
	originUnsigned string // the first line of the note
	note           []byte
}

// parseAdd parses the body of an add-checkpoint request:
//
// > - a line consisting of the string "old", a single space, and the previous tree size in decimal
// > - zero or more consistency proof lines
// > - an empty line
// > - a checkpoint (c2sp.org/tlog-witness)
func parseAdd(body []byte) (addRequest, error) {
	first, lines, note, err := cutRequest(body)
	if err != nil {
		return addRequest{}, err
	}
	size, ok := strings.CutPrefix(first, "old ")
	if !ok {
		return addRequest{}, errors.New(`first line does not begin with "old "`)
	}
	r := addRequest{note: note}
	if r.old, err = policy.ParseSize(size); err != nil {
		return addRequest{}, fmt.Errorf("old size: %w", err)
	}
	if r.proof, err = parseProof(lines); err != nil {
		return addRequest{}, err
	}
	r.originUnsigned, err = firstLine(note)
	return r, err
}

// subtreeRequest is a sign-subtree request. Nothing in it is verified.
type subtreeRequest struct {
	start, end     int64
	hash           [32]byte
	proof          []tlog.Hash
	originUnsigned string
	note           []byte
}

// parseSubtree parses the body of a sign-subtree request: a line `subtree START END`, the
// subtree's hash, proof lines, an empty line, and a reference checkpoint.
func parseSubtree(body []byte) (subtreeRequest, error) {
	first, lines, note, err := cutRequest(body)
	if err != nil {
		return subtreeRequest{}, err
	}
	sizes, ok := strings.CutPrefix(first, "subtree ")
	start, end, ok2 := strings.Cut(sizes, " ")
	if !ok || !ok2 {
		return subtreeRequest{}, errors.New(`first line is not "subtree START END"`)
	}
	r := subtreeRequest{note: note}
	if r.start, err = policy.ParseSize(start); err != nil {
		return subtreeRequest{}, fmt.Errorf("start: %w", err)
	}
	if r.end, err = policy.ParseSize(end); err != nil {
		return subtreeRequest{}, fmt.Errorf("end: %w", err)
	}
	if len(lines) == 0 {
		return subtreeRequest{}, errors.New("no subtree hash line")
	}
	if r.hash, err = policy.ParseHash(lines[0]); err != nil {
		return subtreeRequest{}, fmt.Errorf("subtree hash %w", err)
	}
	if r.proof, err = parseProof(lines[1:]); err != nil {
		return subtreeRequest{}, err
	}
	r.originUnsigned, err = firstLine(note)
	return r, err
}

// cutRequest splits a body at its first empty line into the lines above and the note below.
func cutRequest(body []byte) (first string, lines []string, note []byte, err error) {
	header, note, ok := bytes.Cut(body, []byte("\n\n"))
	if !ok {
		return "", nil, nil, errors.New("no empty line before the checkpoint")
	}
	// One line for the proof beyond what is allowed, so that a flood is not split into lines.
	lines = strings.SplitN(string(header), "\n", maxProof+4)
	return lines[0], lines[1:], note, nil
}

func parseProof(lines []string) ([]tlog.Hash, error) {
	if len(lines) > maxProof {
		return nil, fmt.Errorf("more than %d proof lines", maxProof)
	}
	proof := make([]tlog.Hash, len(lines))
	for i, line := range lines {
		h, err := policy.ParseHash(line)
		if err != nil {
			return nil, fmt.Errorf("proof line %d %w", i+1, err)
		}
		proof[i] = h
	}
	return proof, nil
}

func firstLine(note []byte) (string, error) {
	origin, _, ok := bytes.Cut(note, []byte("\n"))
	if !ok || len(origin) == 0 {
		return "", errors.New("checkpoint has no origin line")
	}
	return string(origin), nil
}
