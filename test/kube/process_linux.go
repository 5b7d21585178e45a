package kube

import "syscall"

// childAttributes: a group of its own keeps Ctrl-C away from the program, so that Stop can
// end them in order; the parent-death signal ends it when this process is killed instead.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
