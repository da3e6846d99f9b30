package report

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

var sampleLine = regexp.MustCompile(`^([a-zA-Z_][a-zA-Z0-9_]*(?:\{[^}]*\})?) (\S+)$`)

// samples reads a textfile twice, line by line and as Prometheus does, and
// demands that the two agree.
func samples(t *testing.T, path string) map[string]float64 {
	t.Helper()
	body, err := os.ReadFile(path)
	must(t, err)
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(body))
	if err != nil {
		t.Fatalf("%v in:\n%s", err, body)
	}
	parsed := 0
	for _, f := range families {
		if f.GetType() != dto.MetricType_GAUGE {
			t.Errorf("%s is a %s", f.GetName(), f.GetType())
		}
		if f.GetHelp() == "" {
			t.Errorf("%s has no help", f.GetName())
		}
		parsed += len(f.GetMetric())
	}
	got := map[string]float64{}
	lines := bufio.NewScanner(bytes.NewReader(body))
	for lines.Scan() {
		if strings.HasPrefix(lines.Text(), "# ") {
			continue
		}
		m := sampleLine.FindStringSubmatch(lines.Text())
		if m == nil {
			t.Errorf("line %q", lines.Text())
			continue
		}
		if got[m[1]], err = strconv.ParseFloat(m[2], 64); err != nil {
			t.Errorf("line %q: %v", lines.Text(), err)
		}
	}
	if len(got) != parsed {
		t.Errorf("%d lines, %d samples by expfmt", len(got), parsed)
	}
	return got
}

func equal(t *testing.T, want, got map[string]float64) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// TestTextfileSweep: node_exporter's directory does not fill up with what killed
// runs leave, and what another run writes is left alone.
func TestTextfileSweep(t *testing.T) {
	dir := t.TempDir()
	r := newReporter(Options{TextfileDir: dir})
	temp := func(name string, age time.Duration) {
		must(t, os.WriteFile(filepath.Join(dir, name), []byte("half"), 0o600))
		at := time.Now().Add(-age)
		must(t, os.Chtimes(filepath.Join(dir, name), at, at))
	}
	temp(".escrowctl_backup.prom123", 2*time.Hour)
	temp(".escrowctl_backup.prom456", time.Minute)
	temp(".escrowctl_certs.prom789", 2*time.Hour)
	arrived(t, r, aRun(true))
	entries, err := os.ReadDir(dir)
	must(t, err)
	var left []string
	for _, e := range entries {
		left = append(left, e.Name())
	}
	if diff := cmp.Diff([]string{".escrowctl_backup.prom456", ".escrowctl_certs.prom789", "escrowctl_backup.prom"}, left); diff != "" {
		t.Error(diff)
	}
}

// A success, a failure, and a success again.
func TestTextfile(t *testing.T) {
	dir := t.TempDir()
	r := newReporter(Options{TextfileDir: dir})
	path := filepath.Join(dir, "escrowctl_dr_test.prom")
	rep := Report{
		Job: "dr-test", Success: true, StartedAt: began, EndedAt: ended,
		Gauges: []Gauge{
			{Name: "rows", Help: "Rows\nrestored \\ counted.", Value: 12345678901, Labels: map[string]string{"table": "trades", "schema": "public"}},
			{Name: "rows", Help: "Rows\nrestored \\ counted.", Value: 2, Labels: map[string]string{"table": "a \"q\"\n\\", "schema": "public"}},
			{Name: "last_success_size_bytes", Help: "Size.", Value: 99},
			{Name: "size_bytes", Help: "Size.", Value: 99},
		},
	}
	arrived(t, r, rep)
	const p = "escrowctl_dr_test_"
	end := float64(ended.UnixMilli()) / 1000
	equal(t, map[string]float64{
		p + "last_run_timestamp_seconds": end, p + "last_success_timestamp_seconds": end,
		p + "duration_seconds": 90.5, p + "exit_code": 0, p + "size_bytes": 99, p + "last_success_size_bytes": 99,
		p + `rows{schema="public",table="trades"}`:      12345678901,
		p + `rows{schema="public",table="a \"q\"\n\\"}`: 2,
	}, samples(t, path))

	failed := Report{Job: "dr-test", ExitCode: 2, StartedAt: ended, EndedAt: ended.Add(time.Hour)}
	for range 2 { // a second failure must not lose what the first kept
		arrived(t, r, failed)
		equal(t, map[string]float64{
			p + "last_run_timestamp_seconds": end + 3600, p + "last_success_timestamp_seconds": end,
			p + "duration_seconds": 3600, p + "exit_code": 2, p + "last_success_size_bytes": 99,
		}, samples(t, path))
	}

	rep.EndedAt, rep.Gauges = ended.Add(2*time.Hour), nil
	arrived(t, r, rep)
	equal(t, map[string]float64{
		p + "last_run_timestamp_seconds": end + 7200, p + "last_success_timestamp_seconds": end + 7200,
		p + "duration_seconds": 7290.5, p + "exit_code": 0,
	}, samples(t, path))
	onlyFile(t, dir, "escrowctl_dr_test.prom")
}

