package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/stellarescrow/escrowctl/internal/backup"
	"github.com/stellarescrow/escrowctl/internal/check"
	"github.com/stellarescrow/escrowctl/internal/config"
	"github.com/stellarescrow/escrowctl/internal/report"
	"github.com/stellarescrow/escrowctl/internal/schema"
	"github.com/stellarescrow/escrowctl/internal/sqldump"
	"github.com/stellarescrow/escrowctl/internal/store"
	"github.com/stellarescrow/escrowctl/internal/ui"
)

func (a *App) backupCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "backup", Short: "back up PostgreSQL to a directory and a bucket", GroupID: "ops", Args: noArgs,
		Long: "Dumps the database, compresses it on all cores into a file that gunzip and psql\n" +
			"understand, keeps it locally and sends it to the bucket as it grows. A backup\n" +
			"counts only once pg_dump has ended well, its end mark is there, the bucket's\n" +
			"checksum is right and the manifest stands beside it." +
			exitStatus("0  backed up, here and in the bucket", "1  backed up, with something to look at: see the warnings",
				"2  failed, or the bucket lacks it", "3  the configuration is wrong", "75 another backup is running"),
		Example: "  escrowctl backup\n  escrowctl backup list\n  escrowctl backup verify latest\n  escrowctl backup restore latest --to scratch",
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.backup(cmd.Context()) },
	}
	cmd.AddCommand(a.listCommand(), a.verifyCommand(), a.restoreCommand(), a.pruneCommand(), a.uploadCommand(), a.ackCommand())
	return cmd
}

const (
	backupJob      = "backup"
	pruneJob       = "backup-prune"
	uploadJob      = "backup-upload"
	restoreJob     = "backup-restore"
	verifyJob      = "backup-verify"
	holdJob        = "backup-hold" // of metrics only
	holdDoc        = "backup-hold"
	verifiedDoc    = "backup-verified"
	keepVerdicts   = 1000
	metricsSource  = "backup"
	noBucketNotice = "no bucket is configured (S3_BUCKET): this backup exists on this host alone"
)

// hold says that a loss waits for somebody to acknowledge it.
type hold struct {
	Since  time.Time `json:"since"`
	Backup string    `json:"backup,omitempty"`
	Losses []string  `json:"losses,omitempty"` // none: acknowledged
}

func (d *deps) held() (hold, error) {
	var h hold
	_, err := d.state.Load(holdDoc, &h)
	return h, err
}

// hold holds pruning until somebody acknowledges the losses.
func (d *deps) hold(name string, losses []string) error {
	return d.state.Save(holdDoc, hold{Since: d.app.io.Now().UTC(), Backup: name, Losses: losses})
}

// sendHold writes how many losses wait, which outlives the run that found them
// and ends with backup ack. It returns the status that problems make.
func (a *App) sendHold(ctx context.Context, d *deps) check.Status {
	h, err := d.held()
	if err != nil {
		a.io.Warn("%v", err)
		return check.Warning
	}
	now := a.io.Now()
	return a.tellProblems(d, d.reporter.Send(context.WithoutCancel(ctx), report.Report{
		Job: holdJob, Success: true, StartedAt: now, EndedAt: now,
		Gauges: []report.Gauge{{Name: "losses", Value: float64(len(h.Losses))}},
	}))
}

func (d *deps) verifications() (backup.Verifications, error) {
	v := backup.Verifications{}
	_, err := d.state.Load(verifiedDoc, &v)
	return v, err
}

func (a *App) backup(ctx context.Context) error {
	d, err := a.open(changes)
	if err != nil {
		return err
	}
	defer d.close()
	var res *backup.Result
	err = a.job(ctx, d, backupJob, func(ctx context.Context) (Outcome, error) {
		ctx, cancel := context.WithTimeoutCause(ctx, d.cfg.Backup.Timeout, fmt.Errorf("the run took longer than backup.timeout (%s): raise it, or see what is so slow", d.cfg.Backup.Timeout))
		defer cancel()
		var out Outcome
		res, out, err = a.runBackup(ctx, d)
		return out, err
	})
	if res != nil && res.Name != "" && !a.asJSON() && !a.io.OutTTY {
		// The platform reads this last line.
		_, _ = fmt.Fprintf(a.io.Out, "BACKUP_LOCATION=%s\n", res.Path)
	}
	return err
}

