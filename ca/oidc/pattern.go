package oidc

// pattern is a meta issuer's URL, where * stands for one or more of [-_a-zA-Z0-9]. It always
// covers the whole string (GHSA-59jp-pj84-45mr was a pattern that did not).
type pattern string

func compilePattern(url string) pattern { return pattern(url) }

func isWild(c byte) bool {
	return c == '-' || c == '_' || '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}

// match reports whether p covers all of s, in time linear in len(p)*len(s).
func (p pattern) match(s string) bool {
	const tooLong = 2048
	return len(s) <= tooLong && p.overlaps(pattern(s)) && !hasStar(s)
}

func hasStar(s string) bool {
	for i := range len(s) {
		if s[i] == '*' {
			return true
		}
	}
	return false
}

// overlaps reports whether some URL matches both p and q. It walks the product of the two
// automata, whose states are positions: after a * the walk may stay on it or pass on.
func (p pattern) overlaps(q pattern) bool {
	type state struct{ i, j int }
	seen := map[state]bool{{0, 0}: true}
	for queue := []state{{0, 0}}; len(queue) > 0; queue = queue[1:] {
		s := queue[0]
		if s.i == len(p) && s.j == len(q) {
			return true
		}
		if s.i == len(p) || s.j == len(q) || !agree(p[s.i], q[s.j]) {
			continue
		}
		for _, n := range []state{{s.i + 1, s.j + 1}, {s.i, s.j + 1}, {s.i + 1, s.j}} {
			stuck := n.i == s.i && p[s.i] != '*' || n.j == s.j && q[s.j] != '*'
			if !stuck && !seen[n] {
				seen[n] = true
				queue = append(queue, n)
			}
		}
	}
	return false
}

// agree reports whether two pattern bytes can stand for one byte of a URL.
func agree(a, b byte) bool {
	switch {
	case a == '*' && b == '*':
		return true
	case a == '*':
		return isWild(b)
	case b == '*':
		return isWild(a)
	}
	return a == b
}