func onlyFile(t *testing.T, dir, name string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	must(t, err)
	if len(entries) != 1 || entries[0].Name() != name {
		t.Errorf("left behind: %v", entries)
	}
}

func TestTextfileIsReadableByOthers(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "escrowctl_backup.prom")
	must(t, os.WriteFile(path, nil, 0o600))
	old := syscall.Umask(0o077)
	defer syscall.Umask(old)
	arrived(t, newReporter(Options{TextfileDir: dir}), aRun(true))
	info, err := os.Stat(path)
	must(t, err)
	if info.Mode().Perm() != 0o644 {
		t.Errorf("mode %v", info.Mode())
	}
}

// Never a success: 0, so that an alert on its age fires. One that only the
// caller knows: that. The later of two.
func TestLastSuccessWithoutATextfile(t *testing.T) {
	const metric = "escrowctl_backup_last_success_timestamp_seconds"
	dir := t.TempDir()
	r := newReporter(Options{TextfileDir: dir})
	rep := aRun(false)
	for _, c := range []struct {
		known time.Time
		want  float64
	}{{time.Time{}, 0}, {time.Unix(1_000, 0), 1_000}, {time.Unix(500, 0), 1_000}, {time.Time{}, 1_000}, {time.Unix(2_000, 0), 2_000}} {
		rep.LastSuccess = c.known
		arrived(t, r, rep)
		if got, ok := samples(t, filepath.Join(dir, "escrowctl_backup.prom"))[metric]; !ok || got != c.want {
			t.Errorf("known %s: got %v, want %v", c.known, got, c.want)
		}
	}
}

func TestDamagedTextfile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "escrowctl_backup.prom")
	must(t, os.WriteFile(path, []byte("escrowctl_backup_last_success_timestamp_seconds 17672\n\x00\x00{"), 0o644))
	rep := aRun(false)
	rep.LastSuccess = time.Unix(1_000, 0)
	r := newReporter(Options{TextfileDir: dir})
	p := only(t, r.Send(t.Context(), rep))
	if p.Kind != Local || p.Destination != ToTextfile || !strings.Contains(p.Error(), "damaged") {
		t.Errorf("%v", p)
	}
	got := samples(t, path)
	if got["escrowctl_backup_last_success_timestamp_seconds"] != 1_000 || got["escrowctl_backup_exit_code"] != 2 {
		t.Errorf("%v", got)
	}
	arrived(t, r, rep) // told once
}

func TestTextfileCannotBeWritten(t *testing.T) {
	parent := t.TempDir()
	pipe := filepath.Join(parent, "pipe")
	must(t, os.Mkdir(pipe, 0o755))
	must(t, syscall.Mkfifo(filepath.Join(pipe, "escrowctl_backup.prom"), 0o644))
	file := filepath.Join(parent, "file")
	must(t, os.WriteFile(file, nil, 0o644))
	for _, dir := range []string{filepath.Join(parent, "none"), pipe, file} {
		begin := time.Now()
		p := only(t, newReporter(Options{TextfileDir: dir, Timeout: 30 * time.Second}).Send(t.Context(), aRun(true)))
		if p.Kind != Local || p.Destination != ToTextfile || !strings.Contains(p.Error(), dir) || !strings.Contains(p.Remedy, "report.textfile_dir") {
			t.Errorf("%v (%s)", p, p.Kind)
		}
		if took := time.Since(begin); took > 20*time.Second {
			t.Errorf("%s: took %s", dir, took)
		}
	}
}

// The file before stays whole when the disk is full.
func TestTextfileOnFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=32k"); err != nil {
		t.Skipf("SKIPPED, not proven here: a full filesystem: mount: %v: run the tests as root", err)
	}
	t.Cleanup(func() { must(t, syscall.Unmount(dir, syscall.MNT_DETACH)) })
	r := newReporter(Options{TextfileDir: dir})
	arrived(t, r, aRun(true))
	path := filepath.Join(dir, "escrowctl_backup.prom")
	before := samples(t, path)
	ballast, err := os.Create(filepath.Join(dir, "ballast"))
	must(t, err)
	for err == nil {
		_, err = ballast.Write(make([]byte, 512))
	}
	must(t, ballast.Close())

	p := only(t, r.Send(t.Context(), aRun(false)))
	if p.Kind != Local || !errors.Is(p, syscall.ENOSPC) {
		t.Errorf("%v (%s)", p, p.Kind)
	}
	equal(t, before, samples(t, path))
	must(t, os.Remove(ballast.Name()))
	onlyFile(t, dir, "escrowctl_backup.prom")
}

