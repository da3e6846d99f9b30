package cli

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/stellarescrow/escrowctl/internal/backup"
	"github.com/stellarescrow/escrowctl/internal/check"
	"github.com/stellarescrow/escrowctl/internal/store"
	"github.com/stellarescrow/escrowctl/internal/ui"
)

// where are the flags that choose a store.
type where struct{ local, remote bool }

func (w *where) add(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&w.local, "local", false, "only the local directory")
	cmd.Flags().BoolVar(&w.remote, "s3", false, "only the bucket")
	cmd.MarkFlagsMutuallyExclusive("local", "s3")
}

// readers returns the stores chosen; either may be nil.
func (d *deps) readers(ctx context.Context, w where) (local, remote store.Reader, err error) {
	if !w.remote {
		local = d.local()
	}
	if w.local {
		return local, nil, nil
	}
	st, err := d.remote(ctx)
	if err != nil {
		return nil, nil, err
	}
	if st == nil {
		if w.remote {
			return nil, nil, &misuse{"--s3: no bucket: set S3_BUCKET, or s3.bucket in escrowctl.yaml"}
		}
		return local, nil, nil
	}
	return local, st, nil
}

// entries lists the backups. What one store could not tell is a warning as
// long as the other can.
func (d *deps) entries(ctx context.Context, w where) ([]backup.Entry, error) {
	local, remote, err := d.readers(ctx, w)
	if err != nil {
		return nil, err
	}
	verified, err := d.verifications()
	if err != nil {
		return nil, err
	}
	return backup.List(ctx, local, remote, d.naming(), verified)
}

func (a *App) listCommand() *cobra.Command {
	var w where
	cmd := &cobra.Command{
		Use: "list", Short: "list the backups, newest last", Args: noArgs,
		Long: "Lists the backups here and in the bucket, newest last. \"good\" means that a\n" +
			"backup has its manifest and the size the manifest says; whether its bytes are\n" +
			"sound is for 'backup verify' to say." +
			exitStatus("0  listed", "1  there are no backups", "2  a store could not be listed"),
		Example: "  escrowctl backup list\n  escrowctl backup list --s3 --json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			d, err := a.open(looks)
			if err != nil {
				return err
			}
			defer d.close()
			entries, listErr := d.entries(cmd.Context(), w)
			if err := a.showList(entries, listErr); err != nil {
				return err
			}
			switch {
			case listErr != nil:
				return listErr
			case len(entries) == 0:
				return &check.Error{Status: check.Warning, Err: errNoBackups}
			}
			return nil
		},
	}
	w.add(cmd)
	return cmd
}

type listItem struct {
	Name      string               `json:"name"`
	Time      time.Time            `json:"time"`
	Age       float64              `json:"age_seconds"`
	Size      int64                `json:"size_bytes"`
	Rows      *int64               `json:"rows"`
	Database  string               `json:"database,omitempty"`
	Kind      backup.Kind          `json:"kind"`
	Encrypted bool                 `json:"encrypted"`
	Good      bool                 `json:"good"`
	Where     []string             `json:"where"`
	Verified  *backup.Verification `json:"verified,omitempty"`
	checked   string               // which copy Verified is of, if not of all
	Problem   string               `json:"problem,omitempty"`
}

func item(e backup.Entry, now time.Time) listItem {
	c := e.Best()
	it := listItem{
		Name: e.Name, Time: e.Time, Age: now.Sub(e.Time).Seconds(), Size: c.Size, Kind: c.Kind, Encrypted: e.Encrypted, Good: e.Good(),
		Verified: lastCheck(e), Where: []string{},
	}
	if c.Summary != nil {
		it.Rows, it.Database = &c.Summary.Rows, c.Summary.Database
	}
	var problems []string
	for _, side := range []struct {
		name string
		copy *backup.Copy
	}{{"local", e.Local}, {"s3", e.Remote}} {
		if side.copy == nil {
			continue
		}
		it.Where = append(it.Where, side.name)
		if p := amiss(side.copy, c); p != "" {
			problems = append(problems, side.name+": "+p)
		}
	}
	it.Problem = strings.Join(problems, "; ")
	it.checked = checkedPlace(e)
	return it
}

