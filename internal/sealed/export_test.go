package sealed

// SetWorkFactor makes new files cheap, and returns what was before.
func SetWorkFactor(n int) (old int) {
	old, workFactor = workFactor, n
	return old
}
