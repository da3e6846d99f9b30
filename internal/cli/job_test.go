package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stellarescrow/escrowctl/internal/check"
	"github.com/stellarescrow/escrowctl/internal/report"
	"github.com/stellarescrow/escrowctl/internal/secret"
	"github.com/stellarescrow/escrowctl/internal/state"
	"github.com/stellarescrow/escrowctl/internal/testenv"
)

const tested = "tested" // the job's name

// jobRun is a job with its destinations.
type jobRun struct {
	*invocation
	sink *testenv.Sink
	deps *deps
}

func newJob(t *testing.T, env ...string) *jobRun {
	t.Helper()
	sink := testenv.NewSink(t)
	env = append([]string{"API_BASE_URL=" + sink.URL, "ESCROWCTL_REPORT_API_METRICS=auto", "BACKUP_ALERT_WEBHOOK=" + sink.WebhookURL(), "ESCROWCTL_REPORT_TIMEOUT=30s"}, env...)
	j := &jobRun{invocation: invoke(t, env...), sink: sink}
	d, err := j.open(changes)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.close)
	j.deps = d
	return j
}

// do runs the job and returns its exit code as the command line would.
func (j *jobRun) do(ctx context.Context, out Outcome, err error) int {
	return j.exit(j.job(ctx, j.deps, tested, func(context.Context) (Outcome, error) { return out, err }))
}

func (j *jobRun) last(t *testing.T) state.Run {
	t.Helper()
	run, found, err := j.deps.state.Last(tested)
	if err != nil || !found {
		t.Fatalf("no run is recorded: %v", err)
	}
	return run
}

func good() Outcome {
	return Outcome{
		Verdict: "12 rows backed up", Figures: map[string]any{"rows": 12},
		Report: report.Report{Text: "backup ok", Event: map[string]any{"type": "backup_success", "ts": 1767225600}},
	}
}

func TestJobRecordsAndReports(t *testing.T) {
	j := newJob(t)
	if code := j.do(t.Context(), good(), nil); code != 0 {
		t.Fatalf("exit %d: %s", code, &j.errs)
	}
	if got, want := j.errs.String(), "2026-01-02T03:04:05Z ok: 12 rows backed up\n"; got != want {
		t.Errorf("stderr %q, want %q", got, want)
	}
	run := j.last(t)
	if run.Outcome != state.OK || run.ExitCode != 0 || run.Error != "" || run.Figures["rows"] != 12.0 || run.Version != "v1.2.3" {
		t.Errorf("recorded %+v", run)
	}
	if texts := j.sink.Texts(t); len(texts) != 1 || texts[0] != "backup ok" {
		t.Errorf("webhook got %q", texts)
	}
	if events := j.sink.Metrics(t); len(events) != 1 || events[0]["ts"] != 1767225600.0 {
		t.Errorf("/api/metrics got %v", events)
	}
}

func TestJobOutcomes(t *testing.T) {
	failed := errors.New("pg_dump: exit status 1")
	for _, tt := range []struct {
		name    string
		status  check.Status
		err     error
		code    int
		outcome state.Outcome
		stderr  string
	}{
		{"warning", check.Warning, nil, 1, state.Warning, "warning: 12 rows backed up"},
		{"critical", check.Critical, nil, 2, state.Critical, "critical: 12 rows backed up"},
		{"unknown", check.Unknown, nil, 3, state.Unknown, "unknown: 12 rows backed up"},
		{"error", check.OK, failed, 2, state.Critical, "escrowctl: pg_dump: exit status 1"},
		{"error after a warning", check.Warning, failed, 2, state.Critical, "escrowctl: pg_dump: exit status 1"},
		{"misuse", check.OK, &misuse{"no bucket"}, 3, state.Unknown, "escrowctl: no bucket"},
		{"held", check.OK, &check.Error{Status: check.Warning, Err: failed}, 1, state.Warning, "escrowctl: pg_dump: exit status 1"},
		{"locked on another host", check.OK, fmt.Errorf("db: %w", state.ErrLocked), 75, state.Warning, "escrowctl: db: another run is in progress"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			j := newJob(t)
			j.io.Quiet = true // which never hides what is not ok
			out := good()
			out.Status = tt.status
			if code := j.do(t.Context(), out, tt.err); code != tt.code {
				t.Errorf("exit %d, want %d", code, tt.code)
			}
			if got, want := j.errs.String(), "2026-01-02T03:04:05Z "+tt.stderr+"\n"; got != want {
				t.Errorf("stderr %q, want %q", got, want)
			}
			run := j.last(t)
			if run.Outcome != tt.outcome || run.ExitCode != tt.code || (tt.err != nil) != (run.Error != "") {
				t.Errorf("recorded %s, exit %d, error %q", run.Outcome, run.ExitCode, run.Error)
			}
		})
	}
}

