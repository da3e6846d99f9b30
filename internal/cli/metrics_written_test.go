package cli

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/stellarescrow/escrowctl/internal/report"
	"github.com/stellarescrow/escrowctl/internal/state"
	"github.com/stellarescrow/escrowctl/internal/testenv"
	"github.com/stellarescrow/escrowctl/internal/ui"
)

// writtenMetrics are the metrics of all textfiles of a directory: the names of
// their labels, sorted and joined, by metric.
func writtenMetrics(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := map[string]string{}
	files, _ := filepath.Glob(filepath.Join(dir, "*.prom"))
	for _, file := range files {
		f, err := os.Open(file)
		if err != nil {
			t.Fatal(err)
		}
		parser := expfmt.NewTextParser(model.LegacyValidation)
		families, err := parser.TextToMetricFamilies(f)
		f.Close()
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		for name, family := range families {
			if family.GetHelp() == "" {
				t.Errorf("%s has no help", name)
			}
			for _, m := range family.GetMetric() {
				var labels []string
				for _, l := range m.GetLabel() {
					labels = append(labels, l.GetName())
				}
				out[name] = strings.Join(slices.Sorted(slices.Values(labels)), " ")
			}
		}
	}
	return out
}

// declaredMetrics are those that the declarations promise, in the same form.
func declaredMetrics() map[string]string {
	out := map[string]string{}
	for _, job := range reportingJobs() {
		for _, m := range report.EveryJob() {
			m.Job = job.name
			out[m.FullName()] = ""
		}
	}
	for _, m := range metrics() {
		out[m.FullName()] = strings.Join(m.Labels, " ")
	}
	return out
}

