package cli

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/stellarescrow/escrowctl/internal/check"
	"github.com/stellarescrow/escrowctl/internal/journal"
	"github.com/stellarescrow/escrowctl/internal/store"
)

const (
	// mirrorLimit bounds what the journal's mirror may add to a command.
	mirrorLimit = 20 * time.Second
	mirrorDoc   = "journal-mirrored"
)

// changeLog is the journal in the state directory.
func (d *deps) changeLog() *journal.Log {
	return &journal.Log{Dir: filepath.Join(d.state.Dir(), "journal"), Now: d.app.io.Now}
}

// journal writes a change into the journal. One that cannot be written is a
// warning: the change has been made.
func (d *deps) journal(ctx context.Context, e journal.Entry) {
	if _, err := d.addChange(ctx, e); err != nil {
		d.app.io.Warn("the change is not in the journal: %v", err)
	}
}

// operation is the entry of a command of ours that changed something which is no
// change of the runbook's section 6.1.
func operation(command, summary string) journal.Entry {
	return journal.Entry{Type: operationType, Command: command, Summary: summary, Outcome: "ok"}
}

const operationType = "operation"

// journalAlone writes a change where nothing else needs the state directory.
func (a *App) journalAlone(ctx context.Context, e journal.Entry) {
	d, err := a.open(changes)
	if err != nil {
		a.io.Warn("the change is not in the journal: %v", err)
		return
	}
	defer d.close()
	d.journal(ctx, e)
}

// journalJob writes what a job changed, if it is one that changes the platform:
// pruning, restoring, maintenance of the database, and a renewal that brought a
// new certificate or failed.
func (d *deps) journalJob(ctx context.Context, job string, out Outcome, err error) {
	e := operation(strings.ReplaceAll(job, "backup-", "backup "), out.Verdict)
	switch job {
	case restoreJob:
	case pruneJob:
		if n, known := out.Figures["pruned"].(int); known && n == 0 && err == nil {
			return
		}
	case maintainJob:
		e.Command = "perf maintain"
		if n, known := out.Figures["tasks"].(int); (!known || n == 0) && err == nil {
			return
		}
		if out.Status == check.Critical {
			e.Outcome = "failed"
		}
	case certsJob:
		e.Command = "certs renew"
		if _, renewed := out.Figures["renewed"]; !renewed && err == nil {
			return
		}
	default:
		return
	}
	if err != nil {
		e.Outcome = "failed"
	}
	d.journal(ctx, e)
}

// addChange fills in who, takes secrets out of the texts, writes the entry and
// mirrors it.
func (d *deps) addChange(ctx context.Context, e journal.Entry) (journal.Entry, error) {
	if e.By == "" {
		e.By = who()
	}
	for _, text := range []*string{&e.Summary, &e.Why, &e.Command} {
		*text = d.scrubber.Scrub(*text)
	}
	ctx = context.WithoutCancel(ctx) // what an interrupted run changed is told too
	e, err := d.changeLog().Add(ctx, e)
	if err != nil {
		return e, err
	}
	if d.cfg.Journal.Mirror {
		if err := d.mirrorChanges(ctx); err != nil {
			d.app.io.Warn("the journal is not mirrored: %v: the next change tries again", err)
		}
	}
	return e, nil
}

// mirrorChanges sends the entries that the bucket lacks, one object each, which
// nobody can overwrite from here.
func (d *deps) mirrorChanges(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, mirrorLimit)
	defer cancel()
	bucket, err := d.remote(ctx)
	if err != nil {
		return err
	}
	if bucket == nil {
		return errors.New("no bucket is set: set s3.bucket, or turn journal.mirror off")
	}
	entries, err := d.changeLog().Entries()
	if err != nil {
		return err
	}
	var sent mirrored
	if _, err := d.state.Load(mirrorDoc, &sent); err != nil {
		return err
	}
	if !slices.ContainsFunc(entries, func(e journal.Entry) bool { return e.Seq == sent.Seq && e.Hash == sent.Hash }) {
		sent = mirrored{} // another journal: the bucket takes no entry twice
	}
	for _, e := range entries {
		if e.Seq <= sent.Seq || len(e.Hash) < sha256.Size {
			continue
		}
		line, err := json.Marshal(hashed{e, e.Hash})
		if err != nil {
			return err
		}
		if err := bucket.Put(ctx, e.CopyName(), append(line, '\n')); err != nil && !errors.Is(err, store.ErrExist) {
			return err
		}
		sent = mirrored{e.Seq, e.Hash}
		if err := d.state.Save(mirrorDoc, sent); err != nil {
			return err
		}
	}
	return nil
}

// mirrored is the newest entry that the bucket has.
type mirrored struct {
	Seq  int    `json:"seq"`
	Hash string `json:"hash"`
}

// compareMirror holds the journal against its copies, where it has any.
func (d *deps) compareMirror(ctx context.Context) ([]journal.Finding, error) {
	if !d.cfg.Journal.Mirror {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, mirrorLimit)
	defer cancel()
	bucket, err := d.remote(ctx)
	if err == nil && bucket == nil {
		err = errors.New("no bucket is set: set s3.bucket, or turn journal.mirror off")
	}
	if err != nil {
		return nil, err
	}
	entries, err := d.changeLog().Entries()
	if err != nil {
		return nil, err
	}
	objects, err := bucket.List(ctx)
	if err != nil {
		return nil, err
	}
	var copies []journal.Copy
	for _, o := range objects {
		if c, ok := journal.ParseCopy(o.Name); ok {
			copies = append(copies, c)
		}
	}
	host, _ := os.Hostname() // then those of the journal's hosts count alone
	return journal.Compare(entries, copies, host), nil
}

// isAny says whether err is one of the given.
func isAny(err error, of ...error) bool {
	for _, one := range of {
		if errors.Is(err, one) {
			return true
		}
	}
	return false
}
