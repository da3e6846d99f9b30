package perf

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
)

// cpuSeconds is the CPU time that a process of this machine has used.
func cpuSeconds(t *testing.T, pid int) float64 {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Skipf("SKIPPED: no /proc: %v", err)
	}
	// The name, in parentheses, may hold blanks; utime and stime are fields 14 and 15.
	fields := strings.Fields(string(text)[strings.LastIndexByte(string(text), ')')+1:])
	ticks := 0.0
	for _, f := range fields[11:13] {
		n, err := strconv.ParseFloat(f, 64)
		if err != nil {
			t.Fatal(err)
		}
		ticks += n
	}
	return ticks / 100 // USER_HZ
}
