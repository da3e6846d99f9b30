package year

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// tally counts what a year was made of.
type tally struct {
	nights, restores, renewed, rotated, old int
	runs, faulty, struck                    map[string]int // by command, and by fault
	exits                                   map[string]map[int]int
	shift                                   map[string]int // verdicts on backup
	rss                                     map[string][]int64
	took                                    map[string]time.Duration
	spent                                   map[string]time.Duration // by part of a night
	stateFiles                              int
	stateBytes                              int64
}

func newTally() *tally {
	return &tally{
		runs: map[string]int{}, faulty: map[string]int{}, struck: map[string]int{}, exits: map[string]map[int]int{}, shift: map[string]int{},
		rss: map[string][]int64{}, took: map[string]time.Duration{}, spent: map[string]time.Duration{},
	}
}

func (c *tally) count(r run, res result) {
	c.runs[r.command]++
	c.took[r.command] += res.took
	if c.exits[r.command] == nil {
		c.exits[r.command] = map[int]int{}
	}
	c.exits[r.command][res.code]++
	if r.fault == "" {
		c.rss[r.command] = append(c.rss[r.command], res.rss)
		return
	}
	c.faulty[r.fault]++
	if res.struck {
		c.struck[r.fault]++
	}
}

// String is all that was counted.
func (c *tally) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d nights, %d restores compared, %d certificates renewed, %d keys rotated; state directory at most %d files, %d bytes\n",
		c.nights, c.restores, c.renewed, c.rotated, c.stateFiles, c.stateBytes)
	fmt.Fprintf(&b, "backup in shift-check: %v; %d checks with the newest too old\n", c.shift, c.old)
	for _, name := range slices.Sorted(maps.Keys(c.runs)) {
		fmt.Fprintf(&b, "%-20s %5d runs, exit codes %v, %s each", name, c.runs[name], c.exits[name], (c.took[name] / time.Duration(c.runs[name])).Round(10*time.Millisecond))
		if all := c.rss[name]; len(all) > 0 {
			fmt.Fprintf(&b, ", memory at most %d MiB", slices.Max(all)>>20)
		}
		b.WriteByte('\n')
	}
	total, struck := 0, 0
	for _, name := range slices.Sorted(maps.Keys(c.faulty)) {
		fmt.Fprintf(&b, "fault %-22s %5d, %d came while the run was at it\n", name, c.faulty[name], c.struck[name])
		total += c.faulty[name]
		struck += c.struck[name]
	}
	fmt.Fprintf(&b, "faults in all %d, %d while the run was at it\n", total, struck)
	for _, part := range slices.Sorted(maps.Keys(c.spent)) {
		fmt.Fprintf(&b, "%-30s %s a night\n", part, (c.spent[part] / time.Duration(max(1, c.nights))).Round(10*time.Millisecond))
	}
	return b.String()
}
