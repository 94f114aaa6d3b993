package sign

import (
	"errors"
	"fmt"
	"os/exec"
	"runtime"
)

// openBrowser opens page, an http or https address, with the system's own means.
func openBrowser(env func(string) string, page string) error {
	var command []string
	switch runtime.GOOS {
	case "darwin":
		command = []string{"open", page}
	case "windows":
		command = []string{"rundll32", "url.dll,FileProtocolHandler", page}
	default:
		// Without a display xdg-open falls back to a browser in the terminal, which is in use.
		if env("DISPLAY") == "" && env("WAYLAND_DISPLAY") == "" {
			return errors.New("opening browser: there is no display")
		}
		command = []string{"xdg-open", page}
	}
	cmd := exec.Command(command[0], command[1:]...)
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("opening browser: %w", err)
	}
	// The browser outlives us; its exit status is nobody's concern.
	return cmd.Process.Release()
}
