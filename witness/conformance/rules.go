package conformance

// A Rule is what a specification says, in its own words or nearly so.
type Rule struct {
	Spec    string `json:"spec"`    // document
	Section string `json:"section"` // of it
	Text    string `json:"text"`
}

// String returns the rule in one line.
func (r Rule) String() string { return r.Spec + ", " + r.Section + ": " + r.Text }

func addRule(text string) Rule { return Rule{"c2sp.org/tlog-witness", "add-checkpoint", text} }
func subRule(text string) Rule { return Rule{"c2sp.org/tlog-witness", "sign-subtree", text} }
func monRule(text string) Rule {
	return Rule{"c2sp.org/tlog-witness", "Monitor Retrieval Mechanism", text}
}
func noteRule(text string) Rule { return Rule{"c2sp.org/signed-note", "Format", text} }
func sigRule(text string) Rule  { return Rule{"c2sp.org/signed-note", "Signatures", text} }
func ckptRule(text string) Rule { return Rule{"c2sp.org/tlog-checkpoint", "Note text", text} }

// The rules of add-checkpoint.
var (
	rulePost      = addRule("The request MUST be an HTTP POST.")
	ruleSequence  = addRule("The request body MUST be a sequence of an old size line, zero or more consistency proof lines, and an empty line, followed by a checkpoint.")
	ruleLF        = addRule("Each line MUST terminate in a newline character (U+000A).")
	ruleOldLine   = addRule("The old size line MUST consist of the string `old`, a single space (0x20), and the tree size of the previous checkpoint.")
	ruleOldSize   = addRule("The tree size is encoded as an ASCII decimal with no leading zeroes (unless the size is zero, in which case the encoding MUST be `0`).")
	ruleProofLine = addRule("Each consistency proof line MUST encode a single hash in base64.")
	rule63        = addRule("The client MUST NOT send more than 63 consistency proof lines.")
	ruleMany      = addRule("The submitted checkpoint MAY include multiple signatures.")
	ruleTrusted   = addRule("The witness MUST verify the checkpoint signature against the public key(s) it trusts for the checkpoint origin, and it MUST ignore signatures from unknown keys.")
	rule404       = addRule("If the checkpoint origin is unknown, the witness MUST respond with a 404.")
	rule403       = addRule("The witness MUST respond with a 403 if no signature from a trusted key for the origin is present.")
	ruleForged    = addRule("The witness MUST respond with a 403 if a signature line's key name and ID match a trusted key but the signature itself fails to verify.")
	rule400       = addRule("The old size MUST be equal to or lower than the checkpoint size. Otherwise, the witness MUST respond with a 400.")
	rule409       = addRule("The witness MUST check that the old size matches the size of the latest checkpoint it cosigned for the origin (or zero if it never cosigned one). If it doesn't match, it MUST respond with a 409.")
	rule409Body   = addRule("The body of a 409 MUST consist of the tree size of the latest cosigned checkpoint in decimal, followed by a newline.")
	rule409Type   = addRule("A 409 MUST have a `Content-Type` of `text/x.tlog.size`.")
	ruleProbe     = addRule("If a client doesn't have information on the latest cosigned checkpoint, it MAY initially make a request with an old size of zero to obtain it.")
	ruleEmptyTree = addRule("A checkpoint of size zero MUST have the root hash of the empty tree. Otherwise, the witness MUST respond with a 422.")
	ruleNoProof   = addRule("If the old size is zero, the consistency proof MUST be empty. If it is not, the witness MUST respond with a 422.")
	ruleProof     = addRule("The lines MUST encode a Merkle Consistency Proof from the old size to the checkpoint size. If it doesn't verify, the witness MUST respond with a 422.")
	ruleSameRoot  = addRule("If the old size matches the checkpoint size, the root hashes MUST be identical. If they don't match, the witness MUST respond with a 422.")
	rule200       = addRule("If all the checks above pass, the witness MUST update its record of the latest cosigned checkpoint and respond with a 200.")
	ruleLines     = addRule("The body MUST be a sequence of one or more note signature lines, each starting with U+2014 and ending with a newline.")
	ruleOwnKeys   = addRule("The signatures MUST be cosignatures from the witness key(s) on the checkpoint.")
	ruleUseMLDSA  = addRule("Witnesses SHOULD use ML-DSA-44 cosignatures.")
	ruleWholeTree = addRule("If the cosignature format supports subtrees, start MUST be zero and end MUST be the checkpoint size.")
	ruleTimestamp = addRule("The cosignature MUST NOT omit the timestamp, i.e. the timestamp MUST NOT be zero.")
	rulePersist   = addRule("The witness MUST persist the new checkpoint before responding.")
	ruleAtomic    = addRule("Checking the old size against the latest checkpoint and persisting the new checkpoint must be performed atomically.")
	ruleKeepAlive = Rule{"c2sp.org/tlog-witness", "HTTP Interface", "Witnesses SHOULD support HTTP keep-alive connections to reduce latency and load."}
)

