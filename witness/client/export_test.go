package client

// NewTransport is the transport of a Client that is given none.
var NewTransport = newTransport
