//go:build unix

package bench

import (
	"errors"
	"fmt"
	"os/exec"
	"syscall"
)

// StartLowest starts a command that works only when nobody else wants to.
func StartLowest(cmd *exec.Cmd) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a group's priority is that of all its threads
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("starting a process: %w", err)
	}
	if err := syscall.Setpriority(syscall.PRIO_PGRP, cmd.Process.Pid, 19); err != nil {
		return errors.Join(fmt.Errorf("lowering the priority of a process: %w", err), cmd.Process.Kill(), cmd.Wait())
	}
	return nil
}
