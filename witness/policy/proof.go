package policy

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// proofHeader is the first line of a tlog-proof.
const proofHeader = "c2sp.org/tlog-proof@v1"

// maxProofHashes is how many hashes lead to the root of a tree of 2^63 leaves.
const maxProofHashes = 63

// A Proof is a tlog-proof (c2sp.org/tlog-proof). Nothing in a parsed one is verified.
type Proof struct {
	Index      int64      // of the entry in the log
	Hashes     [][32]byte // inclusion proof, from the leaf's sibling to the root's child
	Checkpoint []byte     // signed note
	// UnverifiedExtra is data beside the proof, nil without any. No signature is over it:
	//
	//	> Applications MUST NOT implicitly trust the extra data, as it is not authenticated.
	UnverifiedExtra []byte
}

// ParseProof takes a tlog-proof apart. What could be written in another way is an error: numbers and
// base64 that are not canonical, lines that are not in their order, CR before LF. So Format
// returns every proof that it takes as it came.
func ParseProof(data []byte) (Proof, error) {
	// The lines above the checkpoint are not empty: the first that is ends them.
	head, checkpoint, ended := bytes.Cut(data, []byte("\n\n"))
	lines := strings.Split(string(head), "\n")
	switch {
	case lines[0] != proofHeader:
		return Proof{}, fmt.Errorf("first line is not %q", proofHeader)
	case !ended:
		return Proof{}, errors.New("no empty line with a checkpoint after it")
	}
	p, number := Proof{Checkpoint: checkpoint}, 2
	var err error
	if rest, ok := cutLine(lines, number, "extra "); ok {
		if p.UnverifiedExtra, err = decodeBase64(rest); err != nil {
			return Proof{}, fmt.Errorf("line %d: extra data %w", number, err)
		}
		number++
	}
	index, ok := cutLine(lines, number, "index ")
	if !ok {
		return Proof{}, fmt.Errorf("line %d is not \"index N\"", number)
	}
	if p.Index, err = ParseSize(index); err != nil {
		return Proof{}, fmt.Errorf("line %d: index is %w", number, err)
	}
	hashes := lines[number:]
	if len(hashes) > maxProofHashes {
		return Proof{}, fmt.Errorf("%d hashes, more than the %d of the largest tree", len(hashes), maxProofHashes)
	}
	for i, line := range hashes {
		hash, err := ParseHash(line)
		if err != nil {
			return Proof{}, fmt.Errorf("line %d: hash %w", number+1+i, err)
		}
		p.Hashes = append(p.Hashes, hash)
	}
	return p, nil
}

// cutLine returns what follows prefix in the line with that number, the first being 1.
func cutLine(lines []string, number int, prefix string) (rest string, ok bool) {
	if len(lines) < number {
		return "", false
	}
	return strings.CutPrefix(lines[number-1], prefix)
}

// Format returns the tlog-proof that [ParseProof] parses back into p:
//
//	> The first line MUST be the string c2sp.org/tlog-proof@v1. The second line MAY start with the
//	> string extra followed by a space and base64-encoded opaque extra data. If no extra data is
//	> present, this line is omitted. [...] The next line MUST start with the string index [...]. The
//	> next zero or more non-empty lines are the base64-encoded Merkle inclusion proof [...]. After
//	> the inclusion proof lines and an empty line, the checkpoint [...] is included verbatim.
func (p Proof) Format() []byte {
	enc := base64.StdEncoding
	b := make([]byte, 0, 64+enc.EncodedLen(len(p.UnverifiedExtra))+45*len(p.Hashes)+len(p.Checkpoint))
	b = append(b, proofHeader+"\n"...)
	if p.UnverifiedExtra != nil {
		b = enc.AppendEncode(append(b, "extra "...), p.UnverifiedExtra)
		b = append(b, '\n')
	}
	b = strconv.AppendInt(append(b, "index "...), p.Index, 10)
	b = append(b, '\n')
	for _, hash := range p.Hashes {
		b = append(enc.AppendEncode(b, hash[:]), '\n')
	}
	b = append(b, '\n')
	return append(b, p.Checkpoint...)
}