func TestJobThatIsInterrupted(t *testing.T) {
	for _, err := range []error{nil, context.Canceled, errors.New("half of it is left")} {
		j := newJob(t)
		code := j.do(interrupted(t, &Interrupted{syscall.SIGTERM}), good(), err)
		if run := j.last(t); code != 143 || run.Outcome != state.Interrupted || run.ExitCode != 143 || !strings.HasPrefix(run.Error, "interrupted by SIGTERM") {
			t.Errorf("after %v: exit %d, recorded %+v", err, code, run)
		}
		if texts := j.sink.Texts(t); len(texts) != 1 || !strings.Contains(texts[0], "FAILED") {
			t.Errorf("after %v: the webhook got %q", err, texts)
		}
	}
}

func TestJobWhoseReportIsNotTaken(t *testing.T) {
	j := newJob(t)
	j.sink.SetStatus("webhook", 403)
	if code := j.do(t.Context(), good(), nil); code != 1 {
		t.Errorf("exit %d, want 1", code)
	}
	if got := j.errs.String(); !strings.Contains(got, "warning: report not delivered: ") || !strings.HasSuffix(got, " warning: 12 rows backed up\n") {
		t.Errorf("stderr %q", got)
	}
	if run := j.last(t); run.Outcome != state.Warning || run.ExitCode != 1 {
		t.Errorf("recorded %+v", run)
	}
	// A dead reporter never makes a failure less than it is.
	if code := j.do(t.Context(), good(), errors.New("no")); code != 2 {
		t.Errorf("a failed run: exit %d, want 2", code)
	}
}

func TestMetricsThatNobodyServesAreToldOnce(t *testing.T) {
	for mode, want := range map[string][3]int{"auto": {0, 0, 0}, "on": {1, 1, 1}} {
		j := newJob(t, "ESCROWCTL_REPORT_API_METRICS="+mode)
		j.sink.SetStatus("/api/metrics", 404)
		var said int
		for i := range want {
			j.errs.Reset()
			if code := j.do(t.Context(), good(), nil); code != want[i] {
				t.Errorf("%s, run %d: exit %d, want %d", mode, i, code, want[i])
			}
			if strings.Contains(j.errs.String(), "/api/metrics") {
				said++
			}
		}
		if wantSaid := map[string]int{"auto": 1, "on": 3}[mode]; said != wantSaid {
			t.Errorf("%s: said %d times, want %d", mode, said, wantSaid)
		}
	}
}

// TestJobThatCannotBegin: a disk that is full keeps a run from its record. It
// does nothing then, and people hear of it.
func TestJobThatCannotBegin(t *testing.T) {
	j := newJob(t)
	runs := filepath.Join(j.deps.state.Dir(), "runs")
	if err := os.RemoveAll(runs); err != nil {
		t.Fatal(err)
	}
	write(t, runs, "in the way")
	if code := j.do(t.Context(), good(), nil); code != 3 {
		t.Errorf("exit %d, want 3: %s", code, &j.errs)
	}
	if texts := j.sink.Texts(t); len(texts) != 1 || !strings.HasPrefix(texts[0], "FAILED on ") || !strings.Contains(texts[0], tested+" did not begin: state: record the run of "+tested) {
		t.Errorf("webhook got %q", texts)
	}
	if events := j.sink.Metrics(t); len(events) != 0 {
		t.Errorf("/api/metrics got %v of a run that did nothing", events)
	}
}

// TestStateThatCannotBeOpened: nor can a command begin without its state
// directory; where nobody watches, the webhook is told.
func TestStateThatCannotBeOpened(t *testing.T) {
	for _, terminal := range []bool{false, true} {
		sink := testenv.NewSink(t)
		file := filepath.Join(t.TempDir(), "file")
		write(t, file, "in the way")
		inv := invoke(t, "ESCROWCTL_STATE_DIR="+file, "BACKUP_ALERT_WEBHOOK="+sink.WebhookURL())
		inv.io.ErrTTY = terminal
		if code := inv.run(t, "certs", "renew"); code != 3 {
			t.Errorf("exit %d, want 3: %s", code, &inv.errs)
		}
		texts := sink.Texts(t)
		told := len(texts) == 1 && strings.HasPrefix(texts[0], "FAILED on ") && strings.Contains(texts[0], "escrowctl certs renew did not begin: state: ")
		if told == terminal || terminal && len(texts) > 0 {
			t.Errorf("on a terminal %v: webhook got %q", terminal, texts)
		}
	}
}