// One bad gauge does not cost the others.
func TestBadGauges(t *testing.T) {
	dir := t.TempDir()
	rep := aRun(true)
	rep.Gauges = append(rep.Gauges,
		Gauge{Name: "with space", Value: 1},
		Gauge{Name: "exit_code", Value: 7},
		Gauge{Name: "size_bytes", Help: "Size.", Value: 8},
		Gauge{Name: "size_bytes", Help: "Size.", Value: 9, Labels: map[string]string{"table": "x"}},
		Gauge{Name: "rows", Help: "Rows.", Value: 1, Labels: map[string]string{"bad-label": "x"}},
		Gauge{Name: "rows", Help: "Rows.", Value: 2, Labels: map[string]string{"table": "x"}},
		Gauge{Name: "text", Help: "Text.", Value: 2, Labels: map[string]string{"table": "\xff"}},
	)
	p := only(t, newReporter(Options{TextfileDir: dir}).Send(t.Context(), rep))
	for _, part := range []string{"with space", "exit_code", "size_bytes", "bad-label", `"text"`} {
		if p.Kind != Local || !strings.Contains(p.Error(), part) {
			t.Errorf("%q is not told: %v", part, p)
		}
	}
	got := samples(t, filepath.Join(dir, "escrowctl_backup.prom"))
	if got["escrowctl_backup_size_bytes"] != 1234 || got["escrowctl_backup_exit_code"] != 0 || got[`escrowctl_backup_rows{table="x"}`] != 2 || len(got) != 6 {
		t.Errorf("%v", got)
	}
}

// pushed decodes what a Pushgateway was sent.
func pushed(t *testing.T, r request) map[string]float64 {
	t.Helper()
	dec := expfmt.NewDecoder(bytes.NewReader(r.body), expfmt.ResponseFormat(http.Header{"Content-Type": {r.contentType}}))
	got := map[string]float64{}
	for {
		var f dto.MetricFamily
		err := dec.Decode(&f)
		if errors.Is(err, io.EOF) {
			return got
		}
		must(t, err)
		for _, m := range f.GetMetric() {
			got[f.GetName()] = m.GetGauge().GetValue()
		}
	}
}

func TestPushgateway(t *testing.T) {
	const p = "escrowctl_backup_"
	end := float64(ended.UnixMilli()) / 1000
	common := []string{p + "duration_seconds", p + "exit_code", p + "last_run_timestamp_seconds", p + "size_bytes"}
	for _, c := range []struct {
		name    string
		success bool
		known   time.Time
		last    float64 // 0: not sent, so that what is there stays
	}{
		{"success", true, time.Time{}, end},
		{"failure", false, time.Time{}, 0},
		{"failure, earlier success known", false, time.Unix(1_000, 0), 1_000},
	} {
		// VictoriaMetrics, which speaks the same, answers 204.
		gw := newSink(t, status(http.StatusNoContent))
		rep := aRun(c.success)
		rep.LastSuccess = c.known
		arrived(t, newReporter(Options{Pushgateway: strings.TrimPrefix(gw.URL, "http://"), Host: "db1"}), rep)
		got := gw.requests()
		if len(got) != 1 || got[0].method != "POST" || got[0].path != "/metrics/job/escrowctl_backup/instance/db1" {
			t.Fatalf("%s: %v", c.name, got)
		}
		metrics := pushed(t, got[0])
		want := slices.Clone(common)
		if c.last != 0 {
			want = append(want, p+"last_success_timestamp_seconds")
		}
		slices.Sort(want)
		if diff := cmp.Diff(want, slices.Sorted(maps.Keys(metrics))); diff != "" {
			t.Errorf("%s: -want +got:\n%s", c.name, diff)
		}
		if metrics[p+"last_success_timestamp_seconds"] != c.last || metrics[p+"size_bytes"] != 1234 || metrics[p+"duration_seconds"] != 90.5 {
			t.Errorf("%s: %v", c.name, metrics)
		}
	}
}

