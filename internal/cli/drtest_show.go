package cli

import (
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/stellarescrow/escrowctl/internal/check"
	"github.com/stellarescrow/escrowctl/internal/drtest"
	"github.com/stellarescrow/escrowctl/internal/report"
	"github.com/stellarescrow/escrowctl/internal/ui"
)

// drTestOutcome is what is recorded and sent of a test.
func (a *App) drTestOutcome(d *deps, rep *drtest.Report) Outcome {
	verdict := drTestVerdict(rep)
	s := rep.Stages
	figures := map[string]any{
		"name": rep.Backup.Name, "where": rep.Backup.Where, "verdict": string(rep.Verdict), "size_bytes": rep.Backup.Size, "rows": rep.Total, "tables": len(rep.Rows),
		"restore_seconds": rep.Restore.Seconds(), "duration_seconds": rep.Duration.Seconds(), "start_seconds": s.Start.Seconds(), "fetch_seconds": s.Fetch.Seconds(),
		"decompress_seconds": s.Decompress.Seconds(), "load_seconds": s.Load.Seconds(), "index_seconds": s.Index.Seconds(), "verify_seconds": s.Verify.Seconds(),
		"engine": "", "checks": statuses(rep.Checks),
	}
	if rep.Instance != nil {
		figures["engine"] = rep.Instance.Engine
	}
	return Outcome{Status: rep.Status, Verdict: verdict, Figures: figures, Report: drTestReport(a.io.Now(), rep, d.cfg.DRTest.RTO, verdict)}
}

func statuses(checks []check.Result) map[string]string {
	out := map[string]string{}
	for _, c := range checks {
		out[c.ID] = c.Status.String()
	}
	return out
}

// drTestVerdict is the test in one line.
func drTestVerdict(rep *drtest.Report) string {
	name := rep.Backup.Name
	if name == "" {
		name = "no backup"
	}
	text := fmt.Sprintf("%s: %s", name, rep.Verdict)
	if rep.Restore > 0 {
		text += fmt.Sprintf(": %s rows of %s restored in %s", ui.Count(rep.Total), ui.Plural(len(rep.Rows), "table", "tables"), ui.Duration(rep.Restore))
	}
	for _, c := range rep.Checks {
		if c.Status == rep.Status && c.Status != check.OK {
			text += fmt.Sprintf(": %s: %s", c.ID, c.Summary)
			break
		}
	}
	return text
}

// drTestReport is what leaves the machine. Of a test that proved nothing the
// event says fail, for it has no third word, and the verdict beside it.
func drTestReport(now time.Time, rep *drtest.Report, rto time.Duration, verdict string) report.Report {
	event := map[string]any{"source": drTestSource, "type": "recovery_test", "status": "fail", "trades": int64(0), "events": int64(0), "ts": now.Unix(), "verdict": string(drtest.CouldNot)}
	out := report.Report{Event: event, Text: "dr-test " + verdict}
	if rep == nil {
		return out
	}
	event["verdict"] = string(rep.Verdict)
	if rep.Verdict == drtest.Pass {
		event["status"] = "pass"
	}
	event["backup"], event["rows"], event["restore_seconds"] = rep.Backup.Name, rep.Total, rep.Restore.Seconds()
	for name, n := range rep.Counts {
		event[strings.TrimPrefix(name, "public.")] = n
	}
	if rep.Verdict != drtest.Pass {
		return out
	}
	out.Gauges = []report.Gauge{
		{Name: "restore_seconds", Value: rep.Restore.Seconds()},
		{Name: "rows", Value: float64(rep.Total)},
		{Name: "tables", Value: float64(len(rep.Rows))},
		{Name: "size_bytes", Value: float64(rep.Backup.Size)},
	}
	if rto > 0 {
		out.Gauges = append(out.Gauges, report.Gauge{Name: "rto_seconds", Value: rto.Seconds()})
	}
	if t := rep.Trend; t != nil && !t.Until.IsZero() {
		out.Gauges = append(out.Gauges, report.Gauge{Name: "rto_reached_timestamp_seconds", Value: float64(t.Until.Unix())})
	}
	return out
}

