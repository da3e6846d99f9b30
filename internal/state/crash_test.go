package state

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

func TestCrashedRun(t *testing.T) {
	for _, c := range []struct {
		name string
		end  func(*child)
		want Outcome
	}{
		{"alive", func(*child) {}, Running},
		{"killed", (*child).kill, Crashed},
		{"killed, not reaped", (*child).killUnreaped, Crashed},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			kid := start(t, "begin", dir)
			c.end(kid)
			s := open(t, dir, Options{})
			got := runs(t, s, "backup")
			if len(got) != 1 || got[0].Outcome != c.want || got[0].PID != kid.Process.Pid {
				t.Fatalf("want one %s run of %d, got %+v", c.want, kid.Process.Pid, got)
			}
			if (got[0].Error != "") != (c.want == Crashed) {
				t.Errorf("error %q", got[0].Error)
			}
			if r, found, _ := s.Last("backup"); found != (c.want == Crashed) || r.Succeeded() {
				t.Errorf("Last: %v, %+v", found, r)
			}
		})
	}
}

// A record whose process cannot be the one with that PID now.
func TestCrashRecognition(t *testing.T) {
	table := processTable{proc: "/proc"}
	me := table.self()
	if me.ProcessStart == "" || me.BootID == "" || me.PIDNamespace == "" {
		t.Skipf("SKIPPED: no full /proc here: %+v", me)
	}
	with := func(f func(*Process)) Process {
		p := me
		f(&p)
		return p
	}
	for _, c := range []struct {
		name     string
		p        Process
		sameHost bool
		want     life
	}{
		{"this process", me, true, living},
		{"this process, host renamed since", me, false, living},
		{"PID given again", with(func(p *Process) { p.ProcessStart = "1" }), true, dead},
		{"booted since", with(func(p *Process) { p.BootID = "other" }), true, dead},
		{"another machine", with(func(p *Process) { p.BootID = "other" }), false, unknowable},
		{"another container", with(func(p *Process) { p.PIDNamespace = "pid:[1]" }), true, unknowable},
		{"no such process", with(func(p *Process) { p.PID = 1 << 30 }), true, dead},
		{"no process recorded", Process{}, true, unknowable},
	} {
		if got := table.judge(c.p, c.sameHost); got != c.want {
			t.Errorf("%s: got %d, want %d", c.name, got, c.want)
		}
	}
}

// Another user's process under hidepid, and systems without /proc.
func TestJudgeWithoutProc(t *testing.T) {
	table := processTable{proc: t.TempDir()}
	for _, c := range []struct {
		name string
		p    Process
		want life
	}{
		{"exists, no start time known", Process{PID: os.Getpid()}, living},
		{"exists, start time hidden", Process{PID: os.Getpid(), ProcessStart: "5"}, unknowable},
		{"does not exist", Process{PID: 1 << 30, ProcessStart: "5"}, dead},
	} {
		if got := table.judge(c.p, true); got != c.want {
			t.Errorf("%s: got %d, want %d", c.name, got, c.want)
		}
	}
	if got := table.judge(Process{PID: os.Getpid()}, false); got != unknowable {
		t.Errorf("a foreign host's process without a boot ID: %d", got)
	}
}

func TestStatOfAwkwardCommands(t *testing.T) {
	rest := " 1 1 1 0 -1 4194560 0 0 0 0 1 2 3 4 20 0 1 0 987654 10 20 30"
	for pid, c := range []struct {
		command, state string
		start          string
		zombie         bool
	}{
		{"(sh)", "S", "987654", false},
		{"(a) Z (b c)", "R", "987654", false},
		{"(\n) X 1 1)", "S", "987654", false},
		{"(gone)", "Z", "987654", true},
	} {
		table := processTable{proc: t.TempDir()}
		dir := filepath.Join(table.proc, strconv.Itoa(pid))
		must(t, os.Mkdir(dir, 0o700))
		must(t, os.WriteFile(filepath.Join(dir, "stat"), []byte(strconv.Itoa(pid)+" "+c.command+" "+c.state+rest+"\n"), 0o600))
		if start, zombie := table.stat(pid); start != c.start || zombie != c.zombie {
			t.Errorf("%q: %q, %v", c.command, start, zombie)
		}
	}
}

func TestForeignHostRunIsUnknown(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, Options{Host: "db1"})
	_, err := s.Begin("backup")
	must(t, err)
	path := filepath.Join(dir, "runs/backup.jsonl")
	body, err := os.ReadFile(path)
	must(t, err)
	boot := s.table.bootID()
	if boot == "" {
		t.Skip("SKIPPED: no boot ID here")
	}
	must(t, os.WriteFile(path, []byte(strings.ReplaceAll(string(body), boot, "other")), 0o600))
	got := runs(t, open(t, dir, Options{Host: "db2"}), "backup")
	if len(got) != 1 || got[0].Outcome != Unknown || !strings.Contains(got[0].Error, "db1") {
		t.Errorf("%+v", got)
	}
	if got := runs(t, s, "backup"); got[0].Outcome != Crashed {
		t.Errorf("on its own host after a boot: %s", got[0].Outcome)
	}
}
