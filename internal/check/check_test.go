package check

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestStatus(t *testing.T) {
	tests := []struct {
		status Status
		text   string
		exit   int
	}{
		{OK, "ok", 0}, {Warning, "warning", 1}, {Unknown, "unknown", 3}, {Critical, "critical", 2},
	}
	for _, tt := range tests {
		if tt.status.String() != tt.text || tt.status.ExitCode() != tt.exit {
			t.Errorf("%d: %q, exit %d, want %q, exit %d", tt.status, tt.status, tt.status.ExitCode(), tt.text, tt.exit)
		}
		text, err := json.Marshal(tt.status)
		var back Status
		if err != nil || json.Unmarshal(text, &back) != nil || back != tt.status {
			t.Errorf("%s does not survive JSON: %s, %v", tt.status, text, err)
		}
	}
	var s Status
	if err := s.UnmarshalText([]byte("fine")); err == nil {
		t.Error("an unknown word was taken for a status")
	}
	if _, err := Status(9).MarshalText(); err == nil {
		t.Error("a value outside the four was written")
	}
	if got := Status(9).ExitCode(); got != 3 {
		t.Errorf("exit code of a value outside the four = %d, want 3", got)
	}
}

func TestWorst(t *testing.T) {
	for _, tt := range []struct {
		in   []Status
		want Status
	}{
		{nil, OK},
		{[]Status{OK, Warning, OK}, Warning},
		{[]Status{Unknown, Warning}, Unknown},
		{[]Status{Critical, Unknown}, Critical},
	} {
		if got := Worst(tt.in...); got != tt.want {
			t.Errorf("Worst(%v) = %v, want %v", tt.in, got, tt.want)
		}
	}
	if got := WorstOf(nil); got != Unknown {
		t.Errorf("WorstOf(nothing) = %v, want unknown", got)
	}
	if got := WorstOf([]Result{{Status: OK}, {Status: Warning}}); got != Warning {
		t.Errorf("WorstOf = %v, want warning", got)
	}
}

func TestStatusOf(t *testing.T) {
	inner := errors.New("inner")
	wrapped := fmt.Errorf("outer: %w", &Error{Status: Warning, Err: inner})
	for _, tt := range []struct {
		err  error
		want Status
	}{{nil, OK}, {inner, Critical}, {wrapped, Warning}} {
		if got := StatusOf(tt.err); got != tt.want {
			t.Errorf("StatusOf(%v) = %v, want %v", tt.err, got, tt.want)
		}
	}
	if !errors.Is(wrapped, inner) {
		t.Error("the error within is lost")
	}
	if got := (&Error{Status: Unknown}).Error(); got != "unknown" {
		t.Errorf("Error() without an error within = %q", got)
	}
}

// run uses fake time, so limits are exact and cost nothing.
func run(t *testing.T, check func(t *testing.T, ctx context.Context)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { check(t, t.Context()) })
}

func TestRunKeepsOrderAndRunsAtOnce(t *testing.T) {
	run(t, func(t *testing.T, ctx context.Context) {
		var probes []Probe
		for i := range 20 {
			probes = append(probes, Probe{ID: fmt.Sprint(i), Run: func(context.Context) Result {
				time.Sleep(time.Duration(20-i) * 100 * time.Millisecond)
				return Result{Summary: fmt.Sprint(i)}
			}})
		}
		start := time.Now()
		results := Run(ctx, probes)
		if took := time.Since(start); took != 2*time.Second {
			t.Errorf("20 probes of at most 2 s took %s: they do not run at once", took)
		}
		for i, r := range results {
			if r.ID != fmt.Sprint(i) || r.Summary != fmt.Sprint(i) || r.Status != OK {
				t.Errorf("result %d is %+v", i, r)
			}
		}
	})
}

func TestRunBadProbes(t *testing.T) {
	answer := func(s Status, summary string) func(context.Context) Result {
		return func(ctx context.Context) Result {
			<-ctx.Done()
			return Result{ID: "own", Status: s, Summary: summary}
		}
	}
	run(t, func(t *testing.T, ctx context.Context) {
		release := make(chan struct{})
		defer close(release)
		probes := []Probe{
			{ID: "deaf", Limit: time.Second, Run: func(context.Context) Result { <-release; return Result{} }},
			{ID: "panics", Run: func(context.Context) Result { panic("boom") }},
			{ID: "exits", Run: func(context.Context) Result { runtime.Goexit(); return Result{} }},
			{ID: "none"},
			{ID: "late ok", Limit: time.Second, Run: answer(OK, "fine")},
			{ID: "late critical", Limit: time.Second, Run: answer(Critical, "connection to db:5432 hangs")},
			{ID: "good", Run: func(context.Context) Result { return Result{Status: Warning, Summary: "72 % full"} }},
		}
		want := []struct {
			id     string
			status Status
			says   string
		}{
			{"deaf", Unknown, "no answer within 1s"},
			{"panics", Unknown, "panic: boom"},
			{"exits", Unknown, "without a result"},
			{"none", Unknown, "nothing to run"},
			{"late ok", Unknown, "no answer within 1s"},
			{"own", Critical, "db:5432 hangs"},
			{"good", Warning, "72 % full"},
		}
		start := time.Now()
		results := Run(ctx, probes)
		if took := time.Since(start); took != time.Second+grace {
			t.Errorf("took %s, want the longest limit and the grace", took)
		}
		for i, w := range want {
			r := results[i]
			if r.ID != w.id || r.Status != w.status || !strings.Contains(r.Summary, w.says) {
				t.Errorf("%s: %+v, want %+v", probes[i].ID, r, w)
			}
		}
		if d := results[4].Detail; len(d) != 1 || !strings.Contains(d[0], "too late: ok: fine") {
			t.Errorf("the late answer is lost: %q", d)
		}
		if d := results[1].Detail; len(d) == 0 || len(d) > stackLines {
			t.Errorf("stack of the panic: %d lines", len(d))
		}
	})
}

func TestRunInterrupted(t *testing.T) {
	run(t, func(t *testing.T, ctx context.Context) {
		ctx, cancel := context.WithCancel(ctx)
		time.AfterFunc(time.Second, cancel)
		results := Run(ctx, []Probe{{ID: "x", Limit: time.Hour, Run: func(ctx context.Context) Result {
			<-ctx.Done()
			return Result{Status: OK}
		}}})
		if r := results[0]; r.Status != Unknown || !strings.Contains(r.Summary, "interrupted") {
			t.Errorf("interrupted probe: %+v", r)
		}
	})
}

func TestRunNothing(t *testing.T) {
	if got := Run(t.Context(), nil); len(got) != 0 {
		t.Errorf("Run(nothing) = %v", got)
	}
}
