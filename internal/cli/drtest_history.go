package cli

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"github.com/stellarescrow/escrowctl/internal/drtest"
	"github.com/stellarescrow/escrowctl/internal/state"
	"github.com/stellarescrow/escrowctl/internal/ui"
)

// drTestPast reads the tests that passed, newest first.
func (d *deps) drTestPast() ([]drtest.Past, error) {
	runs, err := d.state.Runs(drTestJob, 0)
	if err != nil {
		return nil, err
	}
	var past []drtest.Past
	for _, r := range runs {
		if r.Succeeded() && text(r, "verdict") == string(drtest.Pass) {
			past = append(past, drtest.Past{At: r.StartedAt, Restore: seconds(r, "restore_seconds"), Size: whole(r, "size_bytes"), Rows: whole(r, "rows"), Engine: text(r, "engine")})
		}
	}
	return past, nil
}

func text(r state.Run, key string) string {
	s, _ := r.Figures[key].(string) // "" where an old record has none
	return s
}

func number(r state.Run, key string) float64 {
	n, _ := r.Figures[key].(float64) // 0 where an old record has none
	return n
}

func whole(r state.Run, key string) int64 { return int64(number(r, key)) }

func seconds(r state.Run, key string) time.Duration {
	return time.Duration(number(r, key) * float64(time.Second))
}

func (a *App) drTestHistoryCommand() *cobra.Command {
	var limit int
	cmd := &cobra.Command{
		Use: "history", Short: "show the last tests and how the time of a restore changes", Args: noArgs,
		Long: "Lists the tests that this host remembers, newest last: how long the restore\n" +
			"took, the size and rows of the backup, and the verdict; then how the time of a\n" +
			"restore grows, and when it would reach the RTO." +
			exitStatus("0  listed", "3  there have been no tests, or misuse"),
		Example: "  escrowctl dr-test history\n  escrowctl dr-test history -n 24 --json",
		RunE:    func(*cobra.Command, []string) error { return a.drTestHistory(limit) },
	}
	cmd.Flags().IntVarP(&limit, "number", "n", 12, "how many tests to show")
	return cmd
}

type drTestPast struct {
	At       time.Time     `json:"started_at"`
	Outcome  state.Outcome `json:"outcome"`
	ExitCode int           `json:"exit_code"`
	Verdict  string        `json:"verdict"`
	Name     string        `json:"name"`
	Engine   string        `json:"engine"`
	Restore  float64       `json:"restore_seconds"`
	Duration float64       `json:"duration_seconds"`
	Size     int64         `json:"size_bytes"`
	Rows     int64         `json:"rows"`
	Error    string        `json:"error,omitempty"`
}

func (a *App) drTestHistory(limit int) error {
	if limit < 1 {
		return &misuse{fmt.Sprintf("--number %d: a number from 1", limit)}
	}
	d, err := a.open(looks)
	if err != nil {
		return err
	}
	defer d.close()
	runs, err := d.state.Runs(drTestJob, limit)
	if err != nil {
		return err
	}
	past, err := d.drTestPast()
	if err != nil {
		return err
	}
	var trend *drtest.Trend
	if len(past) > 0 {
		trend = drtest.TrendOf(past, d.cfg.DRTest.RTO)
	}
	items := make([]drTestPast, 0, len(runs))
	for i := len(runs) - 1; i >= 0; i-- {
		r := runs[i]
		items = append(items, drTestPast{r.StartedAt, r.Outcome, r.ExitCode, text(r, "verdict"), text(r, "name"), text(r, "engine"),
			number(r, "restore_seconds"), r.Duration().Seconds(), whole(r, "size_bytes"), whole(r, "rows"), r.Error})
	}
	if a.asJSON() {
		return a.io.JSON(drTestHistoryJSON(items, trend))
	}
	if len(items) == 0 {
		_, err := fmt.Fprintln(a.io.Out, "there have been no tests: escrowctl dr-test")
		return err
	}
	t := ui.NewTable("STARTED (UTC)", "VERDICT", "RESTORE", "SIZE", "ROWS", "ENGINE")
	t.Right = map[int]bool{2: true, 3: true, 4: true}
	for _, it := range items {
		verdict := it.Verdict
		if verdict == "" {
			verdict = string(it.Outcome)
		}
		restore := "-"
		if it.Restore > 0 {
			restore = ui.Duration(time.Duration(it.Restore * float64(time.Second)))
		}
		t.Row(it.At.UTC().Format("2006-01-02 15:04"), verdict, restore, ui.Bytes(it.Size), ui.Count(it.Rows), it.Engine)
	}
	if err := t.Write(a.io, a.io.Out); err != nil {
		return err
	}
	line := fmt.Sprintf("a trend needs %d tests that passed", drtest.LeastRuns)
	if trend != nil {
		line = trend.String()
	}
	_, err = fmt.Fprintf(a.io.Out, "\ntrend: %s\n", line)
	return err
}

func drTestHistoryJSON(items []drTestPast, t *drtest.Trend) any {
	type trend struct {
		Runs    int       `json:"runs"`
		PerRun  float64   `json:"growth_per_run_seconds"`
		Last    float64   `json:"last_seconds"`
		RTO     float64   `json:"rto_seconds"`
		Runway  int       `json:"runs_until_rto"` // -1 for never
		Until   time.Time `json:"rto_reached_at,omitzero"`
		Warn    bool      `json:"warning"`
		Summary string    `json:"summary"`
	}
	v := struct {
		SchemaVersion int          `json:"schema_version"`
		Tests         []drTestPast `json:"tests"`
		Trend         *trend       `json:"trend"`
	}{SchemaVersion: 1, Tests: items}
	if t != nil {
		v.Trend = &trend{t.Runs, t.PerRun.Seconds(), t.Last.Seconds(), t.RTO.Seconds(), t.Runway, t.Until, t.Warn, t.String()}
	}
	return v
}
