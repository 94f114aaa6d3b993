//go:build !unix

package httpx

import "syscall"

// waits reports whether a connection is known to wait at a listener: there is no way to ask.
func waits(syscall.Conn) bool { return false }
