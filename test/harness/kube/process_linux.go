package kube

import "syscall"

// endWithParent: a group of its own keeps Ctrl-C away from the program, so that Stop can
// end them in order; the parent-death signal ends it when this process is killed instead.
func endWithParent(a *syscall.SysProcAttr) {
	a.Setpgid, a.Pdeathsig = true, syscall.SIGKILL
}
