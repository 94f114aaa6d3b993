package rule

// FindWords reports whether one of the words, lower case ASCII, is in text, by an automaton.
func FindWords(words []string, text []byte) bool {
	a := newAutomaton(words)
	return a.in(text)
}
