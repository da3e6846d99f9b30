package drtest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stellarescrow/escrowctl/internal/check"
	"github.com/stellarescrow/escrowctl/internal/pgengine"
	"github.com/stellarescrow/escrowctl/internal/sqldump"
	"github.com/stellarescrow/escrowctl/internal/sqlload"
)

// months are tests a month apart, newest last in the arguments and first in the
// result.
func months(seconds ...float64) []Past {
	var out []Past
	for i := len(seconds) - 1; i >= 0; i-- {
		at := time.Date(2026, 1, 1, 4, 0, 0, 0, time.UTC).AddDate(0, i, 0)
		out = append(out, Past{At: at, Restore: time.Duration(seconds[i] * float64(time.Second)), Engine: "docker"})
	}
	return out
}

func TestTrend(t *testing.T) {
	const rto = 100 * time.Second
	for _, tt := range []struct {
		name   string
		tests  []Past
		none   bool
		warn   bool
		runway int
		says   string
	}{
		{name: "too few", tests: months(10, 20, 30), none: true},
		{name: "steady", tests: months(50, 50, 50, 50, 50), runway: -1, says: "stays as it is"},
		{name: "faster", tests: months(50, 40, 30, 20), runway: -1, says: "gets faster by 10.0s a test"},
		{name: "grows, far", tests: months(10, 12, 14, 16), runway: 42, says: "the RTO of 1m 40s is reached in 42 tests"},
		{name: "grows, near", tests: months(60, 65, 70, 75, 80, 90), runway: 2, warn: true, says: "is reached in 2 tests, about 2026-07-31"},
		{name: "soon, below 80 %", tests: months(40, 50, 60, 70), runway: 3, warn: true, says: "in 3 tests"},
		{name: "over 80 %", tests: months(70, 75, 79, 81), runway: 5, warn: true, says: "in 5 tests"},
		{name: "noise", tests: months(80, 82, 79, 81, 82), says: "stays as it is"},
		{name: "over", tests: months(80, 90, 100, 110), runway: 0, warn: true, says: "is reached"},
	} {
		got := TrendOf(tt.tests, rto)
		if tt.none != (got == nil) {
			t.Errorf("%s: %+v", tt.name, got)
			continue
		}
		if got == nil {
			continue
		}
		near := got.Runway == tt.runway || tt.name == "noise"
		if got.Warn != tt.warn || !near || !strings.Contains(got.String(), tt.says) {
			t.Errorf("%s: warn %t, runway %d: %s", tt.name, got.Warn, got.Runway, got)
		}
	}
	mixed := append(months(90), months(10, 10, 10, 10)...)
	mixed[0].Engine = "local"
	if got := TrendOf(mixed, rto); got != nil {
		t.Errorf("tests of another engine were counted: %s", got)
	}
}

func TestRTO(t *testing.T) {
	for _, tt := range []struct {
		took   time.Duration
		past   []Past
		want   map[string]check.Status
		absent string
	}{
		{took: 30 * time.Second, want: map[string]check.Status{idRTO: check.OK}, absent: idTrend},
		{took: 61 * time.Second, want: map[string]check.Status{idRTO: check.Critical}, absent: idTrend},
		{took: 55 * time.Second, past: months(25, 35, 45), want: map[string]check.Status{idRTO: check.OK, idTrend: check.Warning}},
		{took: 25 * time.Second, past: months(25, 25, 25), want: map[string]check.Status{idRTO: check.OK, idTrend: check.OK}},
	} {
		r := &run{Options: Options{RTO: time.Minute, History: tt.past}, rep: &Report{Restore: tt.took, Instance: &pgengine.Info{Engine: "docker"}}, began: time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)}
		r.rto()
		got := map[string]check.Status{}
		for _, c := range r.rep.Checks {
			got[c.ID] = c.Status
		}
		for id, want := range tt.want {
			if status, made := got[id]; !made || status != want {
				t.Errorf("%s after %v: %s is %v, want %v", tt.took, tt.past, id, status, want)
			}
		}
		if _, made := got[tt.absent]; made {
			t.Errorf("%s: %s was made of nothing", tt.took, tt.absent)
		}
	}
}

// TestAhead: what is dated ahead is not young. A clock was wrong, and the age is
// not known.
func TestAhead(t *testing.T) {
	now := time.Date(2026, 5, 1, 0, 0, 0, 0, time.UTC)
	for _, tt := range []struct {
		ahead time.Duration
		want  check.Status
	}{{time.Minute, check.OK}, {-time.Hour, check.OK}, {-48 * time.Hour, check.Critical}, {3 * time.Hour, check.Unknown}} {
		r := &run{Options: Options{RPO: 26 * time.Hour, Newest: "trades.at"}, rep: &Report{}, began: now}
		r.age(&Backup{Taken: now.Add(tt.ahead)})
		if got := r.rep.Checks[0]; got.Status != tt.want || tt.want == check.Unknown && (got.Action == "" || !strings.Contains(got.Summary, "dated 3h ahead")) {
			t.Errorf("a backup %s ahead: %+v", tt.ahead, got)
		}
		if got := r.newestAge(now.Add(tt.ahead)); got.Status != tt.want || tt.want == check.Unknown && (got.Action == "" || !strings.Contains(got.Summary, "3h ahead")) {
			t.Errorf("a row %s ahead: %+v", tt.ahead, got)
		}
	}
}

