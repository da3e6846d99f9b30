package certs

import (
	"fmt"
	"slices"
	"time"

	"github.com/stellarescrow/escrowctl/internal/check"
)

const (
	historyDoc  = "certs-attempts"
	historyKept = 200 // attempts: a hundred days of cron's
	seenDoc     = "certs-seen"
)

// What became of an attempt to renew.
const (
	Renewed   = "renewed"
	Unchanged = "not_due" // certbot found nothing to do
	Failed    = "failed"
)

// Attempt is one run of certbot.
type Attempt struct {
	At      time.Time `json:"at"`
	Outcome string    `json:"outcome"` // renewed, not_due or failed
	Forced  bool      `json:"forced,omitempty"`
	Lineage string    `json:"lineage,omitempty"`
	Serial  string    `json:"serial,omitempty"` // on the disk afterwards
	Reason  string    `json:"reason,omitempty"`
	Detail  []string  `json:"detail,omitempty"` // the end of certbot's output, of the last failure only
}

// loadAttempts reads the history. A damaged one is told, and begun anew.
func loadAttempts(docs Documents) ([]Attempt, error) {
	if docs == nil {
		return nil, nil
	}
	var doc struct {
		Attempts []Attempt `json:"attempts"`
	}
	if _, err := docs.Load(historyDoc, &doc); err != nil {
		return nil, err
	}
	return doc.Attempts, nil
}

// record adds an attempt to the history.
func record(docs Documents, a Attempt) error {
	if docs == nil {
		return nil
	}
	all, err := loadAttempts(docs)
	if err != nil {
		return err
	}
	for i := range all {
		all[i].Detail = nil
	}
	all = append(all, a)
	if len(all) > historyKept {
		all = all[len(all)-historyKept:]
	}
	return docs.Save(historyDoc, struct {
		Attempts []Attempt `json:"attempts"`
	}{all})
}

// failedSince counts the attempts since a moment that changed nothing, back from
// the newest, and returns the newest of them that failed.
func failedSince(all []Attempt, lineage string, since time.Time) (n int, last *Attempt) {
	for _, a := range slices.Backward(all) {
		if !a.At.After(since) || a.Outcome == Renewed && (a.Lineage == lineage || lineage == "") {
			break
		}
		n++
		if last == nil && a.Outcome == Failed {
			last = &a
		}
	}
	return n, last
}

// seen is what was found the last time.
type seen struct {
	Verdict Verdict      `json:"verdict"`
	Status  check.Status `json:"status"`
	At      time.Time    `json:"at"`
}

// Change says what has become worse since the last check of these hosts, one
// line a host, and remembers what is now. Nothing remembered counts as all well,
// so that what is bad at first sight is told too.
func Change(docs Documents, reports []*Report, now time.Time) ([]string, error) {
	last := map[string]seen{}
	if _, err := docs.Load(seenDoc, &last); err != nil {
		return nil, err
	}
	var worse []string
	for _, r := range reports {
		before, known := last[r.Target]
		if r.Status > before.Status || r.Status == before.Status && r.Status != check.OK && r.Verdict != before.Verdict {
			line := fmt.Sprintf("%s: %s", r.Status, r.Summary)
			if known {
				line += fmt.Sprintf(" (was %s, %s)", before.Status, before.Verdict.Words())
			}
			worse = append(worse, line)
		}
		last[r.Target] = seen{r.Verdict, r.Status, now.UTC()}
	}
	return worse, docs.Save(seenDoc, last)
}

// forcedWithin counts the forced attempts of the last day that may have cost
// one of the CA's certificates.
func forcedWithin(all []Attempt, lineage string, now time.Time, span time.Duration) int {
	n := 0
	for _, a := range all {
		if a.Forced && a.Lineage == lineage && now.Sub(a.At) < span {
			n++
		}
	}
	return n
}