// showDRTest tells the outcome to people and to programs.
func (a *App) showDRTest(d *deps, f drTestFlags, rep *drtest.Report, out Outcome) error {
	if f.junit != "" {
		if err := writeJUnit(f.junit, rep); err != nil {
			return &check.Error{Status: check.Worst(rep.Status, check.Warning), Err: err}
		}
	}
	if err := a.stepSummary(rep); err != nil {
		a.io.Warn("%v", err)
	}
	if a.asJSON() {
		return a.io.JSON(drTestJSON(rep, out))
	}
	if rep.Psql != "" {
		a.io.Line("the server is kept until %s: %s", rep.Reaped.UTC().Format(time.RFC3339), rep.Psql)
	}
	_, err := fmt.Fprintln(a.io.Out, strings.Join(a.drTestLines(rep), "\n"))
	return err
}

func (a *App) drTestLines(rep *drtest.Report) []string {
	word := a.io.Paint(rep.Status.String(), strings.ToUpper(string(rep.Verdict)))
	b := rep.Backup
	lines := []string{word + "  " + ui.Clean(b.Name)}
	add := func(label, format string, args ...any) {
		lines = append(lines, a.wrapped(label, ui.Clean(fmt.Sprintf(format, args...)))...)
	}
	if b.Where != "" {
		add("backup", "%s, %s, in %s", ui.Bytes(b.Size), b.Kind, b.Where)
	}
	if in := rep.Instance; in != nil {
		add("server", "PostgreSQL %s, engine %s, data %s", rep.Server, in.Engine, map[bool]string{true: "in memory", false: "on disk"}[in.Storage == "memory"])
	}
	if rep.Restore > 0 {
		s := rep.Stages
		add("took", "%s: start %s, load %s, index %s, verify %s; beside the load, of all streams: fetch %s, decompress %s", ui.Duration(rep.Duration), ui.Duration(s.Start),
			ui.Duration(s.Load), ui.Duration(s.Index), ui.Duration(s.Verify), ui.Duration(s.Fetch), ui.Duration(s.Decompress))
	}
	for _, c := range rep.Checks {
		label := a.io.Paint(c.Status.String(), fmt.Sprintf("%-8s", c.Status))
		lines = append(lines, a.wrappedAs(label, 8, c.ID+": "+ui.Clean(c.Summary))...)
		for _, line := range c.Detail {
			add("", "- %s", line)
		}
		if c.Action != "" {
			add("", "next: %s", c.Action)
		}
	}
	for _, n := range rep.Notes {
		add("note", "%s", n)
	}
	return lines
}

// wrapped lays a text out beside its label.
func (a *App) wrapped(label, text string) []string {
	return a.wrappedAs(fmt.Sprintf("%-8s", label), 8, text)
}

