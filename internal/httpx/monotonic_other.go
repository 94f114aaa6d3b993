//go:build !linux

package httpx

import "time"

// monotonic returns 0: there is no systemd to tell.
func monotonic() time.Duration { return 0 }