func TestJobThatIsLocked(t *testing.T) {
	j := newJob(t)
	lock, err := j.deps.state.Lock(tested)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = lock.Unlock() }()
	if code := j.do(t.Context(), good(), nil); code != 75 || !strings.Contains(j.errs.String(), "another run is in progress") {
		t.Errorf("exit %d: %s", code, &j.errs)
	}
	if _, found, _ := j.deps.state.Last(tested); found {
		t.Error("a run that never began is recorded")
	}
	if n := len(j.sink.Requests()); n > 0 {
		t.Errorf("%d reports of a run that never began", n)
	}
}

func TestJobSpeaksOfTheCrashBefore(t *testing.T) {
	j := newJob(t)
	record := `{"id":"x","job":"tested","host":"` + hostname(t) + `","pid":999999,"process_start":"1","boot_id":"gone","started_at":"2026-01-01T00:00:00Z","outcome":"running","exit_code":0}` + "\n"
	if err := os.MkdirAll(filepath.Join(j.deps.state.Dir(), "runs"), 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(j.deps.state.Dir(), "runs", tested+".jsonl"), record)
	if code := j.do(t.Context(), good(), nil); code != 0 || !strings.Contains(j.errs.String(), "warning: the last tested, begun 2026-01-01T00:00:00Z, crashed") {
		t.Errorf("exit %d: %s", code, &j.errs)
	}
}

func hostname(t *testing.T) string {
	t.Helper()
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	return host
}

func TestJobKeepsSecretsIn(t *testing.T) {
	const password = "hunter2-pass"
	j := newJob(t, "DATABASE_URL=postgres://indexer:"+password+"@db/x")
	out := Outcome{
		Verdict: "said " + password, Figures: map[string]any{"said": password, "nested": []string{password}, "rows": 12},
		Report: report.Report{Text: "text " + password, Event: map[string]any{"type": "x", "error": password, "ts": int64(1767225600)}},
	}
	wrapped := &check.Error{Status: check.Unknown, Err: errors.New("server: " + password)}
	if code := j.do(t.Context(), out, wrapped); code != 3 {
		t.Errorf("exit %d: what the error wraps is lost", code)
	}
	j.do(t.Context(), out, nil)
	j.io.Log("progress %s", password)

	runs, err := os.ReadFile(filepath.Join(j.deps.state.Dir(), "runs", tested+".jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	sent := ""
	for _, r := range j.sink.Requests() {
		sent += string(r.Body)
	}
	for where, text := range map[string]string{"state": string(runs), "reports": sent, "stderr": j.errs.String()} {
		if strings.Contains(text, password) {
			t.Errorf("%s: the password: %s", where, text)
		}
		if !strings.Contains(text, secret.Fingerprint(password)) {
			t.Errorf("%s: no fingerprint, so nothing was tested: %s", where, text)
		}
	}
	if events := j.sink.Metrics(t); len(events) != 2 || events[1]["ts"] != 1767225600.0 || events[1]["error"] != secret.Fingerprint(password) {
		t.Errorf("events %v", events)
	}
}

func TestJobOnATerminal(t *testing.T) {
	for _, stdout := range []bool{true, false} {
		j := newJob(t)
		j.io.ErrTTY, j.io.OutTTY = true, stdout
		j.do(t.Context(), good(), nil)
		want := "ok: 12 rows backed up\n"
		if stdout {
			want = "" // the command's own result has said it
		}
		if got := j.errs.String(); got != want {
			t.Errorf("stdout a terminal %v: stderr %q, want %q", stdout, got, want)
		}
	}
}

func TestVerboseSaysWhatIsUsed(t *testing.T) {
	j := invoke(t)
	write(t, "escrowctl.yaml", "env: staging\n")
	j.run(t, "backup", "list", "-v")
	for _, want := range []string{"debug: configuration file: escrowctl.yaml\n", "debug: state directory: "} {
		if !strings.Contains(j.errs.String(), want) {
			t.Errorf("stderr lacks %q: %s", want, &j.errs)
		}
	}
}
