package state

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// Process identifies a process for good: the kernel gives a PID again, but not
// with the same start time in the same boot.
type Process struct {
	PID int `json:"pid"`
	// ProcessStart is in clock ticks since boot: field 22 of /proc/PID/stat, see
	// proc_pid_stat(5). "" where there is no /proc.
	ProcessStart string `json:"process_start,omitempty"`
	BootID       string `json:"boot_id,omitempty"` // /proc/sys/kernel/random/boot_id
	// PIDNamespace tells containers on one host apart; the same PID is another
	// process in each.
	PIDNamespace string `json:"pid_namespace,omitempty"`
}

type life int

const (
	unknowable life = iota // another machine or container: cannot be asked
	living
	dead
)

// Here identifies this process in a short text of letters, digits and dots, for
// marking what must go with it: see Gone.
func Here() string {
	p := processTable{proc: "/proc"}.self()
	return strings.Join([]string{strconv.Itoa(p.PID), p.ProcessStart, shortBoot(p.BootID), digits(p.PIDNamespace)}, ".")
}

// Gone says whether the process that Here identified is known to have ended.
// sameHost says that it ran under the same host name. Of another machine's or
// container's processes nothing is known.
func Gone(here string, sameHost bool) bool {
	parts := strings.Split(here, ".")
	if len(parts) != 4 {
		return false
	}
	t := processTable{proc: "/proc"}
	me := t.self()
	pid, err := strconv.Atoi(parts[0])
	if err != nil {
		return false
	}
	p := Process{PID: pid, ProcessStart: parts[1], BootID: parts[2], PIDNamespace: parts[3]}
	// What was shortened is compared here, and then as it is.
	if p.BootID == shortBoot(me.BootID) {
		p.BootID = me.BootID
	}
	if p.PIDNamespace == digits(me.PIDNamespace) {
		p.PIDNamespace = me.PIDNamespace
	}
	return t.judge(p, sameHost) == dead
}

func shortBoot(id string) string {
	id = strings.ReplaceAll(id, "-", "")
	return id[:min(12, len(id))]
}

func digits(s string) string {
	return strings.Map(func(r rune) rune {
		if r < '0' || r > '9' {
			return -1
		}
		return r
	}, s)
}

// processTable reads the processes of this machine.
type processTable struct{ proc string }

func (t processTable) self() Process {
	p := Process{PID: os.Getpid(), BootID: t.bootID()}
	p.ProcessStart, _ = t.stat(p.PID)
	p.PIDNamespace, _ = os.Readlink(filepath.Join(t.proc, "self", "ns", "pid"))
	return p
}

// judge says whether p, recorded under the same host name as ours or not, still
// runs.
func (t processTable) judge(p Process, sameHost bool) life {
	me := t.self()
	switch {
	case p.PID <= 0:
		return unknowable
	case p.BootID != me.BootID && sameHost:
		return dead // this machine was booted since
	case p.BootID != me.BootID, me.BootID == "" && !sameHost:
		return unknowable
	case p.PIDNamespace != me.PIDNamespace:
		return unknowable
	}
	start, zombie := t.stat(p.PID)
	switch {
	case zombie:
		return dead
	case start != "" && p.ProcessStart != "":
		if start == p.ProcessStart {
			return living
		}
		return dead // its PID was given to another
	}
	// No /proc, or one that hides other users' processes (hidepid).
	if err := syscall.Kill(p.PID, 0); errors.Is(err, syscall.ESRCH) {
		return dead
	}
	if p.ProcessStart != "" {
		return unknowable // somebody has the PID
	}
	return living
}

func (t processTable) bootID() string {
	b, _ := os.ReadFile(filepath.Join(t.proc, "sys/kernel/random/boot_id"))
	return strings.TrimSpace(string(b))
}

// stat returns a process's start time, "" where there is no such process or no
// /proc, and whether it has ended and only waits for its parent.
func (t processTable) stat(pid int) (start string, zombie bool) {
	b, err := os.ReadFile(filepath.Join(t.proc, strconv.Itoa(pid), "stat"))
	if err != nil {
		return "", false
	}
	// The second field is the command in parentheses and may hold anything, also
	// spaces and parentheses.
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	const stateField, startField = 0, 22 - 3 // counted from field 3, the one after the command
	if len(fields) <= startField {
		return "", false
	}
	return fields[startField], fields[stateField] == "Z" || fields[stateField] == "X"
}
