package entry

// Decode decodes a request without checking it.
func Decode(body []byte) error {
	_, err := decodeRequest(body)
	return err
}

// Checking decodes a request and returns what checks it: the key or certificate is parsed and the
// signature verified, each time anew.
func Checking(body []byte) (check func() error, err error) {
	r, err := decodeRequest(body)
	if err != nil {
		return nil, err
	}
	return func() error {
		again := *r
		return again.check(func() (func(), error) { return func() {}, nil })
	}, nil
}
