package year

import (
	"fmt"
	"slices"
	"time"
)

// The retention that the configuration of the stage asks for.
const (
	localDays   = 7
	bucketDays  = 10
	bucketWeeks = 4
	bucketMonth = 6
)

const day = 24 * time.Hour

// retention holds what lies there against the rules: nothing is gone that had to
// stay, and, once a backup has pruned, nothing is left that had to go. It reckons
// for itself, from the names of all that were ever seen to be good.
func (w *witness) retention(now time.Time, pruned bool) []string {
	var finds []string
	for place, days := range map[string]int{"local": localDays, "bucket": bucketDays} {
		here := map[string]bool{}
		for _, name := range w.names(place) {
			at, _ := taken(name)
			if _, err := w.whole(place, name); err == nil {
				here[name] = true
				w.ever[place][name] = sighting{taken: at, last: now}
			}
		}
		must := w.mustStay(place, now, time.Duration(days)*day-play)
		may := w.mustStay(place, now, time.Duration(days)*day+play)
		for name, why := range must {
			if !here[name] {
				finds = append(finds, fmt.Sprintf("%s: %s is gone, though it is %s", place, name, why))
			}
		}
		if !pruned {
			continue
		}
		for name := range here {
			if may[name] == "" {
				finds = append(finds, fmt.Sprintf("%s: %s is still there", place, name))
			}
		}
	}
	return finds
}

// play is how far from the limit it may go either way: a backup prunes with the
// time at its end, the witness reckons with that of its beginning.
const play = 5 * time.Minute

// mustStay are the backups that no prune up to now may have taken, and why.
func (w *witness) mustStay(place string, now time.Time, young time.Duration) map[string]string {
	var all []string
	for name := range w.ever[place] {
		all = append(all, name)
	}
	slices.Sort(all)
	slices.Reverse(all)
	must := map[string]string{}
	weeks, months := map[string]bool{}, map[string]bool{}
	pruned := now.Truncate(day).Add(2 * time.Hour) // when this night's backup was taken
	for i, name := range all {
		at := w.ever[place][name].taken
		year, week := at.ISOWeek()
		w, m := fmt.Sprint(year, "-", week), at.Format("2006-01")
		switch {
		case i == 0:
			must[name] = "the newest"
		case pruned.Sub(at) < young:
			must[name] = fmt.Sprintf("younger than %s", young)
		}
		if place == "local" {
			continue
		}
		if !weeks[w] && len(weeks) < bucketWeeks {
			weeks[w] = true
			must[name] = "the newest of its week"
		}
		if !months[m] && len(months) < bucketMonth {
			months[m] = true
			must[name] = "the newest of its month"
		}
	}
	return must
}
