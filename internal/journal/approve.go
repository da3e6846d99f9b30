package journal

import (
	"encoding/csv"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/stellarescrow/escrowctl/internal/runbook"
)

// Type returns the runbook's type of change of that name; its first letters do.
func Type(name string) (runbook.Change, error) {
	var found []runbook.Change
	var names []string
	for _, c := range runbook.Changes() {
		names = append(names, c.Name)
		if c.Name == name {
			return c, nil
		}
		if len(name) >= 3 && strings.HasPrefix(c.Name, name) {
			found = append(found, c)
		}
	}
	if len(found) != 1 {
		return runbook.Change{}, fmt.Errorf("no type of change %q: one of %s", name, strings.Join(names, ", "))
	}
	return found[0], nil
}

// Lacking compares the entry with what the runbook asks of its type (section
// 6.1), and says which approvals and steps are missing. One person cannot
// approve in two roles.
func Lacking(c runbook.Change, e Entry) []string {
	var out []string
	taken := map[string]string{}
	for _, role := range c.Approvers {
		i := slices.IndexFunc(e.Approvals, func(a Approval) bool { return strings.EqualFold(a.Role, role) })
		if i < 0 {
			out = append(out, "approval of the "+role)
			continue
		}
		name := strings.ToLower(e.Approvals[i].Name)
		if before, ok := taken[name]; ok {
			out = append(out, fmt.Sprintf("approval of the %s by another person than the %s", role, before))
		}
		taken[name] = role
	}
	for _, step := range c.Steps {
		if !slices.ContainsFunc(e.Done, func(done string) bool { return strings.EqualFold(done, step) }) {
			out = append(out, "step: "+step)
		}
	}
	return out
}

// Markdown writes the entries as a table for an audit.
func Markdown(w io.Writer, entries []Entry) error {
	cell := strings.NewReplacer("|", `\|`, "\n", " ", "\r", " ", "<", "&lt;")
	if _, err := fmt.Fprint(w, "| # | time (UTC) | by | type | change | approved by | outcome | lacking | hash |\n|---|---|---|---|---|---|---|---|---|\n"); err != nil {
		return err
	}
	for _, e := range entries {
		cells := record(e)
		for i := range cells {
			cells[i] = cell.Replace(cells[i])
		}
		cells[8] = cells[8][:min(12, len(cells[8]))]
		if _, err := fmt.Fprintf(w, "| %s |\n", strings.Join(cells, " | ")); err != nil {
			return err
		}
	}
	return nil
}

// CSV writes the entries with a head. What a spreadsheet would take for a
// formula is quoted.
func CSV(w io.Writer, entries []Entry) error {
	out := csv.NewWriter(w)
	_ = out.Write([]string{"seq", "at", "by", "type", "change", "approved_by", "outcome", "lacking", "hash"})
	for _, e := range entries {
		cells := record(e)
		for i, c := range cells {
			if c != "" && strings.ContainsRune("=+-@\t\r", rune(c[0])) {
				cells[i] = "'" + c
			}
		}
		_ = out.Write(cells)
	}
	out.Flush()
	return out.Error() // of any Write before, too
}

func record(e Entry) []string {
	what := e.Summary
	if e.Command != "" {
		what += " (" + e.Command + ")"
	}
	if e.Why != "" {
		what += ": " + e.Why
	}
	var approved []string
	for _, a := range e.Approvals {
		approved = append(approved, a.Name+" ("+a.Role+")")
	}
	return []string{
		fmt.Sprint(e.Seq), e.At.UTC().Format(time.RFC3339), e.By, e.Type, what,
		strings.Join(approved, ", "), e.Outcome, strings.Join(e.Lacking, "; "), e.Hash,
	}
}
