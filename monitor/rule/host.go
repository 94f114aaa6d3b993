package rule

import (
	"encoding/hex"
	"strings"
)

// hostOf returns the host that a name is about, in lower case; empty if it is about none.
func hostOf(n Name) string {
	host := n.Value
	switch n.Type {
	case Email, Other: // alice!example.com is a user name of Fulcio's
		_, host, _ = cutLast(strings.ReplaceAll(host, "!", "@"), "@")
	case URI:
		_, rest, ok := strings.Cut(host, "://")
		if !ok { // a mail address for all we know
			rest = host[strings.LastIndex(host, "@")+1:]
		}
		host = rest[:indexAnyOrEnd(rest, "/?#")]
		if _, after, ok := cutLast(host, "@"); ok {
			host = after
		}
		host = host[:indexAnyOrEnd(host, ":")]
	case IP:
		return ""
	}
	return strings.ToLower(strings.TrimSuffix(host, "."))
}

// hostUnder reports whether the host that n is about is domain or below it, or a wildcard that
// covers domain.
func hostUnder(n Name, domain string) bool {
	host := hostOf(n)
	return host == domain || strings.HasSuffix(host, "."+domain) || wildcardCovers(host, domain)
}

// wildcardCovers reports whether the DNS name "*.x" covers the one-label-deeper name.
func wildcardCovers(wildcard, name string) bool {
	parent, ok := strings.CutPrefix(strings.TrimSuffix(wildcard, "."), "*.")
	return ok && parent != "" && strings.EqualFold("*."+parent, wildcardOver(name))
}

// wildcardOver returns the wildcard that covers a DNS name.
func wildcardOver(name string) string {
	_, parent, _ := strings.Cut(name, ".")
	return "*." + strings.TrimSuffix(parent, ".")
}

// foldHost lower-cases what is a host in a URI, a mail address or a DNS name.
func foldHost(v string) string {
	if scheme, rest, ok := strings.Cut(v, "://"); ok {
		end := indexAnyOrEnd(rest, "/?#")
		return strings.ToLower(scheme) + "://" + strings.ToLower(rest[:end]) + rest[end:]
	}
	if local, host, ok := cutLast(v, "@"); ok {
		return local + "@" + strings.ToLower(host)
	}
	return strings.ToLower(v)
}

// unescape undoes, in a URI, the percent-encoding that makes no difference: that of letters, digits,
// -, ., _ and ~ (RFC 3986 section 6.2.2.2), and of what is not ASCII.
func unescape(uri string) string {
	before, rest, ok := strings.Cut(uri, "%")
	if !ok {
		return uri
	}
	var b strings.Builder
	for ok {
		b.WriteString(before)
		c, err := hex.DecodeString(rest[:min(2, len(rest))])
		if err == nil && len(c) == 1 && (c[0] >= 0x80 || unreserved(c[0])) {
			b.WriteByte(c[0])
			rest = rest[2:]
		} else {
			b.WriteByte('%')
		}
		before, rest, ok = strings.Cut(rest, "%")
	}
	b.WriteString(before)
	return b.String()
}

func unreserved(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("-._~", c) >= 0
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

func indexAnyOrEnd(s, chars string) int {
	if i := strings.IndexAny(s, chars); i >= 0 {
		return i
	}
	return len(s)
}