// growingDRTests records three tests of the past, each slower than the one
// before.
func growingDRTests(t *testing.T, dir string) {
	t.Helper()
	for i := range 3 {
		at := testNow().Add(time.Duration(i-3) * 31 * 24 * time.Hour)
		st, err := state.Open(dir, state.Options{Now: func() time.Time { return at }})
		if err != nil {
			t.Fatal(err)
		}
		run, err := st.Begin(drTestJob)
		if err == nil {
			err = run.Finish("ok", 0, map[string]any{"verdict": "pass", "engine": "local", "restore_seconds": 0.001 * float64(i+1)}, nil)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// certbotDir lays out the certificate of ca.pem as certbot does.
func certbotDir(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs("letsencrypt")
	if err != nil {
		t.Fatal(err)
	}
	live := filepath.Join(dir, "live", "escrow.test")
	pem, err := os.ReadFile("ca.pem")
	if err == nil {
		err = os.MkdirAll(live, 0o755)
	}
	for _, name := range []string{"cert.pem", "fullchain.pem", "chain.pem"} {
		if err == nil {
			err = os.WriteFile(filepath.Join(live, name), pem, 0o600)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestMetricsAreWritten runs every command that reports, against real servers,
// and compares the textfiles with the declarations: nothing is written that was
// not declared, and nothing is declared that nobody writes.
func TestMetricsAreWritten(t *testing.T) {
	pg := perfServer(t)
	pg.CreateDB(t, "restored")
	pg.Psql(t, "stellar_escrow", "CREATE TABLE events (id bigint PRIMARY KEY); INSERT INTO events SELECT generate_series(1, 100); CREATE TABLE users (id int PRIMARY KEY)")
	pg.Psql(t, "stellar_escrow", "UPDATE trades SET seller = seller || 'x'; ANALYZE")
	cache := testenv.Redis(t)
	client := cache.Client()
	client.Get(t.Context(), "nothing")
	client.Close()

	inv := certsInvocation(t, 80*certDay)
	dir, _ := filepath.Abs(".")
	// By the clock of any other test this one's server has expired long ago.
	t.Setenv("TMPDIR", testenv.ShortDir(t, 0o755))
	inv.environ = append(inv.environ,
		"ESCROWCTL_REPORT_TEXTFILE_DIR="+dir, "ESCROWCTL_CERTS_DIR="+certbotDir(t), "ESCROWCTL_CERTS_VIA=host", "DATABASE_URL="+pg.URL("stellar_escrow"),
		"BACKUP_DIR="+filepath.Join(dir, "backups"), "S3_BUCKET=file://"+filepath.Join(dir, "bucket"), "ESCROWCTL_DUMP_VIA=host", "ESCROWCTL_ENV=staging",
		"REDIS_URL="+cache.URL(), "ESCROWCTL_PERF_SOURCES=database,statements,redis", "ESCROWCTL_SHIFT_CHECK_TIMEOUT=2s", "ESCROWCTL_DR_TEST_RTO=20s", "PATH="+os.Getenv("PATH"))
	began := time.Now()
	ticking := func() time.Time { return testNow().Add(time.Since(began)) } // a restore must take time
	growingDRTests(t, filepath.Join(dir, "state"))
	for _, c := range []struct {
		args  string
		fails bool // what it needs is not there: its failure is reported as well
	}{
		{args: "backup"}, {args: "backup verify latest"}, {args: "backup restore latest --to restored"}, {args: "backup prune"}, {args: "backup upload"},
		{args: "dr-test --engine local"}, {args: "certs check", fails: true}, {args: "certs renew", fails: true}, {args: "certs renew --dry-run", fails: true},
		{args: "perf analyze"}, {args: "perf maintain"}, {args: "rotate-keys start API_KEYS", fails: true},
		{args: "rotate-keys record API_KEYS --on 2026-01-01"}, {args: "rotate-keys due", fails: true}, {args: "incident new --priority P1 --start 1h"}, {args: "shift-check", fails: true},
	} {
		inv.out.Reset()
		inv.errs.Reset()
		inv.App = New(&ui.IO{Out: &inv.out, Err: &inv.errs, Now: ticking}, inv.environ, inv.build)
		if code := inv.run(t, strings.Fields(c.args)...); code > 1 != c.fails || code > 3 || strings.Contains(inv.errs.String(), "not delivered") {
			t.Errorf("%s: exit %d: %s%s", c.args, code, &inv.out, &inv.errs)
		}
	}
	if diff := cmp.Diff(declaredMetrics(), writtenMetrics(t, dir)); diff != "" {
		t.Errorf("-declared (internal/cli/metrics.go) +written:\n%s", diff)
	}
	if len(slices.Collect(maps.Keys(declaredMetrics()))) < 90 {
		t.Error("so few metrics were compared that the test proves nothing")
	}
}

// TestHoldMetric: what waits for an acknowledgement is told until it is given.
func TestHoldMetric(t *testing.T) {
	inv := invoke(t, "ESCROWCTL_REPORT_TEXTFILE_DIR=.")
	st, err := state.Open("state", state.Options{Now: testNow})
	if err == nil {
		err = st.Save(holdDoc, hold{Since: testNow(), Backup: "b", Losses: []string{"it shrank", "trades is gone"}})
	}
	if err != nil {
		t.Fatal(err)
	}
	d, err := inv.open(changes)
	if err != nil {
		t.Fatal(err)
	}
	inv.sendHold(t.Context(), d)
	wantSample(t, "escrowctl_backup_hold.prom", "escrowctl_backup_hold_losses 2")
	if code := inv.again(t, "backup", "ack"); code != 0 {
		t.Fatalf("exit %d: %s", code, &inv.errs)
	}
	wantSample(t, "escrowctl_backup_hold.prom", "escrowctl_backup_hold_losses 0")
}

// wantSample demands a line of a textfile.
func wantSample(t *testing.T, file, line string) {
	t.Helper()
	body, err := os.ReadFile(file)
	if err != nil || !strings.Contains("\n"+string(body), "\n"+line+"\n") {
		t.Errorf("%s lacks %q: %v\n%s", file, line, err, body)
	}
}