// wrappedAs does so with a label that takes so many columns. Only a terminal is
// narrow: in a log each thing is one line.
func (a *App) wrappedAs(label string, columns int, text string) []string {
	const indent = 2
	width := a.io.Width
	if width <= 0 {
		width = 80
	}
	if !a.io.OutTTY {
		width = 1 << 20
	}
	room := max(width-indent-columns-2, 20)
	var lines []string
	line := ""
	for _, word := range strings.Fields(text) {
		if line != "" && len([]rune(line))+1+len([]rune(word)) > room {
			lines = append(lines, line)
			line = ""
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	lines = append(lines, line)
	for i, l := range lines {
		head := label
		if i > 0 {
			head = strings.Repeat(" ", columns)
		}
		lines[i] = strings.Repeat(" ", indent) + head + "  " + l
	}
	return lines
}

type drTestStages struct {
	Open       float64 `json:"open_seconds"`
	Start      float64 `json:"start_seconds"`
	Fetch      float64 `json:"fetch_seconds"`
	Decompress float64 `json:"decompress_seconds"`
	Load       float64 `json:"load_seconds"`
	Index      float64 `json:"index_seconds"`
	Verify     float64 `json:"verify_seconds"`
}

type drTestTable struct {
	Table string `json:"table"`
	Rows  int64  `json:"rows"`
	Want  int64  `json:"expected_rows"`
}

func drTestJSON(rep *drtest.Report, out Outcome) any {
	tables := make([]drTestTable, 0, len(rep.Rows))
	for _, r := range rep.Rows {
		tables = append(tables, drTestTable(r))
	}
	s := rep.Stages
	v := struct {
		SchemaVersion int              `json:"schema_version"`
		Status        check.Status     `json:"status"`
		Verdict       drtest.Verdict   `json:"verdict"`
		Summary       string           `json:"summary"`
		Name          string           `json:"name"`
		Where         string           `json:"where"`
		Kind          string           `json:"kind"`
		TakenAt       time.Time        `json:"taken_at,omitzero"`
		Size          int64            `json:"size_bytes"`
		Fetched       int64            `json:"fetched_bytes"`
		Engine        string           `json:"engine,omitempty"`
		Image         string           `json:"image,omitempty"`
		Storage       string           `json:"storage,omitempty"`
		Server        string           `json:"server_version,omitempty"`
		Rows          int64            `json:"rows"`
		Counts        map[string]int64 `json:"counts"`
		Restore       float64          `json:"restore_seconds"`
		Duration      float64          `json:"duration_seconds"`
		Stages        drTestStages     `json:"stages"`
		Checks        []check.Result   `json:"checks"`
		Tables        []drTestTable    `json:"tables"`
		Notes         []string         `json:"notes,omitempty"`
		Psql          string           `json:"psql,omitempty"`
		KeptUntil     time.Time        `json:"kept_until,omitzero"`
	}{
		SchemaVersion: 1, Status: rep.Status, Verdict: rep.Verdict, Summary: out.Verdict, Name: rep.Backup.Name, Where: rep.Backup.Where, Kind: rep.Backup.Kind,
		TakenAt: rep.Backup.Taken, Size: rep.Backup.Size, Fetched: rep.Fetched, Server: rep.Server, Rows: rep.Total, Counts: rep.Counts,
		Restore: rep.Restore.Seconds(), Duration: rep.Duration.Seconds(), Checks: rep.Checks, Tables: tables, Notes: rep.Notes, Psql: rep.Psql, KeptUntil: rep.Reaped,
		Stages: drTestStages{s.Open.Seconds(), s.Start.Seconds(), s.Fetch.Seconds(), s.Decompress.Seconds(), s.Load.Seconds(), s.Index.Seconds(), s.Verify.Seconds()},
	}
	if in := rep.Instance; in != nil {
		v.Engine, v.Image, v.Storage = in.Engine, in.Image, string(in.Storage)
	}
	return v
}

// stepSummary adds the test to the summary that GitHub shows of a job.
func (a *App) stepSummary(rep *drtest.Report) error {
	path := a.variable("GITHUB_STEP_SUMMARY")
	if path == "" {
		return nil
	}
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("write the job's summary (GITHUB_STEP_SUMMARY): %w", err)
	}
	defer f.Close()
	if _, err := f.WriteString(drTestMarkdown(rep)); err != nil {
		return fmt.Errorf("write the job's summary (GITHUB_STEP_SUMMARY): %w", err)
	}
	return f.Close()
}

// variable returns a variable of the environment, "" if it is not set.
func (a *App) variable(name string) string {
	value := ""
	for _, pair := range a.environ {
		if k, v, _ := strings.Cut(pair, "="); k == name {
			value = v
		}
	}
	return value
}

func drTestMarkdown(rep *drtest.Report) string {
	cell := strings.NewReplacer("|", `\|`, "\n", " ", "<", "&lt;", "`", "'").Replace
	var b strings.Builder
	fmt.Fprintf(&b, "## Recovery test: %s\n\n`%s`: %s rows of %s restored in %s.\n\n", rep.Verdict, cell(ui.Clean(rep.Backup.Name)), ui.Count(rep.Total), ui.Plural(len(rep.Rows), "table", "tables"), ui.Duration(rep.Restore))
	b.WriteString("| status | check | found |\n|---|---|---|\n")
	for _, c := range rep.Checks {
		text := c.Summary
		for _, d := range c.Detail {
			text += "; " + d
		}
		if c.Action != "" {
			text += ". Next: " + c.Action
		}
		fmt.Fprintf(&b, "| %s | %s | %s |\n", c.Status, cell(c.ID), cell(ui.Clean(text)))
	}
	for _, n := range rep.Notes {
		fmt.Fprintf(&b, "\nNote: %s.\n", cell(ui.Clean(n)))
	}
	return b.String() + "\n"
}