// lastCheck is the check to show of a backup: that of the copy that would be read,
// or, where that one has had none, the other's.
func lastCheck(e backup.Entry) *backup.Verification {
	for _, c := range []*backup.Copy{e.Best(), e.Local, e.Remote} {
		if c != nil && c.Verified != nil {
			return c.Verified
		}
	}
	return nil
}

// checkedPlace names the copy that the check was of, where the other has had
// none or a different one.
func checkedPlace(e backup.Entry) string {
	l, r := e.Local, e.Remote
	switch {
	case l == nil || r == nil || l.Verified != nil && r.Verified != nil && l.Verified.Verdict == r.Verified.Verdict:
		return ""
	case lastCheck(e) == l.Verified:
		return "local"
	}
	return "s3"
}

// amiss says what is wrong with a copy, also beside the best one.
func amiss(c, best *backup.Copy) string {
	switch {
	case c.Problem != "":
		return c.Problem
	case c.Kind != best.Kind:
		return string(c.Kind)
	case c.Failed():
		return "it failed its verification of " + c.Verified.At.Format("2006-01-02 15:04:05")
	}
	return ""
}

// showList shows the backups. problem is why the list may lack some.
func (a *App) showList(entries []backup.Entry, problem error) error {
	now := a.io.Now()
	items := make([]listItem, 0, len(entries))
	for _, e := range entries {
		items = append(items, item(e, now))
	}
	if a.asJSON() {
		doc := struct {
			SchemaVersion int        `json:"schema_version"`
			Problem       string     `json:"problem,omitempty"` // the list may lack some
			Backups       []listItem `json:"backups"`
		}{SchemaVersion: 1, Backups: items}
		if problem != nil {
			doc.Problem = problem.Error()
		}
		return a.io.JSON(doc)
	}
	if len(items) == 0 {
		return nil
	}
	t := ui.NewTable("TIME (UTC)", "AGE", "SIZE", "ROWS", "KIND", "WHERE", "VERIFIED")
	t.Right = map[int]bool{1: true, 2: true, 3: true}
	for _, it := range items {
		t.Row(it.Time.Format("2006-01-02 15:04:05"), ui.Age(now.Sub(it.Time)), ui.Bytes(it.Size), rowsText(it.Rows), kindText(it), whereText(it), verifiedText(it, now))
	}
	if err := t.Write(a.io, a.io.Out); err != nil {
		return err
	}
	for _, it := range items {
		if it.Problem != "" {
			a.io.Warn("%s: %s", it.Name, it.Problem)
		}
	}
	last := items[len(items)-1]
	_, err := fmt.Fprintf(a.io.Out, "\nnewest: %s\n", ui.Clean(last.Name))
	return err
}

func rowsText(n *int64) string {
	if n == nil {
		return "-"
	}
	return ui.Count(*n)
}

func kindText(it listItem) string {
	if it.Encrypted && it.Kind == backup.Indexed {
		return "encrypted"
	}
	return string(it.Kind)
}

func whereText(it listItem) string {
	if len(it.Where) == 2 {
		return "both"
	}
	return it.Where[0]
}

func verifiedText(it listItem, now time.Time) string {
	if it.Verified == nil {
		return "never"
	}
	word := map[backup.Verdict]string{backup.Pass: "ok", backup.Fail: "FAILED"}[it.Verified.Verdict]
	if word == "" {
		word = "unknown"
	}
	word += " " + ui.Age(now.Sub(it.Verified.At)) + " ago"
	if it.checked != "" {
		word += " (" + it.checked + ")"
	}
	return word
}