func TestExpected(t *testing.T) {
	for _, tt := range []struct {
		got, want string
		ok        bool
	}{
		{"0", "0", true}, {"1", "0", false}, {"5", "> 4", true}, {"4", ">4", false}, {"4", ">= 4", true}, {"3.5", "< 4", true}, {"4", "<= 3", false},
		{"4", "!= 3", true}, {"t", "true", true}, {"f", "true", false}, {"f", "false", true}, {"open", "open", true}, {"", "0", false}, {"many", "> 1", false}, {"> x", "> x", true},
	} {
		if got := expected(tt.got, tt.want); got != tt.ok {
			t.Errorf("expected(%q, %q) = %t", tt.got, tt.want, got)
		}
	}
}

// server is an instance that is alive or dead.
type server struct{ died string }

func (s server) Info() pgengine.Info { return pgengine.Info{} }
func (s server) Connect(context.Context, string) (*pgconn.PgConn, error) {
	return nil, errors.New("no")
}
func (s server) Psql(string) string          { return "" }
func (s server) Died() string                { return s.died }
func (s server) Close(context.Context) error { return nil }

// TestFailure: what is the backup's fault fails it, what is not proves nothing.
func TestFailure(t *testing.T) {
	statement := func(code, msg string) error {
		return &sqlload.Error{Line: 7, Statement: "CREATE TABLE x ()", Err: &pgconn.PgError{Severity: "ERROR", Code: code, Message: msg}}
	}
	for _, tt := range []struct {
		name string
		err  error
		died string
		want check.Status
		says string
	}{
		{"a statement", statement("42P01", "relation does not exist"), "", check.Critical, "line 7"},
		{"the disk is full", statement("53100", "could not extend file"), "", check.Unknown, "ran out"},
		{"memory", statement("53200", "out of memory"), "", check.Unknown, "ran out"},
		{"shut down", statement("57P01", "terminating connection"), "", check.Unknown, "ran out"},
		{"an extension's file", statement("58P01", "could not open extension control file"), "", check.Critical, "line 7"},
		{"killed", &sqlload.Error{Line: 7, Err: errors.New("unexpected EOF")}, "server process was terminated by signal 9: Killed", check.Unknown, "signal 9"},
		{"damage", fmt.Errorf("read: %w", sqldump.ErrDamaged), "", check.Critical, "damaged"},
		{"truncated", fmt.Errorf("read: %w", sqldump.ErrTruncated), "", check.Critical, "truncated"},
		{"the bucket", errors.New("connection reset"), "", check.Unknown, "connection reset"},
		{"a meta-command", &sqlload.Error{Line: 3, Err: sqlload.ErrMetaCommand}, "", check.Critical, "meta-command"},
	} {
		b := Backup{Damage: func(err error) bool {
			return errors.Is(err, sqldump.ErrDamaged) || errors.Is(err, sqldump.ErrTruncated)
		}}
		r := &run{rep: &Report{Backup: b}, in: server{tt.died}}
		got := r.failure(t.Context(), tt.err)
		if got.Status != tt.want || !strings.Contains(got.Summary, tt.says) {
			t.Errorf("%s: %s: %s", tt.name, got.Status, got.Summary)
		}
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errLimit)
	r := &run{Options: Options{Limit: time.Hour}, rep: &Report{}, stage: "loading rows"}
	if got := r.failure(ctx, context.Canceled); got.Status != check.Critical || got.Summary != "the time limit of 1h was reached while loading rows" {
		t.Errorf("%+v", got)
	}
}

func TestVerdictOf(t *testing.T) {
	for status, want := range map[check.Status]Verdict{check.OK: Pass, check.Warning: Pass, check.Critical: Fail, check.Unknown: CouldNot} {
		if got := VerdictOf(status); got != want {
			t.Errorf("%s: %s", status, got)
		}
	}
	if got := VerdictOf(check.WorstOf(nil)); got != CouldNot {
		t.Errorf("of no checks: %s", got)
	}
}

func TestMajorOf(t *testing.T) {
	for version, want := range map[string]int{"15.8 (Debian 15.8-1)": 15, "9.6.24": 9, "17beta2": 17, "": 0, "unknown": 0} {
		if got := majorOf(version); got != want {
			t.Errorf("%q: %d", version, got)
		}
	}
}
