//go:build !unix

package bench

import (
	"fmt"
	"os/exec"
)

// StartLowest starts a command. There is no lowest priority here.
func StartLowest(cmd *exec.Cmd) error {
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("starting a process: %w", err)
	}
	return nil
}
