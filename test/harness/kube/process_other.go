//go:build unix && !linux

package kube

import "syscall"

// endWithParent lacks the parent-death signal, which only Linux has.
func endWithParent(a *syscall.SysProcAttr) { a.Setpgid = true }
