package cli

import (
	"bytes"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/stellarescrow/escrowctl/internal/check"
	"github.com/stellarescrow/escrowctl/internal/journal"
	"github.com/stellarescrow/escrowctl/internal/runbook"
	"github.com/stellarescrow/escrowctl/internal/ui"
)

func (a *App) changesCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "changes", Short: "the change management log: who changed what, approved by whom", GroupID: "ops", Args: noArgs,
		Long: "Keeps the change management log. Commands that change something write it by\n" +
			"themselves; changes add notes others, held against the approvals and steps that\n" +
			"the runbook asks for. Every entry carries the hash of the one before.",
		Example: "  escrowctl changes list\n  escrowctl changes verify",
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.changesListCommand(), a.changesShowCommand(), a.changesVerifyCommand(), a.changesAddCommand(), a.changesExportCommand())
	return cmd
}

// hashed is an entry with its hash, as JSON shows it.
type hashed struct {
	journal.Entry
	Hash string `json:"hash"`
}

func withHash(entries []journal.Entry) []hashed {
	out := make([]hashed, len(entries))
	for i, e := range entries {
		out[i] = hashed{e, e.Hash}
	}
	return out
}

// entries opens the journal and reads it.
func (a *App) entries() ([]journal.Entry, error) {
	d, err := a.open(looks)
	if err != nil {
		return nil, err
	}
	defer d.close()
	return d.changeLog().Entries()
}

func (a *App) changesListCommand() *cobra.Command {
	var limit int
	var kind string
	cmd := &cobra.Command{
		Use: "list", Short: "the latest changes, newest first", Args: noArgs,
		Example: "  escrowctl changes list\n  escrowctl changes list --type contract --limit 0",
		RunE: func(*cobra.Command, []string) error {
			if kind != "" && kind != operationType {
				c, err := journal.Type(kind)
				if err != nil {
					return &misuse{"--type: " + err.Error()}
				}
				kind = c.Name
			}
			all, err := a.entries()
			if err != nil {
				return err
			}
			picked := []journal.Entry{}
			for i := len(all) - 1; i >= 0 && (limit <= 0 || len(picked) < limit); i-- {
				if kind == "" || all[i].Type == kind {
					picked = append(picked, all[i])
				}
			}
			return a.showChanges(picked)
		},
	}
	cmd.Flags().IntVar(&limit, "limit", 20, "at most so `many`; 0 for all")
	cmd.Flags().StringVar(&kind, "type", "", "only changes of this `type`")
	return cmd
}

func (a *App) showChanges(entries []journal.Entry) error {
	if a.asJSON() {
		return a.io.JSON(ui.Document("changes", withHash(entries)))
	}
	if len(entries) == 0 {
		_, err := fmt.Fprintln(a.io.Out, "no change is in the journal")
		return err
	}
	t := ui.NewTable("NO", "TIME (UTC)", "BY", "TYPE", "OUTCOME", "CHANGE")
	for _, e := range entries {
		outcome := e.Outcome
		if len(e.Lacking) > 0 {
			outcome += ", INCOMPLETE" // changes show says what is lacking
		}
		t.Row(strconv.Itoa(e.Seq), e.At.UTC().Format("2006-01-02 15:04"), e.By, e.Type, outcome, e.Summary)
	}
	return t.Write(a.io, a.io.Out)
}

func (a *App) changesShowCommand() *cobra.Command {
	return &cobra.Command{
		Use: "show NUMBER", Short: "one change in full", Example: "  escrowctl changes show 12",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 1 {
				if n, err := strconv.Atoi(args[0]); err == nil && n > 0 {
					return nil
				}
			}
			return &misuse{"changes show: give the number of one change, as changes list shows it"}
		},
		RunE: func(_ *cobra.Command, args []string) error {
			all, err := a.entries()
			if err != nil {
				return err
			}
			for _, e := range all {
				if strconv.Itoa(e.Seq) == args[0] {
					return a.showChange(e)
				}
			}
			return &misuse{fmt.Sprintf("changes show %s: there is no such change: see 'escrowctl changes list'", args[0])}
		},
	}
}