func TestPushgatewayProblems(t *testing.T) {
	refusing := newSink(t, func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "pushed metrics are invalid", http.StatusBadRequest)
	})
	busy := newSink(t, status(http.StatusServiceUnavailable))
	ok := newSink(t, nil)
	clash := aRun(true)
	clash.Gauges = []Gauge{{Name: "x", Help: "X.", Labels: map[string]string{"instance": "y"}}}
	for _, c := range []struct {
		url  string
		rep  Report
		kind Kind
		says string
	}{
		{refusing.URL, aRun(true), Rejected, "pushed metrics are invalid"},
		{busy.URL, aRun(true), Unreachable, "HTTP 503 (3 tries)"},
		{"http://", aRun(true), Local, "report.pushgateway"},
		{ok.URL, clash, Local, "instance"},
	} {
		p := only(t, newReporter(Options{Pushgateway: c.url}).Send(t.Context(), c.rep))
		if p.Kind != c.kind || !strings.Contains(p.Error(), c.says) {
			t.Errorf("%s: %v (%s)", c.url, p, p.Kind)
		}
	}
	if n, m, o := len(refusing.requests()), len(busy.requests()), len(ok.requests()); n != 1 || m != 3 || o != 0 {
		t.Errorf("tries: %d, %d, %d", n, m, o)
	}
}

func TestZeroTimesAreNow(t *testing.T) {
	dir := t.TempDir()
	arrived(t, newReporter(Options{TextfileDir: dir, Now: func() time.Time { return ended }}), Report{Job: "backup", Success: true})
	got := samples(t, filepath.Join(dir, "escrowctl_backup.prom"))
	if got["escrowctl_backup_last_run_timestamp_seconds"] != float64(ended.UnixMilli())/1000 || got["escrowctl_backup_duration_seconds"] != 0 {
		t.Errorf("%v", got)
	}
}

// Only what was declared is written, with the help of its declaration. What was
// not is told, and costs the rest nothing.
func TestDeclaredMetrics(t *testing.T) {
	dir := t.TempDir()
	r := newReporter(Options{TextfileDir: dir, Metrics: []Metric{
		{Job: "backup", Name: "size_bytes", Help: "Size of it."},
		{Job: "backup", Name: "rows", Labels: []string{"schema", "table"}, Help: "Rows."},
		{Job: "dr-test", Name: "other", Help: "Of another job."},
	}})
	rep := aRun(true)
	rep.Gauges = []Gauge{{Name: "size_bytes", Value: 5}, {Name: "rows", Value: 6, Labels: map[string]string{"table": "a", "schema": "b"}}}
	arrived(t, r, rep)
	path := filepath.Join(dir, "escrowctl_backup.prom")
	if got := samples(t, path); got["escrowctl_backup_size_bytes"] != 5 || got[`escrowctl_backup_rows{schema="b",table="a"}`] != 6 {
		t.Errorf("%v", got)
	}
	if body, _ := os.ReadFile(path); !strings.Contains(string(body), "# HELP escrowctl_backup_size_bytes Size of it.\n") {
		t.Errorf("the declared help is not there:\n%s", body)
	}
	for _, bad := range []Gauge{{Name: "sise_bytes"}, {Name: "other"}, {Name: "rows"}, {Name: "rows", Labels: map[string]string{"table": "a"}}} {
		rep.Gauges = []Gauge{bad, {Name: "size_bytes", Value: 7}}
		p := only(t, r.Send(t.Context(), rep))
		if p.Kind != Local || !strings.Contains(p.Error(), strconv.Quote(bad.Name)) || !strings.Contains(p.Error(), "declared") {
			t.Errorf("%+v: %v", bad, p)
		}
		if got := samples(t, path); len(got) != 5 || got["escrowctl_backup_size_bytes"] != 7 {
			t.Errorf("%+v: %v", bad, got)
		}
	}
}

// TestOddLastSuccess: a textfile that was tampered with keeps no alert quiet: a
// last success that is no number, or yet to come, is none.
func TestOddLastSuccess(t *testing.T) {
	for _, odd := range []string{"NaN", "+Inf", "-Inf", "-1", "9e18", "4102444800"} {
		dir := t.TempDir()
		name := base("backup") + "_" + lastSuccessName
		must(t, os.WriteFile(filepath.Join(dir, base("backup")+".prom"), []byte("# TYPE "+name+" gauge\n"+name+" "+odd+"\n"), 0o600))
		r := newReporter(Options{TextfileDir: dir})
		end := time.Unix(1767225660, 0)
		if p := r.textfile(Report{Job: "backup", EndedAt: end}); p != nil {
			t.Fatal(p)
		}
		if got := samples(t, filepath.Join(dir, base("backup")+".prom"))[name]; got != 0 {
			t.Errorf("%s is kept as %v", odd, got)
		}
	}
}
