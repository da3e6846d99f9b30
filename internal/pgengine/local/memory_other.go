//go:build !linux

package local

import "syscall"

// freeSharedMemory is done by the server itself, unless it is killed.
func freeSharedMemory(int) {}

// dieWithParent is known to Linux alone.
func dieWithParent(*syscall.SysProcAttr) {}
