package cli

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/stellarescrow/escrowctl/internal/backup"
	"github.com/stellarescrow/escrowctl/internal/check"
	"github.com/stellarescrow/escrowctl/internal/ui"
)

type verifyFlags struct {
	where
	deep     bool
	jobs     int
	identity string
}

func (a *App) verifyCommand() *cobra.Command {
	var f verifyFlags
	cmd := &cobra.Command{
		Use: "verify [BACKUP]", Short: "read a backup and prove that it is whole", Args: atMost(1),
		Long: "BACKUP is a name or time of 'backup list', a file, an s3:// URI, or latest.\n" +
			"Reads the backup once, from where it lies, on all cores: checksums of the file\n" +
			"and of every member, decompression, the rows of every table against the\n" +
			"manifest, pg_dump's end mark. A backup of the old script has no manifest; it is\n" +
			"read to its end mark and its rows are counted." +
			exitStatus("0  it is whole", "2  it is damaged", "3  that could not be found out"),
		Example: "  escrowctl backup verify\n  escrowctl backup verify latest --s3 --deep\n  escrowctl backup verify ./stellar_escrow_20260101T020000Z.sql.gz",
		RunE: func(cmd *cobra.Command, args []string) error {
			what := "latest"
			if len(args) == 1 {
				what = args[0]
			}
			return a.verify(cmd.Context(), what, f)
		},
	}
	f.add(cmd)
	cmd.Flags().BoolVar(&f.deep, "deep", false, "also check every row's fields and encoding")
	cmd.Flags().IntVar(&f.jobs, "jobs", 0, "cores to use (default all)")
	cmd.Flags().StringVar(&f.identity, "identity", "", "age identity `file`, for an encrypted backup")
	return cmd
}

func (a *App) verify(ctx context.Context, what string, f verifyFlags) error {
	d, err := a.open(changes)
	if err != nil {
		return err
	}
	defer d.close()
	ids, err := d.identities(f.identity)
	if err != nil {
		return err
	}
	return a.job(ctx, d, verifyJob, func(ctx context.Context) (Outcome, error) {
		at, err := d.locate(ctx, what, f.where)
		if err != nil {
			return Outcome{}, &check.Error{Status: check.Unknown, Err: err}
		}
		progress := a.io.Progress("verifying " + at.name)
		rep, err := backup.Verify(ctx, backup.VerifyOptions{
			Store: at.store, Name: at.name, Identities: ids, Deep: f.deep, Jobs: f.jobs, Now: a.io.Now,
			Progress: func(done, total int64) { progress.Set(done, total, ui.Bytes) },
		})
		progress.Done()
		if err != nil {
			return Outcome{}, &check.Error{Status: check.Unknown, Err: fmt.Errorf("%s: could not verify: %w", at.name, err)}
		}
		d.remember(at, rep, "verify", a.io.Now())
		return verifyOutcome(rep), a.showReport(rep)
	})
}

// remember keeps the verdict for list, prune and shift-check.
func (d *deps) remember(at located, rep *backup.Report, by string, now time.Time) {
	if _, ours := d.naming().Parse(at.name); !ours || at.home == "file" {
		return
	}
	all, err := d.verifications()
	if err != nil {
		d.app.io.Warn("%v", err)
		return
	}
	all.Record(at.name, backup.Verification{At: now.UTC(), By: by, Where: rep.Where, Verdict: rep.Verdict})
	all.Forget(keepVerdicts)
	if err := d.state.Save(verifiedDoc, all); err != nil {
		d.app.io.Warn("the verdict is not remembered: %v", err)
	}
}

func verdictStatus(v backup.Verdict) check.Status {
	return map[backup.Verdict]check.Status{backup.Pass: check.OK, backup.Fail: check.Critical, backup.CouldNot: check.Unknown}[v]
}

func verifyOutcome(rep *backup.Report) Outcome {
	verdict := fmt.Sprintf("%s: %s: %s, %s rows of %s", rep.Name, rep.Verdict, ui.Bytes(rep.Size), ui.Count(rep.Rows), ui.Plural(len(rep.Tables), "table", "tables"))
	if len(rep.Faults) > 0 {
		verdict += ": " + rep.Faults[0].Error()
	}
	out := Outcome{Status: verdictStatus(rep.Verdict), Verdict: verdict, Figures: map[string]any{
		"name": rep.Name, "where": rep.Where, "verdict": rep.Verdict, "size_bytes": rep.Size, "rows": rep.Rows, "faults": len(rep.Faults),
	}}
	if rep.Verdict != backup.Pass {
		out.Report.Text = "backup verify: " + verdict
	}
	return out
}

func (a *App) showReport(rep *backup.Report) error {
	var faults []string
	for _, f := range rep.Faults {
		faults = append(faults, ui.Clean(f.Error()))
	}
	if a.asJSON() {
		return a.io.JSON(struct {
			SchemaVersion int            `json:"schema_version"`
			Status        check.Status   `json:"status"`
			Verdict       backup.Verdict `json:"verdict"`
			Name          string         `json:"name"`
			Where         string         `json:"where"`
			Kind          backup.Kind    `json:"kind"`
			Size          int64          `json:"size_bytes"`
			SQLSize       int64          `json:"sql_bytes"`
			Rows          int64          `json:"rows"`
			TableCount    int            `json:"table_count"`
			Faults        []string       `json:"faults"`
			Notes         []string       `json:"notes,omitempty"`
			Duration      float64        `json:"duration_seconds"`
		}{1, verdictStatus(rep.Verdict), rep.Verdict, rep.Name, rep.Where, rep.Kind, rep.Size, rep.SQLSize, rep.Rows, len(rep.Tables), faults, rep.Notes, rep.Duration.Seconds()})
	}
	word := a.io.Paint(verdictStatus(rep.Verdict).String(), strings.ToUpper(string(rep.Verdict)))
	lines := []string{
		fmt.Sprintf("%s  %s", word, ui.Clean(rep.Name)),
		fmt.Sprintf("  read      %s in %s from %s", ui.Bytes(rep.Size), ui.Duration(rep.Duration), ui.Clean(rep.Where)),
	}
	if rep.SQLSize > 0 {
		lines = append(lines, fmt.Sprintf("  holds     %s of SQL, %s rows of %s", ui.Bytes(rep.SQLSize), ui.Count(rep.Rows), ui.Plural(len(rep.Tables), "table", "tables")))
	}
	for _, f := range faults {
		lines = append(lines, "  "+a.io.Paint("fail", "fault")+"     "+f)
	}
	for _, n := range rep.Notes {
		lines = append(lines, "  note      "+ui.Clean(n))
	}
	_, err := fmt.Fprintln(a.io.Out, strings.Join(lines, "\n"))
	return err
}