func (a *App) runBackup(ctx context.Context, d *deps) (*backup.Result, Outcome, error) {
	failed := func(err error) (*backup.Result, Outcome, error) {
		return nil, Outcome{Report: report.Report{Event: failureEvent(a.io.Now(), d.scrubber.Scrub(err.Error()))}}, err
	}
	src, err := d.source(ctx)
	if err != nil {
		return failed(err)
	}
	defer src.close()
	if err := src.lock(ctx, d.naming()); err != nil {
		return failed(err)
	}
	opt, err := d.backupOptions(ctx, src)
	if err != nil {
		return failed(err)
	}
	progress := a.io.Progress("dumping")
	opt.Progress = func(sqlBytes, _, _ int64) { progress.Set(sqlBytes, 0, ui.Bytes) }
	a.io.Log("backing up %s (PostgreSQL %s, pg_dump %s at %s)", src.target.Display(), src.info.Version, src.tool.Version, src.tool.Path)
	res, err := backup.Run(ctx, opt)
	progress.Done()
	if res != nil && len(res.Swept) > 0 {
		a.io.Log("swept what a killed run left: %s", strings.Join(res.Swept, ", "))
	}
	if err != nil {
		_, out, err := failed(err)
		return res, out, err
	}
	out := a.backupOutcome(d, res)
	out.Status = check.Worst(out.Status, a.sendHold(ctx, d))
	return res, out, a.showBackup(d, res, out)
}

// backupOptions gathers what a run needs and checks that it can begin.
func (d *deps) backupOptions(ctx context.Context, src *source) (backup.Options, error) {
	c := d.cfg.Backup
	recipients, err := c.AgeRecipients()
	if err != nil {
		return backup.Options{}, &misuse{err.Error()}
	}
	verified, err := d.verifications()
	if err != nil {
		return backup.Options{}, err
	}
	h, err := d.held()
	if err != nil {
		return backup.Options{}, err
	}
	host, _ := os.Hostname() // "" where there is none
	remote, err := d.remote(ctx)
	if err != nil {
		return backup.Options{}, err
	}
	copies, err := backup.Copies(ctx, d.local(), d.naming())
	if err != nil {
		return backup.Options{}, err
	}
	var last int64
	if len(copies) > 0 {
		last = copies[len(copies)-1].Size
	}
	if err := checkSpace(c.Dir, last); err != nil {
		return backup.Options{}, err
	}
	return backup.Options{
		Naming: d.naming(), Local: d.local(), Remote: remote, Dumper: src, Database: src.target.Database(), Host: host, Version: d.app.build.Version,
		Codec: sqldump.Codec(c.Compression), Level: c.Level, Jobs: c.Jobs, Recipients: recipients, Globals: d.cfg.Dump.Globals,
		Schema:      func(ctx context.Context) (*schema.Schema, error) { return schema.Capture(ctx, src.conn.PgConn()) },
		ShrinkRatio: c.ShrinkWarnRatio, Retention: backup.Retention(c.Retention), RemoteKeep: backup.Retention(c.BucketRetention),
		Held: len(h.Losses) > 0, Hold: d.hold, Verified: verified, Now: d.app.io.Now, Log: d.app.io.Log,
	}, nil
}

func failureEvent(now time.Time, msg string) any {
	return map[string]any{"source": metricsSource, "type": "backup_failure", "error": msg, "ts": now.Unix()}
}

