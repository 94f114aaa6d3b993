package fulcio

import "crypto"

// ParseKey, ProvenByCSR and VerifyProof are what a stranger's bytes reach first.
var (
	ParseKey    = parseKey
	ProvenByCSR = provenByCSR
	VerifyProof = verifyProof
)

// ParseRequests reads body as both versions do and proves its key over the challenge.
func ParseRequests(body []byte, challenge string) []crypto.PublicKey {
	var keys []crypto.PublicKey
	for _, parse := range []func([]byte) (request, error){parseV1, parseV2} {
		req, err := parse(body)
		if err != nil {
			continue
		}
		if pub, err := req.provenKey([]string{challenge}); err == nil {
			keys = append(keys, pub)
		}
	}
	return keys
}