// The rules of sign-subtree.
var (
	ruleSubPost     = subRule("The request MUST be an HTTP POST.")
	ruleSubSequence = subRule("The request body MUST be a sequence of a subtree range line, a subtree hash line, zero or more consistency proof lines, and an empty line, followed by a reference checkpoint. If the request is invalid, the witness MUST respond with a 400.")
	ruleSubRange    = subRule("The range line MUST consist of `subtree`, a single space, start and end as ASCII decimals with no leading zeroes, with a single space between. If the request is invalid, the witness MUST respond with a 400.")
	ruleSubHash     = subRule("The subtree hash line MUST be the Merkle Tree hash of the subtree encoded in base64. If the request is invalid, the witness MUST respond with a 400.")
	ruleSubLine     = subRule("Each consistency proof line MUST encode a single hash in base64. If the request is invalid, the witness MUST respond with a 400.")
	ruleSub63       = subRule("The client MUST NOT send more than 63 consistency proof lines. If the request is invalid, the witness MUST respond with a 400.")
	ruleSubValid    = subRule("[start, end) MUST be a valid subtree, and end MUST be less than or equal to the checkpoint size. If the request is invalid, the witness MUST respond with a 400.")
	ruleSubProof    = subRule("If the Subtree Consistency Proof doesn't verify, the witness MUST respond with a 422.")
	ruleSub404      = subRule("If the checkpoint origin is unknown, the witness MUST respond with a 404.")
	ruleSub403      = subRule("The witness MUST verify that the checkpoint includes a valid cosignature from one of its own keys. If it can't, it MUST respond with a 403.")
	ruleSub200      = subRule("If the request is valid, the proof verifies, and the checkpoint is validly signed by the witness, it MUST respond with a 200 and signature lines for the subtree.")
	ruleSubTime     = subRule("If the cosignature format supports timestamps, the timestamp MUST be zero.")
	ruleSubOnlyOurs = subRule("The checkpoint SHOULD only include signatures from the witness's key(s).")
)

// The rules of the monitoring prefix.
var (
	ruleServe    = monRule("A witness SHOULD serve a recent checkpoint for each log it cosigned at <origin hash>/checkpoint.")
	ruleServeGet = monRule("The request MUST be an HTTP GET.")
	ruleHash     = monRule("The origin hash is the SHA-256 hash of the log's origin, hex encoded, in lowercase.")
	ruleServed   = monRule("The body MUST be a checkpoint that includes the cosignature(s) that were returned from add-checkpoint and the one from the log key(s) that the witness verified.")
	ruleNever    = monRule("If the witness has never cosigned a checkpoint for that log, it MUST respond with a 404.")
	ruleDelay    = monRule("The witness MAY delay updating the checkpoint, but SHOULD NOT delay for more than an hour.")
)