// backupOutcome judges a run that made a backup.
func (a *App) backupOutcome(d *deps, res *backup.Result) Outcome {
	m := res.Manifest
	out := Outcome{Figures: map[string]any{
		"name": res.Name, "size_bytes": m.Size, "sql_bytes": m.SQLSize, "rows": m.Rows, "tables": m.TableCount, "uploaded": res.Uploaded, "warnings": len(res.Warnings),
	}}
	if d.cfg.S3.Bucket == "" && d.cfg.Env == config.Production {
		res.Warnings = append(res.Warnings, noBucketNotice)
	}
	where := "here"
	if res.Uploaded {
		where = "here and in the bucket"
	}
	out.Verdict = fmt.Sprintf("%s: %s, %s rows of %s, %s in %s", res.Name, ui.Bytes(m.Size), ui.Count(m.Rows), ui.Plural(m.TableCount, "table", "tables"), where, ui.Duration(res.Duration))
	if res.Last != nil && res.Last.Size > 0 {
		out.Verdict += fmt.Sprintf(", %.0f %% of the last one's size", 100*float64(m.Size)/float64(res.Last.Size))
	}
	notes := append(append([]string(nil), res.Losses...), res.Warnings...)
	switch {
	case res.UploadErr != nil:
		out.Status = check.Critical
		notes = append([]string{"the bucket lacks it: " + res.UploadErr.Error()}, notes...)
	case len(notes) > 0:
		out.Status = check.Warning
	}
	out.Report = report.Report{
		Text:  fmt.Sprintf("backup %s: %s", statusWord(out.Status), strings.Join(append([]string{out.Verdict}, notes...), "; ")),
		Event: map[string]any{"source": metricsSource, "type": "backup_success", "file": res.Name, "ts": a.io.Now().Unix(), "size_bytes": m.Size, "rows": m.Rows, "uploaded": res.Uploaded},
		Gauges: []report.Gauge{
			{Name: "size_bytes", Value: float64(m.Size)},
			{Name: "sql_bytes", Value: float64(m.SQLSize)},
			{Name: "rows", Value: float64(m.Rows)},
			{Name: "tables", Value: float64(m.TableCount)},
			{Name: "uploaded", Value: boolValue(res.Uploaded)},
		},
	}
	if res.UploadErr != nil {
		out.Report.Event = failureEvent(a.io.Now(), "the upload is missing: "+res.UploadErr.Error())
	}
	return out
}

