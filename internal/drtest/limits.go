package drtest

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn" //nolint:depguard // the connection type that sqlload takes
	"github.com/stellarescrow/escrowctl/internal/check"
)

// assertions runs the queries of one's own, each in a transaction that can
// change nothing.
func (r *run) assertions(ctx context.Context, conn *pgconn.PgConn) {
	if len(r.Assertions) == 0 {
		return
	}
	c := check.Result{ID: idAssertions}
	bad := 0
	for _, a := range r.Assertions {
		p := assertOne(ctx, conn, a)
		c.Parts = append(c.Parts, p)
		c.Status = check.Worst(c.Status, p.Status)
		if p.Status != check.OK {
			bad++
			c.Detail = append(c.Detail, p.Summary)
		}
	}
	c.Summary = fmt.Sprintf("%d of %d hold", len(r.Assertions)-bad, len(r.Assertions))
	r.rep.add(c)
}

func assertOne(ctx context.Context, conn *pgconn.PgConn, a Assertion) check.Result {
	p := check.Result{ID: idAssertions + "." + a.Name, Status: check.Critical}
	got, err := answer(ctx, conn, a.Query)
	switch {
	case err != nil:
		p.Summary = fmt.Sprintf("%s: %v", a.Name, err)
	case !expected(got, a.Expect):
		p.Summary = fmt.Sprintf("%s: it is %s, expected %s", a.Name, got, a.Expect)
	default:
		p.Status, p.Summary = check.OK, fmt.Sprintf("%s: %s", a.Name, got)
	}
	return p
}

// answer is the first column of the one row that a query returns.
func answer(ctx context.Context, conn *pgconn.PgConn, sql string) (string, error) {
	if _, err := conn.Exec(ctx, "BEGIN READ ONLY").ReadAll(); err != nil {
		return "", err
	}
	rows, err := query(ctx, conn, sql)
	if _, rerr := conn.Exec(ctx, "ROLLBACK").ReadAll(); err == nil {
		err = rerr
	}
	switch {
	case err != nil:
		return "", err
	case len(rows) != 1 || len(rows[0]) != 1:
		return "", fmt.Errorf("it must return one row of one column, and returned %d rows", len(rows))
	}
	return rows[0][0], nil
}

// expected compares an answer with a text or, as in ">= 1", with a number.
func expected(got, want string) bool {
	want = strings.TrimSpace(want)
	for _, op := range []string{">=", "<=", "!=", ">", "<"} {
		rest, ok := strings.CutPrefix(want, op)
		if !ok {
			continue
		}
		a, aerr := strconv.ParseFloat(strings.TrimSpace(got), 64)
		b, berr := strconv.ParseFloat(strings.TrimSpace(rest), 64)
		if aerr != nil || berr != nil {
			break
		}
		return map[string]bool{">=": a >= b, "<=": a <= b, "!=": a != b, ">": a > b, "<": a < b}[op]
	}
	if want == "true" || want == "false" { // as people write it; the server says t or f
		return got == want || got == want[:1]
	}
	return got == want
}

const (
	// aheadBy is how far in the future something may be dated: clocks differ.
	aheadBy     = 5 * time.Minute
	aheadAction = "timedatectl, here and where it was made: a clock is wrong, or was"
)

// age holds the backup's age against the RPO.
func (r *run) age(b *Backup) {
	if b.Taken.IsZero() {
		return
	}
	age := r.began.Sub(b.Taken)
	c := check.Result{ID: idBackupAge, Figures: []check.Figure{seconds("age", age, r.RPO)}}
	switch {
	case r.RPO == 0:
		c.Summary = "it is " + roughly(age) + " old"
	case b.Chosen:
		c.Summary = fmt.Sprintf("it is %s old; it was chosen by name, so that is not held against the RPO of %s", roughly(age), roughly(r.RPO))
	case age < -aheadBy:
		c.Status = check.Unknown
		c.Summary = fmt.Sprintf("it is dated %s ahead, so how old it is cannot be told", roughly(-age))
		c.Action = aheadAction
	case age > r.RPO:
		c.Status = check.Critical
		c.Summary = fmt.Sprintf("it is %s old, the RPO is %s: what came since would be lost", roughly(age), roughly(r.RPO))
		c.Action = "find out why there is no newer one: escrowctl backup list"
	default:
		c.Summary = fmt.Sprintf("it is %s old, the RPO is %s", roughly(age), roughly(r.RPO))
	}
	r.rep.add(c)
}

