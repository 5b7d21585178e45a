//go:build unix && !linux

package kube

import "syscall"

// childAttributes lacks the parent-death signal, which only Linux has.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}
