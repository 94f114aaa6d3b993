package rule

// distance returns how many characters must be inserted, deleted or replaced to make b of a (Levenshtein).
func distance(a, b []rune) int {
	return bounded(a, b, len(a)+len(b))
}

// bounded returns the distance of a and b, or most+1 if it is above most, which is found sooner.
func bounded(a, b []rune, most int) int {
	if d := len(a) - len(b); d > most || -d > most {
		return most + 1
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0] // of the row before
		row[0] = i + 1
		least := row[0]
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, diagonal+1, row[j]+1)
			least = min(least, row[j+1])
		}
		if least > most {
			return most + 1
		}
	}
	return min(row[len(b)], most+1)
}