// The rules of signed notes.
var (
	ruleUTF8      = noteRule("Signed notes MUST be valid UTF-8.")
	ruleControl   = noteRule("Signed notes MUST NOT contain any ASCII control characters (those below U+0020) other than newline.")
	ruleLineForm  = noteRule("Signature lines have this form: em dash (U+2014), space (U+0020), key name, space, base64-encoded signature, newline.")
	ruleBlankLine = noteRule("A signed note consists of a text ending in newline, followed by a blank line, followed by one or more signature lines.")
	ruleLastEmpty = noteRule("The note text MAY contain empty lines; the text is separated from the signatures by the last empty line in the note.")
	ruleKeyName   = noteRule("Key names MUST be non-empty and MUST NOT contain any Unicode spaces or plus (U+002B) characters.")
	ruleBlob      = noteRule("Signatures are the base64 encoding of 4+n bytes. The first four are the key ID.")
	rule16        = noteRule("Verifiers MUST accept at least up to 16 signatures. Post-quantum signatures can be up to nearly 5kB in size.")
	ruleLimit     = noteRule("Verifiers SHOULD apply a maximum limit to the number of signatures in a note (or, equivalently, to the overall size of a note).")
	ruleUnknown   = sigRule("Verifiers MUST ignore signatures from unknown keys, even if they share a name or ID (but not both) with a known key.")
	ruleVerify    = sigRule("If the key name and ID match a known key, verifiers MUST verify the signature.")
)

// The rules of checkpoints and of what the other documents say in passing.
var (
	ruleThreeLines = ckptRule("The note text is a sequence of at least three non-empty lines.")
	ruleOrigin     = ckptRule("The origin MUST be non-empty. It is a unique identifier for the log identity which issued the checkpoint.")
	ruleAnyOrigin  = ckptRule("Clients MUST NOT assume that the origin is following the recommended format.")
	ruleTreeSize   = ckptRule("The tree size is the ASCII decimal representation of the number of leaves, with no leading zeroes (unless the tree is empty, in which case it is `0`).")
	ruleRoot       = ckptRule("The root hash is the base64 encoding of the root of the RFC 6962 Merkle hash tree.")
	ruleExtensions = ckptRule("Any following lines are extension lines, opaque and OPTIONAL. Extension lines, if any, MUST be non-empty.")
	ruleExtMLDSA   = Rule{"c2sp.org/tlog-checkpoint", "Signatures", "The ML-DSA-44 cosignature format doesn't sign the extension lines, which SHOULD be empty."}
	ruleRotation   = Rule{"c2sp.org/tlog-checkpoint", "Signatures", "Clients MUST ignore unknown signatures. This enables, for example, log key rotation, and witness cosigning."}
	ruleCoverExt   = Rule{"c2sp.org/tlog-cosignature", "Ed25519 signed message", "Extension lines, if present, MUST be included in the cosigned message."}
	ruleGenerated  = Rule{"c2sp.org/tlog-cosignature", "Format", "`timestamp` is the time at which the cosignature was generated, as a POSIX timestamp."}
	ruleLargest    = Rule{"c2sp.org/tlog-cosignature", "Ed25519 signed message", "A cosignature is a statement that, as of the specified time, the consistent tree head with the largest size the cosigner has observed for the log has the specified root hash."}
	ruleNoTime     = Rule{"c2sp.org/tlog-cosignature", "ML-DSA-44 signed message", "The timestamp MAY be zero if the cosigner doesn't make any statement as to the tree being the largest observed at time of signing."}
	ruleMaxTime    = Rule{"c2sp.org/tlog-cosignature", "Format", "`timestamp` MUST NOT exceed 2^63 - 1."}
	ruleWeakETag   = Rule{"RFC 9110", "section 13.1.2", "A recipient MUST use the weak comparison function when comparing entity tags for If-None-Match."}
	rulePadBits    = Rule{"RFC 4648", "section 3.5", "Pad bits MUST be set to zero by conforming encoders. Decoders MAY reject an encoding where they have not been."}
	ruleClientErr  = Rule{"RFC 9110", "section 15.5", "The 4xx class indicates that the client seems to have erred."}
	ruleAllow      = Rule{"RFC 9110", "section 15.5.6", "The origin server MUST generate an Allow header field in a 405 response."}
	ruleChunked    = Rule{"RFC 9112", "section 7.1", "A recipient MUST be able to parse and decode the chunked transfer coding."}
	ruleExpect     = Rule{"RFC 9110", "section 10.1.1", "A server that receives a 100-continue expectation sends 100 or a final status code."}
	ruleSilent     = Rule{"none", "", "The specifications leave it open."}
)
