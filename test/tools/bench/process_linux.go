package main

import "syscall"

// childAttributes has the kernel kill a server when the benchmark is killed. The kernel sends the signal
// when the thread ends that started the child, so that servers are started by the main goroutine, which
// main locks to its thread.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
