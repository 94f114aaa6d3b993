package rule

import "fmt"

// extensionNames are the names, for people, of the certificate extensions 1.3.6.1.4.1.57264.1.N
// (Fulcio's list of object identifiers).
var extensionNames = map[int]string{
	1: "issuer (old form)", 2: "trigger (old form)", 3: "commit (old form)", 4: "workflow name (old form)",
	5: "repository (old form)", 6: "ref (old form)", 8: "issuer", 9: "signer workflow",
	10: "signer workflow digest", 11: "runner", 12: "source repository", 13: "source commit", 14: "source ref",
	15: "source repository ID", 16: "source repository owner", 17: "source repository owner ID",
	18: "build workflow", 19: "build workflow digest", 20: "build trigger", 21: "run", 22: "source visibility",
	23: "deployment environment", 24: "token subject",
}

// ExtensionName returns the name, for people, of certificate extension 1.3.6.1.4.1.57264.1.n, or its
// object identifier if it has none.
func ExtensionName(n int) string {
	if name, ok := extensionNames[n]; ok {
		return name
	}
	return fmt.Sprintf("1.3.6.1.4.1.57264.1.%d", n)
}

// String returns what kind of name it is, in a few words.
func (t NameType) String() string {
	switch t {
	case Email:
		return "mail address"
	case DNS:
		return "DNS name"
	case URI:
		return "URI"
	case IP:
		return "IP address"
	}
	return "name"
}