// newest holds the age, at the time of the backup, of the newest row against
// the RPO: a backup made tonight of a database that stopped last week is a week
// old.
func (r *run) newest(ctx context.Context, conn *pgconn.PgConn, tables [][]string) {
	if r.Newest == "" {
		return
	}
	c := check.Result{ID: idNewestRow, Status: check.Critical, Action: "correct dr_test.newest_row, or look at what the database holds"}
	dot := strings.LastIndexByte(r.Newest, '.')
	quoted := ""
	if dot > 0 {
		quoted = locate(tables, r.Newest[:dot])
	}
	if quoted == "" {
		c.Summary = fmt.Sprintf("%s: there is no such table: it has %s", r.Newest, some(tables))
		r.rep.add(c)
		return
	}
	text, err := answer(ctx, conn, fmt.Sprintf("SELECT extract(epoch FROM max(%s)::timestamptz) FROM %s", quoteIdent(r.Newest[dot+1:]), quoted))
	at, perr := strconv.ParseFloat(text, 64)
	switch {
	case err != nil:
		c.Summary = fmt.Sprintf("%s: %v", r.Newest, err)
	case perr != nil:
		c.Summary = r.Newest + " has no time in any row"
	default:
		c = r.newestAge(time.Unix(int64(at), 0))
	}
	r.rep.add(c)
}

func (r *run) newestAge(at time.Time) check.Result {
	then := r.began
	if b := r.rep.Backup; b.Chosen && !b.Taken.IsZero() {
		then = b.Taken
	}
	age := then.Sub(at)
	c := check.Result{ID: idNewestRow, Figures: []check.Figure{seconds("age", age, r.RPO)},
		Summary: fmt.Sprintf("the newest %s is of %s, %s before", r.Newest, at.UTC().Format(time.RFC3339), roughly(age))}
	switch {
	case r.RPO > 0 && age < -aheadBy:
		c.Status = check.Unknown
		c.Summary = fmt.Sprintf("the newest %s is of %s, %s ahead, which proves nothing of its age", r.Newest, at.UTC().Format(time.RFC3339), roughly(-age))
		c.Action = aheadAction
	case r.RPO > 0 && age > r.RPO:
		c.Status = check.Critical
		c.Summary += ": more than the RPO of " + roughly(r.RPO)
		c.Action = "find out since when nothing has been written: the source may be a stale copy"
	}
	return c
}

// rto holds the time of the restore against the RTO, and looks where it goes.
func (r *run) rto() {
	took := r.rep.Restore
	c := check.Result{ID: idRTO, Summary: "the restore took " + exactly(took), Figures: []check.Figure{seconds("restore", took, r.RTO)}}
	if r.RTO > 0 {
		c.Summary += ", the RTO is " + roughly(r.RTO)
		if took > r.RTO {
			c.Status = check.Critical
			c.Action = "restore on a faster machine, or agree on another RTO (dr_test.rto)"
		}
	}
	r.rep.add(c)
	all := append([]Past{{At: r.began, Restore: took, Size: r.rep.Backup.Size, Rows: r.rep.Total, Engine: r.rep.Instance.Engine}}, r.History...)
	r.rep.Trend = TrendOf(all, r.RTO)
	if t := r.rep.Trend; t != nil && r.RTO > 0 {
		w := check.Result{ID: idTrend, Summary: t.String()}
		if t.Warn && took <= r.RTO {
			w.Status = check.Warning
			w.Action = "plan for it before it breaks the RTO: a faster machine, less data, or another RTO"
		}
		r.rep.add(w)
	}
}

func seconds(name string, d, limit time.Duration) check.Figure {
	f := check.Figure{Name: name, Unit: "seconds", Value: d.Seconds()}
	if limit > 0 {
		l := limit.Seconds()
		f.Critical = &l
	}
	return f
}

// roughly writes a time span with one or two units: 26h, 3d 4h, 12m 5s.
func roughly(d time.Duration) string {
	switch {
	case d < 0:
		return "-" + roughly(-d)
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return strings.TrimSuffix(fmt.Sprintf("%dm %ds", int(d.Minutes()), int(d.Seconds())%60), " 0s")
	case d < 48*time.Hour:
		h, m := int(d.Hours()), int(d.Minutes())%60
		if m == 0 {
			return fmt.Sprintf("%dh", h)
		}
		return fmt.Sprintf("%dh %dm", h, m)
	}
	return fmt.Sprintf("%dd %dh", int(d.Hours())/24, int(d.Hours())%24)
}

// exactly writes a time span to the tenth of a second.
func exactly(d time.Duration) string {
	if d < time.Minute {
		return fmt.Sprintf("%.1fs", d.Seconds())
	}
	return roughly(d)
}
