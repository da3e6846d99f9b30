package schedule

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"time"
)

// Placement is how rows are to be written for a host.
type Placement struct {
	Program string // absolute path
	Args    []string
	Zone    *time.Location
	Now     time.Time
	User    string // for a system crontab
	LogDir  string // "" keeps the logs where they are
}

// RowFor writes a job's row: at the job's time in the host's zone. The note
// says where that is not the same all year.
func RowFor(j Job, p Placement) (row, note string) {
	spec, note := LocalSpec(j, p.Zone, p.Now)
	return RowAt(spec, j, p), note
}

// RowAt writes a job's row at a time in the host's zone.
func RowAt(spec Spec, j Job, p Placement) string {
	words := slices.Concat([]string{p.Program}, p.Args, strings.Fields(j.Command), j.Args)
	for i, w := range words {
		words[i] = Quote(w)
	}
	log := j.Log
	if p.LogDir != "" {
		log = path.Join(p.LogDir, path.Base(log))
	}
	command := strings.Join(words, " ") + " >> " + Quote(log) + " 2>&1"
	if p.User != "" {
		command = p.User + " " + EscapePercent(command)
	} else {
		command = EscapePercent(command)
	}
	return spec.String() + " " + command
}

// LocalSpec returns a job's time on the wall clock of a zone. Where summer time
// is kept it is right in winter.
func LocalSpec(j Job, zone *time.Location, now time.Time) (Spec, string) {
	winter, summer := offsets(zone, now)
	local, err := Shift(j.Spec, winter)
	switch {
	case err != nil:
		return j.Spec, fmt.Sprintf("%s: %v: it stays, in the host's zone (%s)", j.Name, err, zone)
	case winter != summer:
		return local, fmt.Sprintf("%s: %s in %s is %s UTC in winter and %s earlier in summer", j.Name, local, zone, j.Spec, summer-winter)
	case winter != 0:
		return local, fmt.Sprintf("%s: %s in %s is the runbook's %s UTC", j.Name, local, zone, j.Spec)
	}
	return local, ""
}

// offsets returns the zone's least and greatest distance from UTC in the year
// that begins now.
func offsets(zone *time.Location, now time.Time) (least, greatest time.Duration) {
	least, greatest = offsetOf(now.In(zone)), offsetOf(now.In(zone))
	for month := range 12 {
		o := offsetOf(now.AddDate(0, month, 0).In(zone))
		least, greatest = min(least, o), max(greatest, o)
	}
	return least, greatest
}
