package drtest

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/jackc/pgx/v5/pgconn" //nolint:depguard // the server's own error, with its code
	"github.com/stellarescrow/escrowctl/internal/check"
	"github.com/stellarescrow/escrowctl/internal/sqlload"
)

// failure makes of what ended a test early the result of the check it belongs
// to: Critical if the backup is at fault, Unknown if it may be good.
func (r *run) failure(ctx context.Context, err error) check.Result {
	c := check.Result{ID: idRestore, Status: check.Unknown, Summary: err.Error()}
	var f *found
	var stmt *sqlload.Error
	switch {
	case errors.Is(context.Cause(ctx), errLimit):
		r.mu.Lock()
		defer r.mu.Unlock()
		c.Status = check.Critical
		c.Summary = fmt.Sprintf("the time limit of %s was reached while %s", roughly(r.Limit), r.stage)
		c.Action = "find out what it waits for; if it is only slow, raise dr_test.timeout"
	case errors.As(err, &f):
		c = f.Result
	case r.rep.Backup.Damage != nil && r.rep.Backup.Damage(err):
		c.ID, c.Status = Integrity, check.Critical
		c.Action = "test an older backup, and take a new one: escrowctl backup"
	case r.in != nil && (resources(err) || r.in.Died() != "" && !answered(err)):
		c.Summary, c.Action = r.exhausted(err)
	case errors.As(err, &stmt) && !answered(err) && !ours(err):
		c.Summary = "the connection to the server broke: " + err.Error()
		c.Action = "look what became of the server or of Docker, and test again"
	case errors.As(err, &stmt):
		c = statementFailed(stmt)
	}
	return c
}

// ours says whether it was not the server that refused a statement, but the
// loader.
func ours(err error) bool {
	return errors.Is(err, sqlload.ErrMetaCommand) || errors.Is(err, sqlload.ErrServerFile) || errors.Is(err, sqlload.ErrRowCount) ||
		errors.Is(err, sqlload.ErrOpenTransaction)
}

// exhausted words that it was the server which failed, and not the backup.
func (r *run) exhausted(err error) (summary, action string) {
	summary = "the server ran out of something: " + err.Error()
	if died := r.in.Died(); died != "" {
		summary = "the server died: " + died
	}
	return summary, "give it more memory (dr_test.memory) or disk (dr_test.storage: disk), and test again"
}

// answered says whether the error is the server's own answer to a statement.
func answered(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg)
}

// resources says whether the server failed for want of memory, disk or the
// like, or was being shut down: classes 53, 57 and 58 of its codes, but not
// 58P01, a file that an extension lacks.
func resources(err error) bool {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) || len(pg.Code) != 5 || pg.Code == "58P01" {
		return false
	}
	class := pg.Code[:2]
	return class == "53" || class == "57" || class == "58"
}

var createExtension = regexp.MustCompile(`^CREATE EXTENSION (?:IF NOT EXISTS )?("[^"]+"|\S+)`)

// statementFailed words the first statement that failed.
func statementFailed(e *sqlload.Error) check.Result {
	c := check.Result{ID: idRestore, Status: check.Critical, Summary: e.Error()}
	var pg *pgconn.PgError
	m := createExtension.FindStringSubmatch(e.Statement)
	switch {
	case errors.Is(e, sqlload.ErrMetaCommand), errors.Is(e, sqlload.ErrServerFile):
		c.Action = "do not run this dump through psql: pg_dump writes no such command, so somebody else did"
	case m != nil && errors.As(e, &pg) && (pg.Code == "0A000" || pg.Code == "58P01" || strings.Contains(pg.Message, "extension")):
		c.Summary = fmt.Sprintf("line %d: the server has no extension %s: %s", e.Line, strings.Trim(m[1], `"`), pg.Message)
		c.Action = "name an image that has it (--image, dr_test.image): the server that you would restore to needs it as well"
	case e.Table != "":
		c.Action = fmt.Sprintf("look at the line: gunzip -c FILE | sed -n %dp", e.Line)
	}
	return c
}

// brokenOff looks whether a plain file is damaged when a statement of it has
// failed: then that is what is wrong, and the server's error only came of it.
func (r *run) brokenOff(ctx context.Context, b *Backup, src Source, err error) error {
	var stmt *sqlload.Error
	if src.Rest == nil || ctx.Err() != nil || !errors.As(err, &stmt) || resources(err) || !answered(err) {
		return err
	}
	r.enter("reading the rest of the file")
	if damage := src.Rest(ctx); damage != nil && b.Damage(damage) {
		return fmt.Errorf("%w: of which came, at line %d: %w", damage, stmt.Line, stmt.Err)
	}
	return err
}
