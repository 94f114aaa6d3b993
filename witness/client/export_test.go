package client

import "net/http"

// NewTransport is the transport of a Client that is given none.
var NewTransport = newTransport

// Read has c read an answer of its first endpoint to a request for a checkpoint, and returns the note with
// what it takes from it.
func Read(c *Client, checkpoint []byte, status int, header http.Header, answer []byte) ([]byte, error) {
	r, err := c.parse(checkpoint)
	if err != nil {
		return nil, err
	}
	if r.cosignatures, err = c.read(c.endpoints[0], r, status, header, answer); err != nil {
		return nil, err
	}
	return c.assemble(r, true), nil
}
