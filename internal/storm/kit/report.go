package kit

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// Entry is one run under a fault.
type Entry struct {
	Command string        `json:"command"`
	Group   string        `json:"group"` // of faults: PostgreSQL, S3, ...
	Fault   string        `json:"fault"`
	Outcome string        `json:"outcome"` // "exit 2", "SIGKILL"
	Took    time.Duration `json:"took_ns"`
	PeakRSS int64         `json:"peak_rss_bytes"`
	Failed  bool          `json:"failed"` // a demand of the storm was not met
}

// Report gathers the entries of an area.
type Report struct {
	Area string

	mu      sync.Mutex
	entries []Entry
}

// Record adds a run. Whether it failed is the test's own state by then.
func (r *Report) Record(t testing.TB, group, fault string, res Result) {
	outcome := fmt.Sprintf("exit %d", res.Code)
	if res.Signal != 0 {
		outcome = "killed"
	}
	r.Add(Entry{
		Command: strings.Join(res.Args, " "), Group: group, Fault: fault, Outcome: outcome, Took: res.Took, PeakRSS: res.PeakRSS, Failed: t.Failed(),
	})
}

// Add adds an entry.
func (r *Report) Add(e Entry) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.entries = append(r.entries, e)
}

// write puts AREA.json into a directory, and the table into its place in a page,
// between two comments; "" for neither. What AREA.json has of other cells stays,
// so that a part may be run anew.
func (r *Report) write(dir, page string) error {
	if len(r.entries) == 0 {
		return nil
	}
	if dir == "" {
		return r.publish(page)
	}
	if err := r.recall(filepath.Join(dir, r.Area+".json")); err != nil {
		return err
	}
	return errors.Join(r.keep(dir), r.publish(page))
}

// recall adds what a file knows of cells that were not run now.
func (r *Report) recall(file string) error {
	text, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var earlier []Entry
	if err := json.Unmarshal(text, &earlier); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	earlier = slices.DeleteFunc(earlier, func(e Entry) bool { return slices.ContainsFunc(r.entries, e.sameCell) })
	r.entries = append(earlier, r.entries...)
	return nil
}

func (e Entry) sameCell(other Entry) bool {
	return e.Command == other.Command && e.Group == other.Group && e.Fault == other.Fault
}

func (r *Report) keep(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	body, err := json.MarshalIndent(r.entries, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, r.Area+".json"), body, 0o644)
}

func (r *Report) publish(page string) error {
	if page == "" {
		return nil
	}
	text, err := os.ReadFile(page)
	if err != nil {
		return err
	}
	begin, end := fmt.Sprintf("<!-- BEGIN storm %s -->\n", r.Area), fmt.Sprintf("<!-- END storm %s -->", r.Area)
	before, rest, ok := strings.Cut(string(text), begin)
	_, after, closed := strings.Cut(rest, end)
	if !ok || !closed {
		return fmt.Errorf("%s has no place for the figures of %s: %s...%s", page, r.Area, begin, end)
	}
	return os.WriteFile(page, []byte(before+begin+r.Markdown()+end+after), 0o644)
}

// line is a row of the table: the runs of one command under one fault.
type line struct {
	Entry
	runs, failed int
	outcomes     []string
	longest      time.Duration
}

// Markdown is the table of all runs.
func (r *Report) Markdown() string {
	var lines []*line
	var rss int64
	for _, e := range r.entries {
		rss = max(rss, e.PeakRSS)
		i := slices.IndexFunc(lines, func(l *line) bool { return l.sameCell(e) })
		if i < 0 {
			i = len(lines)
			lines = append(lines, &line{Entry: e})
		}
		l := lines[i]
		l.runs++
		if e.Failed {
			l.failed++
		}
		if !slices.Contains(l.outcomes, e.Outcome) {
			l.outcomes = append(l.outcomes, e.Outcome)
		}
		l.longest = max(l.longest, e.Took)
	}
	slices.SortStableFunc(lines, func(a, b *line) int {
		return cmp.Or(cmp.Compare(a.Group, b.Group), cmp.Compare(a.Fault, b.Fault), cmp.Compare(a.Command, b.Command))
	})
	var out strings.Builder
	failed := 0
	fmt.Fprint(&out, "| group | fault | command | runs | ended with | longest |\n|---|---|---|---|---|---|\n")
	for _, l := range lines {
		slices.Sort(l.outcomes)
		if l.failed > 0 {
			l.outcomes = append(l.outcomes, fmt.Sprintf("**%d not as demanded**", l.failed))
		}
		fmt.Fprintf(&out, "| %s | %s | `%s` | %d | %s | %.1f s |\n", l.Group, l.Fault, l.Command, l.runs, strings.Join(l.outcomes, ", "), l.longest.Seconds())
		failed += l.failed
	}
	fmt.Fprintf(&out, "\n%d runs, %d of them not as demanded; no run held more than %d MiB.\n", len(r.entries), failed, rss>>20)
	return out.String()
}
