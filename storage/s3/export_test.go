package s3

import (
	"context"
	"net"
	"net/http"
)

// SetDial has b connect by dial. What there is left of it in the end Idle closes.
func (b *Bucket) SetDial(dial func(ctx context.Context, network, address string) (net.Conn, error)) {
	b.http.Transport.(*http.Transport).DialContext = dial
}

// Idle closes the connections that are not in use.
func (b *Bucket) Idle() { b.http.CloseIdleConnections() }