func (a *App) showChange(e journal.Entry) error {
	if a.asJSON() {
		return a.io.JSON(ui.Document("change", hashed{e, e.Hash}))
	}
	var approved []string
	for _, p := range e.Approvals {
		approved = append(approved, p.Name+" ("+p.Role+")")
	}
	for _, row := range [][2]string{
		{"number", strconv.Itoa(e.Seq)}, {"time", e.At.UTC().Format(time.RFC3339)}, {"by", e.By}, {"type", e.Type}, {"change", e.Summary},
		{"command", e.Command}, {"why", e.Why}, {"outcome", e.Outcome}, {"approved by", strings.Join(approved, ", ")},
		{"steps done", strings.Join(e.Done, ", ")}, {"lacking", strings.Join(e.Lacking, "; ")},
		{"fingerprints", strings.Join(e.Fingerprints, " ")}, {"hash", e.Hash}, {"before it", e.Prev},
	} {
		if row[1] != "" {
			if _, err := fmt.Fprintf(a.io.Out, "%-13s %s\n", row[0], ui.Clean(row[1])); err != nil {
				return err
			}
		}
	}
	return nil
}

func (a *App) changesVerifyCommand() *cobra.Command {
	return &cobra.Command{
		Use: "verify", Short: "find edits and gaps in the journal", Args: noArgs,
		Long: "Reads the whole chain of hashes: entries that were edited, removed, inserted or\n" +
			"put in another order, also at the end. Who can write the state directory can\n" +
			"replace the journal as a whole: with journal.mirror it is held against the\n" +
			"copies in the bucket too, which finds that." +
			exitStatus("0  whole", "1  the last line is torn by a kill, or not all is in the bucket: the next\n     change mends it", "2  edited, or entries are missing", "3  the bucket cannot be asked"),
		Example: "  escrowctl changes verify",
		RunE: func(cmd *cobra.Command, _ []string) error {
			d, err := a.open(looks)
			if err != nil {
				return err
			}
			defer d.close()
			n, findings, err := d.changeLog().Verify()
			if err != nil {
				return err
			}
			status := check.OK
			more, err := d.compareMirror(cmd.Context())
			if err != nil {
				status = check.Unknown
				more = []journal.Finding{{What: "it is not compared with the bucket: " + d.scrub(err).Error(), Minor: true}}
			}
			findings = append(findings, more...)
			for _, f := range findings {
				if f.Minor {
					status = check.Worst(status, check.Warning)
				} else {
					status = check.Critical
				}
			}
			if err := a.showChain(n, findings, status); err != nil {
				return err
			}
			if status != check.OK {
				return &told{status}
			}
			return nil
		},
	}
}

func (a *App) showChain(n int, findings []journal.Finding, status check.Status) error {
	if a.asJSON() {
		return a.io.JSON(ui.Document("journal", map[string]any{"entries": n, "status": status, "findings": append([]journal.Finding{}, findings...)}))
	}
	if len(findings) == 0 {
		_, err := fmt.Fprintf(a.io.Out, "%s  %s, each with the hash of the one before\n", a.io.Paint("ok", "OK"), ui.Plural(n, "entry", "entries"))
		return err
	}
	for _, f := range findings {
		where := "journal"
		if f.Line > 0 {
			where = fmt.Sprintf("line %d", f.Line)
		}
		if _, err := fmt.Fprintf(a.io.Out, "%s  %s: %s\n", a.io.Paint(status.String(), strings.ToUpper(status.String())), where, ui.Clean(f.What)); err != nil {
			return err
		}
	}
	return nil
}

// addFlags are those of changes add.
type addFlags struct {
	kind, summary, why string
	outcome            string
	approved, done     []string
	incomplete, dryRun bool
}

func (a *App) changesAddCommand() *cobra.Command {
	var f addFlags
	var kinds []string
	for _, c := range runbook.Changes() {
		kinds = append(kinds, c.Name)
	}
	cmd := &cobra.Command{
		Use: "add", Short: "note a change, held against the approvals it needs", Args: noArgs,
		Long: "Notes a change that was made without escrowctl. Each type needs approvals and\n" +
			"steps (escrowctl runbook changes); a change that lacks one is refused, or with\n" +
			"--incomplete kept and marked." +
			exitStatus("0  noted", "1  noted, marked as incomplete", "3  refused: an approval or step is lacking"),
		Example: "  escrowctl changes add --type app --summary v2.1 --incomplete\n" +
			"  escrowctl changes add --type migration --summary add-index --dry-run",
		RunE: func(cmd *cobra.Command, _ []string) error { return a.addChangeEntry(cmd, f) },
	}
	fl := cmd.Flags()
	fl.StringVar(&f.kind, "type", "", "`type` of change; its first letters do:\n"+strings.Join(kinds[:3], ", ")+",\n"+strings.Join(kinds[3:], ", "))
	fl.StringVar(&f.summary, "summary", "", "`what` was changed")
	fl.StringVar(&f.why, "why", "", "the `reason`")
	fl.StringVar(&f.outcome, "outcome", "ok", "`how` it ended: ok, failed, rolled-back\nor planned")
	fl.StringArrayVar(&f.approved, "approved-by", nil, "an approval, as `ROLE=NAME`; repeatable")
	fl.StringArrayVar(&f.done, "done", nil, "a `step` of the runbook's process that was done;\nrepeatable")
	fl.BoolVar(&f.incomplete, "incomplete", false, "note it although it lacks something, marked")
	fl.BoolVar(&f.dryRun, "dry-run", false, "say what is lacking; note nothing")
	return cmd
}

