package bastion

// FromClient is what a handler sees of a request.
var FromClient = fromClient
