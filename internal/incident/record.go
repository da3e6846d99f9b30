package incident

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/stellarescrow/escrowctl/internal/check"
	"github.com/stellarescrow/escrowctl/internal/runbook"
)

// RecordsDoc is the document with the records of all reviews.
const RecordsDoc = "reviews"

// Documents keeps small documents.
type Documents interface {
	Load(name string, v any) (found bool, err error)
	Save(name string, v any) error
}

// Record is what is remembered of a review besides its document.
type Record struct {
	ID       string           `json:"id"`
	Title    string           `json:"title"`
	Priority runbook.Priority `json:"priority"`
	Start    time.Time        `json:"started_at"`
	End      time.Time        `json:"ended_at,omitzero"`
	Due      time.Time        `json:"due_at,omitzero"` // zero: the runbook wants none
	File     string           `json:"file"`            // absolute path
	Opened   time.Time        `json:"opened_at"`
	By       string           `json:"opened_by"`
	Closed   time.Time        `json:"closed_at,omitzero"`
	ClosedBy string           `json:"closed_by,omitempty"`
	// Actions are those of the document when the review was closed.
	Actions []Action `json:"actions,omitempty"`
}

// Open says whether the review is not closed yet.
func (r Record) Open() bool { return r.Closed.IsZero() }

// Records returns the records of all reviews, in the order they were begun.
func Records(docs Documents) ([]Record, error) {
	var kept []Record
	_, err := docs.Load(RecordsDoc, &kept)
	return kept, err
}

// Keep writes a record down, in the place of the one with its ID.
func Keep(docs Documents, r Record) error {
	kept, err := Records(docs)
	if err != nil {
		return err
	}
	if i := slices.IndexFunc(kept, func(k Record) bool { return k.ID == r.ID }); i >= 0 {
		kept[i] = r
	} else {
		kept = append(kept, r)
	}
	return docs.Save(RecordsDoc, kept)
}

// Standing is how it stands with a review now.
type Standing struct {
	Record
	// Recorded is false for a document that was found and of which nothing is
	// remembered.
	Recorded bool
	// Verdict is what Check finds, if the document could be read.
	Verdict Verdict
	// Problem says why it could not; nil if it was.
	Problem error
}

// Stand looks at a review's document as it is now. dir is where it is looked for
// if it is not where the record has it.
func Stand(r Record, dir string, now time.Time) Standing {
	s := Standing{Record: r, Recorded: true}
	doc, err := Read(r.File)
	if os.IsNotExist(err) {
		moved := filepath.Join(dir, r.ID+".md")
		if d, merr := Read(moved); merr == nil {
			doc, err, s.File = d, nil, moved
		}
	}
	if err != nil {
		s.Problem = err
		return s
	}
	s.Verdict = Check(doc, now, !r.Open())
	if s.Verdict.ID != r.ID {
		s.Problem = fmt.Errorf("%s is the review %q, not %s", s.File, shortened(s.Verdict.ID), r.ID)
		return s
	}
	s.settle()
	late := func(f Finding) bool { return f.Kind == ReviewOverdue }
	if s.Overdue(now) && !slices.ContainsFunc(s.Verdict.Findings, late) { // by the record, whatever the document says
		s.Verdict.Findings = append(s.Verdict.Findings, Finding{Kind: ReviewOverdue, What: "the review was due " + Stamp(s.Due)})
	}
	return s
}

// settle takes over what the document says now. It can make a review more
// urgent than its record, and set the end that was not known; nothing else puts
// it off.
func (s *Standing) settle() {
	v := s.Verdict
	if v.Priority != 0 && v.Priority < s.Priority || s.Priority == 0 {
		s.Priority = v.Priority
	}
	if !v.End.IsZero() {
		s.End = v.End
	}
	switch {
	case !s.End.IsZero():
		s.Due = runbook.ReviewDue(s.Priority, s.End)
	case s.Due.IsZero() || !v.Due.IsZero() && v.Due.Before(s.Due):
		s.Due = v.Due
	}
}

// Overdue says whether the review should have been closed by now.
func (s Standing) Overdue(now time.Time) bool {
	return s.Open() && !s.Due.IsZero() && now.After(s.Due)
}

// CurrentActions are those of the document, or, where that cannot be read, those
// that were there when the review was closed.
func (s Standing) CurrentActions() []Action {
	if s.Problem != nil {
		return s.Actions
	}
	return s.Verdict.Actions
}

// OpenActions returns the actions that are not done, and those of them that are
// overdue.
func (s Standing) OpenActions(now time.Time) (open, overdue []Action) {
	for _, a := range s.CurrentActions() {
		if a.Done || waits(a.Text) {
			continue // there is nothing to do yet
		}
		open = append(open, a)
		if a.Overdue(now) {
			overdue = append(overdue, a)
		}
	}
	return open, overdue
}

// Status is how urgent the review is: overdue is critical, open or with overdue
// actions a warning, and unknown if it cannot be read and something is left to
// do. A review that the runbook does not ask for is never late.
func (s Standing) Status(now time.Time) check.Status {
	status := check.OK
	open, overdue := s.OpenActions(now)
	if s.Problem != nil && (s.Open() || len(open) > 0) {
		status = check.Unknown
	}
	switch {
	case s.Overdue(now):
		status = check.Worst(status, check.Critical)
	case s.Open() && !s.Due.IsZero(), len(overdue) > 0:
		status = check.Worst(status, check.Warning)
	}
	return status
}

// Standings looks at all reviews that are recorded, and at the documents in dir
// of which nothing is.
func Standings(docs Documents, dir string, now time.Time) ([]Standing, error) {
	kept, err := Records(docs)
	if err != nil {
		return nil, err
	}
	var all []Standing
	known := map[string]bool{}
	for _, r := range kept {
		known[r.ID] = true
		all = append(all, Stand(r, dir, now))
	}
	entries, err := os.ReadDir(dir)
	if err != nil && !os.IsNotExist(err) {
		return nil, err
	}
	for _, e := range entries {
		name, isDoc := strings.CutSuffix(e.Name(), ".md")
		if !isDoc || !strings.HasPrefix(name, idPrefix) || known[name] {
			continue // a person's own files
		}
		s := found(filepath.Join(dir, e.Name()), name, now)
		if !known[s.ID] {
			known[s.ID] = true
			all = append(all, s)
		}
	}
	return all, nil
}

// found looks at a document of which nothing is recorded.
func found(path, name string, now time.Time) Standing {
	s := Standing{Record: Record{ID: name, File: path}}
	doc, err := Read(path)
	if err != nil {
		s.Problem = err
		return s
	}
	s.Verdict = Check(doc, now, false)
	s.ID, s.Title, s.Priority, s.Start = cmp.Or(s.Verdict.ID, name), doc.Title, s.Verdict.Priority, s.Verdict.Start
	s.settle()
	return s
}