func boolValue(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func statusWord(s check.Status) string {
	if s == check.Critical {
		return "FAILED"
	}
	return s.String()
}

// showBackup tells the outcome.
func (a *App) showBackup(d *deps, res *backup.Result, out Outcome) error {
	for _, n := range res.CaughtUp {
		a.io.Log("sent an earlier backup that the bucket lacked: %s", n)
	}
	for _, n := range res.Pruned {
		a.io.Log("pruned %s", n)
	}
	for _, w := range append(append([]string(nil), res.Losses...), res.Warnings...) {
		a.io.Warn("%s", w)
	}
	if res.UploadErr != nil {
		a.io.Warn("the local backup is whole, but the bucket lacks it: %v: the next run sends it, or escrowctl backup upload", res.UploadErr)
	}
	if a.asJSON() {
		return a.io.JSON(backupJSON(d, res, out))
	}
	if !a.io.OutTTY {
		return nil // the log's last line says it
	}
	_, err := fmt.Fprintf(a.io.Out, "%s  %s\n", a.io.Paint(out.Status.String(), strings.ToUpper(out.Status.String())), ui.Clean(out.Verdict))
	return err
}

func backupJSON(d *deps, res *backup.Result, out Outcome) any {
	m := res.Manifest
	v := struct {
		SchemaVersion int             `json:"schema_version"`
		Status        check.Status    `json:"status"`
		Name          string          `json:"name"`
		Path          string          `json:"path"`
		Bucket        string          `json:"bucket,omitempty"`
		Uploaded      bool            `json:"uploaded"`
		Evidence      string          `json:"upload_evidence,omitempty"`
		UploadError   string          `json:"upload_error,omitempty"`
		Size          int64           `json:"size_bytes"`
		SQLSize       int64           `json:"sql_bytes"`
		Rows          int64           `json:"rows"`
		Duration      float64         `json:"duration_seconds"`
		Tables        []sqldump.Table `json:"tables"`
		Losses        []string        `json:"losses,omitempty"`
		Warnings      []string        `json:"warnings,omitempty"`
		Pruned        []string        `json:"pruned,omitempty"`
		CaughtUp      []string        `json:"caught_up,omitempty"`
	}{
		1, out.Status, res.Name, res.Path, d.cfg.S3.Bucket, res.Uploaded, string(res.Receipt.Evidence), "", m.Size, m.SQLSize, m.Rows,
		res.Duration.Seconds(), m.Index.Tables, res.Losses, res.Warnings, res.Pruned, res.CaughtUp,
	}
	if res.UploadErr != nil {
		v.UploadError = res.UploadErr.Error()
	}
	return v
}

func (a *App) ackCommand() *cobra.Command {
	return &cobra.Command{
		Use: "ack", Short: "acknowledge a backup that shrank, so that pruning goes on", Args: noArgs,
		Example: "  escrowctl backup ack",
		RunE: func(cmd *cobra.Command, _ []string) error {
			d, err := a.open(changes)
			if err != nil {
				return err
			}
			defer d.close()
			h, err := d.held()
			if err != nil {
				return err
			}
			if len(h.Losses) > 0 {
				if err := d.state.Save(holdDoc, hold{Since: a.io.Now().UTC()}); err != nil {
					return err
				}
				d.journal(cmd.Context(), operation("backup ack", "acknowledged: "+strings.Join(h.Losses, "; ")))
			}
			a.sendHold(cmd.Context(), d)
			return a.showAcked(h)
		},
	}
}

func (a *App) showAcked(h hold) error {
	some := len(h.Losses) > 0
	if a.asJSON() && some {
		return a.io.JSON(ui.Document("acknowledged", h))
	}
	if a.asJSON() {
		return a.io.JSON(ui.Document("acknowledged", nil))
	}
	text := "nothing to acknowledge"
	if some {
		text = fmt.Sprintf("acknowledged for %s: %s", ui.Clean(h.Backup), ui.Clean(strings.Join(h.Losses, "; ")))
	}
	_, err := fmt.Fprintln(a.io.Out, text)
	return err
}

func (a *App) uploadCommand() *cobra.Command {
	return &cobra.Command{
		Use: "upload", Short: "send the good local backups that the bucket lacks", Args: noArgs,
		Example: "  escrowctl backup upload",
		RunE: func(cmd *cobra.Command, _ []string) error {
			d, err := a.open(changes)
			if err != nil {
				return err
			}
			defer d.close()
			return a.job(cmd.Context(), d, uploadJob, func(ctx context.Context) (Outcome, error) {
				remote, err := d.remote(ctx)
				if err != nil {
					return Outcome{}, err
				}
				if remote == nil {
					return Outcome{}, &misuse{"no bucket: set S3_BUCKET, or s3.bucket in escrowctl.yaml"}
				}
				return a.upload(ctx, d, remote)
			})
		},
	}
}

func (a *App) upload(ctx context.Context, d *deps, remote store.Store) (Outcome, error) {
	verified, err := d.verifications()
	if err != nil {
		return Outcome{}, err
	}
	catchUp := backup.CatchUp{
		Local: d.local(), Remote: remote, Naming: d.naming(), Keep: backup.Retention(d.cfg.Backup.BucketRetention), Verified: verified, Now: a.io.Now(),
	}
	swept, err := catchUp.Sweep(ctx)
	if err != nil {
		a.io.Warn("unfinished uploads: %v", err)
	}
	if len(swept) > 0 {
		a.io.Log("swept what a killed run left: %s", strings.Join(swept, ", "))
	}
	sent, err := catchUp.Run(ctx)
	for _, s := range sent.Stuck {
		err = errors.Join(err, s.Err)
	}
	return Outcome{
		Verdict: ui.Plural(len(sent.Names), "backup", "backups") + " sent", Figures: map[string]any{"sent": len(sent.Names)},
	}, errors.Join(a.showSent(sent.Names, err == nil), err)
}

// showSent tells which backups went to the bucket; all says that it lacks no
// more.
func (a *App) showSent(sent []string, all bool) error {
	if a.asJSON() {
		return a.io.JSON(ui.Document("sent", append([]string{}, sent...)))
	}
	for _, n := range sent {
		if _, err := fmt.Fprintf(a.io.Out, "sent %s\n", ui.Clean(n)); err != nil {
			return err
		}
	}
	if all && len(sent) == 0 {
		_, err := fmt.Fprintln(a.io.Out, "the bucket lacks nothing")
		return err
	}
	return nil
}

var errNoBackups = errors.New("there are no backups")