// entry makes the entry of the flags.
func (f addFlags) entry() (journal.Entry, error) {
	if f.kind == "" || f.summary == "" {
		return journal.Entry{}, &misuse{"changes add: --type and --summary are needed"}
	}
	c, err := journal.Type(f.kind)
	if err != nil {
		return journal.Entry{}, &misuse{"--type: " + err.Error()}
	}
	switch f.outcome {
	case "ok", "failed", "rolled-back", "planned":
	default:
		return journal.Entry{}, &misuse{fmt.Sprintf("--outcome %q: ok, failed, rolled-back or planned", f.outcome)}
	}
	e := journal.Entry{Type: c.Name, Summary: f.summary, Why: f.why, Outcome: f.outcome, Done: f.done}
	for _, text := range f.approved {
		role, name, ok := strings.Cut(text, "=")
		if !ok || strings.TrimSpace(name) == "" {
			return e, &misuse{fmt.Sprintf("--approved-by %q: write ROLE=NAME, with a role of %s", text, strings.Join(c.Approvers, ", "))}
		}
		e.Approvals = append(e.Approvals, journal.Approval{Role: strings.TrimSpace(role), Name: strings.TrimSpace(name)})
	}
	e.Lacking = journal.Lacking(c, e)
	return e, nil
}

func (a *App) addChangeEntry(cmd *cobra.Command, f addFlags) error {
	e, err := f.entry()
	if err != nil {
		return err
	}
	if len(e.Lacking) > 0 && !f.incomplete {
		return &misuse{fmt.Sprintf("this %s change lacks: %s: get them, or note it with --incomplete", e.Type, strings.Join(e.Lacking, "; "))}
	}
	if f.dryRun {
		_, err := fmt.Fprintf(a.io.Out, "would note a %s change; lacking: %s\n", e.Type, orNothing(e.Lacking))
		return err
	}
	d, err := a.open(changes)
	if err != nil {
		return err
	}
	defer d.close()
	if e, err = d.addChange(cmd.Context(), e); err != nil {
		return err
	}
	if a.asJSON() {
		err = a.io.JSON(ui.Document("change", hashed{e, e.Hash}))
	} else {
		_, err = fmt.Fprintf(a.io.Out, "noted as change %d; lacking: %s\n", e.Seq, orNothing(e.Lacking))
	}
	if err == nil && len(e.Lacking) > 0 {
		return &told{check.Warning}
	}
	return err
}

func orNothing(list []string) string {
	if len(list) == 0 {
		return "nothing"
	}
	return strings.Join(list, "; ")
}

func (a *App) changesExportCommand() *cobra.Command {
	var format, since string
	cmd := &cobra.Command{
		Use: "export", Short: "the journal as Markdown or CSV, for an audit", Args: noArgs,
		Example: "  escrowctl changes export > changes.md\n  escrowctl changes export --format csv --since 2026-10-01 > q4.csv",
		RunE: func(*cobra.Command, []string) error {
			write, ok := map[string]func(io.Writer, []journal.Entry) error{"markdown": journal.Markdown, "csv": journal.CSV}[format]
			if !ok {
				return &misuse{fmt.Sprintf("--format %q: markdown or csv", format)}
			}
			var from time.Time
			if since != "" {
				var err error
				if from, err = time.Parse(time.DateOnly, since); err != nil {
					return &misuse{fmt.Sprintf("--since %q: write the day as 2026-10-01", since)}
				}
			}
			all, err := a.entries()
			if err != nil {
				return err
			}
			picked := []journal.Entry{}
			for _, e := range all {
				if !e.At.Before(from) {
					picked = append(picked, e)
				}
			}
			if a.asJSON() {
				return a.io.JSON(ui.Document("changes", withHash(picked)))
			}
			var b bytes.Buffer
			if err := write(&b, picked); err != nil {
				return err
			}
			_, err = io.WriteString(a.io.Out, ui.CleanLines(b.String()))
			return err
		},
	}
	cmd.Flags().StringVar(&format, "format", "markdown", "`format`: markdown or csv")
	cmd.Flags().StringVar(&since, "since", "", "only changes from this `day` on")
	return cmd
}
