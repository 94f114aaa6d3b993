package keys

// ReadPrivate returns what the private file at path holds, for keys of other forms than this package
// reads. A file readable by group or others is an error.
func ReadPrivate(path string) ([]byte, error) { return readPrivate(path) }
